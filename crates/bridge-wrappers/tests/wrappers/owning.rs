//! What a functional module as a stateful one owns, draws and refuses.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use bridge_functional::{Call, Dense, FunctionalModule, Keys, Method, Scope, ScopeError};
use bridge_graph::{Rngs, StatefulModule, graphdef, merge, replace_at, split, state};
use bridge_random::{Initializer, Key, key};
use bridge_vars::{BatchStat, CollectionFilter, Leaf, Param, Result, Variable, VariableType, kinds};
use bridge_wrappers::{ToStateful, WrapperError, lazy_init, lazy_init_missing, to_functional};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::modules::{assert_error, assert_same, device, input, paths, to_vec};

fn scalar(value: f32) -> Result<Tensor> {
    Ok(Tensor::new(value, &device())?)
}

/// Has no variables and draws nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Idle;

impl FunctionalModule for Idle {
    type Output = Tensor;
    fn call(&self, _: &Scope, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }
}

fn counts<F: bridge_graph::Static>(model: &ToStateful<F>, streams: &[&str]) -> Vec<u32> {
    let state = state(model).unwrap();
    let count = |name: &&str| state.get(format!("<rngs>.{name}.count").as_str()).unwrap().value.count();
    streams.iter().map(|name| count(name).unwrap()).collect()
}

#[test]
fn making_a_wrapper_draws_one_key_of_each_stream() {
    let rngs = Rngs::from_streams([("params", 0), ("dropout", 1), ("noise", 2)]);
    let model = ToStateful::new(Idle, &rngs).unwrap();
    for (seed, name) in ["params", "dropout", "noise"].into_iter().enumerate() {
        assert_eq!(rngs.draw(name).unwrap(), key(seed as i64).fold_in(1));
    }
    let forked = model.with(|_, scope| scope.make_rng("noise")).unwrap();
    let expected = Call::new().keys([("noise", key(2).fold_in(0).fold_in(0))]);
    let (expected, _) =
        expected.apply(&bridge_vars::Variables::default(), |scope| scope.make_rng("noise")).unwrap();
    assert_eq!(forked, expected);
}

#[test]
fn a_call_draws_one_key_of_each_stream_whether_it_is_wanted_or_not() {
    let rngs = Rngs::from_streams([("params", 0), ("dropout", 1), ("noise", 2)]);
    let model = ToStateful::new(Idle, &rngs).unwrap();
    let streams = ["params", "dropout", "noise"];
    assert_eq!(counts(&model, &streams), [0, 0, 0]);
    model.call(&input()).unwrap();
    assert_eq!(counts(&model, &streams), [1, 1, 1]);
    lazy_init(&model, |model| model.call(&input())).unwrap();
    assert_eq!(counts(&model, &streams), [2, 2, 2]);
    model.options().keys([("dropout", key(9))]).call(&input()).unwrap();
    assert_eq!(counts(&model, &streams), [2, 2, 2]);
}

#[test]
fn default_beside_params_is_a_stream_of_its_own() {
    let stream = |model: &ToStateful<Idle>, name: &str| {
        model.with(|_, scope| Ok((scope.has_rng(name), scope.make_rng(name)?)))
    };
    let alone = ToStateful::new(Idle, &Rngs::new(3)).unwrap();
    assert!(stream(&alone, "params").unwrap().0 && !stream(&alone, "default").unwrap().0);
    let both = ToStateful::new(Idle, &Rngs::from_streams([("params", 1), ("default", 3)])).unwrap();
    let (has, drawn) = stream(&both, "default").unwrap();
    let of_key = |key: Key| {
        Call::new()
            .keys([("default", key)])
            .apply(&bridge_vars::Variables::default(), |scope| scope.make_rng("default"))
            .unwrap()
            .0
    };
    assert_eq!((has, drawn), (true, of_key(key(3).fold_in(0).fold_in(0))));
}

#[test]
fn without_keys_what_draws_is_refused() {
    let none = ToStateful::new(Idle, Keys::none()).unwrap().lazy_init(&input()).unwrap();
    assert_same(&none.call(&input()).unwrap(), &input());
    assert_error::<_, ScopeError>(
        ToStateful::new(Dense::new(2), Keys::none()).unwrap().lazy_init(&input()),
        "no key for the random stream `params`, found none: pass `[(\"params\", key)]`",
    );
}

/// Everything that a wrapper, or Flax's, has a name for, as a parameter and as a child.
const NAMES: [&str; 16] = [
    "module",
    "rngs",
    "attributes",
    "mutable",
    "separator",
    "context",
    "evaluating",
    "initialized",
    "lazy_init",
    "sow",
    "train",
    "eval",
    "variables",
    "call",
    "to_nnx__module",
    "class",
];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Greedy;

impl FunctionalModule for Greedy {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        for (index, name) in NAMES.into_iter().enumerate() {
            match index % 2 {
                0 => y = (y.broadcast_add(&scope.param_with(name, None, |_| scalar(index as f32))?))?,
                _ => y = scope.call_named(name, &Dense::new(3), &y)?,
            }
        }
        Ok(y)
    }
}

#[test]
fn names_of_the_wrapper_are_free_for_the_module() {
    let model = ToStateful::new(Greedy, key(0)).unwrap().lazy_init(&input()).unwrap();
    let expected = Greedy.init(key(0).fold_in(0), &input()).unwrap();
    assert!(model.variables().unwrap().identical(&expected).unwrap());
    let y = model.call(&input()).unwrap();
    let (graphdef, state) = split(&model).unwrap();
    let merged = merge(&graphdef, &state).unwrap();
    assert!(merged.variables().unwrap().identical(&expected).unwrap());
    assert_same(&merged.call(&input()).unwrap(), &y);
    // A wrapper of a wrapper has the same names once more.
    let deeper = to_functional(|rngs| ToStateful::new(Greedy, rngs));
    let deeper = ToStateful::new(deeper, key(0)).unwrap().lazy_init(&input()).unwrap();
    assert_eq!(to_vec(&deeper.variable("module").unwrap().value().unwrap()), [0.]);
    let (graphdef, state) = split(&deeper).unwrap();
    assert_same(&merge(&graphdef, &state).unwrap().call(&input()).unwrap(), &deeper.call(&input()).unwrap());
}

#[test]
fn names_of_wrappers_are_refused_in_a_module() {
    let model = ToStateful::new(Idle, key(0)).unwrap();
    let named = |_: &Idle, scope: &Scope| scope.param_with("<rngs>", None, |_| scalar(1.));
    assert_error::<_, ScopeError>(
        lazy_init(&model, |model| model.with(named)),
        "`<rngs>`: names in angle brackets belong to wrappers; use another",
    );
}

/// Counts its calls where it may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counts;

impl FunctionalModule for Counts {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        for collection in ["a", "b", "c"] {
            let calls = scope.variable(collection, format!("calls_{collection}"), || Ok(0))?;
            if calls.is_mutable() {
                calls.set(calls.count()? + 1)?;
            }
        }
        Ok(x.clone())
    }
}

#[test]
fn initialisation_keeps_the_state_after_the_call() {
    let model = ToStateful::new(Counts, key(0)).unwrap().lazy_init(&input()).unwrap();
    for path in ["calls_a", "calls_b", "calls_c"] {
        assert_eq!(model.variable(path).unwrap().count().unwrap(), 1);
    }
}

#[test]
fn a_call_decides_what_may_change_then_the_wrapper_then_the_call_around() {
    let counted = |model: &ToStateful<Counts>| {
        ["calls_a", "calls_b", "calls_c"].map(|path| model.variable(path).unwrap().count().unwrap())
    };
    let plain = ToStateful::new(Counts, key(0)).unwrap().lazy_init(&input()).unwrap();
    plain.call(&input()).unwrap();
    assert_eq!(counted(&plain), [1, 1, 1]);
    let told = ToStateful::new(Counts, key(0)).unwrap().mutable("a").lazy_init(&input()).unwrap();
    told.call(&input()).unwrap();
    assert_eq!(counted(&told), [2, 1, 1]);
    told.options().mutable(["b", "c"]).call(&input()).unwrap();
    assert_eq!(counted(&told), [2, 2, 2]);
    told.options().mutable(CollectionFilter::none()).call(&input()).unwrap();
    assert_eq!(counted(&told), [2, 2, 2]);

    // In a functional call that may change `b` and `c`.
    let changed = |mutable: Option<&'static str>, of_call: Option<&'static str>| {
        let model = to_functional(move |rngs| {
            let counts = ToStateful::new(Counts, rngs)?;
            Ok(match mutable {
                Some(mutable) => counts.mutable(mutable),
                None => counts,
            })
        });
        let run = |scope: &Scope| {
            model.with(scope, |model| match of_call {
                Some(of_call) => model.options().mutable(of_call).call(&input()),
                None => model.call(&input()),
            })
        };
        let (_, variables) = Call::new().keys(key(0)).init(run).unwrap();
        let (_, updates) = Call::new().mutable(["b", "c"]).apply(&variables, run).unwrap();
        let updated = variables.updated(&updates).unwrap();
        ["a", "b", "c"]
            .map(|name| updated.get(name, format!("calls_{name}").as_str()).unwrap().value.count().unwrap())
    };
    assert_eq!(changed(None, None), [1, 2, 2]);
    assert_eq!(changed(Some("b"), None), [1, 2, 1]);
    assert_eq!(changed(Some("b"), Some("c")), [1, 1, 2]);
}

/// Takes what would be options of a call in Flax.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Takes;

impl FunctionalModule<(Tensor, Option<u32>, Vec<Tensor>)> for Takes {
    type Output = (Tensor, usize);
    fn call(&self, _: &Scope, (x, times, more): &(Tensor, Option<u32>, Vec<Tensor>)) -> Result<Self::Output> {
        let y = (x * f64::from(times.unwrap_or(1)))?;
        Ok((more.iter().try_fold(y, |y, x| y + x)?, more.len()))
    }
}

#[test]
fn inputs_and_outputs_are_of_any_type() {
    let input = (scalar(3.).unwrap(), Some(2), vec![scalar(1.).unwrap()]);
    let model = ToStateful::new(Takes, key(0)).unwrap().lazy_init(&input).unwrap();
    let (y, length) = model.options().keys(key(1)).call(&input).unwrap();
    assert_eq!((to_vec(&y), length), (vec![7.], 1));
}

/// A method that can be called by name, and a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Encoder {
    layers: Vec<usize>,
}

impl Encoder {
    fn encode(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.call_named("encoder", &Dense::new(self.layers[0]), x)
    }
}

impl FunctionalModule for Encoder {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let code = self.encode(scope, x)?;
        scope.call_named("decoder", &Dense::new(self.layers[1]), &code)
    }
    fn methods() -> Vec<(&'static str, Method<Self>)> {
        vec![("encode", Self::encode)]
    }
}

fn encoder() -> ToStateful<Encoder> {
    ToStateful::new(Encoder { layers: vec![2, 3] }, key(0)).unwrap()
}

#[test]
fn methods_are_called_by_name_or_in_a_closure() {
    let model = encoder().lazy_init(&input()).unwrap();
    let code = model.with(|module, scope| module.encode(scope, &input())).unwrap();
    assert_eq!(code.dims(), [5, 2]);
    assert_same(&model.with(|module, scope| scope.run_named(module, "encode", &input())).unwrap(), &code);
    assert_error::<_, ScopeError>(
        model.with(|module, scope| scope.run_named(module, "encod", &input())),
        "`Encoder` has no method `encod` to call by name, found `encode`: name it in `FunctionalModule::methods`, or call \
         it in a closure",
    );
    // A child is called under its name; its variables are at its path.
    let child = model.with(|_, scope| scope.call_named("encoder", &Dense::new(2), &input())).unwrap();
    assert_same(&child, &code);
    assert_eq!(model.variable("encoder.kernel").unwrap().value().unwrap().dims(), [3, 2]);
    assert_eq!(model.module().layers, [2, 3]);
}

#[test]
fn a_variable_that_was_not_initialised_is_an_error_that_says_so() {
    let model = encoder();
    assert_error::<_, WrapperError>(
        model.call(&input()),
        "this `ToStateful` has no variables yet (`encoder.kernel` was looked for): call `lazy_init` with a sample input \
         first",
    );
    lazy_init(&model, |model| model.with(|module, scope| module.encode(scope, &input()))).unwrap();
    assert_error::<_, ScopeError>(
        model.call(&input()),
        "parameter `decoder.kernel` is not in the collection `params`, did you mean `encoder.kernel`, `encoder.bias`?: give \
         `apply` the variables that `init` of the same module returned",
    );
    let made = lazy_init_missing(&model, |model| model.call(&input())).unwrap();
    assert_eq!(
        made.created.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["decoder.bias", "decoder.kernel"]
    );
}

#[test]
fn what_is_initialised_is_refused_a_second_time() {
    let model = encoder().lazy_init(&input()).unwrap();
    let text = "this `ToStateful` of `Encoder` has its variables already, among them `decoder.bias`: leave it out of \
                `lazy_init`, keep them by `lazy_init_missing`, or make new ones by `reinitialize`";
    assert_error::<_, WrapperError>(lazy_init(&model, |model| model.call(&input())), text);
    model.call(&input()).unwrap();
    assert_error::<_, WrapperError>(model.lazy_init(&input()), text);
}

#[test]
fn initialisation_says_what_it_gave_and_made() {
    let model = encoder();
    let made = lazy_init(&model, |model| model.call(&input())).unwrap();
    assert_eq!(made.output.dims(), [5, 3]);
    let expected = ["decoder.bias", "decoder.kernel", "encoder.bias", "encoder.kernel"];
    assert_eq!(made.created.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

#[test]
fn initialisation_that_is_going_on_is_no_part_of_the_description() {
    let model = ToStateful::new(Idle, key(0)).unwrap();
    let before = graphdef(&model).unwrap();
    let during = lazy_init(&model, graphdef).unwrap().output;
    assert_eq!(during, before);
    assert_eq!(graphdef(&model).unwrap(), before);
}

#[test]
fn initialisation_that_failed_can_be_tried_again() {
    let model = encoder();
    let failed = lazy_init(&model, |model| {
        model.with(|module, scope| module.encode(scope, &input()))?;
        model.with(|_, scope| scope.param_with("encoder", None, |_| scalar(1.)))?;
        Err::<(), _>(WrapperError::NotInitialized.into())
    });
    failed.unwrap_err();
    lazy_init(&model, |model| model.call(&input())).unwrap();
    assert_eq!(model.variables().unwrap().len(), 4);
}

#[test]
fn a_configuration_with_a_list_is_part_of_the_description() {
    let described = |layers: &[usize]| {
        graphdef(&ToStateful::new(Encoder { layers: layers.to_vec() }, key(0)).unwrap()).unwrap()
    };
    let hash = |layers: &[usize]| {
        let mut hasher = DefaultHasher::new();
        described(layers).hash(&mut hasher);
        hasher.finish()
    };
    assert_eq!((described(&[2, 3]), hash(&[2, 3])), (described(&[2, 3]), hash(&[2, 3])));
    assert_ne!(described(&[2, 3]), described(&[2, 4]));
}

/// Two wrapped modules.
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
struct Pair {
    first: ToStateful<Scaled>,
    second: ToStateful<Scaled>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scaled;

impl FunctionalModule for Scaled {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let scale = scope.param_with("scale", None, |_| scalar(2.))?;
        if scope.is_mutable_collection("params") && !scope.is_initializing() {
            scope.put(&"scale".into(), Param::leaf((&scale * 3.)?))?;
        }
        x.broadcast_mul(&scale).map_err(Into::into)
    }
}

#[test]
fn variables_that_two_wrappers_share_stay_shared_in_calls_that_change_them() {
    let wrap = || ToStateful::new(Scaled, key(0)).unwrap().mutable("params").lazy_init(&input()).unwrap();
    let pair = Pair { first: wrap(), second: wrap() };
    let scale = pair.first.variable("scale").unwrap();
    let pair: Pair = replace_at(&pair, "second.scale", scale.clone()).unwrap();
    let is_tied =
        |pair: &Pair| pair.first.variable("scale").unwrap().is_same(&pair.second.variable("scale").unwrap());
    assert!(is_tied(&pair) && scale.is_same(&pair.second.variable("scale").unwrap()));
    pair.first.call(&input()).unwrap();
    pair.second.call(&input()).unwrap();
    assert!(is_tied(&pair));
    assert_eq!(to_vec(&scale.value().unwrap()), [18.]);
    let (graphdef, state) = split(&pair).unwrap();
    assert!(paths(&state).iter().filter(|path| path.ends_with("scale")).eq(["first.scale"]));
    assert!(is_tied(&merge(&graphdef, &state).unwrap()));
}

kinds! {
    /// A parameter in a collection of its own.
    Gain(GainKind) in "gains": Param;
}

/// Makes variables of a declared type, with the type and by the collection's name, and of a collection that no one declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Typed;

impl FunctionalModule for Typed {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let kind = Gain::variable_type();
        let gain = scope.variable_of(kind, "gain", || Ok(Leaf::new(kind, scalar(2.)?)))?.get()?;
        let other = scope.variable("gains", "other", || scalar(3.))?.get()?;
        let unknown = scope.variable("curiosities", "unknown", || scalar(5.))?.get()?;
        Ok(x.broadcast_mul(&gain)?.broadcast_mul(&other)?.broadcast_mul(&unknown)?)
    }
}

#[test]
fn types_of_ones_own_and_unknown_collections_are_types_of_variables() {
    let model = ToStateful::new(Typed, key(0)).unwrap().lazy_init(&input()).unwrap();
    let kind = |path: &str| model.variable(path).unwrap().kind();
    assert_eq!((kind("gain"), kind("other")), (Gain::variable_type(), Gain::variable_type()));
    let unknown = kind("unknown");
    assert_eq!(
        (unknown.name(), unknown.collection(), unknown.parent()),
        ("curiosities", "curiosities", None)
    );
    assert_eq!(unknown, VariableType::from_collection("curiosities"));
    assert_same(&model.call(&input()).unwrap(), &(input() * 30.).unwrap());
    // Gradients find the descendants of a type.
    let loss = |model: &ToStateful<Typed>| Ok(model.call(&input())?.sqr()?.sum_all()?);
    let (_, gradients) =
        bridge_graph::value_and_grad(&model, bridge_vars::Filter::of::<Param>(), loss).unwrap();
    assert_eq!(paths(&gradients), ["gain", "other"]);
}

#[test]
fn a_kernel_is_that_of_the_functional_module_with_the_forked_key() {
    let dense = Dense::new(4).kernel_init(Initializer::lecun_normal());
    let model = ToStateful::new(dense.clone(), &Rngs::new(0)).unwrap().lazy_init(&input()).unwrap();
    let forked = Rngs::new(0).fork().unwrap().draw("default").unwrap();
    let expected = dense.init(forked, &input()).unwrap();
    assert!(model.variables().unwrap().identical(&expected).unwrap());
}

#[test]
fn a_variable_of_another_type_at_a_path_that_is_taken_is_refused_and_nothing_changes() {
    let model = ToStateful::new(Scaled, key(0)).unwrap().lazy_init(&input()).unwrap();
    let scale: Variable = model.variable("scale").unwrap();
    let put = |_: &Scaled, scope: &Scope| {
        scope.put(&"scale".into(), BatchStat::leaf(scalar(9.)?))?;
        scope.put(&"scale".into(), Param::leaf(scalar(9.)?))
    };
    assert_error::<_, bridge_vars::VarsError>(
        model.options().mutable(["batch_stats", "params"]).with(put),
        "`scale` is there twice, as `Param` and as `BatchStat`: rename one, or keep them apart by a filter",
    );
    assert_eq!(to_vec(&scale.value().unwrap()), [2.]);
    assert_eq!(model.variables().unwrap().len(), 1);
}
