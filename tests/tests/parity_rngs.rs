//! Random streams against Flax's: which key is drawn for what.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use bridge_tests::golden::{
    Entry, assert_exact, assert_sections, fields, integer, items, key_of, open, shape_of, text,
};
use bridge_tests::{check_cases, device};
use candle_bridge::graph::{
    ReseedPolicy, RngBackup, RngSeed, RngStream, Rngs, StatefulModule, fork_rngs, reseed, reseed_with,
    split_rngs, split_rngs_squeezed, state,
};
use candle_bridge::random::{HostArray, Initializer, Key, normal, uniform};
use candle_bridge::stateful::{BatchNorm, BatchNormConfig, Dropout, Linear, LinearConfig};
use candle_bridge::vars::{Error, Filter, Param, Path, Result};
use candle_core::{DType, Shape, Tensor};
use serde_json::Value as Json;

#[test]
fn every_section_has_a_test() {
    let streams = ["programs", "layer_key_counts", "reseed_tree"];
    let layers = ["values", "dropout", "dropout_call_rngs", "dropout_call_key"];
    let lanes = ["vmap_ctor"];
    assert_sections(&open("jax/nnx_rngs"), &[&streams[..], &layers, &lanes].concat());
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
        let config =
            LinearConfig { use_bias, activation: None, kernel_init: init.into(), bias_init: init.into() };
        Linear::with_config(3, 4, &config, rngs).map(|linear| vec![Some(linear.kernel), linear.bias])
    };
    let params = match layer {
        "Linear(3,4)" => linear(true)?,
        "Linear(3,4,use_bias=False)" => linear(false)?,
        "BatchNorm(4)" => {
            let (scale_init, bias_init) = (init.clone(), init.clone());
            let config = BatchNormConfig {
                scale_init: scale_init.into(),
                bias_init: bias_init.into(),
                ..BatchNormConfig::default()
            };
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
