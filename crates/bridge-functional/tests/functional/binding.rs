//! Modules together with their variables.

use bridge_functional::{
    BatchNorm, Dense, Dropout, FunctionalModule, Keys, Mode, Scope, ScopeError, Sequential,
};
use bridge_random::{PathItem, Separator, fold_static, key};
use bridge_vars::{CollectionFilter, Result, Variables};
use candle_core::Tensor;

use crate::support::{Body, Counter, assert_error, device, ones, paths, to_vec, values};

/// Two blocks in a list, and a head.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    layers: Vec<Sequential<(Dense, BatchNorm)>>,
}

impl Model {
    fn new() -> Self {
        Self {
            layers: [3, 4].map(|features| Sequential::new((Dense::new(features), BatchNorm::new()))).into(),
        }
    }
}

impl FunctionalModule for Model {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in scope.children("layers", &self.layers)? {
            x = layer.call(&x)?;
        }
        Ok(x)
    }
}

fn input() -> Tensor {
    Tensor::new(&[[1f32, -2.], [0.5, 3.]], &device()).unwrap()
}

fn variables() -> Variables {
    Model::new().eval().init(key(0), &input()).unwrap()
}

#[test]
fn a_bound_module_gives_what_apply_gives() {
    let (model, variables) = (Model::new(), variables());
    let bound = model.eval().bind(&variables, Keys::none(), CollectionFilter::none());
    let expected = to_vec(&model.eval().apply(&variables, &input()).unwrap());
    for _ in 0..2 {
        assert_eq!(to_vec(&bound.call(&input()).unwrap()), expected);
    }
    // Parts in lists have their variables too.
    let hidden =
        bound.with(|model, scope| scope.children("layers", &model.layers)?[0].call(&input())).unwrap();
    let first = variables.subtree("layers_0").unwrap();
    assert_eq!(to_vec(&hidden), to_vec(&model.layers[0].eval().apply(&first, &input()).unwrap()));
}

#[test]
fn mutable_collections_change_from_call_to_call() {
    let (model, variables) = (Model::new(), variables());
    let bound = model.train().bind(&variables, Keys::none(), "batch_stats");
    let mut expected = variables.clone();
    for _ in 0..3 {
        let y = bound.call(&input()).unwrap();
        let (same, updates) =
            model.train().apply_mut(&expected, Keys::none(), "batch_stats", &input()).unwrap();
        assert_eq!(to_vec(&y), to_vec(&same));
        expected = expected.updated(&updates).unwrap();
        assert!(bound.variables().identical(&expected).unwrap());
    }
    let before = values(&variables, "batch_stats", "layers_0.layers_1.mean");
    assert_ne!(values(&bound.variables(), "batch_stats", "layers_0.layers_1.mean"), before);
    // What was given stays.
    assert!(variables.identical(&self::variables()).unwrap());
}

#[test]
fn what_is_not_mutable_can_not_change() {
    let bound = Model::new().train().bind(&variables(), Keys::none(), "cache");
    assert_error::<_, ScopeError>(
        bound.call(&input()),
        "`layers_0.layers_1.mean` can not change: the collection `batch_stats` is not mutable in this call, mutable: \
         cache; use `apply_mut` with \"batch_stats\", or `.mutable(\"batch_stats\")` where it is wrapped",
    );
    assert!(bound.variables().identical(&variables()).unwrap());
}

#[test]
fn unbinding_gives_back_what_was_bound() {
    let bound = Model::new().bind(&variables(), Keys::none(), CollectionFilter::none());
    assert_eq!(bound.module(), &Model::new());
    let (model, unbound) = bound.unbind();
    assert_eq!(model, Model::new());
    assert!(unbound.identical(&variables()).unwrap());
    let counting = Counter.bind(&Counter.init(key(0), &ones(&[1])).unwrap(), Keys::none(), "memory");
    counting.call(&ones(&[1])).unwrap();
    counting.call(&ones(&[1])).unwrap();
    let (_, counted) = counting.unbind();
    assert_eq!(counted.get("memory", "calls").unwrap().value.count().unwrap(), 2);
}

#[test]
fn a_part_of_the_variables_is_the_variables_of_a_part() {
    let (model, variables) = (Model::new(), variables());
    let part = variables.subtree("layers_1.layers_0").unwrap();
    assert_eq!(paths(&part), ["params.bias", "params.kernel"]);
    let dense = &model.layers[1].layers.0;
    assert_eq!(dense, &Dense::new(4));
    let bound = dense.bind(&part, Keys::none(), CollectionFilter::none());
    let y = bound.call(&ones(&[1, 3])).unwrap();
    let column_sums = part.get("params", "kernel").unwrap().tensor().unwrap().sum(0).unwrap();
    let difference = (y.squeeze(0).unwrap() - column_sums).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);
}

#[test]
fn random_streams_go_on_from_call_to_call() {
    let drop = Body(|scope, x| scope.call(&Dropout::new(0.5).deterministic(false), x));
    let bound = drop.bind(&Variables::default(), [("dropout", key(1))], CollectionFilter::none());
    let x = ones(&[64]);
    let (first, second) = (bound.call(&x).unwrap(), bound.call(&x).unwrap());
    assert_ne!(to_vec(&first), to_vec(&second));
    let counted = bound.with(|_, scope| {
        let child = scope.child_named("Dropout_0", ())?;
        child.with(|(), scope| scope.make_rng("dropout"))
    });
    let items = [PathItem::Name("Dropout_0"), PathItem::Count(3)];
    assert_eq!(counted.unwrap(), fold_static(key(1), items, Separator::None));
}

#[test]
fn a_bound_module_has_a_mode() {
    let (norm, x) = (BatchNorm::new(), input());
    let variables = norm.eval().init(key(0), &x).unwrap();
    let eval = norm.eval().bind(&variables, Keys::none(), CollectionFilter::none());
    assert_eq!(eval.with(|_, scope| Ok(scope.mode())).unwrap(), Some(Mode::Eval));
    assert_eq!(to_vec(&eval.call(&x).unwrap()), to_vec(&norm.eval().apply(&variables, &x).unwrap()));
    let error = norm.bind(&variables, Keys::none(), "batch_stats").call(&x).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::ModeUnknown { .. })), "{error}");
}

#[test]
fn a_bound_module_can_make_its_parameters() {
    let bound = Dense::new(3).bind(&Variables::default(), key(0), "params");
    let y = bound.call(&input()).unwrap();
    let (expected, variables) = Dense::new(3).init_with_output(key(0), &input()).unwrap();
    assert_eq!(to_vec(&y), to_vec(&expected));
    assert!(bound.variables().identical(&variables).unwrap());
    assert_eq!(to_vec(&bound.call(&input()).unwrap()), to_vec(&expected));
}
