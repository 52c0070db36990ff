//! What was wrong once.

use bridge_functional::{Call, Child, Dense, Dropout, FunctionalModule, Scope, ScopeError, Sequential};
use bridge_ops::stand_in;
use bridge_random::key;
use bridge_vars::{Error, Variables};
use candle_core::{DType, Tensor};

use crate::support::{assert_error, device, init, ones, param, scalar};

#[test]
fn dropping_everything_takes_no_memory_where_shapes_alone_matter() {
    let x = stand_in((1 << 20, 1 << 20), DType::F32, &device()).unwrap();
    assert!(Dropout::new(1.).train().describe(key(0), &x).unwrap().is_empty());
}

#[test]
fn more_elements_than_can_be_counted_print() {
    let x = stand_in((1, 1usize << 40), DType::F32, &device()).unwrap();
    let model = Dense::new(1 << 40);
    assert!(model.tabulate(&x).unwrap().to_string().contains("f32[1, 1099511627776]"));
    assert!(model.describe(key(0), &x).unwrap().to_string().contains("kernel"));
}

#[test]
fn a_boxed_module_is_its_module() {
    let x = ones(&[1, 2]);
    let boxed = bridge_functional::BoxedModule::new(Dense::new(2));
    let variables = init(|scope| scope.call(&boxed, &x).map(|_| ())).unwrap();
    assert!(variables.get("params", "Dense_0.kernel").is_ok());
    let table = Sequential::dynamic().with(Dense::new(2)).tabulate(&x).unwrap();
    assert_eq!(table.row("layers_0").unwrap().module, "Dense");
    let seen = Call::new().keys(key(0)).intercept(|call| {
        assert_eq!(call.class_name(), "Dense");
        assert!(call.module::<Dense>().is_some());
        call.run()
    });
    seen.init(|scope| scope.run(&boxed, &x)).unwrap();
}

#[test]
fn a_call_inside_of_a_call_gives_the_names_back() {
    let call = |child: &Child<Dense>, scope: &Scope| {
        param(scope, "w")?;
        child.call(&ones(&[1, 2]))?;
        param(scope, "w")
    };
    let error = init(|scope| {
        let child = scope.child_named("c", Dense::new(2))?;
        child.with(|_, scope| call(&child, scope)).map(|_| ())
    });
    assert!(matches!(error.unwrap_err().downcast_ref(), Some(ScopeError::NameInUse { .. })));
}

#[test]
fn a_list_and_a_sum_do_not_share_a_name() {
    let sum = |scope: &Scope| {
        scope.sow_with("losses", "x", &scalar(1.), || Ok(scalar(0.)), |a, b| Ok((a + b)?)).map(|_| ())
    };
    let list = |scope: &Scope| scope.sow("losses", "x", scalar(1.)).map(|_| ());
    let orders: [[&dyn Fn(&Scope) -> bridge_vars::Result<()>; 2]; 2] = [[&sum, &list], [&list, &sum]];
    for [first, second] in orders {
        let error = init(|scope| first(scope).and_then(|()| second(scope))).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(ScopeError::NameInUse { .. })), "{error}");
    }
}

#[test]
fn an_interceptors_error_says_where_it_was() {
    let x = ones(&[1, 2]);
    let failing = Call::new().keys(key(0)).intercept(|call| match call.path().len() {
        1 => Err(Error::new(std::io::Error::other("on purpose"))),
        _ => call.run(),
    });
    let error = failing.init(|scope| scope.call_named("a", &Dense::new(2), &x)).unwrap_err();
    assert_eq!(error.to_string(), "at `a`: on purpose");
}

#[test]
fn an_empty_collection_is_not_among_those_that_are_there() {
    let empty = Variables::from(bridge_vars::Tree::default());
    let x: Tensor = ones(&[1, 2]);
    assert_error::<_, ScopeError>(
        Dense::new(2).apply(&empty, &x),
        "`kernel` was looked for in the collection `params`, which is not there; the variables have none: was it dropped, or \
         was `init` never called?",
    );
}
