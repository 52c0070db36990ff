"""Random streams of nnx: small programs on Rngs, and which key each layer takes for what."""

from encoding import enc, kd, key, write

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class NnxMachine:
    """Runs a small program on real nnx objects; a test runs the same program on ours."""

    def __init__(self):
        self.obj = {}

    @staticmethod
    def conv(v):
        if isinstance(v, dict):
            return key(v["key"])
        return v

    def state(self, s):
        return {"key": kd(s.key[...]), "count": np.asarray(s.count[...]).tolist()}

    def rstate(self, r):
        return {n: self.state(s) for n, s in r.items()}

    def step(self, op):
        o = self.obj
        n = op[0]
        if n == "new":
            kw = {k: self.conv(v) for k, v in op[2].items()}
            args = [kw.pop("@default")] if "@default" in kw else []
            o[op[1]] = nnx.Rngs(*args, **kw)
            return {"order": list(o[op[1]]), "state": self.rstate(o[op[1]])}
        if n == "new_from_stream":
            o[op[1]] = nnx.Rngs(**{op[2]: o[op[3]][op[4]]})
            return self.rstate(o[op[1]])
        if n == "call":
            return kd(o[op[1]][op[2]]())
        if n == "state":
            return self.rstate(o[op[1]])
        if n == "fork":
            o[op[2]] = o[op[1]].fork()
            return self.rstate(o[op[2]])
        if n == "split":
            arg = op[3]
            f = lambda v: tuple(v) if isinstance(v, list) else v
            arg = {(... if k == "..." else k): f(v) for k, v in arg.items()} if isinstance(arg, dict) else f(arg)
            o[op[2]] = o[op[1]].split(arg)
            return self.rstate(o[op[2]])
        if n == "broadcast":
            o[op[2]] = o[op[1]].broadcast(op[3])
            return self.rstate(o[op[2]])
        if n == "split_rngs":
            kw = {"only": op[4]} if op[4] is not None else {}
            o[op[2]] = nnx.split_rngs(
                o[op[1]], splits=tuple(op[3]) if isinstance(op[3], list) else op[3], squeeze=op[5], **kw
            )
            return self.rstate(o[op[1]])
        if n == "fork_rngs":
            o[op[2]] = nnx.fork_rngs(o[op[1]])
            return self.rstate(o[op[1]])
        if n == "restore":
            nnx.restore_rngs(o[op[2]])
            return self.rstate(o[op[1]])
        if n == "reseed":
            nnx.reseed(o[op[1]], policy=op[3], **op[2])
            return self.rstate(o[op[1]])
        if n == "sample":
            f = getattr(o[op[1]] if op[2] is None else o[op[1]][op[2]], op[3])
            return enc(f(*[tuple(a) if isinstance(a, list) else a for a in op[4]]))
        raise ValueError(op)


def gen_nnx():
    progs = {
        "default_and_named": [
            ["new", "r", {"@default": 0, "params": 1}],
            ["call", "r", "params"],
            ["call", "r", "dropout"],
            ["call", "r", "anything"],
            ["call", "r", "default"],
            ["call", "r", "params"],
            ["state", "r"],
        ],
        "no_default": [
            ["new", "r", {"params": 0, "dropout": {"key": [7, 9]}}],
            ["call", "r", "dropout"],
            ["call", "r", "params"],
            ["call", "r", "dropout"],
            ["state", "r"],
        ],
        "negative_seed": [["new", "r", {"params": -3}], ["call", "r", "params"]],
        "copy_stream_resets_count": [
            ["new", "r", {"@default": 3}],
            ["call", "r", "default"],
            ["call", "r", "default"],
            ["new_from_stream", "q", "params", "r", "default"],
            ["call", "q", "params"],
            ["state", "r"],
        ],
        "fork": [
            ["new", "r", {"params": 1, "dropout": 2}],
            ["call", "r", "params"],
            ["fork", "r", "f"],
            ["call", "f", "params"],
            ["call", "r", "params"],
            ["state", "r"],
            ["state", "f"],
        ],
        "split_int": [["new", "r", {"params": 1, "dropout": 2}], ["split", "r", "s", 3], ["state", "r"]],
        "split_filter": [
            ["new", "r", {"params": 1, "dropout": 2, "noise": 3}],
            ["call", "r", "dropout"],
            ["split", "r", "s", {"params": 3, "dropout": None, "...": [2, 2]}],
            ["state", "r"],
        ],
        "split_filter_unmatched": [
            ["new", "r", {"params": 1, "dropout": 2}],
            ["call", "r", "dropout"],
            ["split", "r", "s", {"params": 2}],
            ["state", "r"],
        ],
        "broadcast": [["new", "r", {"params": 1}], ["broadcast", "r", "b", 2], ["state", "r"]],
        "split_rngs_restore": [
            ["new", "r", {"params": 1, "dropout": 2}],
            ["call", "r", "params"],
            ["split_rngs", "r", "b", 3, "params", False],
            ["restore", "r", "b"],
            ["call", "r", "params"],
        ],
        "split_rngs_2d_all": [
            ["new", "r", {"params": 1, "dropout": 2}],
            ["split_rngs", "r", "b", [2, 2], None, False],
            ["restore", "r", "b"],
        ],
        "split_rngs_squeeze": [
            ["new", "r", {"params": 1}],
            ["split_rngs", "r", "b", 1, None, True],
            ["call", "r", "params"],
            ["restore", "r", "b"],
        ],
        "fork_rngs_restore": [
            ["new", "r", {"params": 1, "dropout": 2}],
            ["fork_rngs", "r", "b"],
            ["call", "r", "params"],
            ["restore", "r", "b"],
            ["call", "r", "params"],
        ],
        "reseed": [
            ["new", "r", {"params": 1, "dropout": 2}],
            ["call", "r", "params"],
            ["call", "r", "dropout"],
            ["reseed", "r", {"dropout": 42}, "scalars_only"],
            ["call", "r", "dropout"],
        ],
        "reseed_match_shape": [
            ["new", "r", {"params": 1}],
            ["split", "r", "s", 3],
            ["reseed", "s", {"params": 9}, "match_shape"],
        ],
        "sampler_methods": [
            ["new", "r", {"@default": 0, "params": 1}],
            ["sample", "r", None, "normal", [[3]]],
            ["sample", "r", "params", "uniform", [[3]]],
            ["sample", "r", None, "uniform", [[2]]],
            ["state", "r"],
        ],
    }
    P = []
    for name, ops in progs.items():
        m = NnxMachine()
        P.append({"name": name, "steps": [{"op": op, "result": m.step(op)} for op in ops]})

    # which counter value every built-in layer hands to each parameter initialiser
    rec = []

    def ki(tag):
        def f(k, shape, dtype=jnp.float32, *a, **kw):
            rec.append({"param": tag, "key": kd(k), "init_shape": list(shape)})
            return jnp.zeros(shape, dtype)

        return f

    K = dict(kernel_init=ki("kernel"), bias_init=ki("bias"))
    RK = dict(K, recurrent_kernel_init=ki("recurrent_kernel"))
    SB = dict(scale_init=ki("scale"), bias_init=ki("bias"))
    layers = {
        "Linear(3,4)": lambda r: nnx.Linear(3, 4, rngs=r, **K),
        "Linear(3,4,use_bias=False)": lambda r: nnx.Linear(3, 4, use_bias=False, rngs=r, **K),
        "LinearGeneral((2,3),(4,5),axis=(-2,-1))": lambda r: nnx.LinearGeneral(
            (2, 3), (4, 5), axis=(-2, -1), rngs=r, **K
        ),
        "Einsum": lambda r: nnx.Einsum("nta,hab->nthb", (8, 2, 4), (8, 4), rngs=r, **K),
        "Conv(3,4,(3,3))": lambda r: nnx.Conv(3, 4, (3, 3), rngs=r, **K),
        "ConvTranspose(3,4,(3,3))": lambda r: nnx.ConvTranspose(3, 4, (3, 3), rngs=r, **K),
        "Embed(3,4)": lambda r: nnx.Embed(3, 4, rngs=r, embedding_init=ki("embedding")),
        "LayerNorm(4)": lambda r: nnx.LayerNorm(4, rngs=r, **SB),
        "BatchNorm(4)": lambda r: nnx.BatchNorm(4, rngs=r, **SB),
        "RMSNorm(4)": lambda r: nnx.RMSNorm(4, rngs=r, scale_init=ki("scale")),
        "GroupNorm(4,2)": lambda r: nnx.GroupNorm(4, 2, rngs=r, **SB),
        "InstanceNorm(4)": lambda r: nnx.InstanceNorm(4, rngs=r, **SB),
        "MultiHeadAttention(2,4,8)": lambda r: nnx.MultiHeadAttention(2, 4, 8, rngs=r, decode=False, **K),
        "MultiHeadAttention(2,4,8,normalize_qk=True)": lambda r: nnx.MultiHeadAttention(
            2, 4, 8, rngs=r, decode=False, normalize_qk=True, **K
        ),
        "MultiHeadAttention(2,4,8,dropout_rate=.1)": lambda r: nnx.MultiHeadAttention(
            2, 4, 8, rngs=r, decode=False, dropout_rate=0.1, **K
        ),
        "LSTMCell(3,4)": lambda r: nnx.LSTMCell(3, 4, rngs=r, **RK),
        "OptimizedLSTMCell(3,4)": lambda r: nnx.OptimizedLSTMCell(3, 4, rngs=r, **RK),
        "SimpleCell(3,4)": lambda r: nnx.SimpleCell(3, 4, rngs=r, **RK),
        "GRUCell(3,4)": lambda r: nnx.GRUCell(3, 4, rngs=r, **RK),
        "LoRA(3,2,4)": lambda r: nnx.LoRA(3, 2, 4, rngs=r, a_initializer=ki("lora_a"), b_initializer=ki("lora_b")),
        "LoRALinear(3,4,rank=2)": lambda r: nnx.LoRALinear(
            3, 4, lora_rank=2, rngs=r, a_initializer=ki("lora_a"), b_initializer=ki("lora_b"), **K
        ),
        "Dropout(.5)": lambda r: nnx.Dropout(0.5, rngs=r),
    }
    L = []
    for name, f in layers.items():
        rec.clear()
        r = nnx.Rngs(7)
        f(r)
        for e in rec:
            e["count"] = next(i for i in range(64) if kd(jax.random.fold_in(jax.random.key(7), i)) == e["key"])
        L.append({"layer": name, "seed": 7, "calls": [dict(e) for e in rec], "final_count": int(r.default.count[...])})
    # concrete modules
    V = []
    r = nnx.Rngs(params=0)
    m = nnx.Linear(3, 4, rngs=r)
    V.append(
        {
            "name": "Linear(3,4), Rngs(params=0)",
            "root": [0, 0],
            "counts": [0],
            "init": "lecun_normal",
            "out": enc(m.kernel[...]),
        }
    )
    r = nnx.Rngs(0)
    a = nnx.Linear(3, 4, rngs=r)
    b = nnx.Linear(4, 2, rngs=r)
    V.append(
        {
            "name": "2nd Linear(4,2) after Linear(3,4), Rngs(0)",
            "root": [0, 0],
            "counts": [2],
            "init": "lecun_normal",
            "out": enc(b.kernel[...]),
        }
    )
    V.append(
        {
            "name": "Conv(2,3,(2,2)), Rngs(params=5)",
            "root": [0, 5],
            "counts": [0],
            "init": "lecun_normal",
            "out": enc(nnx.Conv(2, 3, (2, 2), rngs=nnx.Rngs(params=5)).kernel[...]),
        }
    )
    V.append(
        {
            "name": "Embed(5,3), Rngs(0)",
            "root": [0, 0],
            "counts": [0],
            "init": "embed",
            "out": enc(nnx.Embed(5, 3, rngs=nnx.Rngs(0)).embedding[...]),
        }
    )
    g = nnx.LinearGeneral((2, 3), (2, 2), axis=(-2, -1), rngs=nnx.Rngs(0))
    V.append(
        {
            "name": "LinearGeneral((2,3),(2,2)), Rngs(0)",
            "root": [0, 0],
            "counts": [0],
            "init": "lecun_normal_flat",
            "flat": [6, 4],
            "out": enc(g.kernel[...]),
        }
    )
    mh = nnx.MultiHeadAttention(2, 4, 4, rngs=nnx.Rngs(0), decode=False)
    for i, n in enumerate(("query", "key", "value", "out")):
        V.append(
            {
                "name": f"MultiHeadAttention(2,4,4).{n}, Rngs(0)",
                "root": [0, 0],
                "counts": [2 * i],
                "init": "lecun_normal_flat",
                "flat": [4, 4],
                "out": enc(getattr(mh, n).kernel[...]),
            }
        )

    # split_rngs + vmap construction
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def mk(r):
        return nnx.Linear(2, 4, rngs=r)

    r = nnx.Rngs(params=0)
    m = mk(r)
    VM = {
        "name": "split_rngs(3)+vmap Linear(2,4), Rngs(params=0)",
        "root": [0, 0],
        "splits": 3,
        "count_after": int(r.params.count[...]),
        "out": enc(m.kernel[...]),
    }
    # dropout
    D = []
    x = jnp.ones((3, 8))
    r = nnx.Rngs(params=0, dropout=1)
    m = nnx.Dropout(0.5, rngs=r)
    D.append(
        {
            "name": "own forked stream",
            "root": [0, 1],
            "fork_count": 0,
            "rate": 0.5,
            "stream_after_ctor": int(r.dropout.count[...]),
            "calls": [enc(m(x)), enc(m(x))],
        }
    )
    r = nnx.Rngs(0)
    r.params()
    r.params()
    m = nnx.Dropout(0.25, rngs=r)
    D.append(
        {
            "name": "default fallback, 2 keys drawn before",
            "root": [0, 0],
            "fork_count": 2,
            "rate": 0.25,
            "stream_after_ctor": int(r.default.count[...]),
            "calls": [enc(m(x))],
        }
    )
    m = nnx.Dropout(0.5, broadcast_dims=(0,), rngs=nnx.Rngs(dropout=1))
    D.append(
        {
            "name": "broadcast_dims=(0,)",
            "root": [0, 1],
            "fork_count": 0,
            "rate": 0.5,
            "broadcast_dims": [0],
            "stream_after_ctor": 1,
            "calls": [enc(m(x))],
        }
    )
    C = []
    m = nnx.Dropout(0.5)
    r = nnx.Rngs(dropout=3)
    C.append(
        {"name": "rngs passed at call", "root": [0, 3], "rate": 0.5, "calls": [enc(m(x, rngs=r)), enc(m(x, rngs=r))]}
    )
    C2 = {"name": "raw key passed at call", "key": [0, 9], "rate": 0.5, "out": enc(m(x, rngs=jax.random.key(9)))}

    # reseed order over a module tree
    class Sub(nnx.Module):
        def __init__(s, rngs):
            s.z = nnx.Dropout(0.5, rngs=rngs)
            s.a = nnx.Dropout(0.5, rngs=rngs)

    class M(nnx.Module):
        def __init__(s, rngs):
            s.d2 = nnx.Dropout(0.5, rngs=rngs)
            s.b = Sub(rngs)
            s.d1 = nnx.Dropout(0.5, rngs=rngs)
            s.l = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(11)])

    m = M(nnx.Rngs(0, dropout=1))
    get = lambda: {
        **{n: kd(d.rngs.key[...]) for n, d in (("d2", m.d2), ("b.z", m.b.z), ("b.a", m.b.a), ("d1", m.d1))},
        **{f"l.{i}": kd(m.l[i].rngs.key[...]) for i in range(11)},
    }
    RS = {"constructed": get(), "construction_order": ["d2", "b.z", "b.a", "d1"] + [f"l.{i}" for i in range(11)]}
    nnx.reseed(m, dropout=42)
    RS["reseeded"] = get()
    RS["reseed_seed"] = 42
    write(
        "nnx_rngs.json",
        {
            "programs": P,
            "layer_key_counts": L,
            "values": V,
            "vmap_ctor": VM,
            "dropout": D,
            "dropout_call_rngs": C,
            "dropout_call_key": C2,
            "reseed_tree": RS,
        },
    )
