"""What Flax takes for the operations of the graph benchmarks: `flax_graph.py OPERATION MODEL`.

Prints `leaves N`. Then, for each line with a number of seconds that it reads, repeats the operation for about that long
and prints the seconds for each leaf.
"""

import sys
import time

from flax import nnx
import jax

SIZE = 8


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.input = linear(rngs)
        self.hidden = nnx.List([linear(rngs) for _ in range(98)])
        self.output = linear(rngs)


class Layers(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([linear(rngs) for _ in range(1000)])


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.query = linear(rngs)
        self.key = linear(rngs)
        self.value = linear(rngs)
        self.out = linear(rngs)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.attention = Attention(rngs)
        self.attention_norm = nnx.LayerNorm(SIZE, rngs=rngs)
        self.up = linear(rngs)
        self.down = linear(rngs)
        self.mlp_norm = nnx.LayerNorm(SIZE, rngs=rngs)


class Transformer(nnx.Module):
    def __init__(self, rngs):
        self.embedding = nnx.Embed(SIZE, SIZE, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(12)])
        self.norm = nnx.LayerNorm(SIZE, rngs=rngs)
        self.head = linear(rngs)


MODELS = {"mlp100": Mlp, "list1000": Layers, "transformer12": Transformer}


def linear(rngs):
    return nnx.Linear(SIZE, SIZE, rngs=rngs)


def operations(model):
    graphdef, state = nnx.split(model)
    is_bias = nnx.All(nnx.Param, nnx.PathContains("bias"))
    return {
        "split": lambda: nnx.split(model),
        "split_filters3": lambda: nnx.split(model, is_bias, nnx.Param, ...),
        "merge": lambda: nnx.merge(graphdef, state),
        "state": lambda: nnx.state(model),
        "update": lambda: nnx.update(model, state),
        "clone": lambda: nnx.clone(model),
        "visit": lambda: sum(1 for _ in nnx.iter_graph(model)),
        "graphdef_hash": lambda: hash(graphdef),
    }


def main():
    operation, model = sys.argv[1:]
    model = MODELS[model](nnx.Rngs(0))
    leaves = len(jax.tree.leaves(nnx.state(model)))
    once = operations(model)[operation]
    once()
    print("leaves", leaves, flush=True)
    for line in sys.stdin:
        seconds = float(line)
        started = time.perf_counter()
        calls = 0
        while calls == 0 or time.perf_counter() - started < seconds:
            once()
            calls += 1
        print((time.perf_counter() - started) / calls / leaves, flush=True)


main()
