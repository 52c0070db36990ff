"""Keys, the Threefry block, bits and every sampler of jax.random."""

from encoding import KEYS, digest, enc, kd, key, write, x64

import contextlib

import jax
import jax.numpy as jnp
import numpy as np


def gen_keys():
    seeds = [
        0,
        1,
        42,
        123456789,
        -1,
        -7,
        2**31 - 1,
        2**31,
        -(2**31),
        2**32 - 1,
        2**32,
        2**32 + 7,
        2**40 + 5,
        -(2**40) - 5,
        2**63 - 1,
        -(2**63),
    ]
    off = [{"seed": str(s), "key": kd(jax.random.key(s))} for s in seeds]
    for s in seeds:
        assert kd(jax.random.PRNGKey(s)) == kd(jax.random.key(s))
    typed = [
        ("uint32", 2**32 - 1),
        ("int32", -5),
        ("int8", -3),
        ("uint8", 200),
        ("int64", 2**40 + 5),
        ("int64", -5),
        ("uint64", 2**64 - 1),
    ]
    off_t = [{"dtype": d, "seed": str(v), "key": kd(jax.random.key(np.dtype(d).type(v)))} for d, v in typed]
    with x64():
        on = [{"seed": str(s), "key": kd(jax.random.key(s))} for s in seeds]
        on_t = [{"dtype": d, "seed": str(v), "key": kd(jax.random.key(np.dtype(d).type(v)))} for d, v in typed]
    fold = [
        {"key": k, "data": d, "out": kd(jax.random.fold_in(key(k), np.uint32(d)))}
        for k in KEYS
        for d in (0, 1, 2, 255, 2**31, 2**32 - 1)
    ]
    fold_signed = [
        {"key": [0, 42], "dtype": "int32", "data": d, "out": kd(jax.random.fold_in(key([0, 42]), np.int32(d)))}
        for d in (-1, -(2**31))
    ]
    spl = [
        {"key": k, "shape": list(s), "out": kd(jax.random.split(key(k), s))}
        for k in KEYS
        for s in ((2,), (3,), (5,), (2, 3), (1,), ())
    ]
    # a typical "rng, sub = split(rng)" chain
    k = jax.random.key(7)
    chain = []
    for _ in range(4):
        k, sub = jax.random.split(k)
        chain.append([kd(k), kd(sub)])
    write(
        "keys.json",
        {
            "seed_x64_off": off,
            "seed_x64_on": on,
            "typed_seed_x64_off": off_t,
            "typed_seed_x64_on": on_t,
            "fold_in": fold,
            "fold_in_signed": fold_signed,
            "split": spl,
            "split_chain": {"seed": 7, "steps": chain},
        },
    )


def gen_threefry():
    from jax.extend.random import threefry2x32_p

    vec = []
    ins = [
        ([0, 0], [0, 0]),
        ([0xFFFFFFFF] * 2, [0xFFFFFFFF] * 2),
        ([0x13198A2E, 0x03707344], [0x243F6A88, 0x85A308D3]),
        ([0, 42], [0, 1]),
        ([1, 0], [0, 0]),
        ([0xDEADBEEF, 0x12345678], [7, 0x80000000]),
    ]
    for k, x in ins:
        o = threefry2x32_p.bind(*[jnp.asarray(np.array([v], np.uint32)) for v in (*k, *x)])
        vec.append({"key": k, "x": x, "out": [int(o[0][0]), int(o[1][0])]})
    # legacy (non-partitionable) mode, only when jax_threefry_partitionable is turned off
    leg = {"split": [], "bits": []}
    with jax.threefry_partitionable(False):
        for k in KEYS[:2]:
            for s in ((2,), (3,), (2, 2)):
                leg["split"].append({"key": k, "shape": list(s), "out": kd(jax.random.split(key(k), s))})
            for w in (8, 16, 32):
                for s in ((5,), (2, 3), ()):
                    leg["bits"].append({"key": k, "width": w, "out": enc(jax.random.bits(key(k), s, f"uint{w}"))})
        leg["normal"] = [{"key": k, "out": enc(jax.random.normal(key(k), (7,)))} for k in KEYS[:2]]
        leg["randint"] = [{"key": k, "out": enc(jax.random.randint(key(k), (7,), 0, 10))} for k in KEYS[:2]]
        leg["permutation"] = [{"key": k, "out": enc(jax.random.permutation(key(k), 9))} for k in KEYS[:2]]
        with x64():
            leg["bits"].append({"key": [0, 42], "width": 64, "out": enc(jax.random.bits(key([0, 42]), (3,), "uint64"))})
    write("threefry.json", {"block": vec, "non_partitionable": leg})


def gen_bits():
    out, big = [], []
    for k in KEYS:
        for w in (8, 16, 32, 64):
            for s in ((), (1,), (7,), (3, 4), (2, 3, 2), (0, 3)):
                with x64():
                    out.append({"key": k, "width": w, "out": enc(jax.random.bits(key(k), s, f"uint{w}"))})
    for w in (8, 16, 32, 64):
        with x64():
            big.append(
                {"key": [0, 42], "width": w, "out": digest(jax.random.bits(key([0, 42]), (321, 100), f"uint{w}"))}
            )
    write("bits.json", {"bits": out, "big": big})


def gen_uniform():
    cases, big = [], []
    R = [(0.0, 1.0), (-1.0, 1.0), (0.1, 0.7), (-3.0, 5.5), (1e-3, 1e3)]
    for k in KEYS[1:]:
        for lo, hi in R:
            cases.append(
                {
                    "key": k,
                    "minval": lo,
                    "maxval": hi,
                    "out": enc(jax.random.uniform(key(k), (24,), jnp.float32, lo, hi)),
                }
            )
    for s in ((), (2, 3), (1,)):
        cases.append({"key": [0, 42], "minval": 0.0, "maxval": 1.0, "out": enc(jax.random.uniform(key([0, 42]), s))})
    for dt in (jnp.float16, jnp.bfloat16):
        for lo, hi in R[:4]:
            cases.append(
                {
                    "key": [0, 42],
                    "minval": lo,
                    "maxval": hi,
                    "out": enc(jax.random.uniform(key([0, 42]), (24,), dt, lo, hi)),
                }
            )
    with x64():
        for lo, hi in R:
            cases.append(
                {
                    "key": [0, 42],
                    "minval": lo,
                    "maxval": hi,
                    "out": enc(jax.random.uniform(key([0, 42]), (12,), jnp.float64, lo, hi)),
                }
            )
    # array-valued bounds broadcast against shape
    lo = np.array([0.0, 1.0, 2.0], np.float32)
    hi = np.array([[1.0], [10.0]], np.float32)
    cases.append(
        {
            "key": [0, 42],
            "minval": lo.tolist(),
            "maxval": hi.tolist(),
            "out": enc(jax.random.uniform(key([0, 42]), (2, 3), jnp.float32, lo, hi)),
        }
    )
    for lo, hi in R[:4]:
        big.append(
            {
                "key": [0, 42],
                "minval": lo,
                "maxval": hi,
                "out": digest(jax.random.uniform(key([0, 42]), (20001,), jnp.float32, lo, hi)),
            }
        )
    write("uniform.json", {"uniform": cases, "big": big})


def gen_normal():
    cases, big = [], []
    for k in KEYS:
        for s in ((), (31,), (2, 3, 4)):
            cases.append({"key": k, "out": enc(jax.random.normal(key(k), s))})
    for dt in (jnp.float16, jnp.bfloat16):
        cases.append({"key": [0, 42], "out": enc(jax.random.normal(key([0, 42]), (32,), dt))})
    with x64():
        cases.append({"key": [0, 42], "out": enc(jax.random.normal(key([0, 42]), (32,), jnp.float64))})
    big.append({"key": [0, 42], "out": digest(jax.random.normal(key([0, 42]), (100003,)))})
    fn = []
    u = np.concatenate(
        [
            np.linspace(-0.99999994, 0.99999994, 41, dtype=np.float32),
            np.float32([-1, 1, 0, 1e-8, -1e-20, 0.9999999, 0.99, -0.995]),
        ]
    )
    fn.append({"fn": "erf_inv", "x": enc(u), "y": enc(jax.lax.erf_inv(jnp.asarray(u)))})
    x = np.float32([0, 1e-30, 1e-6, -1e-6, 0.25, -0.25, 0.4142, 0.41422, -0.4142, -0.41422, -0.9, 5, 1e10, -0.9999999])
    fn.append({"fn": "log1p", "x": enc(x), "y": enc(jnp.log1p(jnp.asarray(x)))})
    x = np.float32([1.2e-38, 1e-20, 1e-3, 0.5, 0.7, 0.70710677, 0.70710683, 0.99, 1, 1.01, 2, 3, 10, 1e10, 3e38])
    fn.append({"fn": "log", "x": enc(x), "y": enc(jnp.log(jnp.asarray(x)))})
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    fn.append({"fn": "erf", "x": enc(x), "y": enc(jax.lax.erf(jnp.asarray(x)))})
    write("normal.json", {"normal": cases, "big": big, "functions": fn})


def gen_truncnorm():
    cases, big = [], []
    for k in KEYS[1:]:
        for lo, hi in ((-2, 2), (-2.0, 2.0), (-1.3, 0.7), (0.0, 3.0), (1.0, 1.5), (-np.inf, np.inf)):
            cases.append(
                {
                    "key": k,
                    "lower": str(lo),
                    "upper": str(hi),
                    "out": enc(jax.random.truncated_normal(key(k), lo, hi, (20,))),
                }
            )
    for dt in (jnp.float16, jnp.bfloat16):
        cases.append(
            {
                "key": [0, 42],
                "lower": "-2",
                "upper": "2",
                "out": enc(jax.random.truncated_normal(key([0, 42]), -2, 2, (24,), dt)),
            }
        )
        cases.append(
            {
                "key": [0, 42],
                "lower": "-0.7",
                "upper": "1.9",
                "out": enc(jax.random.truncated_normal(key([0, 42]), -0.7, 1.9, (24,), dt)),
            }
        )
    with x64():
        cases.append(
            {
                "key": [0, 42],
                "lower": "-2",
                "upper": "2",
                "out": enc(jax.random.truncated_normal(key([0, 42]), -2.0, 2.0, (24,), jnp.float64)),
            }
        )
        for lo, hi in ((-2.4267642498016357, 0.4207898676395416), (0.3, 1.7)):
            cases.append(
                {
                    "key": [0, 42],
                    "lower": str(lo),
                    "upper": str(hi),
                    "out": enc(jax.random.truncated_normal(key([0, 42]), lo, hi, (24,), jnp.float64)),
                }
            )
    big.append(
        {
            "key": [0, 42],
            "lower": "-2",
            "upper": "2",
            "out": digest(jax.random.truncated_normal(key([0, 42]), -2, 2, (50001,))),
        }
    )
    jc = []
    for dt in (jnp.float32, jnp.float16, jnp.bfloat16, jnp.float64):
        for lo, hi in ((-1.3, 0.7), (-2.293402671813965, -0.957760214805603), (0.07152734696865082, 0.9760765433311462)):
            with x64() if dt == jnp.float64 else contextlib.nullcontext():
                jitted = jax.jit(lambda k: jax.random.truncated_normal(k, lo, hi, (20,), dt))
                jc.append(
                    {
                        "key": [0, 42],
                        "lower": str(lo),
                        "upper": str(hi),
                        "note": "bounds are compile-time constants of an enclosing jit",
                        "out": enc(jitted(key([0, 42]))),
                    }
                )
    # bounds beyond which the error function is 1, as scalars and as arrays
    far = []
    for lo, hi in ((-5.35, 5.35), (5.2, 6.0)):
        for shape in ((), (20,)):
            lower, upper = (np.full(shape, bound, np.float32) for bound in (lo, hi))
            x = jax.random.truncated_normal(key([0, 42]), lower, upper, (20,))
            far.append({"key": [0, 42], "lower": str(lo), "upper": str(hi), "array": shape != (), "out": enc(x)})
    write("truncated_normal.json", {"truncated_normal": cases, "big": big, "jit_constant_bounds": jc, "far_bounds": far})


def gen_bernoulli():
    cases = []
    for k in KEYS[1:]:
        for p in (0.0, 0.1, 0.5, 0.9, 1 - 0.1, 1.0):
            for mode in ("low", "high"):
                cases.append(
                    {
                        "key": k,
                        "p": p,
                        "p_dtype": "float32",
                        "mode": mode,
                        "out": enc(jax.random.bernoulli(key(k), p, (40,), mode=mode)),
                    }
                )
    cases.append(
        {
            "key": [0, 42],
            "p": 0.3,
            "p_dtype": "bfloat16",
            "mode": "low",
            "out": enc(jax.random.bernoulli(key([0, 42]), jnp.bfloat16(0.3), (40,))),
        }
    )
    cases.append(
        {
            "key": [0, 42],
            "p": 0.3,
            "p_dtype": "float16",
            "mode": "low",
            "out": enc(jax.random.bernoulli(key([0, 42]), jnp.float16(0.3), (40,))),
        }
    )
    with x64():
        cases.append(
            {
                "key": [0, 42],
                "p": 0.3,
                "p_dtype": "float64",
                "mode": "low",
                "out": enc(jax.random.bernoulli(key([0, 42]), 0.3, (40,))),
            }
        )
    pv = np.float32([0.1, 0.5, 0.9])
    arr = [
        {"key": [0, 42], "p": pv.tolist(), "out": enc(jax.random.bernoulli(key([0, 42]), pv, (5, 3)))},
        {"key": [0, 42], "p": pv.tolist(), "out": enc(jax.random.bernoulli(key([0, 42]), pv))},
    ]
    big = [
        {
            "key": [0, 42],
            "p": 0.9,
            "p_dtype": "float32",
            "mode": "low",
            "out": digest(jax.random.bernoulli(key([0, 42]), 0.9, (64, 512))),
        }
    ]
    write("bernoulli.json", {"bernoulli": cases, "array_p": arr, "big": big})


def gen_randint():
    cases = []

    def add(k, shape, lo, hi, dt, **kw):
        cases.append(
            {
                "key": k,
                "minval": str(lo),
                "maxval": str(hi),
                **kw,
                "out": enc(jax.random.randint(key(k), shape, lo, hi, dt)),
            }
        )

    for k in KEYS[1:]:
        add(k, (16,), 0, 10, jnp.int32)
        add(k, (16,), -5, 7, jnp.int32)
        add(k, (3, 4), 0, 1000003, jnp.int32)
        add(k, (8,), 0, 65536, jnp.int32)
        add(k, (8,), 0, 65537, jnp.int32)
        add(k, (8,), -(2**31), 2**31 - 1, jnp.int32)
        add(k, (4,), 5, 5, jnp.int32)
        add(k, (4,), 9, 3, jnp.int32)
        add(k, (), 0, 100, jnp.int32)
        add(k, (8,), np.int32(-(2**31)), np.uint32(2**31), jnp.int32)
        add(k, (8,), np.uint32(0), np.uint32(2**32 - 1), jnp.uint32)
        add(k, (12,), 0, 256, jnp.uint8)
        add(k, (12,), -128, 128, jnp.int8)
        add(k, (12,), -1000, 1000, jnp.int8)
        add(k, (12,), 3, 60000, jnp.uint16)
    with x64():
        add([0, 42], (8,), 0, 10, jnp.int64)
        add([0, 42], (8,), -(2**40), 2**45, jnp.int64)
        add([0, 42], (8,), 0, 2**32, jnp.uint32)
        add([0, 42], (8,), 0, 2**32 + 1, jnp.int64)
    big = [
        {
            "key": [0, 42],
            "minval": "0",
            "maxval": "1000",
            "out": digest(jax.random.randint(key([0, 42]), (30000,), 0, 1000)),
        }
    ]
    write("randint.json", {"randint": cases, "big": big})


def gen_permutation():
    c, big = [], []
    for k in KEYS[1:]:
        for n in (1, 2, 10, 33):
            c.append({"kind": "range", "key": k, "n": n, "out": enc(jax.random.permutation(key(k), n))})
        a = np.arange(12, dtype=np.int32).reshape(4, 3)
        for ax in (0, 1):
            c.append(
                {
                    "kind": "array",
                    "key": k,
                    "axis": ax,
                    "independent": False,
                    "x": enc(a),
                    "out": enc(jax.random.permutation(key(k), a, ax)),
                }
            )
            c.append(
                {
                    "kind": "array",
                    "key": k,
                    "axis": ax,
                    "independent": True,
                    "x": enc(a),
                    "out": enc(jax.random.permutation(key(k), a, ax, True)),
                }
            )
    for n in (1625, 1626, 70000):
        big.append(
            {"key": [0, 42], "n": n, "out": digest(jax.random.permutation(key([0, 42]), n), (0, 1, 2, 3, 4, 5, -1))}
        )
    ch = []
    p = np.float32([0.1, 0.2, 0.3, 0.15, 0.25])
    for k in KEYS[1:]:
        ch.append({"key": k, "a": 10, "replace": True, "p": None, "out": enc(jax.random.choice(key(k), 10, (7,)))})
        ch.append(
            {
                "key": k,
                "a": 10,
                "replace": False,
                "p": None,
                "out": enc(jax.random.choice(key(k), 10, (2, 3), replace=False)),
            }
        )
        ch.append(
            {"key": k, "a": 5, "replace": True, "p": enc(p), "out": enc(jax.random.choice(key(k), 5, (12,), p=p))}
        )
        ch.append(
            {
                "key": k,
                "a": 5,
                "replace": False,
                "p": enc(p),
                "out": enc(jax.random.choice(key(k), 5, (3,), replace=False, p=p)),
            }
        )
    q = np.random.default_rng(0).random(300).astype(np.float32)
    q /= q.sum()
    ch.append(
        {
            "key": [0, 42],
            "a": 300,
            "replace": True,
            "p": enc(q),
            "out": enc(jax.random.choice(key([0, 42]), 300, (64,), p=q)),
        }
    )
    # rare events resolved finely
    for replace, n in ((True, 12), (False, 5)):
        out = jax.random.choice(key([0, 42]), 5, (n,), replace=replace, p=p, mode="high")
        ch.append({"key": [0, 42], "a": 5, "replace": replace, "mode": "high", "p": enc(p), "out": enc(out)})
    # f64 weights
    with x64():
        w = np.random.default_rng(1).random(300)
        for replace, n in ((True, 64), (False, 20)):
            out = jax.random.choice(key([0, 42]), 300, (n,), replace=replace, p=w).astype(np.int32)
            ch.append({"key": [0, 42], "a": 300, "replace": replace, "p": enc(w), "out": enc(out)})
    cs = [{"x": enc(q[:n]), "y": enc(jnp.cumsum(jnp.asarray(q[:n])))} for n in (16, 17, 33, 300)]
    write("permutation.json", {"permutation": c, "big": big, "choice": ch, "cumsum": cs})


def gen_categorical():
    g, cat, misc = [], [], []
    for k in KEYS[1:]:
        for mode in ("low", "high"):
            g.append({"key": k, "mode": mode, "out": enc(jax.random.gumbel(key(k), (24,), mode=mode))})
    g.append({"key": [0, 42], "mode": "low", "big": digest(jax.random.gumbel(key([0, 42]), (20001,)))})
    logits = np.float32([[0.1, 2.0, -1.0, 0.5], [1.0, 1.0, 1.0, 1.0], [-3.0, 0.0, 3.0, 0.0]])
    for k in KEYS[1:]:
        for ax, shp in ((-1, None), (0, None), (-1, (5, 3)), (1, None)):
            cat.append(
                {
                    "key": k,
                    "logits": enc(logits),
                    "axis": ax,
                    "shape": None if shp is None else list(shp),
                    "replace": True,
                    "out": enc(jax.random.categorical(key(k), logits, ax, shp)),
                }
            )
        cat.append(
            {
                "key": k,
                "logits": enc(logits),
                "axis": -1,
                "shape": [2, 3],
                "replace": False,
                "out": enc(jax.random.categorical(key(k), logits, -1, (2, 3), replace=False)),
            }
        )
        for n in ("exponential", "laplace", "logistic"):
            misc.append({"key": k, "dist": n, "out": enc(getattr(jax.random, n)(key(k), (16,)))})
        misc.append({"key": k, "dist": "rademacher", "out": enc(jax.random.rademacher(key(k), (16,)))})
    k = [0, 42]
    for shp, replace in ((None, True), ((50, 3), True), ((3, 3), False)):
        out = jax.random.categorical(key(k), logits, -1, shp, replace=replace, mode="high")
        cat.append(
            {
                "key": k,
                "logits": enc(logits),
                "axis": -1,
                "shape": None if shp is None else list(shp),
                "replace": replace,
                "mode": "high",
                "out": enc(out),
            }
        )
    for dt in (jnp.float32, jnp.float16, jnp.bfloat16, jnp.int64, jnp.float64):
        with x64() if dt in (jnp.int64, jnp.float64) else contextlib.nullcontext():
            misc.append({"key": k, "dist": "rademacher", "out": enc(jax.random.rademacher(key(k), (40,), dt))})
    for dt in (jnp.float16, jnp.bfloat16, jnp.float64):
        with x64() if dt == jnp.float64 else contextlib.nullcontext():
            for mode in ("low", "high"):
                g.append({"key": k, "mode": mode, "out": enc(jax.random.gumbel(key(k), (400,), dt, mode=mode))})
            for n in ("exponential", "laplace", "logistic"):
                misc.append({"key": k, "dist": n, "out": enc(getattr(jax.random, n)(key(k), (400,), dt))})
            x = jnp.asarray(logits, dt)
            for shp, replace in ((None, True), ((50, 3), True), ((3, 3), False)):
                cat.append(
                    {
                        "key": k,
                        "logits": enc(x),
                        "axis": -1,
                        "shape": None if shp is None else list(shp),
                        "replace": replace,
                        "out": enc(jax.random.categorical(key(k), x, -1, shp, replace=replace).astype(np.int32)),
                    }
                )
    write("categorical.json", {"gumbel": g, "categorical": cat, "misc": misc})
