//! Modules wrapped as the other kind against Flax's bridge: which keys reach what is wrapped.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use bridge_tests::golden::{
    Entry, assert_exact, assert_groups, assert_sections, check, fields, integer, items, key_of, number, open,
    text,
};
use bridge_tests::{check_cases, device};
use candle_bridge::functional::{Call, Dense, Dropout as FunctionalDropout, FunctionalModule, Keys, Scope};
use candle_bridge::graph::{GraphError, Rngs, StatefulModule, clone, state};
use candle_bridge::random::{Key, key, normal};
use candle_bridge::stateful::{Dropout, Linear};
use candle_bridge::vars::{CollectionFilter, Error, Param, Path, PathKey, Result, Variables};
use candle_bridge::wrappers::{ToFunctional, ToStateful, WrapperError, to_functional};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

#[test]
fn every_entry_has_a_test() {
    assert_groups("wrappers", &["input", "to_nnx_rngs", "to_nnx_key", "to_linen"]);
    let to_stateful = ["to_nnx", "to_nnx_key_ctor", "to_nnx_dense", "to_nnx_dropout"];
    let to_functional = ["to_linen", "to_linen_linear", "to_linen_dropout"];
    let hybrid = ["bridge_module"];
    assert_sections(&open("jax/bridge_rngs"), &[&to_stateful[..], &to_functional, &hybrid].concat());
}

#[derive(Debug, thiserror::Error)]
#[error("there is no module that is both stateful and functional yet")]
struct NoHybridBase;

/// The keys that a module of Flax's `bridge.Module` and its submodules ask for, in the order of asking.
fn hybrid_keys(_streams: &Json, _requests: &[Json]) -> Result<Vec<Key>> {
    Err(Error::new(NoHybridBase))
}

#[test]
fn keys_of_modules_that_are_both() {
    let file = open("jax/bridge_rngs");
    let names = ["bridge_module, three streams", "bridge_module, default alone"];
    assert_eq!(items(&file["bridge_module"]).len(), names.len());
    let cases = names.into_iter().zip(items(&file["bridge_module"]));
    let passed = check_cases(cases, &names.map(|name| (name, "the hybrid base")), |_, case| {
        let found = hybrid_keys(&case["streams"], items(&case["request_order"]))?;
        assert!(found.into_iter().eq(items(&case["keys"]).iter().map(key_of)), "{case}");
        Ok(())
    });
    assert_eq!(passed, 0);
}

#[test]
fn inputs_are_drawn_as_by_jax() -> Result<()> {
    check("wrappers", &["input"], |golden| {
        golden.compare("input", &normal(key(golden.seed + 100), (1, 32), DType::F32, &device())?);
        Ok(())
    })
}

fn check_dense(group: &str, wrap: impl Fn(i64) -> Result<ToStateful<Dense>>) -> Result<()> {
    check("wrappers", &[group], |golden| {
        let x = golden.entry("input").tensor(&device())?;
        let model = wrap(golden.seed)?.lazy_init(&x)?;
        golden.compare(&format!("{group}/kernel"), &model.variable("kernel")?.value()?);
        golden.compare(&format!("{group}/output"), &model.call(&x)?);
        Ok(())
    })
}

#[test]
fn kernel_and_output_of_a_stateful_dense_with_rngs() -> Result<()> {
    check_dense("to_nnx_rngs", |seed| ToStateful::new(Dense::new(64), &Rngs::new(seed)))
}

#[test]
fn kernel_and_output_of_a_stateful_dense_with_a_key() -> Result<()> {
    check_dense("to_nnx_key", |seed| ToStateful::new(Dense::new(64), key(seed)))
}

#[test]
fn kernel_and_output_of_a_functional_linear() -> Result<()> {
    check("wrappers", &["to_linen"], |golden| {
        let x = golden.entry("input").tensor(&device())?;
        let model = to_functional(|rngs| Linear::new(32, 64, rngs));
        let (y, variables) = model.init_with_output(key(golden.seed), &x)?;
        golden.compare("to_linen/kernel", variables.get("params", "kernel")?.tensor()?);
        golden.compare("to_linen/output", &y);
        Ok(())
    })
}

/// A parameter that is the key it was made from.
fn key_param(scope: &Scope, name: &'static str) -> Result<()> {
    scope.param_with(name, None, |key| Ok(Tensor::new(&key.words(), &device())?))?;
    Ok(())
}

fn key_in(param: &Tensor) -> Result<Key> {
    let words = param.to_vec1::<u32>()?;
    Ok(Key::from_words(words.try_into().unwrap_or_else(|words| panic!("{words:?} is not a key"))))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BLeaf;

impl FunctionalModule<()> for BLeaf {
    type Output = ();
    fn call(&self, scope: &Scope, (): &()) -> Result<()> {
        key_param(scope, "a")
    }
}

/// Makes parameters, its own and a child's, and draws keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Lin;

impl FunctionalModule<()> for Lin {
    type Output = BTreeMap<String, Key>;
    fn call(&self, scope: &Scope, (): &()) -> Result<Self::Output> {
        key_param(scope, "p")?;
        scope.call(&BLeaf, &())?;
        ["params", "dropout", "noise"]
            .into_iter()
            .map(|name| Ok((name.to_owned(), scope.make_rng(name)?)))
            .collect()
    }
}

fn assert_keys(found: &BTreeMap<String, Key>, expected: &Json, context: &str) {
    let expected: BTreeMap<String, Key> =
        fields(expected).map(|(name, key)| (name.to_owned(), key_of(key))).collect();
    assert_eq!(*found, expected, "{context}");
}

/// The counts of the streams at a path of a module.
fn counts(module: &impl StatefulModule, streams: &Path, expected: &Json) -> Result<BTreeMap<String, i64>> {
    let state = state(module)?;
    let count = |name: &str| state.get(streams.join(PathKey::from(name)).join("count"))?.value.count();
    fields(expected).map(|(name, _)| Ok((name.to_owned(), i64::from(count(name)?)))).collect()
}

fn assert_counts(module: &impl StatefulModule, streams: &Path, expected: &Json, context: &str) -> Result<()> {
    let found = counts(module, streams, expected)?;
    let expected: BTreeMap<String, i64> =
        fields(expected).map(|(name, count)| (name.to_owned(), integer(count))).collect();
    assert_eq!(found, expected, "{context}");
    Ok(())
}

fn rngs_of(streams: &Json) -> Rngs {
    let name = |name| if name == "@default" { "default" } else { name };
    Rngs::from_streams(fields(streams).map(|(stream, seed)| (name(stream), integer(seed))))
}

#[test]
fn keys_and_counts_of_a_wrapped_functional_module_at_init_and_calls() -> Result<()> {
    let file = open("jax/bridge_rngs");
    let mut calls = 0;
    for case in items(&file["to_nnx"]) {
        let context = case["streams"].to_string();
        let rngs = rngs_of(&case["streams"]);
        for stream in items(&case["drawn_before"]) {
            rngs.draw(text(stream))?;
        }
        let model = ToStateful::new(Lin, &rngs)?;
        assert_counts(&rngs, &Path::root(), &case["outer_counts_after_ctor"], &context)?;
        let model = model.lazy_init(&())?;
        for (path, expected) in fields(&case["init"]) {
            let param = model.variable(path.replace('/', ".").as_str())?;
            assert_eq!(key_in(&param.value()?)?, key_of(expected), "{path} of {context}");
        }
        let own = Path::from(PathKey::from("<rngs>"));
        assert_counts(&model, &own, &case["inner_counts_after_init"], &context)?;
        for expected in items(&case["calls"]) {
            assert_keys(&model.call(&())?, expected, &context);
            calls += 1;
        }
        let given = &case["call_with_key"];
        assert_keys(&model.options().keys(key_of(&given["key"])).call(&())?, &given["out"], &context);
        // Where Flax is given streams, a call here is given one key of each, `default` as `params`.
        let given = &case["call_with_rngs"];
        let rngs = rngs_of(&given["streams"]);
        let keys = [("dropout", rngs.draw("dropout")?), ("params", rngs.draw("default")?)];
        assert_keys(&model.options().keys(keys).call(&())?, &given["out"], &context);
    }
    assert_eq!(calls, 10);
    Ok(())
}

#[test]
fn keys_of_a_wrapped_functional_module_made_with_a_key() -> Result<()> {
    let file = open("jax/bridge_rngs");
    let case = &file["to_nnx_key_ctor"];
    let model = ToStateful::new(Lin, key_of(&case["ctor_key"]))?.lazy_init(&())?;
    assert_eq!(key_in(&model.variable("p")?.value()?)?, key_of(&case["init_p"]));
    assert_keys(&model.call(&())?, &case["call"], "the first call");
    Ok(())
}

#[test]
fn kernel_of_a_stateful_dense_and_outputs_of_a_stateful_dropout() -> Result<()> {
    let file = open("jax/bridge_rngs");
    let x = |shape: &[usize]| Tensor::ones(shape, DType::F32, &device());
    let case = &file["to_nnx_dense"];
    let rngs = Rngs::from_streams([("default", key_of(&case["root"]))]);
    let dense = ToStateful::new(Dense::new(4), &rngs)?.lazy_init(&x(&[1, 3])?)?;
    assert_exact(&dense.variable("kernel")?.value()?, &Entry::read("ToNNX(Dense)", &case["out"]));

    let case = &file["to_nnx_dropout"];
    let rngs = Rngs::from_streams([("params", key(0)), ("dropout", key_of(&case["root"]))]);
    let dropout = FunctionalDropout::new(number(&case["rate"])).deterministic(false);
    let dropout = ToStateful::new(dropout, &rngs)?;
    let calls = items(&case["calls"]);
    assert_eq!(calls.len(), 2);
    for (index, call) in calls.iter().enumerate() {
        let expected = Entry::read(format!("ToNNX(Dropout), call {index}"), call);
        assert_exact(&dropout.call(&x(expected.shape())?)?, &expected);
    }
    Ok(())
}

/// Keeps the streams it is made with, and shows them when it is called.
#[derive(StatefulModule)]
struct Viewed {
    p: Param,
    rngs: Rngs,
}

#[derive(Debug)]
struct View {
    streams: BTreeMap<String, (Key, i64)>,
    /// The key of a draw from `dropout`, where there is such a stream or `default`.
    dropout: Option<Result<Key>>,
}

impl Viewed {
    fn new(rngs: &Rngs) -> Result<Self> {
        Ok(Self { p: Param::new(Tensor::new(&rngs.draw("params")?.words(), &device())?), rngs: clone(rngs)? })
    }

    fn view(&self) -> Result<View> {
        let state = state(&self.rngs)?;
        let stream = |name: &str| -> Result<_> {
            let stream = Path::from(PathKey::from(name));
            let (key, count) = (state.get(stream.join("key"))?, state.get(stream.join("count"))?);
            Ok((name.to_owned(), (key.value.key()?, i64::from(count.value.count()?))))
        };
        let streams = self.rngs.iter().map(|(name, _)| stream(name)).collect::<Result<_>>()?;
        let dropout = self.rngs.stream("dropout").ok().map(|stream| stream.draw());
        Ok(View { streams, dropout })
    }
}

/// Calls the wrapped module at the top, or below a parent that has a parameter of its own.
fn call_at(path: &[Json], module: &ToFunctional<Viewed>, scope: &Scope) -> Result<View> {
    match path {
        [] => module.with(scope, Viewed::view),
        [name] => {
            key_param(scope, "w")?;
            let child = scope.child_named(text(name), module.clone())?;
            child.with(|module, scope| module.with(scope, Viewed::view))
        }
        deeper => panic!("no test of {deeper:?}"),
    }
}

fn keys_of_seeds(seeds: &Json) -> Keys {
    fields(seeds).map(|(name, seed)| (name, key(integer(seed)))).collect()
}

fn streams_of(view: &Json) -> BTreeMap<String, (Key, i64)> {
    let streams = fields(view).filter(|(name, _)| *name != "dropout_call");
    streams.map(|(name, s)| (name.to_owned(), (key_of(&s["key"]), integer(&s["count"])))).collect()
}

#[test]
fn streams_and_param_of_a_wrapped_stateful_module_at_init_and_its_streams_reseeded_at_apply() -> Result<()> {
    let file = open("jax/bridge_rngs");
    let module = to_functional(Viewed::new);
    let (mut inits, mut reseeded, mut sealed) = (0, 0, 0);
    for case in items(&file["to_linen"]) {
        let path = items(&case["path"]);
        let call = Call::new().keys(keys_of_seeds(&case["init_rngs"]));
        let (view, variables) = call.init(|scope| call_at(path, &module, scope))?;
        let context = format!("{} at {}", case["init_rngs"], case["path"]);

        // At init, everything is as in Flax.
        let expected = &case["init_module_view"];
        let at_init = streams_of(expected);
        assert_eq!(view.streams, at_init, "{context}");
        let found = view.dropout.transpose()?;
        let drawn = &expected["dropout_call"];
        assert_eq!(found, (!drawn.is_null()).then(|| key_of(drawn)), "the draw of {context}");
        let p = path.iter().map(|name| PathKey::from(text(name))).chain([PathKey::from("p")]);
        let p = variables.get("params", p.collect::<Path>())?;
        assert_eq!(key_in(p.tensor()?)?, key_of(&case["init_param_p"]), "{context}");
        inits += 1;

        // At apply, Flax constructs the module from the scope's keys. Here the same keys reseed the module that is
        // stored: a stream starts from `fold_in(key, 0)`; one that the call has no key for is as stored, and sealed.
        for apply in items(&case["applies"]) {
            let context = format!("{context}, applied with {}", apply["rngs"]);
            let keys = streams_of(&apply["module_view"]);
            let mut expected = at_init.clone();
            for (name, stream) in &mut expected {
                if apply["rngs"].get(name).is_some() {
                    *stream = (keys[name].0.fold_in(0), 0);
                    reseeded += 1;
                }
            }
            let call = Call::new().keys(keys_of_seeds(&apply["rngs"]));
            let (view, _) = call.apply(&variables, |scope| call_at(path, &module, scope))?;
            assert_eq!(view.streams, expected, "{context}");
            let stream = ["dropout", "default"].into_iter().find(|name| expected.contains_key(*name));
            match (stream, view.dropout) {
                (None, None) => {}
                (Some(name), Some(found)) if apply["rngs"].get(name).is_some() => {
                    assert_eq!(found?, expected[name].0.fold_in(0), "the draw of {context}");
                }
                (Some(name), Some(Err(error))) => {
                    let is_sealed = matches!(
                        error.downcast_ref(),
                        Some(GraphError::StreamSealed { stream }) if stream == name
                    );
                    assert!(is_sealed, "{context}: {error}");
                    sealed += 1;
                }
                (stream, found) => panic!("{context}: the draw of {stream:?} is {found:?}"),
            }
        }
    }
    assert_eq!((inits, reseeded, sealed), (6, 16, 12));
    Ok(())
}

#[test]
fn kernel_of_a_functional_linear_at_the_top_and_named_in_a_parent() -> Result<()> {
    let file = open("jax/bridge_rngs");
    let x = Tensor::ones((1, 3), DType::F32, &device())?;
    let linear = to_functional(|rngs| Linear::new(3, 4, rngs));
    let mut compared = 0;
    for case in items(&file["to_linen_linear"]) {
        let call = Call::new().keys(key_of(&case["root"]));
        let (path, variables) = match items(&case["path"]) {
            [] => (Path::from("kernel"), call.init(|scope| linear.call(scope, &x))?.1),
            [name] => {
                let path = Path::from(PathKey::from(text(name))).join("kernel");
                (path, call.init(|scope| scope.call_named(text(name), &linear, &x))?.1)
            }
            deeper => panic!("no test of {deeper:?}"),
        };
        let kernel = variables.get("params", &path)?;
        assert_exact(kernel.tensor()?, &Entry::read(path.to_string(), &case["out"]));
        compared += 1;
    }
    assert_eq!(compared, 2);
    Ok(())
}

#[test]
fn output_of_a_functional_dropout_and_its_error_without_a_key() -> Result<()> {
    let file = open("jax/bridge_rngs");
    let (mut compared, mut failed) = (0, 0);
    for case in items(&file["to_linen_dropout"]) {
        let rate = number(&case["rate"]);
        let dropout = to_functional(move |rngs| Dropout::new(rate, rngs));
        let expected = Entry::read(format!("ToLinen(Dropout) with {}", case["rngs"]), &case["out"]);
        let x = Tensor::ones(expected.shape(), DType::F32, &device())?;
        let apply = |variables: &Variables| {
            let applied =
                dropout.apply_mut(variables, keys_of_seeds(&case["rngs"]), CollectionFilter::none(), &x);
            applied.map(|(y, _)| y)
        };
        // Flax constructs the module anew even from no variables.
        let error = apply(&Variables::default()).map(drop).err();
        let missing = error.as_ref().and_then(|error| error.downcast_ref());
        assert!(matches!(missing, Some(WrapperError::GraphDefMissing { .. })), "{error:?}");

        let variables = dropout.init([("dropout", key(5))], &x)?;
        match (apply(&variables), fields(&case["rngs"]).count()) {
            // One stream forked from a fresh one and one reseeded start from the same key.
            (Ok(found), 1) => {
                assert_exact(&found, &expected);
                compared += 1;
            }
            // Flax falls back to seed 0.
            (Err(error), 0) => {
                let sealed = matches!(error.downcast_ref(), Some(GraphError::StreamSealed { .. }));
                assert!(sealed, "{error}");
                failed += 1;
            }
            (found, keys) => panic!("{found:?} with {keys} keys"),
        }
    }
    assert_eq!((compared, failed), (1, 1));
    Ok(())
}
