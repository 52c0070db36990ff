"""Random streams of linen: which path and count each parameter, make_rng and lifted transform draws from."""

from encoding import enc, key, rec_init, write

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Leaf(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.param("a", rec_init)
        k = self.make_rng("params")
        self.param("b", rec_init)
        self.sow("keys", "mk", jax.random.key_data(k))
        return x


class Mid(nn.Module):
    def setup(self):
        self.leaf = Leaf()
        self.ls = [Leaf(), Leaf()]
        self.d = {"x": Leaf()}
        self.p = self.param("p", rec_init)

    def __call__(self, x):
        x = self.leaf(x)
        x = self.leaf(x)
        for l in self.ls:
            x = l(x)
        return self.d["x"](x)


class Top(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = Leaf()(x)
        x = Mid()(x)
        x = Leaf(name="named")(x)
        x = Leaf()(x)
        self.param("t", rec_init)
        return x


class One(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.param("a", rec_init)
        return x


class Cell(nn.Module):
    @nn.compact
    def __call__(self, c, x):
        One()(c)
        w = self.param("w", rec_init)
        return c, jax.random.key_data(self.make_rng("dropout"))


def gen_linen():
    RP = [0, 42]
    rk = key(RP)
    RD = [0, 1]
    x0 = jnp.ones(())
    E = []  # each: the key that Flax gave, and the (root, path, count) it follows from

    def ent(case, got, path, count, root=RP, sep=False, **kw):
        E.append(
            {
                "case": case,
                "root": root,
                "path": list(path),
                "count": count,
                "separator": sep,
                "key": np.asarray(got).tolist(),
                **kw,
            }
        )

    def top_entries(case, sep=False):
        v = Top().init(rk, x0)
        P = v["params"]
        for path in (
            ("Leaf_0",),
            ("Leaf_1",),
            ("named",),
            ("Mid_0", "leaf"),
            ("Mid_0", "ls_0"),
            ("Mid_0", "ls_1"),
            ("Mid_0", "d_x"),
        ):
            t = P
            for s in path:
                t = t[s]
            ent(case, t["a"], path, 1, sep=sep, what="param a")
            ent(case, t["b"], path, 3, sep=sep, what="param b (after a make_rng)")
        ent(case, P["Mid_0"]["p"], ("Mid_0",), 1, sep=sep, what="param p")
        ent(case, P["t"], (), 1, sep=sep, what="param t of the root")
        mk = v["keys"]["Mid_0"]["leaf"]["mk"]
        ent(case, mk[0], ("Mid_0", "leaf"), 2, sep=sep, what="make_rng, first call of shared submodule")
        ent(case, mk[1], ("Mid_0", "leaf"), 4, sep=sep, what="make_rng, second call of the same instance")

    top_entries("nested")
    with flax.config.temp_flip_flag("fix_rng_separator", True):
        top_entries("nested_fix_rng_separator", True)

    class B(nn.Module):
        @nn.compact
        def __call__(self):
            ks = [jax.random.key_data(self.make_rng("params")) for _ in range(300)]
            return ks

    ks = B().apply({}, rngs=rk)
    for c in (1, 2, 127, 128, 255, 256, 257, 300):
        ent("counter_bytes", ks[c - 1], (), c)

    # separator collision: path ('ab','c') vs ('a','bc')
    class Ap(nn.Module):
        names: tuple = ()

        @nn.compact
        def __call__(self):
            if not self.names:
                return jax.random.key_data(self.make_rng("params"))
            return Ap(self.names[1:], name=self.names[0])()

    for sep in (False, True):
        with flax.config.temp_flip_flag("fix_rng_separator", sep):
            for n in (("ab", "c"), ("a", "bc")):
                ent("collision", Ap(n).apply({}, rngs=rk), n, 1, sep=sep)
            ent("utf8", Ap(("höhe", "層")).apply({}, rngs=rk), ("höhe", "層"), 1, sep=sep)

    # stream fallback: missing stream draws from (and counts on) 'params'
    class S(nn.Module):
        @nn.compact
        def __call__(self):
            return [
                jax.random.key_data(self.make_rng(n))
                for n in ("dropout", "noise", "params", "noise", "dropout", "other")
            ]

    o = S().apply({}, rngs={"params": rk, "dropout": key(RD)})
    for got, (root, c, st) in zip(
        o,
        (
            (RD, 1, "dropout"),
            (RP, 1, "noise->params"),
            (RP, 2, "params"),
            (RP, 3, "noise->params"),
            (RD, 2, "dropout"),
            (RP, 4, "other->params"),
        ),
    ):
        ent("fallback", got, (), c, root=root, stream=st)

    # ---- lifted transforms.  'lanes': list of per-lane keys; root of lane i = split(root, n)[i] (nested left to right)
    def lanes(case, got, path, count, split, root=RP, **kw):
        E.append(
            {
                "case": case,
                "root": root,
                "path": list(path),
                "count": count,
                "separator": False,
                "lanes": np.asarray(got).tolist(),
                "split": list(split),
                **kw,
            }
        )

    class TV(nn.Module):
        split: bool = True

        @nn.compact
        def __call__(self, x):
            return nn.vmap(One, variable_axes={"params": 0}, split_rngs={"params": self.split})()(x)

    lanes("vmap_split", TV().init(rk, jnp.ones(3))["params"]["VmapOne_0"]["a"], ("VmapOne_0",), 1, (3,))
    ent("vmap_nosplit", TV(False).init(rk, jnp.ones(3))["params"]["VmapOne_0"]["a"][1], ("VmapOne_0",), 1)

    class TV2(nn.Module):
        @nn.compact
        def __call__(self, x):
            kw = dict(variable_axes={"params": 0}, split_rngs={"params": True})
            return nn.vmap(nn.vmap(One, **kw), **kw)(name="v")(x)

    lanes("vmap_nested", TV2().init(rk, jnp.ones((2, 3)))["params"]["v"]["a"], ("v",), 1, (2, 3))

    class DR(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jax.random.key_data(self.make_rng("dropout")), jax.random.key_data(self.make_rng("params"))

    class TD(nn.Module):
        sr: tuple = ()

        @nn.compact
        def __call__(self, x):
            return nn.vmap(DR, variable_axes={}, split_rngs=dict(self.sr))(name="v")(x)

    R2 = {"params": rk, "dropout": key(RD)}
    a, b = TD((("params", True), ("dropout", True))).apply({}, jnp.ones(2), rngs=R2)
    lanes("vmap_two_streams", a, ("v",), 1, (2,), root=RD)
    lanes("vmap_two_streams", b, ("v",), 1, (2,))
    a, b = TD((("params", True),)).apply({}, jnp.ones(2), rngs=R2)
    lanes("vmap_unlisted_stream_dropped", a, ("v",), 1, (2,), note="dropout not in split_rngs -> falls back to params")
    lanes("vmap_unlisted_stream_dropped", b, ("v",), 2, (2,))

    class TS(nn.Module):
        bc: bool = False
        chk: bool = True

        @nn.compact
        def __call__(self, x):
            kw = (
                dict(variable_broadcast="params", split_rngs={"params": False, "dropout": True})
                if self.bc
                else dict(variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True})
            )
            return nn.scan(Cell, check_constancy_invariants=self.chk, **kw)(name="s")(x0, x)

    (c, d), v = TS().init_with_output(R2, jnp.ones(3))
    P = v["params"]["s"]
    lanes("scan_split", P["w"], ("s",), 2, (3,), note="body traced twice: first (discarded) trace used count 1")
    lanes("scan_split", P["One_0"]["a"], ("s", "One_0"), 2, (3,))
    lanes("scan_split", d, ("s",), 2, (3,), root=RD)
    c, d = TS().apply(v, jnp.ones(3), rngs={"dropout": key(RD)})
    lanes("scan_split_apply", d, ("s",), 2, (3,), root=RD)
    (c, d), v = TS(True).init_with_output(R2, jnp.ones(3))
    P = v["params"]["s"]
    ent("scan_broadcast", P["w"], ("s",), 1)
    ent("scan_broadcast", P["One_0"]["a"], ("s", "One_0"), 1)
    lanes("scan_broadcast", d, ("s",), 2, (3,), root=RD)
    (c, d), v = TS(False, False).init_with_output(R2, jnp.ones(3))
    lanes("scan_no_constancy_check", v["params"]["s"]["w"], ("s",), 1, (3,))
    lanes("scan_no_constancy_check", d, ("s",), 1, (3,), root=RD)

    class RS(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat_scan(One, lengths=(2, 3))(name="rs")(x)

    got = np.asarray(RS().init(rk, jnp.ones(2))["params"]["rs"]["a"])
    E.append(
        {
            "case": "remat_scan_2x3",
            "root": RP,
            "path": ["rs"],
            "count": 4,
            "separator": False,
            "lanes": got.tolist(),
            "split": [2, 3],
        }
    )

    class TR(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat(One)()(x)

    ent("remat", TR().init(rk, x0)["params"]["CheckpointOne_0"]["a"], ("CheckpointOne_0",), 1)

    class TJ(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.param("z", rec_init)
            return nn.jit(Cell)()(x, x)

    v = TJ().init(R2, x0)["params"]
    E.append(
        {
            "case": "jit_class",
            "root": RP,
            "fork": [["JitCell_0"], 1],
            "path": [],
            "count": 2,
            "separator": False,
            "key": np.asarray(v["JitCell_0"]["w"]).tolist(),
        }
    )
    E.append(
        {
            "case": "jit_class",
            "root": RP,
            "fork": [["JitCell_0"], 1],
            "path": ["One_0"],
            "count": 1,
            "separator": False,
            "key": np.asarray(v["JitCell_0"]["One_0"]["a"]).tolist(),
        }
    )
    ent("jit_class", v["z"], (), 1)

    class TJ2(nn.Module):
        @nn.jit
        @nn.compact
        def __call__(self, x):
            self.param("z", rec_init)
            return One()(x)

    v = TJ2().init(rk, x0)["params"]
    E.append(
        {
            "case": "jit_method",
            "root": RP,
            "fork": [[], 1],
            "path": [],
            "count": 2,
            "separator": False,
            "key": np.asarray(v["z"]).tolist(),
        }
    )
    E.append(
        {
            "case": "jit_method",
            "root": RP,
            "fork": [[], 1],
            "path": ["One_0"],
            "count": 1,
            "separator": False,
            "key": np.asarray(v["One_0"]["a"]).tolist(),
        }
    )

    class TF(nn.Module):
        @nn.fold_rngs
        @nn.compact
        def __call__(self, x):
            self.param("z", rec_init)
            return One()(x)

    v = TF().init(rk, x0)["params"]
    E.append(
        {
            "case": "fold_rngs_method",
            "root": RP,
            "fork": [[], 1],
            "path": [],
            "count": 2,
            "separator": False,
            "key": np.asarray(v["z"]).tolist(),
        }
    )
    mk = lambda m: jax.random.key_data(m.make_rng("params"))

    class TC(nn.Module):
        @nn.compact
        def __call__(self, p):
            return nn.cond(p, lambda m: mk(m), lambda m: mk(m), self), mk(self)

    for p, c in ((True, 1), (False, 2)):
        o = TC().apply({}, p, rngs=rk)
        ent(f"cond_{p}", o[0], (), c)
        ent("after_cond", o[1], (), 3)

    class TSw(nn.Module):
        @nn.compact
        def __call__(self, p):
            return nn.switch(p, [mk, lambda m: mk(m), lambda m: mk(m)], self)

    for p in range(3):
        ent("switch", TSw().apply({}, p, rngs=rk), (), p + 1)

    class TW(nn.Module):
        @nn.compact
        def __call__(self):
            def body(m, c):
                return (c[0] + 1, c[1].at[c[0]].set(mk(m)))

            return nn.while_loop(
                lambda m, c: c[0] < 3, body, self, (0, jnp.zeros((3, 2), jnp.uint32)), split_rngs={"params": True}
            )

    E.append(
        {
            "case": "while_loop_split",
            "root": RP,
            "path": [],
            "count": 1,
            "separator": False,
            "fold_lanes": np.asarray(TW().apply({}, rngs=rk)[1]).tolist(),
        }
    )

    # ---- real layers: kernel values at several depths
    V = []

    def val(name, arr, path, count, init, root=RP, **kw):
        V.append({"name": name, "root": root, "path": list(path), "count": count, "init": init, "out": enc(arr), **kw})

    v = nn.Dense(4).init(rk, jnp.ones((1, 3)))["params"]
    val("Dense(4) alone", v["kernel"], (), 1, "lecun_normal")

    class MLP1(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.relu(nn.Dense(4)(x)))

    v = MLP1().init(rk, jnp.ones((1, 3)))["params"]
    val("MLP", v["Dense_0"]["kernel"], ("Dense_0",), 1, "lecun_normal")
    val("MLP", v["Dense_1"]["kernel"], ("Dense_1",), 1, "lecun_normal")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return MLP1()(nn.Dense(3, name="pre")(x))

    class Net(nn.Module):
        def setup(self):
            self.blocks = [Block(), Block()]
            self.head = nn.Dense(2)

        def __call__(self, x):
            for b in self.blocks:
                x = b(x)
            return self.head(x)

    for root in ([0, 42], [0, 0]):
        v = Net().init(key(root), jnp.ones((1, 3)))["params"]
        val("Net", v["head"]["kernel"], ("head",), 1, "lecun_normal", root)
        val("Net", v["blocks_1"]["pre"]["kernel"], ("blocks_1", "pre"), 1, "lecun_normal", root)
        val(
            "Net",
            v["blocks_0"]["MLP1_0"]["Dense_1"]["kernel"],
            ("blocks_0", "MLP1_0", "Dense_1"),
            1,
            "lecun_normal",
            root,
        )
        val(
            "Net",
            v["blocks_1"]["MLP1_0"]["Dense_0"]["kernel"],
            ("blocks_1", "MLP1_0", "Dense_0"),
            1,
            "lecun_normal",
            root,
        )
    sq = nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])
    v = sq.init(rk, jnp.ones((1, 3)))["params"]
    val("Sequential([Dense(3),relu,Dense(2)])", v["layers_0"]["kernel"], ("layers_0",), 1, "lecun_normal")
    val("Sequential", v["layers_2"]["kernel"], ("layers_2",), 1, "lecun_normal")
    val("Conv(3,(2,2))", nn.Conv(3, (2, 2)).init(rk, jnp.ones((1, 4, 4, 2)))["params"]["kernel"], (), 1, "lecun_normal")
    val("Embed(5,3)", nn.Embed(5, 3).init(rk, jnp.ones((1,), jnp.int32))["params"]["embedding"], (), 1, "embed")
    val(
        "DenseGeneral((2,2),axis=(-2,-1))",
        nn.DenseGeneral((2, 2), axis=(-2, -1)).init(rk, jnp.ones((1, 2, 3)))["params"]["kernel"],
        (),
        1,
        "lecun_normal_flat",
        flat=[6, 4],
    )
    v = nn.MultiHeadAttention(2).init(rk, jnp.ones((1, 3, 4)))["params"]
    for n in ("query", "key", "value", "out"):
        val("MultiHeadAttention(2)", v[n]["kernel"], (n,), 1, "lecun_normal_flat", flat=[4, 4])
    v = nn.LSTMCell(3).init(rk, nn.LSTMCell(3).initialize_carry(key([0, 0]), (1, 2)), jnp.ones((1, 2)))["params"]
    val("LSTMCell(3).ig", v["ig"]["kernel"], ("ig",), 1, "lecun_normal")

    # dropout
    class DN(nn.Module):
        @nn.compact
        def __call__(self, x):
            d = nn.Dropout(0.5, deterministic=False)
            y = d(x)
            z = d(x)
            return y, z, nn.Dropout(0.25, deterministic=False)(x)

    o = DN().apply({}, jnp.ones((2, 8)), rngs={"dropout": key(RD)})
    DRP = [
        {"root": RD, "path": ["Dropout_0"], "count": 1, "rate": 0.5, "out": enc(o[0])},
        {"root": RD, "path": ["Dropout_0"], "count": 2, "rate": 0.5, "out": enc(o[1])},
        {"root": RD, "path": ["Dropout_1"], "count": 1, "rate": 0.25, "out": enc(o[2])},
    ]
    DRP.append(
        {
            "root": RD,
            "path": [],
            "count": 1,
            "rate": 0.5,
            "broadcast_dims": [1],
            "out": enc(
                nn.Dropout(0.5, broadcast_dims=(1,), deterministic=False).apply(
                    {}, jnp.ones((4, 3)), rngs={"dropout": key(RD)}
                )
            ),
        }
    )
    write("linen_rngs.json", {"keys": E, "values": V, "dropout": DRP})
