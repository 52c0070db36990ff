//! A functional module as a stateful one.

use bridge_functional::{Call, FunctionalModule, Keys};
use bridge_graph::{Rngs, clone, eval, iter_graph, merge, reseed, split, state, train, update};
use bridge_random::{Separator, key};
use bridge_vars::{Param, Variables};
use bridge_wrappers::{ToStateful, lazy_init, to_functional};

use crate::modules::{FEATURES, MUTABLE, Recall, assert_same, input, keys, paths};

fn wrapped(rate: f64) -> ToStateful<Recall> {
    let rngs = Rngs::from_streams(keys(0));
    ToStateful::new(Recall { rate }, &rngs).unwrap().mutable(MUTABLE).lazy_init(&input()).unwrap()
}

#[test]
fn owns_the_variables_of_init_with_forked_keys() {
    let model = wrapped(0.5);
    let forked = keys(0).map(|(name, key)| (name, key.fold_in(0).fold_in(0)));
    let expected = Recall { rate: 0.5 }.train().init(forked, &input()).unwrap();
    assert!(model.variables().unwrap().identical(&expected).unwrap());
    let expected = [
        "<rngs>.dropout.count",
        "<rngs>.dropout.key",
        "<rngs>.params.count",
        "<rngs>.params.key",
        "calls",
        "last",
        "norm.bias",
        "norm.mean",
        "norm.scale",
        "norm.var",
        "weight",
    ];
    assert_eq!(paths(&state(&model).unwrap()), expected);
    assert!(model.variable("weight").unwrap().kind().is(Param::variable_type()));
    assert_eq!(model.variable("calls").unwrap().kind().collection(), "memory");
}

#[test]
fn a_key_and_default_streams_are_those_of_params() {
    let x = input();
    let expected = Recall { rate: 0. }.train().init(key(3).fold_in(0), &x).unwrap();
    let of_key = ToStateful::new(Recall { rate: 0. }, key(3)).unwrap().lazy_init(&x).unwrap();
    assert!(of_key.variables().unwrap().identical(&expected).unwrap());
    let rngs = Rngs::new(3);
    let of_default = ToStateful::new(Recall { rate: 0. }, &rngs).unwrap().lazy_init(&x).unwrap();
    let forked = key(3).fold_in(0).fold_in(0);
    let expected = Recall { rate: 0. }.train().init(forked, &x).unwrap();
    assert!(of_default.variables().unwrap().identical(&expected).unwrap());
    assert_eq!(rngs.draw("default").unwrap(), key(3).fold_in(1));
}

#[test]
fn calls_compute_what_the_functional_module_computes() {
    let (model, x) = (wrapped(0.5), input());
    let unwrapped = Recall { rate: 0.5 };
    for call in 1..4 {
        let variables = model.variables().unwrap();
        let drawn = keys(0).map(|(name, key)| (name, key.fold_in(0).fold_in(call)));
        let (expected, updates) = unwrapped.train().apply_mut(&variables, drawn, MUTABLE, &x).unwrap();
        assert_same(&model.call(&x).unwrap(), &expected);
        let after = variables.updated(&updates).unwrap();
        assert!(model.variables().unwrap().identical(&after).unwrap());
        assert_eq!(model.variable("calls").unwrap().count().unwrap(), call);
    }
    eval(&model).unwrap();
    let expected = unwrapped.eval().apply(&model.variables().unwrap(), &x).unwrap();
    assert_same(&model.call(&x).unwrap(), &expected);
    train(&model).unwrap();
    assert_ne!(
        model.call(&x).unwrap().to_vec2::<f32>().unwrap(),
        model.call(&x).unwrap().to_vec2::<f32>().unwrap()
    );
}

#[test]
fn a_mutable_call_keeps_the_variables() {
    let model = wrapped(0.);
    let [mean, calls, weight] = ["norm.mean", "calls", "weight"].map(|path| model.variable(path).unwrap());
    let (unchanged, version) = (weight.value().unwrap(), weight.version());
    model.call(&input()).unwrap();
    assert!(mean.is_same(&model.variable("norm.mean").unwrap()));
    assert_eq!(calls.count().unwrap(), 1);
    assert_ne!(mean.value().unwrap().to_vec1::<f32>().unwrap(), [0.; FEATURES]);
    // What did not change was not written.
    model.options().mutable(bridge_vars::CollectionFilter::all()).call(&input()).unwrap();
    assert_eq!((weight.version(), weight.value().unwrap().id()), (version, unchanged.id()));
}

#[test]
fn other_methods_see_the_same_variables() {
    let (model, x) = (wrapped(0.), input());
    let expected = x.matmul(&model.variable("weight").unwrap().value().unwrap()).unwrap();
    assert_same(&model.with(|module, scope| module.project(scope, &x)).unwrap(), &expected);
}

#[test]
fn keys_of_a_call_leave_the_streams_alone() {
    let (model, x) = (wrapped(0.5), input());
    let count = || state(&model).unwrap().get("<rngs>.dropout.count").unwrap().value.count().unwrap();
    let before = count();
    let once = model.options().keys(keys(9)).call(&x).unwrap();
    assert_same(&model.options().keys(keys(9)).call(&x).unwrap(), &once);
    assert_eq!(count(), before);
    model.call(&x).unwrap();
    assert_eq!(count(), before + 1);
}

#[test]
fn reseeding_gives_the_same_masks_again() {
    let (model, x) = (wrapped(0.5), input());
    let masks = || {
        reseed(&model, [("dropout", 5)]).unwrap();
        [model.call(&x).unwrap(), model.call(&x).unwrap()].map(|y| y.to_vec2::<f32>().unwrap())
    };
    assert_eq!(masks(), masks());
}

#[test]
fn splits_merges_clones_and_updates() {
    let (model, x) = (wrapped(0.5), input());
    model.call(&x).unwrap();
    let (graphdef, before) = split(&model).unwrap();
    let merged = merge(&graphdef, &before).unwrap();
    let cloned = clone(&model).unwrap();
    let expected = model.call(&x).unwrap();
    assert_same(&merged.call(&x).unwrap(), &expected);
    assert_same(&cloned.call(&x).unwrap(), &expected);
    assert!(!cloned.variable("weight").unwrap().is_same(&model.variable("weight").unwrap()));
    assert!(state(&cloned).unwrap().identical(&state(&model).unwrap()).unwrap());
    // The copies went their own way, the state did not, and it brings the model back.
    assert_eq!(before.get("calls").unwrap().value.count().unwrap(), 1);
    update(&model, &before).unwrap();
    assert_same(&model.call(&x).unwrap(), &expected);
    assert_eq!(split(&model).unwrap().0, graphdef);
}

#[test]
fn initialisation_changes_the_description_and_a_call_does_not() {
    let rngs = Rngs::from_streams(keys(0));
    let model = ToStateful::new(Recall { rate: 0.5 }, &rngs).unwrap().mutable(MUTABLE);
    let before = bridge_graph::graphdef(&model).unwrap();
    lazy_init(&model, |model| model.call(&input())).unwrap();
    let after = bridge_graph::graphdef(&model).unwrap();
    assert_ne!(before, after);
    model.call(&input()).unwrap();
    assert_eq!(bridge_graph::graphdef(&model).unwrap(), after);
}

#[test]
fn a_call_can_make_variables() {
    let x = input();
    let call = |model: &ToStateful<Recall>| {
        model.with(|_, scope| scope.variable("memory", "made", || Ok(x.mean_all()?))?.get())
    };
    let model = wrapped(0.);
    let weight = model.variable("weight").unwrap();
    let made = call(&model).unwrap();
    assert_same(&model.variable("made").unwrap().value().unwrap(), &made);
    assert!(weight.is_same(&model.variable("weight").unwrap()));
    let mut visited = 0;
    iter_graph(&model, |path, _| {
        visited += usize::from(path.to_string() == "made");
        Ok(())
    })
    .unwrap();
    assert_eq!(visited, 1);
}

#[test]
fn the_snapshot_of_variables_is_one() {
    let model = wrapped(0.);
    let before: Variables = model.variables().unwrap();
    model.call(&input()).unwrap();
    assert_eq!(before.get("memory", "calls").unwrap().value.count().unwrap(), 0);
    let (y, _) = Call::new().apply(&before, |scope| Recall { rate: 0. }.project(scope, &input())).unwrap();
    assert_eq!(y.dims(), [5, FEATURES]);
}

#[test]
fn a_separator_is_kept_by_keys_by_setting_and_by_a_merge() {
    let x = input();
    let separated = Keys::from_iter(keys(0)).with_separator(Separator::ZeroByte);
    let by_keys = ToStateful::new(Recall { rate: 0.5 }, separated).unwrap().lazy_init(&x).unwrap();
    let plain = Keys::from_iter(keys(0));
    let by_setting = ToStateful::new(Recall { rate: 0.5 }, plain.clone()).unwrap();
    let by_setting = by_setting.separator(Separator::ZeroByte).lazy_init(&x).unwrap();
    let other = ToStateful::new(Recall { rate: 0.5 }, plain).unwrap().lazy_init(&x).unwrap();
    let values = |model: &ToStateful<Recall>| model.variables().unwrap();
    assert!(values(&by_keys).identical(&values(&by_setting)).unwrap());
    assert!(!values(&by_keys).identical(&values(&other)).unwrap());
    let (graphdef, state) = split(&by_setting).unwrap();
    let merged = merge(&graphdef, &state).unwrap();
    let drawn = |model: &ToStateful<Recall>| model.with(|_, scope| scope.make_rng("params")).unwrap();
    assert_eq!(drawn(&merged), drawn(&by_setting));

    // Keys given for a call have the wrapper's separator, unless they say otherwise.
    let draw =
        |keys: Keys| by_setting.options().keys(keys).with(|_, scope| scope.make_rng("params")).unwrap();
    let of = |separator| Keys::from(key(3)).with_separator(separator);
    assert_eq!(draw(key(3).into()), draw(of(Separator::ZeroByte)));
    assert_ne!(draw(key(3).into()), draw(of(Separator::None)));
}

#[test]
fn a_functional_call_hands_its_separator_to_what_is_wrapped_inside() {
    let inside = to_functional(|rngs| ToStateful::new(Recall { rate: 0.5 }, rngs));
    let init = |keys: Keys| inside.train().init(keys, &input()).unwrap();
    let plain = init(Keys::from_iter(keys(0)));
    let separated = init(Keys::from_iter(keys(0)).with_separator(Separator::ZeroByte));
    assert!(!separated.identical(&plain).unwrap());
    // The wrapped module draws from a fork of the streams that the call gave, then from its own path.
    let drawn = |name: &'static str, key: bridge_random::Key| {
        let counted = [bridge_random::PathItem::Count(1)];
        let given = bridge_random::fold_static(key, counted, Separator::ZeroByte);
        (name, given.fold_in(0).fold_in(0))
    };
    let inner =
        Keys::from_iter(keys(0).map(|(name, key)| drawn(name, key))).with_separator(Separator::ZeroByte);
    let expected = Recall { rate: 0.5 }.train().init(inner, &input()).unwrap();
    let weight = |variables: &Variables| variables.get("params", "weight").unwrap().clone();
    assert!(weight(&separated).identical(&weight(&expected)).unwrap());
}
