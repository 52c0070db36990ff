"""The initializers of jax.nn."""

from encoding import digest, enc, key, write, x64

import contextlib

import jax
import jax.numpy as jnp


def gen_init():
    I = jax.nn.initializers
    out = []

    def add(name, fn, shape, k=(0, 42), dtype=jnp.float32, **cfg):
        out.append({"init": name, "key": list(k), **cfg, "out": enc(fn(key(k), shape, dtype))})

    V = I.variance_scaling
    for shape in ((3, 4), (3, 3, 2, 5)):
        for name in ("lecun_normal", "lecun_uniform", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform"):
            add(name, getattr(I, name)(), shape)
    for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
        for dist in ("truncated_normal", "normal", "uniform"):
            add("variance_scaling", V(1.5, mode, dist), (3, 2, 7), scale=1.5, mode=mode, distribution=dist)
    for ia, oa, ba, shape in (
        ([0, 1], [2], [], (3, 2, 5)),
        ([0], [1, 2], [], (4, 3, 2)),
        ([1], [2], [0], (2, 3, 4)),
        ([-2], [0], [], (6, 5)),
    ):
        add(
            "variance_scaling",
            V(1.0, "fan_in", "truncated_normal", tuple(ia), tuple(oa), tuple(ba)),
            shape,
            scale=1.0,
            mode="fan_in",
            distribution="truncated_normal",
            in_axis=ia,
            out_axis=oa,
            batch_axis=ba,
        )
    add(
        "variance_scaling",
        V(1.0, "fan_in", "normal", out_axis=0),
        (7, 3),
        scale=1.0,
        mode="fan_in",
        distribution="normal",
        in_axis=[-2],
        out_axis=[0],
        batch_axis=[],
        note="Embed default",
    )
    add("normal", I.normal(), (10,), stddev=1e-2)
    add("normal", I.normal(0.02), (10,), stddev=0.02)
    add("uniform", I.uniform(), (10,), scale=1e-2)
    add("truncated_normal", I.truncated_normal(0.02), (10,), stddev=0.02, lower=-2.0, upper=2.0)
    add("truncated_normal", I.truncated_normal(1.0, lower=-1.0, upper=3.0), (10,), stddev=1.0, lower=-1.0, upper=3.0)
    add("zeros", I.zeros, (3,))
    add("ones", I.ones, (3,))
    add("constant", I.constant(0.3), (3,), value=0.3)
    for dt in (jnp.bfloat16,):
        add("lecun_normal", I.lecun_normal(), (5, 6), dtype=dt)
        add("glorot_uniform", I.glorot_uniform(), (5, 6), dtype=dt)
        add("normal", I.normal(0.02), (10,), dtype=dt, stddev=0.02)
    for dt in (jnp.float16, jnp.float64):
        with x64() if dt == jnp.float64 else contextlib.nullcontext():
            for n in ("lecun_normal", "glorot_uniform", "he_normal"):
                add(n, getattr(I, n)(), (5, 6), dtype=dt)
            add("normal", I.normal(0.02), (10,), dtype=dt, stddev=0.02)
            add("uniform", I.uniform(0.02), (10,), dtype=dt, scale=0.02)
            add("truncated_normal", I.truncated_normal(0.02), (10,), dtype=dt, stddev=0.02, lower=-2.0, upper=2.0)
            add("constant", I.constant(0.3), (3,), dtype=dt, value=0.3)
    approx = []
    for shape, ax in (((4, 4), -1), ((5, 3), -1), ((3, 5), -1), ((2, 3, 4), -1), ((4, 3), 0)):
        approx.append(
            {
                "init": "orthogonal",
                "tolerance": "close",
                "key": [0, 42],
                "scale": 1.5,
                "column_axis": ax,
                "out": enc(I.orthogonal(1.5, ax)(key([0, 42]), shape)),
            }
        )
    for shape in ((3, 2, 4), (3, 3, 2, 2), (2, 3, 3, 2, 3)):
        approx.append(
            {
                "init": "delta_orthogonal",
                "tolerance": "close",
                "key": [0, 42],
                "scale": 1.0,
                "column_axis": -1,
                "out": enc(I.delta_orthogonal()(key([0, 42]), shape)),
            }
        )
    big = [
        {"init": "lecun_normal", "key": [0, 42], "out": digest(I.lecun_normal()(key([0, 42]), (3, 3, 64, 65)))},
        {"init": "glorot_uniform", "key": [0, 42], "out": digest(I.glorot_uniform()(key([0, 42]), (300, 100)))},
    ]
    jitted = []
    for dt in (jnp.float32, jnp.float16, jnp.bfloat16, jnp.float64):
        with x64() if dt == jnp.float64 else contextlib.nullcontext():
            for n, init, shape, fields in (
                ("normal", I.normal(0.02), (300,), {"stddev": 0.02}),
                ("uniform", I.uniform(0.02), (20,), {"scale": 0.02}),
                ("truncated_normal", I.truncated_normal(0.3), (20,), {"stddev": 0.3, "lower": -2.0, "upper": 2.0}),
                ("embed", I.variance_scaling(1.0, "fan_in", "normal", out_axis=0), (20, 15), {}),
                ("lecun_normal", I.lecun_normal(), (5, 6), {}),
                ("he_uniform", I.he_uniform(), (5, 6), {}),
            ):
                jitted.append(
                    {
                        "init": n,
                        **fields,
                        "key": [0, 42],
                        "note": "initializer traced inside an outer jit: constant factors are folded into one",
                        "out": enc(jax.jit(lambda k: init(k, shape, dt))(key([0, 42]))),
                    }
                )
    write("initializers.json", {"exact": out, "approximate": approx, "big": big, "under_jit": jitted})
