"""Flax's side of the training benchmarks: `train_flax.py NETWORK FILE`, as `benches/src/networks` says.

The step is one function under `jax.jit` that gives its arguments away, which costs less than `nnx.jit`.
"""

import functools
import sys
import time

from flax import nnx
import jax
import jax.numpy as jnp
import optax
from safetensors.numpy import load_file

STEPS = 20
RNGS = nnx.Rngs(0)


def linear(inputs, outputs):
    return nnx.Linear(inputs, outputs, rngs=RNGS)


def norm(width, epsilon):
    return nnx.LayerNorm(width, epsilon=epsilon, rngs=RNGS)


class Attention(nnx.Module):
    def __init__(self, width, heads):
        self.heads = heads
        self.query = linear(width, width)
        self.key = linear(width, width)
        self.value = linear(width, width)
        self.output = linear(width, width)

    def __call__(self, x):
        batch, tokens, width = x.shape

        def split(x):
            return x.reshape(batch, tokens, self.heads, -1)

        attended = nnx.dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        return self.output(attended.reshape(batch, tokens, width))


class Block(nnx.Module):
    def __init__(self, width, heads, epsilon):
        self.attention_norm = norm(width, epsilon)
        self.attention = Attention(width, heads)
        self.mlp_norm = norm(width, epsilon)
        self.widen = linear(width, 4 * width)
        self.narrow = linear(4 * width, width)


class Mlp(nnx.Module):
    def __init__(self):
        self.layers = nnx.List([linear(784, 512), linear(512, 512), linear(512, 10)])

    def __call__(self, x):
        first, second, third = self.layers
        return third(nnx.relu(second(nnx.relu(first(x)))))


class Cnn(nnx.Module):
    def __init__(self):
        conv = functools.partial(nnx.Conv, kernel_size=(3, 3), padding="VALID", rngs=RNGS)
        self.convs = nnx.List([conv(1, 32), conv(32, 64)])
        self.dense = linear(9216, 10)

    def __call__(self, x):
        first, second = self.convs
        x = nnx.relu(second(nnx.relu(first(x))))
        x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        return self.dense(x.reshape(x.shape[0], -1))


class Transformer(nnx.Module):
    def __init__(self):
        self.blocks = nnx.List([Block(256, 4, 1e-6) for _ in range(4)])
        self.norm = norm(256, 1e-6)
        self.head = linear(256, 10)

    def __call__(self, x):
        for block in self.blocks:
            x = x + block.attention(block.attention_norm(x))
            x = x + block.narrow(nnx.gelu(block.widen(block.mlp_norm(x))))
        return self.head(self.norm(x).mean(1))


class MiniLm(nnx.Module):
    def __init__(self):
        self.words = nnx.Param(jnp.zeros((30522, 384)))
        self.positions = nnx.Param(jnp.zeros((512, 384)))
        self.types = nnx.Param(jnp.zeros((2, 384)))
        self.norm = norm(384, 1e-12)
        self.layers = nnx.List([Block(384, 12, 1e-12) for _ in range(6)])

    def __call__(self, words):
        places = self.positions[: words.shape[1]] + self.types[0]
        x = self.norm(self.words[words] + places)
        for layer in self.layers:
            x = layer.attention_norm(x + layer.attention(x))
            hidden = nnx.gelu(layer.widen(x), approximate=False)
            x = layer.mlp_norm(x + layer.narrow(hidden))
        return x.mean(1)


NETWORKS = {"mlp": Mlp, "cnn": Cnn, "transformer": Transformer, "minilm": MiniLm}


def serve(numbers, step):
    print("losses", *[float(number) for number in numbers], flush=True)
    for line in sys.stdin:
        steps = int(line)
        started = time.perf_counter()
        for _ in range(steps):
            result = step()
        jax.block_until_ready(result)
        print((time.perf_counter() - started) / steps, flush=True)


def forward(graphdef, parameters, inputs):
    apply = jax.jit(lambda parameters, words: nnx.merge(graphdef, parameters)(words))
    passes = 0

    def step():
        nonlocal passes
        passes += 1
        return apply(parameters, inputs[passes % len(inputs)])

    outputs = apply(parameters, inputs[0])
    serve([*jnp.abs(outputs).mean(1), *outputs.max(1)], step)


def train(graphdef, parameters, inputs, labels):
    rule = optax.adamw(1e-3, weight_decay=1e-2)

    def loss(parameters, inputs, labels):
        logits = nnx.merge(graphdef, parameters)(inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def one_step(parameters, memory, inputs, labels):
        value, gradients = jax.value_and_grad(loss)(parameters, inputs, labels)
        updates, memory = rule.update(gradients, memory, parameters)
        return value, optax.apply_updates(parameters, updates), memory

    memory = rule.init(parameters)
    steps = 0

    def step():
        nonlocal parameters, memory, steps
        batch = steps % len(inputs)
        value, parameters, memory = one_step(parameters, memory, inputs[batch], labels[batch])
        steps += 1
        # What the caller waits for.
        return value, parameters

    serve([float(step()[0]) for _ in range(STEPS)], step)


def main():
    name, file = sys.argv[1:]
    tensors = load_file(file)
    inputs = [jnp.asarray(batch) for batch in tensors.pop("inputs")]
    labels = [jnp.asarray(batch) for batch in tensors.pop("labels", [])]
    graphdef, parameters = nnx.split(NETWORKS[name](), nnx.Param)
    flat = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(parameters)}
    if flat.keys() != tensors.keys():
        sys.exit(f"the file and the network differ in {flat.keys() ^ tensors.keys()}")
    for path, leaf in flat.items():
        leaf[...] = jnp.asarray(tensors[path])
    if labels:
        train(graphdef, parameters, inputs, labels)
    else:
        forward(graphdef, parameters, inputs)


main()
