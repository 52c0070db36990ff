"""Writes the golden files of Flax's layers to a folder: initial weights, dropout masks, outputs, gradients.

Usage: python generate_flax.py FOLDER

Each file maps a name to an entry. Names begin with the seed. Inputs, weights and masks are exact; what went through
arithmetic whose order is up to the machine (outputs, statistics, gradients) is close.
"""

import encoding
from encoding import close, exact, write

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import bridge
from bridged import bridged
from paradigms import perturb, three_level

SEEDS = (0, 1, 42)


def mask(y):
    """Which elements of a tensor of ones a dropout kept."""
    return exact(y != 0)


def linear():
    entries = {}
    for seed in SEEDS:
        x = jax.random.normal(jax.random.key(seed + 100), (1, 32))
        entries[f"seed_{seed}/input"] = exact(x)
        for streams, rngs in (
            ("default", nnx.Rngs(seed)),
            ("separate_streams", nnx.Rngs(params=seed, dropout=seed + 1)),
        ):
            layer = nnx.Linear(32, 64, rngs=rngs)
            entries[f"seed_{seed}/{streams}/kernel"] = exact(layer.kernel[...])
            entries[f"seed_{seed}/{streams}/bias"] = exact(layer.bias[...])
            entries[f"seed_{seed}/{streams}/output"] = close(layer(x))
    write("linear.json", {"entries": entries})


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(24)(x)
        return nn.Dense(16)(x)


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = Inner()(x)
        return Inner()(x)


def dense():
    entries = {}
    for seed in SEEDS:
        x = jax.random.normal(jax.random.key(seed + 100), (1, 32))
        entries[f"seed_{seed}/input"] = exact(x)
        for name, module in (("top", nn.Dense(64)), ("nested", Outer())):
            y, variables = module.init_with_output(jax.random.key(seed), x)
            entries[f"seed_{seed}/{name}/output"] = close(y)
            for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
                joined = "/".join(step.key for step in path)
                entries[f"seed_{seed}/{name}/{joined}"] = exact(leaf)
    write("dense.json", {"entries": entries})


class InnerDropout(nn.Module):
    @nn.compact
    def __call__(self, x):
        dropout = nn.Dropout(0.5, deterministic=False)
        first, second = dropout(x), dropout(x)
        return first, second, nn.Dropout(0.5, deterministic=False)(x)


class OuterDropout(nn.Module):
    @nn.compact
    def __call__(self, x):
        return InnerDropout()(x)


def dropout():
    entries = {}
    x = jnp.ones((8, 16))
    for seed in SEEDS:
        rngs = {"dropout": jax.random.key(seed)}
        top = nn.Dropout(0.5, deterministic=False)
        first, second = top.apply({}, x, rngs=rngs, method=lambda m, x: (m(x), m(x)))
        entries[f"seed_{seed}/linen/top/call_1"] = mask(first)
        entries[f"seed_{seed}/linen/top/call_2"] = mask(second)
        first, second, other = OuterDropout().apply({}, x, rngs=rngs)
        entries[f"seed_{seed}/linen/InnerDropout_0/Dropout_0/call_1"] = mask(first)
        entries[f"seed_{seed}/linen/InnerDropout_0/Dropout_0/call_2"] = mask(second)
        entries[f"seed_{seed}/linen/InnerDropout_0/Dropout_1/call_1"] = mask(other)
        layer = nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=seed))
        entries[f"seed_{seed}/nnx/call_1"] = mask(layer(x))
        entries[f"seed_{seed}/nnx/call_2"] = mask(layer(x))
    write("dropout.json", {"entries": entries})


def wrappers():
    entries = {}
    for seed in SEEDS:
        x = jax.random.normal(jax.random.key(seed + 100), (1, 32))
        entries[f"seed_{seed}/input"] = exact(x)
        for name, rngs in (("to_nnx_rngs", nnx.Rngs(seed)), ("to_nnx_key", jax.random.key(seed))):
            module = bridge.ToNNX(nn.Dense(64), rngs=rngs).lazy_init(x)
            entries[f"seed_{seed}/{name}/kernel"] = exact(module.kernel[...])
            entries[f"seed_{seed}/{name}/output"] = close(module(x))
        y, variables = bridge.to_linen(nnx.Linear, 32, 64).init_with_output(jax.random.key(seed), x)
        entries[f"seed_{seed}/to_linen/kernel"] = exact(variables["params"]["kernel"])
        entries[f"seed_{seed}/to_linen/output"] = close(y)
    write("wrappers.json", {"entries": entries})


def batch_norm():
    entries = {}
    for seed in SEEDS:
        # Neither centred nor scaled, so that a mean or a variance that is left out shows.
        x = 2 * jax.random.normal(jax.random.key(seed), (16, 8)) + 1
        entries[f"seed_{seed}/input"] = exact(x)

        layer = nnx.BatchNorm(8, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(seed))
        entries[f"seed_{seed}/nnx/train_output"] = close(layer(x))
        entries[f"seed_{seed}/nnx/mean"] = close(layer.mean[...])
        entries[f"seed_{seed}/nnx/var"] = close(layer.var[...])
        layer.eval()
        entries[f"seed_{seed}/nnx/eval_output"] = close(layer(x))

        train = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
        variables = train.init(jax.random.key(seed), x)
        y, updated = train.apply(variables, x, mutable=["batch_stats"])
        entries[f"seed_{seed}/linen/train_output"] = close(y)
        entries[f"seed_{seed}/linen/mean"] = close(updated["batch_stats"]["mean"])
        entries[f"seed_{seed}/linen/var"] = close(updated["batch_stats"]["var"])
        running = nn.BatchNorm(use_running_average=True, momentum=0.9, epsilon=1e-5)
        entries[f"seed_{seed}/linen/eval_output"] = close(running.apply({**variables, **updated}, x))
    write("batch_norm.json", {"entries": entries})


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.output = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.hidden(x)))
        return self.output(self.dropout(x))


def leaves(state):
    """Each leaf of a state with its path joined by slashes."""
    for path, variable in nnx.to_flat_state(state):
        yield "/".join(map(str, path)), variable[...]


def mlp():
    def loss_function(model, x, labels):
        logits = model(x)
        losses = jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
        return losses.mean(), logits

    entries = {}
    for seed in SEEDS:
        x = jax.random.normal(jax.random.key(seed + 100), (16, 8))
        labels = jax.random.randint(jax.random.key(seed + 200), (16,), 0, 4)
        entries[f"seed_{seed}/input"] = exact(x)
        entries[f"seed_{seed}/labels"] = exact(labels)

        model = MLP(nnx.Rngs(seed))
        for path, value in leaves(nnx.state(model, (nnx.Param, nnx.BatchStat))):
            entries[f"seed_{seed}/initial/{path}"] = exact(value)
        (loss, logits), gradients = nnx.value_and_grad(loss_function, has_aux=True)(model, x, labels)
        entries[f"seed_{seed}/train_output"] = close(logits)
        entries[f"seed_{seed}/loss"] = close(loss)
        for path, value in leaves(gradients):
            entries[f"seed_{seed}/gradient/{path}"] = close(value)
        for path, value in leaves(nnx.state(model, nnx.BatchStat)):
            entries[f"seed_{seed}/updated/{path}"] = close(value)
        model.eval()
        entries[f"seed_{seed}/eval_output"] = close(model(x))
    write("mlp.json", {"entries": entries})


if __name__ == "__main__":
    encoding.main([linear, dense, dropout, wrappers, batch_norm, mlp, three_level, perturb, bridged])
