//! The functional API over a stateful module.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_graph::{Rngs, StatefulModule, split};
use bridge_vars::{Cache, Filter, Param, Path, State, VarsError};
use bridge_wrappers::{WrapperError, functional};
use candle_core::{Module, Tensor};

use crate::modules::{FEATURES, Recaller, assert_error, assert_same, input, keys, paths};
use crate::to_functional::Grows;

fn rngs() -> Rngs {
    Rngs::from_streams(keys(0))
}

fn count(state: &State, path: &str) -> u32 {
    state.get(path).unwrap().value.count().unwrap()
}

#[test]
fn init_alone_constructs() {
    let constructed = Arc::new(AtomicUsize::new(0));
    let counter = constructed.clone();
    let model = functional(move |rngs| {
        counter.fetch_add(1, Ordering::Relaxed);
        Recaller::new(0., rngs)
    });
    assert_eq!(constructed.load(Ordering::Relaxed), 0);
    let state = model.init(&rngs()).unwrap();
    for _ in 0..3 {
        model.apply(&state, |model| model.forward(&input())).unwrap();
    }
    assert_eq!(constructed.load(Ordering::Relaxed), 1);
}

#[test]
fn init_gives_the_state_of_the_constructed_module_and_keeps_its_description() {
    let model = functional(|rngs| Recaller::new(0.5, rngs));
    let given = rngs();
    let state = model.init(&given).unwrap();
    let plain = rngs();
    let (graphdef, expected) = split(&Recaller::new(0.5, &plain).unwrap()).unwrap();
    assert!(state.identical(&expected).unwrap());
    assert_eq!(model.graphdef().unwrap(), graphdef);
    // The streams that were passed have been drawn from.
    for (stream, key) in keys(0) {
        let next = given.draw(stream).unwrap();
        assert_eq!(next, plain.draw(stream).unwrap());
        assert_ne!(next, key.fold_in(0));
    }
}

#[test]
fn a_constructor_takes_the_streams_that_it_wants() {
    let none = functional(|_| Ok(Cache::new(7)));
    assert_eq!(count(&none.init(&Rngs::empty()).unwrap(), ""), 7);
    assert_error::<_, bridge_graph::GraphError>(
        functional(|rngs| Recaller::new(0.5, rngs)).init(&Rngs::empty()),
        "no random stream `params`, found none: add it, `Rngs::new(0).with_stream(\"params\", 1)`, or a `default`; \
         inside a functional call, pass a key for it, `[(\"params\", key)]`",
    );
    // A `default` stands for every stream that is not there.
    let of_default = functional(|rngs| Recaller::new(0.5, rngs)).init(&Rngs::new(3)).unwrap();
    let unwrapped = Recaller::new(0.5, &Rngs::new(3)).unwrap();
    assert!(of_default.identical(&bridge_graph::state(&unwrapped).unwrap()).unwrap());
}

#[test]
fn nothing_is_known_before_init() {
    let model = functional(|rngs| Recaller::new(0.5, rngs));
    let text = "this `Functional` has no `GraphDef` yet: call `init` before `apply`";
    assert_error::<_, WrapperError>(model.graphdef(), text);
    assert_error::<_, WrapperError>(model.apply(&State::default(), |_| Ok(())), text);
}

#[test]
fn apply_runs_any_method_and_gives_whatever_it_gives() {
    let (model, x) = (functional(|rngs| Recaller::new(0., rngs)), input());
    let state = model.init(&rngs()).unwrap();
    let (projected, after) = model.apply(&state, |model| model.project(&x)).unwrap();
    assert_same(&projected, &x.matmul(state.get("weight").unwrap().tensor().unwrap()).unwrap());
    assert!(after.identical(&state).unwrap());
    let ((y, calls, name), after) = model
        .apply(&state, |model| Ok((model.forward(&x)?, model.calls.count()?, model.type_name().to_owned())))
        .unwrap();
    assert_eq!((y.dims(), calls, name.as_str()), (&[5, FEATURES][..], 1, "Recaller"));
    assert_eq!(count(&after, "calls"), 1);
    assert_eq!(count(&state, "calls"), 0);
}

#[test]
fn several_states_make_up_one() {
    let (model, x) = (functional(|rngs| Recaller::new(0., rngs)), input());
    let state = model.init(&rngs()).unwrap();
    let (expected, expected_after) = model.apply(&state, |model| model.forward(&x)).unwrap();
    let parts = state.split([Filter::of::<Param>(), Filter::tag("dropout"), Filter::Everything]).unwrap();
    let check = |(y, after): (Tensor, State)| {
        assert_same(&y, &expected);
        assert!(after.identical(&expected_after).unwrap());
    };
    let [params, streams, others] = &parts;
    check(model.apply(&[params, streams, others], |model| model.forward(&x)).unwrap());
    check(model.apply(&[others, params, streams], |model| model.forward(&x)).unwrap());
    check(model.apply(&parts, |model| model.forward(&x)).unwrap());
    check(model.apply(&parts[..], |model| model.forward(&x)).unwrap());
}

#[test]
fn states_that_do_not_fit_are_refused_whole() {
    let model = functional(|rngs| Recaller::new(0., rngs));
    let state = model.init(&rngs()).unwrap();
    let again = state.filter(Filter::path("weight"));
    assert_error::<_, VarsError>(
        model.apply(&[&state, &again], |_| Ok(())),
        "`weight` is there twice, as `Param` and as `Param`: rename one, or keep them apart by a filter",
    );
    let mut broken = state.filter(!Filter::path("norm.var"));
    broken.insert(&Path::from("calls"), Param::leaf(1)).unwrap();
    broken.insert(&Path::from("norm.vra"), Param::leaf(1)).unwrap();
    assert_error::<_, bridge_graph::GraphError>(
        model.apply(&broken, |_| Ok(())),
        "the state does not fit the module\n  missing `norm.var` (is `norm.vra` meant?)\n  unexpected `norm.vra`\n  \
         `calls`: expected Recollection a count, found Param a count\nbuild the module as it was for this state, or \
         rename, replace or drop the state's entries",
    );
}

#[test]
fn a_method_that_fails_changes_nothing() {
    let (model, x) = (functional(|rngs| Recaller::new(0., rngs)), input());
    let state = model.init(&rngs()).unwrap();
    let before = model.graphdef().unwrap();
    let failed = model.apply(&state, |model| {
        model.forward(&x)?;
        Err::<(), _>(WrapperError::NotInitialized.into())
    });
    failed.unwrap_err();
    assert_eq!(count(&state, "calls"), 0);
    assert_eq!(model.graphdef().unwrap(), before);
}

#[test]
fn what_a_method_makes_is_in_the_next_description() {
    let (model, x) = (functional(|_| Ok(Grows::default())), input());
    let state = model.init(&Rngs::empty()).unwrap();
    assert!(state.is_empty());
    let (_, after) = model.apply(&state, |model| Ok(model.forward(&x)?)).unwrap();
    assert_eq!(paths(&after), ["inner"]);
    model.apply(&after, |model| Ok(model.forward(&x)?)).unwrap();
}
