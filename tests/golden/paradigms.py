"""The two paradigms' whole programs: a Linen model of three levels, and perturbations of an nnx model."""

import operator

from encoding import close, exact, write

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

SEEDS = (0, 1, 42)


def leaves(tree, path=()):
    """Each leaf with its path joined by slashes, in the order in which Flax holds them; of a tuple, by its index."""
    if isinstance(tree, tuple):
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict):
        yield "/".join(map(str, path)), tree
        return
    for step, child in tree.items():
        yield from leaves(child, (*path, step))


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(self.features)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        self.sow("intermediates", "hidden", x)
        self.sow("losses", "activity", jnp.mean(x**2), reduce_fn=operator.add, init_fn=lambda: 0.0)
        return nn.Dropout(0.5, deterministic=not train)(x)


class Stage(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        x = Block(self.features, name="block")(x, train)
        x = Block(self.features)(x, train)
        mix = nn.Dense(self.features)
        return mix(mix(x))


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = Stage(6)(x, train)
        x = Stage(4, name="top")(x, train)
        return nn.Dense(3, name="head")(x)


def three_level():
    entries = {}
    model = Model()
    for seed in SEEDS:
        x = jax.random.normal(jax.random.key(seed + 100), (8, 5))
        entries[f"seed_{seed}/input"] = exact(x)

        keys = {"params": jax.random.key(seed), "dropout": jax.random.key(seed + 1)}
        variables = model.init(keys, x, train=False)
        for path, leaf in leaves(variables):
            # What is sown came out of the layers' arithmetic.
            entry = close if path.startswith("losses/") else exact
            entries[f"seed_{seed}/initial/{path}"] = entry(leaf)
        entries[f"seed_{seed}/eval_output"] = close(model.apply(variables, x, train=False))

        def train(variables):
            rngs = {"dropout": jax.random.key(seed + 7)}
            return model.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats", "intermediates", "losses"])

        y, updated = train(variables)
        entries[f"seed_{seed}/train_output"] = close(y)
        for path, leaf in leaves(updated):
            entries[f"seed_{seed}/updated/{path}"] = close(leaf)
        # The same without the sown losses of the initialization, to which the call above adds.
        fed = {collection: tree for collection, tree in variables.items() if collection != "losses"}
        y, updated = train(fed)
        entries[f"seed_{seed}/train_output_without_losses"] = close(y)
        for path, leaf in leaves(updated):
            entries[f"seed_{seed}/updated_without_losses/{path}"] = close(leaf)

        _, captured = model.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])
        for path, leaf in leaves(captured["intermediates"]):
            entries[f"seed_{seed}/captured/{path}"] = close(leaf)

        def loss(params):
            y, _ = train({**variables, "params": params})
            return jnp.mean(jnp.square(y))

        for path, leaf in leaves(jax.grad(loss)(variables["params"])):
            entries[f"seed_{seed}/gradient/{path}"] = close(leaf)
    write("three_level.json", {"entries": entries})


class Perturbed(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.second = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.first(x))
        h = self.perturb("hidden", h)
        self.sow(nnx.Intermediate, "hidden_sown", h)
        return self.second(h)


def state_leaves(state):
    """Each leaf of a state, of which a variable's value may be a tuple of what was sown."""
    for path, variable in nnx.to_flat_state(state):
        yield from leaves(variable.get_value(), path)


def perturb():
    def loss(model, perturbations, x):
        y, sown = nnx.capture(model, nnx.Intermediate, init=perturbations)(x)
        return jnp.mean(y**2), (y, sown)

    entries = {}
    for seed in SEEDS:
        x = jax.random.normal(jax.random.key(seed + 100), (4, 6))
        entries[f"seed_{seed}/input"] = exact(x)

        model = Perturbed(nnx.Rngs(seed))
        for path, value in state_leaves(nnx.state(model, nnx.Param)):
            entries[f"seed_{seed}/initial/{path}"] = exact(value)
        _, perturbations = nnx.capture(model, nnx.Perturbation)(x)
        gradient = nnx.grad(loss, argnums=(0, 1), has_aux=True)
        (gradients, of_perturbations), (y, sown) = gradient(model, perturbations, x)
        entries[f"seed_{seed}/output"] = close(y)
        for path, value in state_leaves(sown):
            entries[f"seed_{seed}/captured/{path}"] = close(value)
        for path, value in state_leaves(gradients):
            entries[f"seed_{seed}/gradient/{path}"] = close(value)
        for path, value in state_leaves(of_perturbations):
            entries[f"seed_{seed}/perturbation_gradient/{path}"] = close(value)
    write("perturb.json", {"entries": entries})
