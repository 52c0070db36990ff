//! One wrapper in another: the same numbers, names and updates as without any.

use bridge_functional::{Call, FunctionalModule, Keys, Scope};
use bridge_graph::{Field, Rngs, StatefulModule, clone, eval, merge, split, state, train};
use bridge_random::{Key, key};
use bridge_vars::{CollectionFilter, Result, State, Variables};
use bridge_wrappers::{ToFunctional, ToStateful, functional, lazy_init, to_functional};
use candle_core::{Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::{MUTABLE, Recall, Recaller, assert_same, input, keys, variable_paths};

/// A stateful module with a wrapped functional one inside.
#[derive(Debug, StatefulModule)]
pub(crate) struct Outer {
    inner: ToStateful<Recall>,
    own: bridge_stateful::Linear,
}

impl Outer {
    pub(crate) fn new(rate: f64, rngs: &Rngs) -> Result<Self> {
        Ok(Self {
            inner: ToStateful::new(Recall { rate }, rngs)?,
            own: bridge_stateful::Linear::new(4, 2, rngs)?,
        })
    }
}

impl Module for Outer {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.apply(&self.inner)?.apply(&self.own)
    }
}

/// A functional module with a wrapped stateful one inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Around {
    inner: ToFunctional<Recaller>,
}

impl Around {
    pub(crate) fn new(rate: f64) -> Self {
        Self { inner: to_functional(move |rngs| Recaller::new(rate, rngs)) }
    }
}

impl FunctionalModule for Around {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let y = scope.call_named("inner", &self.inner, x)?;
        scope.call_named("own", &bridge_functional::Dense::new(2), &y)
    }
}

fn first_key(key: Key, stream: &str) -> Key {
    let call = Call::new().keys([(stream, key)]);
    call.apply(&Variables::default(), |scope| scope.make_rng(stream)).unwrap().0
}

/// A wrapped functional module at the root of a wrapped stateful one.
fn functional_in_stateful_in_functional(rate: f64) -> ToFunctional<ToStateful<Recall>> {
    to_functional(move |rngs| ToStateful::new(Recall { rate }, rngs))
}

/// Only what the unwrapped module has.
fn own_collections(variables: &Variables) -> Variables {
    variables.filter_collections(|name| !["nnx", "RngKey", "RngCount"].contains(&name))
}

#[test]
fn functional_in_stateful_in_functional_computes_the_same() {
    let (x, unwrapped) = (input(), Recall { rate: 0.5 });
    let wrapped = functional_in_stateful_in_functional(0.5);
    let variables = wrapped.train().init(keys(0), &x).unwrap();
    let [params, dropout] = keys(0).map(|(name, key)| (name, first_key(key, name).fold_in(0)));
    // `ToStateful` forks the streams that it is given, and draws from the fork.
    let drawn = [params, dropout].map(|(name, key)| (name, key.fold_in(0)));
    let expected = unwrapped.train().init(drawn, &x).unwrap();
    assert!(own_collections(&variables).identical(&expected).unwrap());

    let (mut current, mut plain) = (variables, expected);
    for step in 1..4 {
        let of_step = keys(10 * step);
        let (y, updates) = wrapped.train().apply_mut(&current, of_step, MUTABLE, &x).unwrap();
        let drawn = of_step.map(|(name, key)| (name, first_key(key, name).fold_in(0).fold_in(0)));
        let (expected, expected_updates) = unwrapped.train().apply_mut(&plain, drawn, MUTABLE, &x).unwrap();
        assert_same(&y, &expected);
        assert!(updates.identical(&expected_updates).unwrap());
        current = current.updated(&updates).unwrap();
        plain = plain.updated(&expected_updates).unwrap();
    }
    let expected = unwrapped.eval().apply(&plain, &x).unwrap();
    assert_same(&wrapped.eval().apply(&current, &x).unwrap(), &expected);
}

#[test]
fn stateful_in_functional_in_stateful_computes_the_same() {
    let x = input();
    let rngs = Rngs::from_streams(keys(0));
    let wrapped = ToStateful::new(to_functional(|rngs| Recaller::new(0.5, rngs)), &rngs).unwrap();
    let wrapped = wrapped.mutable(MUTABLE).lazy_init(&x).unwrap();
    let of_call =
        |call: u32| keys(0).map(|(name, key)| (name, first_key(key.fold_in(0).fold_in(call), name)));
    let unwrapped = Recaller::new(0.5, &Rngs::from_streams(of_call(0))).unwrap();
    let weight = wrapped.variable("weight").unwrap();
    for call in 1..4 {
        bridge_graph::reseed(&unwrapped, of_call(call)).unwrap();
        assert_same(&wrapped.call(&x).unwrap(), &unwrapped.forward(&x).unwrap());
        let own = |state: State| state.filter(!bridge_vars::Filter::of::<bridge_vars::RngState>());
        let expected = own(state(&unwrapped).unwrap());
        for (path, leaf) in expected.iter() {
            assert!(wrapped.variable(&path).unwrap().leaf().unwrap().identical(leaf).unwrap(), "{path}");
        }
    }
    assert!(weight.is_same(&wrapped.variable("weight").unwrap()));
    eval(&wrapped).unwrap();
    eval(&unwrapped).unwrap();
    assert_same(&wrapped.call(&x).unwrap(), &unwrapped.forward(&x).unwrap());
}

/// Initialises, trains and evaluates a wrapped module, and takes it through every operation of the graph.
fn check_stateful<M: Field + Module>(model: M, x: &Tensor) {
    let first = model.forward(x).unwrap();
    let (graphdef, before) = split(&model).unwrap();
    let copies = [merge(&graphdef, &before).unwrap(), clone(&model).unwrap()];
    let second = model.forward(x).unwrap();
    assert_ne!(first.to_vec2::<f32>().unwrap(), second.to_vec2::<f32>().unwrap());
    let after = state(&model).unwrap();
    for copy in copies {
        assert_same(&copy.forward(x).unwrap(), &second);
        assert!(state(&copy).unwrap().identical(&after).unwrap());
    }
    assert_eq!(split(&model).unwrap().0, graphdef);
    eval(&model).unwrap();
    assert_same(&model.forward(x).unwrap(), &model.forward(x).unwrap());
    assert_ne!(split(&model).unwrap().0, graphdef);
    train(&model).unwrap();
    let api = functional(move |_| clone(&model));
    let state = api.init(&Rngs::empty()).unwrap();
    let (y, next) = api.apply(&state, |model| Ok(model.forward(x)?)).unwrap();
    let (again, _) = api.apply(&state, |model| Ok(model.forward(x)?)).unwrap();
    assert_same(&again, &y);
    assert!(!next.identical(&state).unwrap());
}

fn check_functional<F: FunctionalModule<Output = Tensor>>(model: &F, x: &Tensor) {
    let (_, variables) = model.train().init_with_output(keys(0), x).unwrap();
    let leaf_counts = variable_paths(&variables);
    let run =
        |variables: &Variables, seed| model.train().apply_mut(variables, keys(seed), MUTABLE, x).unwrap();
    let (y, updates) = run(&variables, 1);
    assert_same(&run(&variables, 1).0, &y);
    assert_ne!(run(&variables, 2).0.to_vec2::<f32>().unwrap(), y.to_vec2::<f32>().unwrap());
    assert!(updates.collections().all(|name| MUTABLE.contains(&name)));
    let next = variables.updated(&updates).unwrap();
    assert_eq!(variable_paths(&next), leaf_counts);
    let moved = |variables: &Variables| {
        let mut moved = Vec::new();
        for (path, leaf) in variables.iter() {
            if path.to_string().ends_with("calls") {
                moved.push(leaf.value.count().unwrap());
            }
        }
        moved
    };
    assert_eq!((moved(&variables), moved(&next)), (vec![0], vec![1]));
    // Neither keys nor mutable collections are needed where nothing is left to chance.
    assert_same(&model.eval().apply(&next, x).unwrap(), &model.eval().apply(&next, x).unwrap());
    // Everything may change, and the description stays what it was.
    let (_, all) = model.train().apply_mut(&variables, keys(1), CollectionFilter::all(), x).unwrap();
    assert_eq!(variable_paths(&all), leaf_counts);
    let nnx = |variables: &Variables| variables.filter_collections(|name| name == "nnx");
    assert!(nnx(&all).identical(&nnx(&variables)).unwrap());
    assert_same(&model.eval().apply(&all, x).unwrap(), &model.eval().apply(&next, x).unwrap());
}

#[test]
fn stateful_modules_at_every_depth() {
    let x = input();
    let rngs = || Rngs::from_streams(keys(0));
    let mutable = MUTABLE;
    let stateful = || ToStateful::new(Recall { rate: 0.5 }, &rngs()).unwrap().mutable(mutable);
    check_stateful(stateful().lazy_init(&x).unwrap(), &x);
    let make = |around| ToStateful::new(around, &rngs()).unwrap().mutable(mutable).lazy_init(&x).unwrap();
    check_stateful(make(Around::new(0.5)), &x);
    let direct = ToStateful::new(to_functional(|rngs| Recaller::new(0.5, rngs)), &rngs()).unwrap();
    check_stateful(direct.mutable(mutable).lazy_init(&x).unwrap(), &x);
    // Four and five deep.
    let deeper = ToStateful::new(functional_in_stateful_in_functional(0.5), &rngs()).unwrap();
    check_stateful(deeper.mutable(mutable).lazy_init(&x).unwrap(), &x);
    let deepest = to_functional(|rngs| ToStateful::new(to_functional(|rngs| Recaller::new(0.5, rngs)), rngs));
    let deepest = ToStateful::new(deepest, &rngs()).unwrap();
    check_stateful(deepest.mutable(mutable).lazy_init(&x).unwrap(), &x);
}

#[test]
fn functional_modules_at_every_depth() {
    let x = input();
    check_functional(&to_functional(|rngs| Recaller::new(0.5, rngs)), &x);
    check_functional(&Around::new(0.5), &x);
    check_functional(&to_functional(|rngs| Outer::new(0.5, rngs)), &x);
    check_functional(&functional_in_stateful_in_functional(0.5), &x);
    let deeper = to_functional(|rngs| ToStateful::new(Around::new(0.5), rngs));
    check_functional(&deeper, &x);
    let direct = to_functional(|rngs| ToStateful::new(to_functional(|rngs| Recaller::new(0.5, rngs)), rngs));
    check_functional(&direct, &x);
    let deepest = to_functional(|rngs| ToStateful::new(functional_in_stateful_in_functional(0.5), rngs));
    check_functional(&deepest, &x);
}

#[test]
fn names_go_through() {
    let x = input();
    let variables = to_functional(|rngs| Outer::new(0., rngs)).train().init(keys(0), &x).unwrap();
    let expected = [
        "batch_stats.inner.norm.mean",
        "batch_stats.inner.norm.var",
        "memory.inner.calls",
        "memory.inner.last",
        "nnx.<graphdef>",
        "params.inner.norm.bias",
        "params.inner.norm.scale",
        "params.inner.weight",
        "params.own.bias",
        "params.own.kernel",
    ];
    let paths = variable_paths(&variables);
    assert!(paths.iter().filter(|path| !path.starts_with("Rng")).eq(&expected), "{paths:?}");
    let model = ToStateful::new(Around::new(0.), key(0)).unwrap();
    let keys: Keys = keys(0).into();
    model.options().keys(keys.clone()).call(&x).unwrap_err();
    lazy_init(&model, |model| model.options().keys(keys).call(&x)).unwrap();
    for path in ["inner.weight", "inner.norm.mean", "own.kernel", "inner.<graphdef>"] {
        model.variable(path).unwrap();
    }
}

#[test]
fn lists_at_the_root_of_a_wrapped_module() {
    #[derive(StatefulModule)]
    struct List(Vec<bridge_stateful::Linear>, bridge_stateful::Dropout);
    impl Module for List {
        fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
            self.0.iter().try_fold(x.clone(), |x, layer| x.apply(layer))?.apply(&self.1)
        }
    }
    let list = to_functional(|rngs| {
        let layers = (0..11).map(|_| bridge_stateful::Linear::new(3, 3, rngs)).collect::<Result<_>>()?;
        Ok(List(layers, bridge_stateful::Dropout::new(0.5, rngs)?))
    });
    let x = input();
    let rngs = Rngs::from_streams(keys(0));
    let model = ToStateful::new(list.clone(), &rngs).unwrap().lazy_init(&x).unwrap();
    assert_eq!(model.variable("0.10.kernel").unwrap().value().unwrap().dims(), [3, 3]);
    check_stateful(model, &x);
    let deeper = to_functional(move |rngs| ToStateful::new(list.clone(), rngs));
    let variables = deeper.train().init(keys(0), &x).unwrap();
    let kernels: Vec<_> = variable_paths(&variables).into_iter().filter(|p| p.ends_with("kernel")).collect();
    assert_eq!((kernels.len(), kernels[10].as_str()), (11, "params.0.10.kernel"));
    deeper.eval().apply(&variables, &x).unwrap();
}

#[test]
fn two_threads_call_one_wrapper() {
    let x = input();
    let rngs = Rngs::from_streams(keys(0));
    let model = ToStateful::new(Around::new(0.5), &rngs).unwrap().mutable(MUTABLE).lazy_init(&x).unwrap();
    eval(&model).unwrap();
    let expected = model.call(&x).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_same(&model.call(&x).unwrap(), &expected);
                }
            });
        }
    });
}
