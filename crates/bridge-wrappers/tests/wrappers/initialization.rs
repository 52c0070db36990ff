//! Variables that wait for a sample input.

use bridge_functional::{Call, FunctionalModule, Scope, ScopeError};
use bridge_graph::{Rngs, Shared, StatefulModule, state};
use bridge_random::key;
use bridge_vars::{Cache, Param, Result, Variable, Variables};
use bridge_wrappers::{
    ToFunctional, ToStateful, WrapperError, lazy_init, lazy_init_missing, reinitialize, to_functional,
};
use candle_core::{Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::{FEATURES, INPUTS, Recall, assert_same, input, keys, paths, tensor, variable_paths};

fn count(variables: &Variables, collection: &str, path: &str) -> u32 {
    variables.get(collection, path).unwrap().value.count().unwrap()
}

fn rngs() -> Rngs {
    Rngs::from_streams(keys(0))
}

/// Two methods with a parameter each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Methods;

impl Methods {
    fn first(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.call_named("first", &bridge_functional::Dense::new(2), x)
    }
    fn second(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.call_named("second", &bridge_functional::Dense::new(3), x)
    }
}

impl FunctionalModule for Methods {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        self.second(scope, &self.first(scope, x)?)
    }
}

#[derive(StatefulModule)]
struct Model {
    encoder: ToStateful<Recall>,
    decoders: Vec<Shared<ToStateful<Methods>>>,
}

impl Model {
    fn new(rngs: &Rngs) -> Result<Self> {
        let decoder = Shared::new(ToStateful::new(Methods, rngs)?);
        Ok(Self {
            encoder: ToStateful::new(Recall { rate: 0.5 }, rngs)?,
            decoders: vec![decoder.clone(), decoder],
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.encoder.call(x)?;
        self.decoders.iter().try_fold(x, |x, decoder| decoder.with(|methods, scope| methods.first(scope, &x)))
    }
}

#[test]
fn of_a_whole_module() {
    let model = Model::new(&rngs()).unwrap();
    let x = input();
    // A part that stands in two places is initialised once, by its first call.
    let error = lazy_init(&model, Model::forward_of(&x)).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::ParamShape { .. })), "{error}");
    let y = lazy_init(&model, |model| {
        model.decoders[1].with(|methods, scope| methods.first(scope, &model.encoder.call(&x)?))
    })
    .unwrap();
    assert_eq!(y.output.dims(), [5, 2]);
    let created: Vec<String> = y.created.iter().map(ToString::to_string).collect();
    let expected =
        ["decoders.0.first.bias", "decoders.0.first.kernel", "encoder.norm.mean", "encoder.weight"];
    assert!(expected.iter().all(|path| created.iter().any(|made| made == path)), "{created:?}");
    let paths = paths(&state(&model).unwrap());
    let params = ["decoders.0.first.bias", "decoders.0.first.kernel"];
    assert!(paths.iter().filter(|path| path.contains("first")).eq(&params), "{paths:?}");
    // Initialisation is over.
    let error = model.encoder.call(&x).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::NotMutable { .. })), "{error}");
}

impl Model {
    fn forward_of(x: &Tensor) -> impl Fn(&Self) -> Result<Tensor> {
        move |model| model.forward(x)
    }
}

#[test]
fn of_one_method() {
    let model = ToStateful::new(Methods, &rngs()).unwrap();
    let x = input();
    lazy_init(&model, |model| model.with(|methods, scope| methods.first(scope, &x))).unwrap();
    assert_eq!(model.variable("first.kernel").unwrap().value().unwrap().dims(), [INPUTS, 2]);
    model.with(|methods, scope| methods.first(scope, &x)).unwrap();
    let error = model.with(|methods, scope| methods.second(scope, &x)).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::ParamNotFound { .. })), "{error}");
}

#[test]
fn twice_in_one_pass_makes_only_what_is_new() {
    let model = ToStateful::new(Methods, &rngs()).unwrap();
    let x = input();
    let mut handles: Vec<Variable> = Vec::new();
    lazy_init(&model, |model| {
        let first = model.with(|methods, scope| methods.first(scope, &x))?;
        handles.push(model.variable("first.kernel")?);
        assert_same(&model.with(|methods, scope| methods.first(scope, &x))?, &first);
        model.with(|methods, scope| methods.second(scope, &x))
    })
    .unwrap();
    assert_eq!(model.variables().unwrap().len(), 4);
    assert!(handles[0].is_same(&model.variable("first.kernel").unwrap()));
}

#[test]
fn another_pass_makes_everything_anew() {
    let model = ToStateful::new(Methods, &rngs()).unwrap();
    let x = input();
    let made = lazy_init(&model, |model| model.call(&x)).unwrap().created;
    let first = model.variable("first.kernel").unwrap();
    // Not unless it is asked for.
    let error = lazy_init(&model, |model| model.call(&x)).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(WrapperError::AlreadyInitialized { .. })), "{error}");
    assert!(
        error.to_string().contains("`Methods`") && error.to_string().contains("`reinitialize`"),
        "{error}"
    );
    assert!(first.is_same(&model.variable("first.kernel").unwrap()));
    let kept = lazy_init_missing(&model, |model| model.call(&x)).unwrap();
    assert!(kept.created.is_empty() && first.is_same(&model.variable("first.kernel").unwrap()));
    let again = reinitialize(&model, |model| model.call(&x)).unwrap();
    assert_eq!(again.created, made);
    let second = model.variable("first.kernel").unwrap();
    assert!(!first.is_same(&second));
    let drawn = |variable: &Variable| variable.value().unwrap().to_vec2::<f32>().unwrap();
    assert_ne!(drawn(&first), drawn(&second));
}

#[test]
fn ends_whatever_happens() {
    let x = input();
    let model = ToStateful::new(Methods, &rngs()).unwrap().lazy_init(&x).unwrap();
    let kernel = model.variable("first.kernel").unwrap();
    let fail =
        |_: &ToStateful<Methods>| -> Result<()> { Err(ScopeError::NameInUse { path: "x".into() }.into()) };
    lazy_init(&model, fail).unwrap_err();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        lazy_init(&model, |_| -> Result<()> { panic!("on purpose") })
    }));
    panicked.unwrap_err();
    model.call(&x).unwrap();
    assert!(kernel.is_same(&model.variable("first.kernel").unwrap()));
}

/// A stateful module with a wrapped one that was not initialised, and much that a call changes.
#[derive(StatefulModule)]
struct Lazy {
    inner: ToStateful<Recall>,
    seen: Cache,
    table: Tensor,
    dropout: bridge_stateful::Dropout,
    norm: bridge_stateful::BatchNorm,
}

impl Lazy {
    fn new(rngs: &Rngs) -> Result<Self> {
        let device = crate::modules::device();
        Ok(Self {
            inner: ToStateful::new(Recall { rate: 0.5 }, rngs)?,
            seen: Cache::new(Tensor::zeros(1, candle_core::DType::F32, &device)?),
            table: Tensor::ones(FEATURES, candle_core::DType::F32, &device)?,
            dropout: bridge_stateful::Dropout::new(0.5, rngs)?,
            norm: bridge_stateful::BatchNorm::new(FEATURES, rngs)?,
        })
    }
}

impl Module for Lazy {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        // A value of another shape than before.
        self.seen.set(Tensor::cat(&[&self.seen.value()?, &x.flatten_all()?], 0)?)?;
        let y = x.apply(&self.inner)?.broadcast_mul(&self.table)?;
        y.apply(&self.norm)?.apply(&self.dropout)
    }
}

#[test]
fn inside_a_functional_module_everything_else_is_as_before_the_call() {
    let (model, x) = (to_functional(Lazy::new), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    for path in ["inner.weight", "inner.norm.scale", "norm.scale"] {
        variables.get("params", path).unwrap();
    }
    assert_eq!(tensor(&variables, "cache", "seen").dims(), [1]);
    assert_eq!(count(&variables, "RngCount", "dropout.rngs.count"), 0);
    assert_eq!(count(&variables, "memory", "inner.calls"), 0);
    let means = ["norm.mean", "inner.norm.mean"].map(|path| tensor(&variables, "batch_stats", path));
    for mean in means {
        assert_eq!(mean.to_vec1::<f32>().unwrap(), [0.; FEATURES]);
    }
    // The streams of what was initialised have been drawn from.
    assert_eq!(count(&variables, "RngCount", "inner.<rngs>.params.count"), 1);
    assert_eq!(tensor(&variables, "tensors", "table").dims(), [FEATURES]);
    let mutable = ["batch_stats", "memory", "cache", "nnx"];
    let (_, updates) = model.train().apply_mut(&variables, keys(1), mutable, &x).unwrap();
    assert_eq!(count(&updates, "memory", "inner.calls"), 1);
    assert_eq!(tensor(&updates, "cache", "seen").dims(), [1 + 5 * INPUTS]);
}

#[test]
fn what_the_constructor_initialised_stays_and_stays_shared() {
    #[derive(StatefulModule)]
    struct Ready {
        inner: ToStateful<Methods>,
        tied: Variable,
    }
    impl Module for Ready {
        fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
            assert!(self.inner.variable("first.kernel")?.is_same(&self.tied));
            Ok(self.inner.with(|methods, scope| methods.first(scope, x))?)
        }
    }
    let model = to_functional(|rngs| {
        let inner = ToStateful::new(Methods, rngs)?.lazy_init(&input())?;
        let tied = inner.variable("first.kernel")?;
        Ok(Ready { inner, tied })
    });
    let x = input();
    let variables = model.train().init(keys(0), &x).unwrap();
    let params = ["inner.first.bias", "inner.first.kernel", "inner.second.bias", "inner.second.kernel"];
    let paths = variable_paths(&variables);
    let found = paths.iter().filter_map(|path| path.strip_prefix("params."));
    assert!(found.eq(params), "{paths:?}");
    model.eval().apply(&variables, &x).unwrap();
}

#[test]
fn another_method_in_the_same_init_makes_its_variables_too() {
    #[derive(StatefulModule)]
    struct Outer {
        inner: ToStateful<Methods>,
        scale: Param,
    }
    #[derive(Clone, Debug, PartialEq)]
    struct Both(ToFunctional<Outer>);
    impl FunctionalModule for Both {
        type Output = (Tensor, Tensor);
        fn call(&self, scope: &Scope, x: &Tensor) -> Result<(Tensor, Tensor)> {
            let outer = scope.child_named("outer", self.0.clone())?;
            let first = outer.with(|outer, scope| {
                outer.with(scope, |outer| outer.inner.with(|methods, scope| methods.first(scope, x)))
            })?;
            let second = outer.with(|outer, scope| {
                outer.with(scope, |outer| {
                    let y = outer.inner.with(|methods, scope| methods.second(scope, x))?;
                    Ok(y.broadcast_mul(&outer.scale.value()?)?)
                })
            })?;
            Ok((first, second))
        }
    }
    let both = Both(to_functional(|rngs| {
        let scale = Param::new(Tensor::new(2f32, rngs.device())?);
        Ok(Outer { inner: ToStateful::new(Methods, rngs)?, scale })
    }));
    let x = input();
    let ((first, second), variables) = both.init_with_output(key(0), &x).unwrap();
    let expected = both.apply(&variables, &x).unwrap();
    assert_same(&first, &expected.0);
    assert_same(&second, &expected.1);
    assert_eq!(variables.filter_collections(|name| name == "params").len(), 5);
}

#[test]
fn functional_initialisation_is_a_functional_call() {
    let model = to_functional(|rngs| ToStateful::new(Methods, rngs));
    let x = input();
    let (_, of_first) = Call::new()
        .keys(key(0))
        .init(|scope| model.with(scope, |model| model.with(|methods, scope| methods.first(scope, &x))))
        .unwrap();
    let params = of_first.filter_collections(|name| name == "params");
    assert_eq!(variable_paths(&params), ["params.first.bias", "params.first.kernel"]);
}
