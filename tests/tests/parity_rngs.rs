//! Random streams against Flax's: which key is drawn for what.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use bridge_tests::golden::{
    Entry, assert_exact, assert_sections, fields, integer, items, key_of, open, shape_of, text,
};
use bridge_tests::{check_cases, device};
use candle_bridge::functional::{Call, FunctionalModule, Keys, Scope, ScopeRngs, lifted_name};
use candle_bridge::graph::{
    ReseedPolicy, RngBackup, RngSeed, RngStream, Rngs, StatefulModule, fork_rngs, reseed, reseed_with,
    split_rngs, split_rngs_squeezed, state,
};
use candle_bridge::random::{HostArray, Initializer, Key, Separator, key, normal, uniform};
use candle_bridge::stateful::{BatchNorm, BatchNormConfig, Dropout, Linear, LinearConfig};
use candle_bridge::vars::{Error, Filter, Param, Path, PathKey, Result, Variables};
use candle_core::{DType, Shape, Tensor};
use serde_json::Value as Json;

#[test]
fn every_section_has_a_test() {
    let streams = ["programs", "layer_key_counts", "reseed_tree"];
    let layers = ["values", "dropout", "dropout_call_rngs", "dropout_call_key"];
    let lanes = ["vmap_ctor"];
    assert_sections(&open("jax/nnx_rngs"), &[&streams[..], &layers, &lanes].concat());
    assert_sections(&open("jax/linen_rngs"), &["keys", "values", "dropout"]);
}

fn seed_of(json: &Json) -> RngSeed {
    match json.get("key") {
        Some(key) => key_of(key).into(),
        None => integer(json).into(),
    }
}

/// The keys of a stream, and its counts, as a golden file has them.
fn stream_state(stream: &RngStream) -> Result<(Json, Json)> {
    fn nested<T: Clone>(array: &HostArray<T>, json: &impl Fn(&T) -> Json) -> Json {
        match array.scalar() {
            Some(element) => json(element),
            None => (0..).map_while(|lane| array.lane(lane)).map(|lane| nested(&lane, json)).collect(),
        }
    }
    let keys = |key: &Key| Json::from(key.words().to_vec());
    let counts = |count: &u32| Json::from(*count);
    let (key, count) = (stream.key().leaf()?.value, stream.count().leaf()?.value);
    Ok((
        match key.keys() {
            Ok(batch) => nested(batch, &keys),
            Err(_) => keys(&key.key()?),
        },
        match count.counts() {
            Ok(batch) => nested(batch, &counts),
            Err(_) => counts(&count.count()?),
        },
    ))
}

/// Compares the keys and counts of all streams.
fn compare_streams(rngs: &Rngs, expected: &Json, context: &str) -> Result<()> {
    assert_eq!(rngs.iter().count(), fields(expected).count(), "the number of streams of {context}");
    for (name, expected) in fields(expected) {
        let (key, count) = stream_state(rngs.stream(name)?)?;
        assert_eq!(key, expected["key"], "the key of {name} of {context}");
        assert_eq!(count, expected["count"], "the count of {name} of {context}");
    }
    Ok(())
}

/// A number of lanes, or a shape.
fn lanes_of(json: &Json) -> Shape {
    match json.as_array() {
        Some(_) => shape_of(json).into(),
        None => shape_of(&Json::from(vec![json.clone()])).into(),
    }
}

#[derive(Default)]
struct Machine {
    rngs: BTreeMap<String, Rngs>,
    backups: BTreeMap<String, RngBackup>,
}

/// Runs one operation of a program and compares what it gives.
fn run(machine: &mut Machine, operation: &[Json], result: &Json) -> Result<()> {
    let argument = |index: usize| text(&operation[index]);
    let context = format!("{operation:?}");
    let name = argument(1).to_owned();
    match argument(0) {
        "new" => {
            let order: Vec<&str> = items(&result["order"]).iter().map(text).collect();
            // JSON has no order, so it is taken from the result; `default` is given first and must come last.
            let mut streams: Vec<&str> = order.clone();
            streams.rotate_right(usize::from(order.contains(&"default")));
            let seed = |stream: &str| {
                let field = if stream == "default" { "@default" } else { stream };
                seed_of(&operation[2][field])
            };
            let rngs = Rngs::from_streams(streams.iter().map(|stream| (*stream, seed(stream))));
            assert!(rngs.iter().map(|(stream, _)| stream.as_str()).eq(order), "the order of {context}");
            compare_streams(&rngs, &result["state"], &context)?;
            machine.rngs.insert(name, rngs);
        }
        "new_from_stream" => {
            let seed = machine.rngs[argument(3)].stream(argument(4))?.seed()?;
            let rngs = Rngs::from_streams([(argument(2), seed)]);
            compare_streams(&rngs, result, &context)?;
            machine.rngs.insert(name, rngs);
        }
        "call" => assert_eq!(machine.rngs[&name].draw(argument(2))?, key_of(result), "{context}"),
        "state" => compare_streams(&machine.rngs[&name], result, &context)?,
        "fork" => make(machine, &name, argument(2), result, &context, Rngs::fork)?,
        "split" => make(machine, &name, argument(2), result, &context, |rngs| match &operation[3] {
            Json::Object(rules) => {
                // JSON has no order, but what is left over comes last.
                let (rest, named): (Vec<_>, Vec<_>) = rules.iter().partition(|(tag, _)| *tag == "...");
                let rule = |(tag, lanes): (&String, &Json)| {
                    let filter = if tag == "..." { Filter::Everything } else { Filter::tag(tag) };
                    (filter, (!lanes.is_null()).then(|| lanes_of(lanes)))
                };
                rngs.split_by(named.into_iter().chain(rest).map(rule))
            }
            lanes => rngs.split(lanes_of(lanes)),
        })?,
        "broadcast" => {
            let lanes = lanes_of(&operation[3]);
            make(machine, &name, argument(2), result, &context, |rngs| rngs.broadcast(lanes.clone()))?;
        }
        "split_rngs" => {
            let rngs = &machine.rngs[&name];
            let only = operation[4].as_str().map_or(Filter::Everything, Filter::tag);
            let backup = match operation[5] == true {
                true => split_rngs_squeezed(rngs, only)?,
                false => split_rngs(rngs, lanes_of(&operation[3]), only)?,
            };
            compare_streams(rngs, result, &context)?;
            machine.backups.insert(argument(2).to_owned(), backup);
        }
        "fork_rngs" => {
            let backup = fork_rngs(&machine.rngs[&name], Filter::Everything)?;
            compare_streams(&machine.rngs[&name], result, &context)?;
            machine.backups.insert(argument(2).to_owned(), backup);
        }
        "restore" => {
            machine.backups.remove(argument(2)).into_iter().for_each(RngBackup::restore);
            compare_streams(&machine.rngs[&name], result, &context)?;
        }
        "reseed" => {
            let seeds = fields(&operation[2]).map(|(stream, seed)| (stream, seed_of(seed)));
            let policy = match argument(3) {
                "scalars_only" => ReseedPolicy::ScalarsOnly,
                "match_shape" => ReseedPolicy::MatchShape,
                unknown => panic!("no policy {unknown}"),
            };
            reseed_with(&machine.rngs[&name], policy, seeds)?;
            compare_streams(&machine.rngs[&name], result, &context)?;
        }
        "sample" => {
            let key = machine.rngs[&name].draw(operation[2].as_str().unwrap_or("default"))?;
            let shape = shape_of(&operation[4][0]);
            let found = match argument(3) {
                "normal" => normal(key, shape, DType::F32, &device())?,
                "uniform" => uniform(key, shape, DType::F32, &device())?,
                unknown => panic!("no test of {unknown}"),
            };
            assert_exact(&found, &Entry::read(context, result));
        }
        unknown => panic!("no test of {unknown}"),
    }
    Ok(())
}

/// Makes streams of others, compares them, and gives them a name.
fn make(
    machine: &mut Machine,
    of: &str,
    name: &str,
    expected: &Json,
    context: &str,
    f: impl FnOnce(&Rngs) -> Result<Rngs>,
) -> Result<()> {
    let made = f(&machine.rngs[of])?;
    compare_streams(&made, expected, context)?;
    machine.rngs.insert(name.to_owned(), made);
    Ok(())
}

#[test]
fn programs() -> Result<()> {
    let file = open("jax/nnx_rngs");
    let mut steps = 0;
    for program in items(&file["programs"]) {
        let mut machine = Machine::default();
        for step in items(&program["steps"]) {
            run(&mut machine, items(&step["op"]), &step["result"])?;
            steps += 1;
        }
    }
    assert_eq!((items(&file["programs"]).len(), steps), (16, 71));
    Ok(())
}

#[test]
fn modules_constructed_in_lanes_of_split_streams() -> Result<()> {
    let file = open("jax/nnx_rngs");
    let case = &file["vmap_ctor"];
    let rngs = Rngs::from_streams([("params", key_of(&case["root"]))]).with_device(&device());
    let backup = split_rngs(&rngs, lanes_of(&case["splits"]), Filter::Everything)?;
    let kernel = |rngs: Rngs| Linear::new(2, 4, &rngs)?.kernel.value();
    let kernels = rngs.lanes()?.into_iter().map(kernel).collect::<Result<Vec<_>>>()?;
    assert_exact(&Tensor::stack(&kernels, 0)?, &Entry::read("vmap_ctor", &case["out"]));
    backup.restore();
    assert_eq!(stream_state(rngs.stream("params")?)?.1, case["count_after"]);
    Ok(())
}

/// The parameter that an initializer makes from the key that Flax's layer handed to it.
fn expected_param(call: &Json, initializer: &Initializer) -> Result<Vec<f32>> {
    let shape = shape_of(&call["init_shape"]);
    let param = initializer.init(key_of(&call["key"]), shape, DType::F32, &device())?;
    Ok(param.flatten_all()?.to_vec1()?)
}

#[derive(Debug, thiserror::Error)]
#[error("there is no layer {0} yet")]
struct NoSuchLayer(String);

/// The parameters of a layer of Flax's, in the order of their making, each of which shows its key.
fn construct(layer: &str, rngs: &Rngs, init: &Initializer) -> Result<Vec<Param>> {
    let linear = |use_bias| {
        let config = LinearConfig { use_bias, kernel_init: init.clone(), bias_init: init.clone() };
        Linear::with_config(3, 4, &config, rngs).map(|linear| vec![Some(linear.kernel), linear.bias])
    };
    let params = match layer {
        "Linear(3,4)" => linear(true)?,
        "Linear(3,4,use_bias=False)" => linear(false)?,
        "BatchNorm(4)" => {
            let (scale_init, bias_init) = (init.clone(), init.clone());
            let config = BatchNormConfig { scale_init, bias_init, ..BatchNormConfig::default() };
            let norm = BatchNorm::with_config(4, &config, rngs)?;
            vec![norm.scale, norm.bias]
        }
        "Dropout(.5)" => {
            Dropout::new(0.5, rngs)?;
            vec![]
        }
        other => return Err(Error::new(NoSuchLayer(other.to_owned()))),
    };
    Ok(params.into_iter().flatten().collect())
}

#[test]
fn keys_and_draws_of_each_layer() {
    const PENDING: [(&str, &str); 18] = [
        ("LinearGeneral((2,3),(4,5),axis=(-2,-1))", "a linear layer over several axes"),
        ("Einsum", "a layer of Einstein sums"),
        ("Conv(3,4,(3,3))", "convolutions"),
        ("ConvTranspose(3,4,(3,3))", "convolutions"),
        ("Embed(3,4)", "embeddings"),
        ("LayerNorm(4)", "layer norm"),
        ("RMSNorm(4)", "layer norm"),
        ("GroupNorm(4,2)", "group norm"),
        ("InstanceNorm(4)", "group norm"),
        ("MultiHeadAttention(2,4,8)", "attention"),
        ("MultiHeadAttention(2,4,8,normalize_qk=True)", "attention"),
        ("MultiHeadAttention(2,4,8,dropout_rate=.1)", "attention"),
        ("LSTMCell(3,4)", "recurrent cells"),
        ("OptimizedLSTMCell(3,4)", "recurrent cells"),
        ("SimpleCell(3,4)", "recurrent cells"),
        ("GRUCell(3,4)", "recurrent cells"),
        ("LoRA(3,2,4)", "low-rank adapters"),
        ("LoRALinear(3,4,rank=2)", "low-rank adapters"),
    ];
    let init = Initializer::normal(1.);
    let file = open("jax/nnx_rngs");
    let cases = items(&file["layer_key_counts"]).iter().map(|case| (text(&case["layer"]), case));
    let passed = check_cases(cases, &PENDING, |name, case| {
        let rngs = Rngs::new(integer(&case["seed"])).with_device(&device());
        let found = construct(name, &rngs, &init)?;
        let calls = items(&case["calls"]);
        assert_eq!(found.len(), calls.len(), "the number of parameters of {name}");
        for (found, call) in found.iter().zip(calls) {
            let found: Vec<f32> = found.value()?.flatten_all()?.to_vec1()?;
            assert_eq!(found, expected_param(call, &init)?, "{} of {name}", call["param"]);
        }
        let (_, count) = stream_state(rngs.stream("default")?)?;
        assert_eq!(count, case["final_count"], "the draws of {name}");
        Ok(())
    });
    assert_eq!(passed, 4);
}

#[derive(StatefulModule)]
struct Sub {
    z: Dropout,
    a: Dropout,
}

#[derive(StatefulModule)]
struct Streams {
    d2: Dropout,
    b: Sub,
    d1: Dropout,
    l: Vec<Dropout>,
}

#[test]
fn keys_of_a_tree_constructed_and_reseeded() -> Result<()> {
    let file = open("jax/nnx_rngs");
    let expected = &file["reseed_tree"];
    let rngs = Rngs::new(0).with_stream("dropout", 1);
    let dropout = || Dropout::new(0.5, &rngs);
    let module = Streams {
        d2: dropout()?,
        b: Sub { z: dropout()?, a: dropout()? },
        d1: dropout()?,
        l: (0..11).map(|_| dropout()).collect::<Result<_>>()?,
    };
    let compare = |when: &str| -> Result<usize> {
        let state = state(&module)?;
        for (path, key) in fields(&expected[when]) {
            let found = state.get(Path::from(path).join("rngs").join("key"))?.value.key()?;
            assert_eq!(found, key_of(key), "{path} {when}");
        }
        Ok(fields(&expected[when]).count())
    };
    assert_eq!(compare("constructed")?, 15);
    reseed(&module, [("dropout", integer(&expected["reseed_seed"]))])?;
    assert_eq!(compare("reseeded")?, 15);
    Ok(())
}

/// The last of `count` keys that the scope at a path draws.
fn draw(rngs: &ScopeRngs, path: &[Json], count: i64) -> Result<Key> {
    let scope = path.iter().fold(rngs.clone(), |scope, name| scope.child(text(name)));
    for _ in 1..count {
        scope.make_rng("params")?;
    }
    scope.make_rng("params")
}

/// Compares keys of lanes, nested as the splits are.
fn compare_lanes(
    rngs: &ScopeRngs,
    splits: &[Json],
    expected: &Json,
    draw: &impl Fn(&ScopeRngs) -> Result<Key>,
) -> Result<usize> {
    let [count, rest @ ..] = splits else {
        assert_eq!(draw(rngs)?, key_of(expected));
        return Ok(1);
    };
    let lanes = rngs.lanes([("params", true)], usize::try_from(integer(count)).unwrap_or_default());
    let expected = items(expected);
    assert_eq!(lanes.len(), expected.len());
    let compared =
        lanes.iter().zip(expected).map(|(lane, expected)| compare_lanes(lane, rest, expected, draw));
    compared.sum()
}

#[test]
fn keys_of_a_scope_by_path_count_and_lifted_transform() -> Result<()> {
    let file = open("jax/linen_rngs");
    let mut compared = 0;
    for case in items(&file["keys"]) {
        println!("{case}");
        let separator = match case["separator"] == true {
            true => Separator::ZeroByte,
            false => Separator::None,
        };
        let mut rngs = ScopeRngs::new(Keys::from(key_of(&case["root"])).with_separator(separator));
        let (path, count) = (items(&case["path"]), integer(&case["count"]));
        assert!(count > 0, "draws are counted from 1: {case}");
        // Of a scope that starts anew from a draw of the one around it, which its own counts follow.
        let mut first = 0;
        if let Some([around, drawn]) = case["fork"].as_array().map(Vec::as_slice) {
            rngs = items(around).iter().fold(rngs, |scope, name| scope.child(text(name)));
            for _ in 1..integer(drawn) {
                rngs.make_rng("params")?;
            }
            rngs = rngs.folded()?;
            first = if path.is_empty() { integer(drawn) } else { 0 };
        }
        if let Some(iterations) = case["fold_lanes"].as_array() {
            for (index, expected) in (0..).zip(iterations) {
                let iteration = rngs.iteration([("params", true)], index);
                assert_eq!(draw(&iteration, path, count)?, key_of(expected));
                compared += 1;
            }
        } else if let Some(splits) = case["split"].as_array() {
            compared += compare_lanes(&rngs, splits, &case["lanes"], &|rngs| draw(rngs, path, count))?;
        } else {
            assert_eq!(draw(&rngs, path, count - first)?, key_of(&case["key"]));
            compared += 1;
        }
    }
    assert_eq!((items(&file["keys"]).len(), compared), (88, 120));
    Ok(())
}

fn cases<'a>(file: &'a Json, name: &str) -> Vec<&'a Json> {
    items(&file["keys"]).iter().filter(|case| case["case"] == name).collect()
}

#[test]
fn keys_of_a_scope_whose_missing_streams_fall_back_to_params() -> Result<()> {
    let file = open("jax/linen_rngs");
    let cases = cases(&file, "fallback");
    let streams = ["dropout", "noise", "params", "noise", "dropout", "other"];
    let keys = Keys::from([("params", key(42)), ("dropout", key(1))]);
    let (found, _) = Call::new().keys(keys).apply(&Variables::default(), |scope| {
        streams.iter().map(|stream| scope.make_rng(stream)).collect::<Result<Vec<_>>>()
    })?;
    assert_eq!(cases.len(), streams.len());
    for ((case, stream), found) in cases.iter().zip(streams).zip(found) {
        assert!(text(&case["stream"]).starts_with(stream), "{case} is of another stream than {stream}");
        assert_eq!(found, key_of(&case["key"]), "{case}");
    }
    Ok(())
}

/// A parameter that is the key it was made from.
fn key_param(scope: &Scope, name: &'static str) -> Result<()> {
    scope.param_with(name, None, |key| Ok(Tensor::new(&key.words(), &device())?))?;
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
struct Leaf;

impl FunctionalModule<()> for Leaf {
    type Output = Key;
    fn call(&self, scope: &Scope, (): &()) -> Result<Key> {
        key_param(scope, "a")?;
        let key = scope.make_rng("params")?;
        key_param(scope, "b")?;
        Ok(key)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Mid;

impl FunctionalModule<()> for Mid {
    type Output = [Key; 2];
    fn call(&self, scope: &Scope, (): &()) -> Result<[Key; 2]> {
        key_param(scope, "p")?;
        let leaf = scope.child_named("leaf", Leaf)?;
        let drawn = [leaf.call(&())?, leaf.call(&())?];
        for name in ["ls_0", "ls_1", "d_x"] {
            scope.call_named(name, &Leaf, &())?;
        }
        Ok(drawn)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Top;

impl FunctionalModule<()> for Top {
    type Output = [Key; 2];
    fn call(&self, scope: &Scope, (): &()) -> Result<[Key; 2]> {
        scope.call(&Leaf, &())?;
        let drawn = scope.call(&Mid, &())?;
        scope.call_named("named", &Leaf, &())?;
        scope.call(&Leaf, &())?;
        key_param(scope, "t")?;
        Ok(drawn)
    }
}

#[test]
fn keys_of_params_and_draws_in_modules_named_by_class_and_by_hand() -> Result<()> {
    let file = open("jax/linen_rngs");
    let settings = [("nested", Separator::None), ("nested_fix_rng_separator", Separator::ZeroByte)];
    for (section, separator) in settings {
        let keys = Keys::from(key(42)).with_separator(separator);
        let ([first, second], variables) = Top.init_with_output(keys, &())?;
        let mut compared = 0;
        for case in cases(&file, section) {
            let what = text(&case["what"]);
            let found = match what.strip_prefix("param ").and_then(|what| what.split(' ').next()) {
                Some(name) => {
                    let module: Path =
                        items(&case["path"]).iter().map(|name| PathKey::from(text(name))).collect();
                    let words = variables.get("params", module.join(name))?.tensor()?.to_vec1::<u32>()?;
                    <[u32; 2]>::try_from(words).map(Key::from_words).ok()
                }
                None if what.contains("first call") => Some(first),
                None => Some(second),
            };
            assert_eq!(found, Some(key_of(&case["key"])), "{case}");
            compared += 1;
        }
        assert_eq!((compared, variables.len()), (18, 16));
    }
    Ok(())
}

/// The keys of a case of the golden file at a path: one, or those of its lanes.
fn keys_at(file: &Json, name: &str, root: i64, path: &[&str]) -> Json {
    let here = |case: &&&Json| {
        integer(&case["root"][1]) == root && items(&case["path"]).iter().map(text).eq(path.iter().copied())
    };
    let cases = cases(file, name);
    let case = cases.iter().find(here).unwrap_or_else(|| panic!("no case {name} at {path:?}"));
    case.get("lanes").or(case.get("key")).cloned().unwrap_or_default()
}

fn words(key: Key) -> Json {
    Json::from(key.words().to_vec())
}

/// What the golden file's cell draws in one trace: for `w`, for its child's `a`, and from `dropout`.
fn trace_cell(rngs: &ScopeRngs) -> Result<[Json; 3]> {
    let w = rngs.make_rng("params")?;
    let a = rngs.child("One_0").make_rng("params")?;
    Ok([w, a, rngs.make_rng("dropout")?].map(words))
}

#[test]
fn keys_of_bodies_that_are_traced_twice() -> Result<()> {
    let file = open("jax/linen_rngs");
    let scope = || {
        let rngs = ScopeRngs::new([("params", key(42)), ("dropout", key(1))]);
        rngs.child("s")
    };
    let compare = |steps: Vec<ScopeRngs>, section: &str, shared: Option<[Json; 3]>| -> Result<()> {
        let traces = steps.iter().map(trace_cell).collect::<Result<Vec<_>>>()?;
        let of = |part: usize| traces.iter().map(|trace| trace[part].clone()).collect::<Json>();
        let [w, a] = match &shared {
            Some([w, a, _]) => [w.clone(), a.clone()],
            None => [of(0), of(1)],
        };
        assert_eq!(w, keys_at(&file, section, 42, &["s"]), "{section}");
        if section != "scan_no_constancy_check" {
            assert_eq!(a, keys_at(&file, section, 42, &["s", "One_0"]), "{section}");
        }
        assert_eq!(of(2), keys_at(&file, section, 1, &["s"]), "{section}");
        Ok(())
    };
    let both = [("params", true), ("dropout", true)];
    let (_, steps) = scope().steps(both, 3, trace_cell)?;
    compare(steps, "scan_split", None)?;
    // Parameters that all steps share are those of the first trace, whose key is not split.
    let (shared, steps) = scope().steps([("params", false), ("dropout", true)], 3, trace_cell)?;
    compare(steps, "scan_broadcast", Some(shared))?;
    compare(scope().lanes(both, 3), "scan_no_constancy_check", None)?;

    // Each level traces twice, so what lies in two of them is made in the fourth trace.
    let outer = ScopeRngs::new(key(42)).child("rs");
    let split = || [("params", true)];
    let inner = |rngs: &ScopeRngs| -> Result<Json> {
        let (_, steps) = rngs.steps(split(), 3, |body| body.make_rng("params"))?;
        let drawn = steps.iter().map(|step| step.make_rng("params").map(words)).collect::<Result<Json>>()?;
        steps.first().into_iter().for_each(|step| rngs.continue_from(step));
        Ok(drawn)
    };
    let (_, steps) = outer.steps(split(), 2, inner)?;
    let drawn = steps.iter().map(inner).collect::<Result<Json>>()?;
    assert_eq!(drawn, keys_at(&file, "remat_scan_2x3", 42, &["rs"]));
    Ok(())
}

#[test]
fn names_and_counts_of_lifted_modules() -> Result<()> {
    let file = open("jax/linen_rngs");
    for (case, transform, class) in [("vmap_nosplit", "vmap", "One"), ("remat", "checkpoint", "One")] {
        let name = format!("{}_0", lifted_name(transform, class));
        let rngs = ScopeRngs::new(key(42)).child(name.as_str());
        assert_eq!(words(rngs.make_rng("params")?), keys_at(&file, case, 42, &[name.as_str()]));
    }
    let name = format!("{}_0", lifted_name("jit", "Cell"));
    assert_eq!(text(&cases(&file, "jit_class")[0]["fork"][0][0]), name);
    let [w, a, _] =
        trace_cell(&ScopeRngs::new([("params", key(42)), ("dropout", key(1))]).child(name).folded()?)?;
    assert_eq!(w, cases(&file, "jit_class")[0]["key"]);
    assert_eq!(a, cases(&file, "jit_class")[1]["key"]);

    // Branches are traced in their order, whichever is taken.
    let rngs = ScopeRngs::new(key(42));
    for section in ["cond_True", "cond_False", "after_cond"] {
        assert_eq!(words(rngs.make_rng("params")?), cases(&file, section)[0]["key"], "{section}");
    }
    let rngs = ScopeRngs::new(key(42));
    for case in cases(&file, "switch") {
        assert_eq!(words(rngs.make_rng("params")?), case["key"], "{case}");
    }
    // The condition of iteration 0 has the key of the body's.
    let [body, condition] = [
        rngs.iteration([("params", true)], 0).make_rng("params")?,
        rngs.condition([("params", true)], 0).make_rng("params")?,
    ];
    assert_eq!(body, condition);
    let expected = rngs.iteration([("params", true)], u32::MAX).make_rng("params")?;
    assert_eq!(rngs.condition([("params", true)], 1).make_rng("params")?, expected);
    Ok(())
}
