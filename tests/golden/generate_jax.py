"""Writes the golden files of JAX's random numbers and of Flax's random streams to a folder.

Usage: python generate_jax.py FOLDER
"""

import encoding
from bridge_rngs import gen_bridge
from documentation import gen_documentation
from initializers import gen_init
from linen_rngs import gen_linen
from nnx_rngs import gen_nnx
from samplers import (
    gen_bernoulli,
    gen_bits,
    gen_categorical,
    gen_keys,
    gen_normal,
    gen_permutation,
    gen_randint,
    gen_threefry,
    gen_truncnorm,
    gen_uniform,
)

if __name__ == "__main__":
    encoding.main(
        [
            gen_keys,
            gen_threefry,
            gen_bits,
            gen_uniform,
            gen_normal,
            gen_truncnorm,
            gen_bernoulli,
            gen_randint,
            gen_permutation,
            gen_categorical,
            gen_init,
            gen_nnx,
            gen_linen,
            gen_bridge,
            gen_documentation,
        ]
    )
