"""Models of modules wrapped in modules of the other paradigm, up to three levels deep, through nnx.bridge."""

from encoding import close, exact, write

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import core, nnx
from flax.core import meta
from flax.nnx import bridge
from flax.nnx.bridge import variables as bridge_variables
from flax.nnx.bridge import wrappers
from flax.nnx.variablelib import variable_name_from_type

SEEDS = (0, 1, 42)


class ToLinen(bridge.ToLinen):
    """bridge.ToLinen by the rule of Flax up to 0.10.5, which candle-bridge follows.

    At init it is Flax's own, and also stores the random streams, and in the collection `nnx` the graph definition. At
    apply, where Flax 0.12.8 constructs the module anew, the stored module is merged, and reseeded with the keys that
    Flax's own would construct it with.
    """

    def _update_variables(self, module):
        super()._update_variables(module)
        if not self.is_initializing():
            return
        graphdef, streams, _ = nnx.split(module, nnx.RngState, ...)
        self.put_variable("nnx", "graphdef", graphdef)
        for kind in (nnx.RngKey, nnx.RngCount):
            collection = variable_name_from_type(kind, allow_register=True)
            flat = [(path, leaf) for path, leaf in nnx.to_flat_state(streams) if type(leaf) is kind]
            boxed = [(path, bridge_variables.to_linen_var(leaf)) for path, leaf in flat]
            for name, tree in nnx.traversals.unflatten_mapping(boxed).items():
                self.put_variable(collection, name, tree)

    @nn.compact
    def __call__(self, *args):
        if self.is_initializing():
            return super().__call__(*args)
        variables = core.unfreeze(meta.unbox(self.variables))
        graphdef = variables.pop("nnx")["graphdef"]
        module = nnx.merge(graphdef, nnx.merge_state(*variables.values()))
        nnx.reseed(module, **wrappers.linen_rngs_dict(self))
        output = module(*args)
        self._update_variables(module)
        return output


# Each module returns its output and what its dropouts gave, in the order of their calls. What goes on is what they gave
# added to what they took, so that no dropout takes zeros: the elements that are not zero are those that were kept.


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(6)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        dropped = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(4)(jnp.tanh(x + dropped)), [dropped]


class StatefulBlock(nnx.Module):
    def __init__(self, inputs, rngs):
        self.linear = nnx.Linear(inputs, 6, rngs=rngs)
        self.noise = nnx.Dropout(0.5, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        # Called after `noise`, and before it in sorted order, in which streams are reseeded.
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.output = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x, train):
        x = self.linear(x)
        noise = self.noise(x, deterministic=not train)
        x = self.norm(x + noise, use_running_average=not train)
        dropped = self.dropout(x, deterministic=not train)
        return self.output(jnp.tanh(x + dropped)), [noise, dropped]


class MixedStateful(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(5, 7, rngs=rngs)
        self.block = bridge.ToNNX(Block(), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train, mutable=None):
        x, dropped = self.block(self.linear(x), train, mutable=mutable)
        last = self.dropout(x, deterministic=not train)
        return x + last, [*dropped, last]


class MixedFunctional(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(7)(x)
        x, dropped = ToLinen(StatefulBlock, args=(7,), name="block")(x, train)
        last = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(3)(x + last), [*dropped, last]


class Middle(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(7, 5, rngs=rngs)
        # Flax needs the sample here; candle-bridge initializes what is inside by the first call.
        self.block = bridge.ToNNX(Block(), rngs=rngs).lazy_init(jnp.ones((1, 5)), True)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train):
        x, dropped = self.block(self.linear(x), train)
        last = self.dropout(x, deterministic=not train)
        return x + last, [*dropped, last]


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(7)(x)
        x, dropped = ToLinen(Middle, name="middle")(x, train)
        last = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(3)(x + last), [*dropped, last]


def joined(path):
    return "/".join(map(str, path))


def raw(value):
    """A value as it is stored: of a key, its two words."""
    return jax.random.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value


def loss(y):
    return jnp.mean(jnp.square(y))


def masks(name, dropped):
    return {f"{name}/{index}": exact(value != 0) for index, value in enumerate(dropped)}


def variable_leaves(variables):
    """Each leaf of Linen variables with its path, the collection first; not the graph definitions."""
    tree = {name: tree for name, tree in core.unfreeze(meta.unbox(variables)).items() if name != "nnx"}
    for path, leaf in nnx.traversals.flatten_mapping(tree).items():
        yield joined(path), leaf


def state_leaves(module, kind):
    """The same of the variables of a type in a module."""
    for path, variable in nnx.to_flat_state(nnx.state(module, kind)):
        collection = variable_name_from_type(type(variable), allow_register=True)
        if collection != "nnx":
            yield joined((collection, *path)), variable.get_value()


def functional(seed, model, x):
    """Entries of a model whose outermost module is functional."""
    keys = {"params": jax.random.key(seed), "dropout": jax.random.key(seed + 1)}
    variables = model.init(keys, x, True)
    entries = {f"initial/{path}": exact(raw(leaf)) for path, leaf in variable_leaves(variables)}
    entries["eval_output"] = close(model.apply(variables, x, False)[0])

    def train(params, key):
        rngs = {"dropout": jax.random.key(key)}
        return model.apply({**variables, "params": params}, x, True, rngs=rngs, mutable=["batch_stats"])

    (y, dropped), updated = train(variables["params"], seed + 7)
    entries["train_output"] = close(y)
    entries |= masks("mask", dropped)
    entries |= {f"updated/{path}": close(leaf) for path, leaf in variable_leaves(updated)}
    gradients = jax.grad(lambda params: loss(train(params, seed + 7)[0][0]))(variables["params"])
    entries |= {f"gradient/{path}": close(leaf) for path, leaf in variable_leaves({"params": gradients})}
    (_, dropped), _ = train(variables["params"], seed + 8)
    return entries | masks("second_mask", dropped)


def stateful(model, x):
    """Entries of a model whose outermost module is stateful; what is functional inside is initialized."""
    entries = {f"initial/{path}": exact(raw(leaf)) for path, leaf in state_leaves(model, ...)}
    entries["eval_output"] = close(model(x, False)[0])
    train = lambda model: model(x, True, mutable=["batch_stats"])
    gradients = nnx.grad(lambda model: loss(train(model)[0]))(nnx.clone(model))
    for path, variable in nnx.to_flat_state(gradients):
        entries[f"gradient/params/{joined(path)}"] = close(variable.get_value())
    y, dropped = train(model)
    entries["train_output"] = close(y)
    entries |= masks("mask", dropped)
    entries |= {f"updated/{path}": close(leaf) for path, leaf in state_leaves(model, nnx.BatchStat)}
    entries |= masks("second_mask", train(model)[1])
    return entries | {f"streams/{path}": exact(raw(leaf)) for path, leaf in state_leaves(model, nnx.RngState)}


def bridged():
    entries = {}
    for seed in SEEDS:
        x = jax.random.normal(jax.random.key(seed + 100), (8, 5))
        entries[f"seed_{seed}/input"] = exact(x)
        streams = lambda: nnx.Rngs(params=seed, dropout=seed + 1)
        models = {
            "functional_in_stateful": stateful(bridge.ToNNX(Block(), rngs=nnx.Rngs(seed)).lazy_init(x, True), x),
            "stateful_in_functional": functional(seed, ToLinen(StatefulBlock, args=(5,)), x),
            "mixed_stateful": stateful(bridge.lazy_init(MixedStateful(nnx.Rngs(seed)), x, True), x),
            "mixed_functional": functional(seed, MixedFunctional(), x),
            "functional_in_stateful_in_functional": functional(seed, Outer(), x),
            "stateful_in_functional_in_stateful": stateful(
                bridge.ToNNX(MixedFunctional(), rngs=streams()).lazy_init(x, True), x
            ),
        }
        for model, found in models.items():
            entries |= {f"seed_{seed}/{model}/{name}": entry for name, entry in found.items()}
    write("bridged.json", {"entries": entries})
