"""PyTorch's side of the training benchmarks: `train_torch.py NETWORK FILE`, as `benches/src/networks` says."""

import os
import sys
import time

from safetensors.torch import load_file
import torch
from torch import nn
from torch.nn import functional

STEPS = 20
# Each side has as many threads as processors.
torch.set_num_threads(len(os.sched_getaffinity(0)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape

        def split(x):
            return x.view(batch, tokens, self.heads, -1).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x))
        )
        return self.output(attended.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    def __init__(self, width, heads, epsilon):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=epsilon)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(784, 512), nn.Linear(512, 512), nn.Linear(512, 10)])

    def forward(self, x):
        first, second, third = self.layers
        return third(functional.relu(second(functional.relu(first(x)))))


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)])
        self.dense = nn.Linear(9216, 10)

    def forward(self, x):
        first, second = self.convs
        x = functional.relu(second(functional.relu(first(x.permute(0, 3, 1, 2)))))
        return self.dense(functional.max_pool2d(x, 2).permute(0, 2, 3, 1).flatten(1))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(256, 4, 1e-6) for _ in range(4)])
        self.norm = nn.LayerNorm(256, eps=1e-6)
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        for block in self.blocks:
            x = x + block.attention(block.attention_norm(x))
            hidden = functional.gelu(block.widen(block.mlp_norm(x)), approximate="tanh")
            x = x + block.narrow(hidden)
        return self.head(self.norm(x).mean(1))


class MiniLm(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30522, 384)
        self.positions = nn.Embedding(512, 384)
        self.types = nn.Embedding(2, 384)
        self.norm = nn.LayerNorm(384, eps=1e-12)
        self.layers = nn.ModuleList([Block(384, 12, 1e-12) for _ in range(6)])

    def forward(self, words):
        places = self.positions.weight[: words.shape[1]] + self.types.weight[0]
        x = self.norm(self.words(words) + places)
        for layer in self.layers:
            x = layer.attention_norm(x + layer.attention(x))
            hidden = functional.gelu(layer.widen(x))
            x = layer.mlp_norm(x + layer.narrow(hidden))
        return x.mean(1)


NETWORKS = {"mlp": Mlp, "cnn": Cnn, "transformer": Transformer, "minilm": MiniLm}


def in_torch_layout(name, value):
    """The name and the tensor that a module of PyTorch has for what the file holds."""
    path, _, last = name.rpartition(".")
    if last == "kernel":
        value = value.T if value.dim() == 2 else value.permute(3, 2, 0, 1)
    if last in ("kernel", "scale"):
        name = path + ".weight"
    if name in ("words", "positions", "types"):
        name += ".weight"
    return name, value.contiguous()


def serve(numbers, step):
    print("losses", *[float(number) for number in numbers], flush=True)
    for line in sys.stdin:
        steps = int(line)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        print((time.perf_counter() - started) / steps, flush=True)


def forward(network, inputs):
    passes = 0

    def step():
        nonlocal passes
        passes += 1
        return network(inputs[passes % len(inputs)])

    with torch.inference_mode():
        outputs = network(inputs[0])
        serve([*outputs.abs().mean(1), *outputs.amax(1)], step)


def train(network, inputs, labels):
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
    steps = 0

    def step():
        nonlocal steps
        batch = steps % len(inputs)
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(network(inputs[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        steps += 1
        return loss.detach()

    serve([step() for _ in range(STEPS)], step)


def main():
    name, file = sys.argv[1:]
    tensors = load_file(file)
    inputs = list(tensors.pop("inputs"))
    labels = list(tensors.pop("labels", []))
    network = NETWORKS[name]()
    network.load_state_dict(dict(in_torch_layout(*item) for item in tensors.items()))
    if labels:
        train(network, inputs, labels)
    else:
        forward(network, inputs)


main()
