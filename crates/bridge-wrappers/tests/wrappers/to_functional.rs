//! A stateful module as a functional one, and the functional API over one.

use bridge_functional::{Call, FunctionalModule, Scope};
use bridge_graph::{Rngs, Shared, StatefulModule, eval, merge, reseed, split};
use bridge_random::{Key, key};
use bridge_vars::{CollectionFilter, Param, Result, Variables};
use bridge_wrappers::{ToFunctional, functional, to_functional};
use candle_core::{Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::{
    FEATURES, INPUTS, MUTABLE, Recaller, assert_same, input, keys, paths, tensor, variable_paths,
};

fn wrapped(rate: f64) -> ToFunctional<Recaller> {
    to_functional(move |rngs| Recaller::new(rate, rngs))
}

/// The first key that a module at the root draws from a stream of a call.
fn first_key(key: Key, stream: &'static str) -> Key {
    let call = Call::new().keys([(stream, key)]);
    call.apply(&Variables::default(), |scope| scope.make_rng(stream)).unwrap().0
}

#[test]
fn init_gives_the_state_before_the_call() {
    let (_, variables) = wrapped(0.5).train().init_with_output(keys(0), &input()).unwrap();
    let expected = [
        "RngCount.dropout.rngs.count",
        "RngKey.dropout.rngs.key",
        "batch_stats.norm.mean",
        "batch_stats.norm.var",
        "nnx.<graphdef>",
        "params.norm.bias",
        "params.norm.scale",
        "params.weight",
        "recollections.calls",
        "recollections.last",
    ];
    assert_eq!(variable_paths(&variables), expected);
    assert_eq!(variables.get("recollections", "calls").unwrap().value.count().unwrap(), 0);
    assert_eq!(variables.get("RngCount", "dropout.rngs.count").unwrap().value.count().unwrap(), 0);
    assert_eq!(tensor(&variables, "batch_stats", "norm.mean").to_vec1::<f32>().unwrap(), [0.; FEATURES]);
    let rngs = Rngs::from_streams(keys(0).map(|(name, key)| (name, first_key(key, name))));
    let constructed = Recaller::new(0.5, &rngs).unwrap();
    assert_same(tensor(&variables, "params", "weight"), &constructed.weight.value().unwrap());
}

#[test]
fn calls_compute_what_the_stateful_module_computes() {
    let (model, x) = (wrapped(0.5), input());
    let (y, variables) = model.train().init_with_output(keys(0), &x).unwrap();
    let construct = || {
        let rngs = Rngs::from_streams(keys(0).map(|(name, key)| (name, first_key(key, name))));
        Recaller::new(0.5, &rngs).unwrap()
    };
    assert_same(&y, &construct().forward(&x).unwrap());
    let unwrapped = construct();

    let mut current = variables.clone();
    for step in 1..4 {
        let key = key(100 + step);
        let (y, updates) = model.train().apply_mut(&current, [("dropout", key)], MUTABLE, &x).unwrap();
        reseed(&unwrapped, [("dropout", first_key(key, "dropout"))]).unwrap();
        assert_same(&y, &unwrapped.forward(&x).unwrap());
        // All of the mutable collections that there are, and nothing else.
        assert_eq!(updates.collections().collect::<Vec<_>>(), ["batch_stats", "recollections"]);
        current = current.updated(&updates).unwrap();
        assert_same(tensor(&current, "batch_stats", "norm.var"), &unwrapped.norm.var.value().unwrap());
        assert_same(tensor(&current, "recollections", "last"), &unwrapped.last.value().unwrap());
    }
    eval(&unwrapped).unwrap();
    assert_same(&model.eval().apply(&current, &x).unwrap(), &unwrapped.forward(&x).unwrap());
    // What was passed in is as it was.
    assert_eq!(variables.get("recollections", "calls").unwrap().value.count().unwrap(), 0);
}

#[test]
fn without_a_mode_it_is_as_it_was_constructed() {
    let model = to_functional(|rngs| {
        let model = Recaller::new(0.5, rngs)?;
        eval(&model)?;
        Ok(model)
    });
    let variables = model.init(keys(0), &input()).unwrap();
    let y = model.apply(&variables, &input()).unwrap();
    assert_same(&model.eval().apply(&variables, &input()).unwrap(), &y);
}

#[test]
fn the_same_key_drops_the_same_and_another_something_else() {
    let (model, x) = (wrapped(0.5), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    let drop = |seed| {
        let (y, _) = model.train().apply_mut(&variables, [("dropout", key(seed))], MUTABLE, &x).unwrap();
        y.to_vec2::<f32>().unwrap()
    };
    assert_eq!(drop(1), drop(1));
    assert_ne!(drop(1), drop(2));
}

#[test]
fn mutable_counts_let_stored_streams_go_on() {
    let (model, x) = (wrapped(0.5), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    let mutable = ["batch_stats", "recollections", "RngCount"];
    let none = bridge_functional::Keys::none;
    let (first, updates) = model.train().apply_mut(&variables, none(), mutable, &x).unwrap();
    let next = variables.updated(&updates).unwrap();
    assert_eq!(next.get("RngCount", "dropout.rngs.count").unwrap().value.count().unwrap(), 1);
    let (again, _) = model.train().apply_mut(&variables, none(), mutable, &x).unwrap();
    let (second, _) = model.train().apply_mut(&next, none(), mutable, &x).unwrap();
    assert_same(&again, &first);
    assert_ne!(first.to_vec2::<f32>().unwrap(), second.to_vec2::<f32>().unwrap());
}

#[test]
fn other_methods_run_in_a_scope() {
    let (model, x) = (wrapped(0.), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    let project = |scope: &Scope| model.with(scope, |model| model.project(&x));
    let (y, _) = Call::new().apply(&variables, project).unwrap();
    assert_same(&y, &x.matmul(tensor(&variables, "params", "weight")).unwrap());
    let (y, of_project) = Call::new().keys(keys(0)).init(project).unwrap();
    assert!(of_project.identical(&variables).unwrap());
    assert_same(&y, &x.matmul(tensor(&variables, "params", "weight")).unwrap());
}

/// A functional module that calls one child twice.
#[derive(Clone, Debug, PartialEq)]
struct Twice(ToFunctional<Recaller>);

impl FunctionalModule for Twice {
    type Output = (Tensor, Tensor);

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let child = scope.child(self.0.clone())?;
        Ok((child.call(x)?, child.call(x)?))
    }
}

#[test]
fn called_twice_it_is_one_module() {
    let (twice, x) = (Twice(wrapped(0.)), input());
    let ((first, second), variables) = twice.train().init_with_output(keys(0), &x).unwrap();
    assert_same(&first, &second);
    assert_eq!(
        variable_paths(&variables).iter().filter(|path| path.starts_with("params.")).collect::<Vec<_>>(),
        [
            "params.ToFunctional_0.norm.bias",
            "params.ToFunctional_0.norm.scale",
            "params.ToFunctional_0.weight"
        ]
    );
    let calls = |variables: &Variables| {
        variables.get("recollections", "ToFunctional_0.calls").unwrap().value.count().unwrap()
    };
    assert_eq!(calls(&variables), 0);
    // Mutable collections go from the first call to the second.
    let (_, updates) = twice.train().apply_mut(&variables, keys(1), MUTABLE, &x).unwrap();
    assert_eq!(calls(&updates), 2);
    // With dropout, each call draws anew.
    let twice = Twice(wrapped(0.5));
    let variables = twice.train().init(keys(0), &x).unwrap();
    let ((first, second), _) = twice.train().apply_mut(&variables, keys(1), MUTABLE, &x).unwrap();
    assert_ne!(first.to_vec2::<f32>().unwrap(), second.to_vec2::<f32>().unwrap());
}

#[test]
fn sharing_survives() {
    #[derive(StatefulModule)]
    struct Tied {
        decode: Param,
        encode: Param,
        layers: Vec<Shared<Recaller>>,
    }
    impl Module for Tied {
        fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
            assert!(self.encode.is_same(&self.decode) && self.layers[0].is_same(&self.layers[1]));
            self.encode.set((self.encode.value()? * 2.)?)?;
            self.layers[1].calls.next_count()?;
            x.matmul(&self.decode.value()?)
        }
    }
    let model = to_functional(|rngs| {
        let layer = Shared::new(Recaller::new(0., rngs)?);
        let encode = layer.weight.clone();
        Ok(Tied { decode: encode.clone(), encode, layers: vec![layer.clone(), layer] })
    });
    let x = input();
    let variables = model.train().init(keys(0), &x).unwrap();
    let params = ["params.decode", "params.layers.0.norm.bias", "params.layers.0.norm.scale"];
    assert!(variable_paths(&variables).iter().filter(|path| path.starts_with("params.")).eq(&params));
    let mutable = ["params", "recollections"];
    let (y, updates) = model.train().apply_mut(&variables, keys(0), mutable, &x).unwrap();
    let doubled = (tensor(&variables, "params", "decode") * 2.).unwrap();
    assert_same(tensor(&updates, "params", "decode"), &doubled);
    assert_same(&y, &x.matmul(&doubled).unwrap());
    assert_eq!(updates.get("recollections", "layers.0.calls").unwrap().value.count().unwrap(), 1);
}

#[test]
fn what_a_call_makes_needs_a_mutable_description() {
    let model = to_functional(|_: &Rngs| Ok(Grows::default()));
    let x = input();
    let variables = model.init(key(0), &x).unwrap();
    assert_eq!(variable_paths(&variables), ["nnx.<graphdef>"]);
    let (_, updates) = model.apply_mut(&variables, key(0), CollectionFilter::all(), &x).unwrap();
    assert_eq!(variable_paths(&updates), ["nnx.<graphdef>", "params.inner"]);
    let next = variables.updated(&updates).unwrap();
    // Its new structure fits the next call.
    assert_same(&model.apply(&next, &x).unwrap(), &x);
    let error = model.apply(&variables, &x).unwrap_err().to_string();
    assert!(error.contains("changed the structure of the wrapped module (`inner`)"), "{error}");
}

/// Makes a variable in its first call.
#[derive(Debug, Default)]
pub(crate) struct Grows(std::sync::OnceLock<Param>);
impl bridge_graph::Visit for Grows {
    fn visit(&self, visitor: &mut dyn bridge_graph::Visitor) -> Result<()> {
        visitor.enter(bridge_graph::Structure::Map, None)?;
        if let Some(param) = self.0.get() {
            visitor.child(&"inner".into(), param)?;
        }
        visitor.exit()
    }
}
impl bridge_graph::Field for Grows {
    fn rebuild(source: &mut bridge_graph::Source<'_>) -> Result<Self> {
        source.enter(&bridge_graph::Structure::Map)?;
        let inner: Option<Param> =
            source.peek_child().is_some().then(|| source.child(&"inner".into())).transpose()?;
        source.exit()?;
        Ok(Self(inner.map_or_else(std::sync::OnceLock::new, std::sync::OnceLock::from)))
    }
}
impl Module for Grows {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.0.get_or_init(|| Param::new(x.clone()));
        Ok(x.clone())
    }
}

#[test]
fn what_changes_its_shape_needs_a_mutable_description() {
    #[derive(StatefulModule)]
    struct Longer(bridge_vars::Cache);
    impl Module for Longer {
        fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
            let longer = Tensor::cat(&[&self.0.value()?, x], 0)?;
            self.0.set(longer.clone())?;
            Ok(longer)
        }
    }
    let model = to_functional(|_: &Rngs| Ok(Longer(bridge_vars::Cache::new(input()))));
    let x = input();
    let variables = model.init(key(0), &x).unwrap();
    let error = model.apply_mut(&variables, key(0), "cache", &x).unwrap_err().to_string();
    assert!(error.contains("changed the structure of the wrapped module (`0`)"), "{error}");
    let mut current = variables;
    for length in 2..5 {
        let (y, updates) = model.apply_mut(&current, key(0), ["cache", "nnx"], &x).unwrap();
        assert_eq!(y.dims(), [5 * length, INPUTS]);
        current = current.updated(&updates).unwrap();
    }
}

#[test]
fn compares_by_the_type_of_its_constructor() {
    let other = to_functional(|rngs| Recaller::new(0.5, rngs));
    let another = to_functional(|rngs| Recaller::new(0.25, rngs));
    assert_eq!(other, other.clone());
    assert_ne!(other, another);
    assert_eq!(wrapped(0.1), wrapped(0.2));
    assert_ne!(wrapped(0.5), other);
    assert!(format!("{other:?}").starts_with("ToFunctional { constructor: "), "{other:?}");
}

#[test]
fn any_serde_configuration_can_hold_it() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Config {
        inner: ToFunctional<Recaller>,
        size: u32,
    }
    let config = Config { inner: wrapped(0.), size: 3 };
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
}

#[test]
fn functional_never_changes_the_state_that_it_is_given() {
    let (model, x) = (functional(|rngs| Recaller::new(0.5, rngs)), input());
    let state = model.init(&Rngs::from_streams(keys(0))).unwrap();
    let copy = state.map(|_, leaf| Ok(leaf.clone())).unwrap();
    let (first, next) = model.apply(&state, |model| model.forward(&x)).unwrap();
    assert!(state.identical(&copy).unwrap());
    let (again, _) = model.apply(&state, |model| model.forward(&x)).unwrap();
    assert_same(&again, &first);
    let (second, last) = model.apply(&next, |model| model.forward(&x)).unwrap();
    assert_ne!(first.to_vec2::<f32>().unwrap(), second.to_vec2::<f32>().unwrap());
    assert_eq!(last.get("calls").unwrap().value.count().unwrap(), 2);

    // It is the module itself.
    let unwrapped = Recaller::new(0.5, &Rngs::from_streams(keys(0))).unwrap();
    assert_same(&first, &unwrapped.forward(&x).unwrap());
    assert_same(&second, &unwrapped.forward(&x).unwrap());
    assert!(bridge_graph::state(&unwrapped).unwrap().identical(&last).unwrap());

    let (graphdef, _) = split(&unwrapped).unwrap();
    assert_eq!(model.graphdef().unwrap(), graphdef);
    assert_eq!(paths(&bridge_graph::state(&merge(&graphdef, &last).unwrap()).unwrap()), paths(&state));
    let (projected, _) = model.apply(&state, |model| model.project(&x)).unwrap();
    assert_eq!(projected.dims(), [5, FEATURES]);
}
