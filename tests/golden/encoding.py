"""What every golden file shares: the settings of JAX, the encoding of arrays, writing.

Import this before jax, because it sets the environment that jax reads when it starts.

XLA's CPU compiler contracts a*b+c into fused multiply-adds, so the bits of float samplers depend on the instruction
set. It is pinned to AVX2 with FMA: float32, float64 and bfloat16 results equal those of native AVX-512 machines; only
float16 differs there, because AVX512-FP16 adds half-precision fused multiply-adds.

Where an object holds `"tolerance": "close"`, what is in it may differ by float rounding between machines. Everything
else is exact.
"""

import hashlib
import json
import os
import sys
import warnings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_cpu_max_isa=AVX2").strip()
warnings.simplefilter("ignore")

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

PINNED = {"jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8", "numpy": "2.4.6"}
FOUND = {module.__name__: module.__version__ for module in (jax, jaxlib, flax, np)}
if FOUND != PINNED:
    sys.exit(f"expected the versions of requirements.txt, {PINNED}; found {FOUND}")

META = {
    **PINNED,
    "platform": "cpu x86_64, --xla_cpu_max_isa=AVX2 (FMA on)",
    "jax_threefry_partitionable": True,
}

# Arrays of more elements than this are stored as a digest and a few samples.
LARGEST_WHOLE = 4096

KEYS = [[0, 0], [0, 42], [0xDEADBEEF, 0x12345678]]


def x64():
    return jax.enable_x64(True)


def key(words):
    return jax.random.wrap_key_data(jnp.asarray(np.array(words, np.uint32)))


def kd(k):
    """The two words of a key, or of an array of keys."""
    if hasattr(k, "dtype") and k.dtype == np.uint32:
        return np.asarray(k).tolist()
    return np.asarray(jax.random.key_data(k)).tolist()


def rec_init(k, *args):
    """An initializer that returns the key it was given."""
    return jax.random.key_data(k)


def dtype_name(x):
    return "bfloat16" if getattr(x, "dtype", None) == jnp.bfloat16 else str(np.asarray(x).dtype)


def _decimal(a):
    texts = [str(v) for v in a.ravel()]
    return [t if t in ("inf", "-inf", "nan") else float(t) for t in texts]


def enc(x, decimal=True):
    """A whole array. Floats carry their exact bits and, if asked, the shortest decimal."""
    a = np.asarray(x)
    d = {"dtype": dtype_name(x), "shape": list(a.shape)}
    readable = None
    if d["dtype"] == "bfloat16":
        d["u16"] = a.view(np.uint16).ravel().tolist()
        readable = a.astype(np.float32)
    elif a.dtype == np.float16:
        d["u16"] = a.view(np.uint16).ravel().tolist()
        readable = a
    elif a.dtype == np.float32:
        d["u32"] = a.view(np.uint32).ravel().tolist()
        readable = a
    elif a.dtype == np.float64:
        d["u64hex"] = ["%016x" % v for v in a.view(np.uint64).ravel()]
        readable = a
    elif a.dtype == np.uint64:
        d["u64hex"] = ["%016x" % v for v in a.ravel()]
    elif a.dtype == np.bool_:
        d["data"] = a.astype(int).ravel().tolist()
    else:
        d["data"] = a.ravel().tolist()
    if decimal and readable is not None:
        d["dec"] = _decimal(readable)
    return d


def digest(x, idx=(0, 1, -1), decimal=True):
    """A big array: SHA-256 of its little-endian bytes (a bool is one byte) and a few samples."""
    a = np.asarray(x)
    flat = a.ravel()
    idx = [i % flat.size for i in idx]
    sample = jnp.asarray(flat[idx], jnp.bfloat16) if dtype_name(x) == "bfloat16" else flat[idx]
    return {
        "dtype": dtype_name(x),
        "shape": list(a.shape),
        "sha256": hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest(),
        "sample_index": idx,
        "sample": enc(sample, decimal),
    }


def _entry(x, tolerance):
    a = np.asarray(x)
    if a.size <= LARGEST_WHOLE:
        return {"tolerance": tolerance, **enc(x, decimal=False)}
    if tolerance != "exact":
        raise ValueError(f"an array of {a.size} elements is stored as a digest, which can only be exact")
    idx = np.linspace(0, a.size - 1, 8).astype(int).tolist()
    return {"tolerance": tolerance, **digest(x, idx, decimal=False)}


def exact(x):
    """An entry that must come out with the same bits on every machine."""
    return _entry(x, "exact")


def close(x):
    """An entry that may differ by float rounding."""
    return _entry(x, "close")


def write(name, content):
    """Writes one golden file to the folder that the command line names."""
    text = json.dumps({"meta": META, **content}, separators=(",", ":"))
    text = text.replace("},{", "},\n{").replace('},"', '},\n"')
    with open(os.path.join(sys.argv[1], name), "w") as file:
        file.write(text + "\n")
    print(f"{name:24s} {len(text) / 1024:8.1f} KiB", flush=True)


def main(generators):
    """Runs the generators, which write to the folder that is the only argument."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    os.makedirs(sys.argv[1], exist_ok=True)
    for generate in generators:
        generate()
