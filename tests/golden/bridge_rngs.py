"""Random streams through nnx.bridge: ToNNX, ToLinen, bridge.Module."""

from encoding import enc, rec_init, write

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx import bridge


def gen_bridge():
    class BLeaf(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.param("a", rec_init)
            return x

    class Lin(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.param("p", rec_init)
            BLeaf()(x)
            return {n: jax.random.key_data(self.make_rng(n)) for n in ("params", "dropout", "noise")}

    show = lambda t: jax.tree.map(lambda x: np.asarray(x).tolist(), t)
    T = []
    for spec, pre in (
        ({"@default": 0}, []),
        ({"@default": 0}, ["params", "params"]),
        ({"params": 1, "dropout": 2}, ["params"]),
        ({"@default": 0, "dropout": 2}, []),
        ({"@default": 0, "params": 1}, []),
    ):
        kw = dict(spec)
        args = [kw.pop("@default")] if "@default" in kw else []
        r = nnx.Rngs(*args, **kw)
        for n in pre:
            r[n]()
        m = bridge.ToNNX(Lin(), rngs=r)
        e = {
            "streams": spec,
            "drawn_before": pre,
            "outer_counts_after_ctor": {n: int(s.count[...]) for n, s in r.items()},
        }
        m.lazy_init(jnp.ones(()))
        e["init"] = {"p": np.asarray(m.p[...]).tolist(), "BLeaf_0/a": np.asarray(m.BLeaf_0["a"][...]).tolist()}
        e["inner_counts_after_init"] = {n: int(s.count[...]) for n, s in m.to_nnx__rngs.items()}
        e["calls"] = [show(m(jnp.ones(()))) for _ in range(2)]
        e["call_with_key"] = {"key": [0, 77], "out": show(m(jnp.ones(()), rngs=jax.random.key(77)))}
        rr = nnx.Rngs(5, dropout=6)
        e["call_with_rngs"] = {
            "streams": {"@default": 5, "dropout": 6},
            "out": show(m(jnp.ones(()), rngs=rr)),
            "counts_after": {n: int(s.count[...]) for n, s in rr.items()},
        }
        T.append(e)
    m = bridge.ToNNX(Lin(), rngs=jax.random.key(3))
    m.lazy_init(jnp.ones(()))
    TK = {"ctor_key": [0, 3], "init_p": np.asarray(m.p[...]).tolist(), "call": show(m(jnp.ones(())))}
    m = bridge.ToNNX(nn.Dense(4), rngs=nnx.Rngs(0)).lazy_init(jnp.ones((1, 3)))
    TD = {"name": "ToNNX(Dense(4), Rngs(0)).lazy_init", "root": [0, 0], "out": enc(m.kernel[...])}
    m = bridge.ToNNX(nn.Dropout(0.5, deterministic=False), rngs=nnx.Rngs(params=0, dropout=1))
    x = jnp.ones((2, 8))
    TDr = {
        "name": "ToNNX(Dropout(.5)), Rngs(params=0,dropout=1), 2 calls",
        "root": [0, 1],
        "rate": 0.5,
        "calls": [enc(m(x)), enc(m(x))],
    }

    class N(nnx.Module):
        def __init__(self, rngs):
            self.p = nnx.Param(jax.random.key_data(rngs.params()))
            self.rngs = rngs

        def __call__(self, x):
            o = {n: {"key": jax.random.key_data(s.key[...]), "count": s.count[...]} for n, s in self.rngs.items()}
            o["dropout_call"] = (
                jax.random.key_data(self.rngs["dropout"]())
                if ("dropout" in self.rngs or "default" in self.rngs)
                else None
            )
            return o

    class Wrap(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.param("w", rec_init)
            return bridge.ToLinen(N, name="n")(x)

    L = []
    for top, path in ((bridge.ToLinen(N), []), (Wrap(), ["n"])):
        for R in ({"params": 9}, {"params": 9, "dropout": 8}, {"params": 9, "default": 8}):
            o, v = top.init_with_output({n: jax.random.key(s) for n, s in R.items()}, jnp.ones(()))
            P = v["params"][path[0]] if path else v["params"]
            e = {
                "path": path,
                "init_rngs": R,
                "init_module_view": show(o),
                "init_param_p": np.asarray(P["p"]).tolist(),
                "applies": [],
            }
            for AR in ({}, {"params": 9}, {"dropout": 8}, {"params": 9, "dropout": 8}):
                e["applies"].append(
                    {
                        "rngs": AR,
                        "module_view": show(
                            top.apply(v, jnp.ones(()), rngs={n: jax.random.key(s) for n, s in AR.items()})
                        ),
                    }
                )
            L.append(e)
    LV = []

    class W2(nn.Module):
        @nn.compact
        def __call__(self, x):
            return bridge.to_linen(nnx.Linear, 3, 4, name="lin")(x)

    v = bridge.to_linen(nnx.Linear, 3, 4).init(jax.random.key(0), jnp.ones((1, 3)))
    LV.append({"path": [], "root": [0, 0], "out": enc(v["params"]["kernel"])})
    v = W2().init(jax.random.key(0), jnp.ones((1, 3)))
    LV.append({"path": ["lin"], "root": [0, 0], "out": enc(v["params"]["lin"]["kernel"])})

    class BF(bridge.Module):
        @bridge.compact
        def __call__(self, x):
            self.param("a", rec_init)
            return x

    class BG(bridge.Module):
        @bridge.compact
        def __call__(self, x):
            self.param("p", rec_init)
            BF()(x)
            self.param("q", rec_init)
            BF()(x)
            return jax.random.key_data(self.make_rng("dropout")), jax.random.key_data(self.make_rng())

    BM = []
    for R in ({"@default": 0}, {"params": 1, "dropout": 2, "default": 3}):
        a = 0 if "@default" in R else {n: jax.random.key(v) for n, v in R.items()}
        (d1, d2), v = BG().init_with_output(a, jnp.ones(()))
        P = v["params"]
        BM.append(
            {
                "streams": R,
                "request_order": ["p", "F0.a", "q", "F1.a", "dropout", "default"],
                "keys": show([P["p"], P["BF_0"]["a"], P["q"], P["BF_1"]["a"], d1, d2]),
            }
        )
    md = bridge.to_linen(nnx.Dropout, 0.5)
    x = jnp.ones((2, 8))
    LD = [
        {"rngs": {}, "rate": 0.5, "out": enc(md.apply({}, x))},
        {"rngs": {"dropout": 1}, "rate": 0.5, "out": enc(md.apply({}, x, rngs={"dropout": jax.random.key(1)}))},
    ]
    write(
        "bridge_rngs.json",
        {
            "to_nnx": T,
            "to_nnx_key_ctor": TK,
            "to_nnx_dense": TD,
            "to_nnx_dropout": TDr,
            "to_linen": L,
            "to_linen_linear": LV,
            "to_linen_dropout": LD,
            "bridge_module": BM,
        },
    )
