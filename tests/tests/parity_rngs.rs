//! Random streams against Flax's: which key is drawn for what.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use bridge_tests::device;
use bridge_tests::golden::{assert_sections, fields, integer, items, key_of, open, shape_of, text};
use candle_bridge::functional::{Call, FunctionalModule, Keys, Scope};
use candle_bridge::graph::{RngSeed, Rngs, StatefulModule, reseed, state};
use candle_bridge::random::{Initializer, Key, key};
use candle_bridge::stateful::{BatchNorm, BatchNormConfig, Dropout, Linear, LinearConfig};
use candle_bridge::vars::{Param, Path, PathKey, Result, Variables};
use candle_core::{DType, Tensor};
use serde_json::Value as Json;

#[test]
fn every_section_has_a_test() {
    let streams = ["programs", "layer_key_counts", "reseed_tree"];
    let layers = ["values", "dropout", "dropout_call_rngs", "dropout_call_key"];
    let later = ["vmap_ctor"];
    assert_sections(&open("jax/nnx_rngs"), &[&streams[..], &layers, &later].concat());
    assert_sections(&open("jax/linen_rngs"), &["keys", "values", "dropout"]);
}

fn seed_of(json: &Json) -> RngSeed {
    match json.get("key") {
        Some(key) => key_of(key).into(),
        None => integer(json).into(),
    }
}

/// The key and count of a stream.
fn stream_state(rngs: &Rngs, name: &str) -> Result<(Key, u32)> {
    let (state, stream) = (state(rngs)?, Path::from(PathKey::from(name)));
    Ok((state.get(stream.join("key"))?.value.key()?, state.get(stream.join("count"))?.value.count()?))
}

/// Compares the keys and counts of all streams.
fn compare_streams(rngs: &Rngs, expected: &Json, context: &str) -> Result<()> {
    assert_eq!(rngs.iter().count(), fields(expected).count(), "the number of streams of {context}");
    for (name, expected) in fields(expected) {
        let (key, count) = stream_state(rngs, name)?;
        assert_eq!(key, key_of(&expected["key"]), "the key of {name} of {context}");
        assert_eq!(i64::from(count), integer(&expected["count"]), "the count of {name} of {context}");
    }
    Ok(())
}

/// Runs one operation of a program and compares what it gives. False if `Rngs` does not have the operation yet.
fn run(machine: &mut BTreeMap<String, Rngs>, operation: &[Json], result: &Json) -> Result<bool> {
    const LATER: [&str; 6] = ["split", "broadcast", "split_rngs", "fork_rngs", "restore", "sample"];
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
            machine.insert(name, rngs);
        }
        "new_from_stream" => {
            let (key, _) = stream_state(&machine[argument(3)], argument(4))?;
            let rngs = Rngs::from_streams([(argument(2), key)]);
            compare_streams(&rngs, result, &context)?;
            machine.insert(name, rngs);
        }
        "call" => assert_eq!(machine[&name].draw(argument(2))?, key_of(result), "{context}"),
        "state" => compare_streams(&machine[&name], result, &context)?,
        "fork" => {
            let fork = machine[&name].fork()?;
            compare_streams(&fork, result, &context)?;
            machine.insert(argument(2).to_owned(), fork);
        }
        "reseed" => {
            let keys = fields(&operation[2]).map(|(stream, seed)| (stream, seed_of(seed)));
            reseed(&machine[&name], keys)?;
            compare_streams(&machine[&name], result, &context)?;
        }
        later if LATER.contains(&later) => return Ok(false),
        unknown => panic!("no test of {unknown}"),
    }
    Ok(true)
}

#[test]
fn programs_of_new_call_fork_and_reseed() -> Result<()> {
    let file = open("jax/nnx_rngs");
    let (mut whole, mut steps) = (Vec::new(), 0);
    for program in items(&file["programs"]) {
        let mut machine = BTreeMap::new();
        let mut ran = 0;
        for step in items(&program["steps"]) {
            if !run(&mut machine, items(&step["op"]), &step["result"])? {
                break;
            }
            ran += 1;
        }
        if ran == items(&program["steps"]).len() {
            whole.push(text(&program["name"]));
        }
        steps += ran;
    }
    let expected =
        ["default_and_named", "no_default", "negative_seed", "copy_stream_resets_count", "fork", "reseed"];
    assert_eq!(whole, expected);
    assert_eq!(steps, 45);
    Ok(())
}

/// The parameter that an initializer makes from the key that Flax's layer handed to it.
fn expected_param(call: &Json, initializer: &Initializer) -> Result<Vec<f32>> {
    let shape = shape_of(&call["init_shape"]);
    let param = initializer.init(key_of(&call["key"]), shape, DType::F32, &device())?;
    Ok(param.flatten_all()?.to_vec1()?)
}

#[test]
fn keys_and_draws_of_each_layer() -> Result<()> {
    const LATER: [&str; 18] = [
        "LinearGeneral((2,3),(4,5),axis=(-2,-1))",
        "Einsum",
        "Conv(3,4,(3,3))",
        "ConvTranspose(3,4,(3,3))",
        "Embed(3,4)",
        "LayerNorm(4)",
        "RMSNorm(4)",
        "GroupNorm(4,2)",
        "InstanceNorm(4)",
        "MultiHeadAttention(2,4,8)",
        "MultiHeadAttention(2,4,8,normalize_qk=True)",
        "MultiHeadAttention(2,4,8,dropout_rate=.1)",
        "LSTMCell(3,4)",
        "OptimizedLSTMCell(3,4)",
        "SimpleCell(3,4)",
        "GRUCell(3,4)",
        "LoRA(3,2,4)",
        "LoRALinear(3,4,rank=2)",
    ];
    // Every parameter shows its key.
    let init = Initializer::normal(1.);
    let linear = |rngs: &Rngs, use_bias| {
        let config = LinearConfig { use_bias, kernel_init: init.clone(), bias_init: init.clone() };
        Linear::with_config(3, 4, &config, rngs).map(|linear| vec![Some(linear.kernel), linear.bias])
    };
    let norm =
        BatchNormConfig { scale_init: init.clone(), bias_init: init.clone(), ..BatchNormConfig::default() };
    let file = open("jax/nnx_rngs");
    let (mut layers, mut params) = (0, 0);
    for case in items(&file["layer_key_counts"]) {
        let name = text(&case["layer"]);
        let rngs = Rngs::new(integer(&case["seed"])).with_device(&device());
        let found: Vec<Option<Param>> = match name {
            "Linear(3,4)" => linear(&rngs, true)?,
            "Linear(3,4,use_bias=False)" => linear(&rngs, false)?,
            "BatchNorm(4)" => {
                let norm = BatchNorm::with_config(4, &norm, &rngs)?;
                vec![norm.scale, norm.bias]
            }
            "Dropout(.5)" => {
                Dropout::new(0.5, &rngs)?;
                vec![]
            }
            later if LATER.contains(&later) => continue,
            unknown => panic!("no test of {unknown}"),
        };
        let found: Vec<Param> = found.into_iter().flatten().collect();
        let calls = items(&case["calls"]);
        assert_eq!(found.len(), calls.len(), "the number of parameters of {name}");
        for (found, call) in found.iter().zip(calls) {
            let found: Vec<f32> = found.value()?.flatten_all()?.to_vec1()?;
            assert_eq!(found, expected_param(call, &init)?, "{} of {name}", call["param"]);
            params += 1;
        }
        let (_, count) = stream_state(&rngs, "default")?;
        assert_eq!(i64::from(count), integer(&case["final_count"]), "the draws of {name}");
        layers += 1;
    }
    assert_eq!((layers, params), (4, 5));
    Ok(())
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
fn draw(scope: &Scope, path: &[Json], stream: &str, count: i64) -> Result<Key> {
    match path {
        [] => {
            for _ in 1..count {
                scope.make_rng(stream)?;
            }
            scope.make_rng(stream)
        }
        [name, below @ ..] => {
            scope.child_named(text(name), ())?.with(|(), scope| draw(scope, below, stream, count))
        }
    }
}

#[test]
fn keys_of_a_scope_by_path_and_count() -> Result<()> {
    // Where the keys themselves are split or folded.
    const LATER: [&str; 13] = [
        "vmap_split",
        "vmap_nested",
        "vmap_two_streams",
        "vmap_unlisted_stream_dropped",
        "scan_split",
        "scan_split_apply",
        "scan_broadcast",
        "scan_no_constancy_check",
        "remat_scan_2x3",
        "jit_class",
        "jit_method",
        "fold_rngs_method",
        "while_loop_split",
    ];
    let file = open("jax/linen_rngs");
    let (mut compared, mut with_separator, mut later) = (0, 0, 0);
    for case in items(&file["keys"]) {
        if case["separator"] == true {
            with_separator += 1;
            continue;
        }
        if ["lanes", "fold_lanes", "fork"].iter().any(|field| case.get(field).is_some()) {
            assert!(LATER.contains(&text(&case["case"])), "no test of {case}");
            later += 1;
            continue;
        }
        let call = Call::new().keys(key_of(&case["root"]));
        let (path, count) = (items(&case["path"]), integer(&case["count"]));
        assert!(count > 0, "draws are counted from 1: {case}");
        let (found, _) = call.apply(&Variables::default(), |scope| draw(scope, path, "params", count))?;
        assert_eq!(found, key_of(&case["key"]), "{case}");
        compared += 1;
    }
    assert_eq!((compared, with_separator, later), (47, 21, 20));
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
    let ([first, second], variables) = Top.init_with_output(key(42), &())?;
    let mut compared = 0;
    for case in cases(&file, "nested") {
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
    Ok(())
}
