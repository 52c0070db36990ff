//! The outputs of every module's call.

use bridge_functional::{Call, Dense, FunctionalModule, Method, Scope};
use bridge_random::key;
use bridge_vars::{Intermediate, Result, Variables};
use candle_core::Tensor;
use indexmap::IndexMap;

use crate::support::{Body, Counter, ones, paths, scalar, values};

#[derive(Clone, Debug, PartialEq)]
struct Bar;

impl FunctionalModule for Bar {
    type Output = Tensor;
    fn call(&self, _: &Scope, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }
    fn methods() -> Vec<(&'static str, Method<Self>)> {
        vec![("test", |_, _, x| Ok((x + 1.)?))]
    }
}

/// Calls a method of `Bar`, and adds one.
#[derive(Clone, Debug, PartialEq)]
struct Foo;

impl FunctionalModule for Foo {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        Ok((scope.child(Bar)?.call_method("test", x)? + 1.)?)
    }
}

/// What a call captures of a module that is given 1.
fn captured<F: FunctionalModule<Output = Tensor>>(call: Call, module: &F) -> Variables {
    let captured = call.apply(&Variables::default(), |scope| scope.run(module, &scalar(1.)));
    captured.unwrap().1
}

#[test]
fn outputs_of_calls_are_captured_and_not_those_of_other_methods() {
    let state = captured(Call::new().capture_intermediates(), &Foo);
    assert_eq!(paths(&state), ["intermediates.__call__.0"]);
    assert_eq!(values(&state, "intermediates", "__call__.0"), [3.]);
    assert_eq!(state.get("intermediates", "__call__.0").unwrap().kind, Intermediate::variable_type());
}

#[test]
fn a_filter_says_whose_outputs_are_captured() {
    let call = Call::new().capture_intermediates_where(|_, class, _| class == "Bar");
    let state = captured(call, &Foo);
    assert_eq!(paths(&state), ["intermediates.Bar_0.test.0"]);
    assert_eq!(values(&state, "intermediates", "Bar_0.test.0"), [2.]);
    let state = captured(Call::new().capture_intermediates_where(|path, _, _| path.is_empty()), &Foo);
    assert_eq!(paths(&state), ["intermediates.__call__.0"]);
    let state = captured(Call::new().capture_intermediates_where(|_, _, method| method == "test"), &Foo);
    assert_eq!(paths(&state), ["intermediates.Bar_0.test.0"]);
    let state = captured(Call::new().capture_intermediates_where(|_, _, _| true), &Foo);
    assert_eq!(paths(&state), ["intermediates.Bar_0.test.0", "intermediates.__call__.0"]);
    let state = captured(Call::new().capture_intermediates_where(|_, _, _| false), &Foo);
    assert!(state.is_empty());
}

#[test]
fn a_module_called_twice_gives_two_items() {
    let model = Body(|scope, x| {
        let child = scope.child_named("a", Body(|_, x| Ok((x * 2.)?)))?;
        child.call(&child.call(x)?)
    });
    let state = captured(Call::new().capture_intermediates(), &model);
    let expected = ["__call__.0", "a.__call__.0", "a.__call__.1"].map(|path| format!("intermediates.{path}"));
    assert_eq!(paths(&state), expected);
    assert_eq!(values(&state, "intermediates", "a.__call__.0"), [2.]);
    assert_eq!(values(&state, "intermediates", "a.__call__.1"), [4.]);
    // What was captured before is gone on from.
    let call = Call::new().capture_intermediates();
    let (_, again) = call.apply(&state, |scope| scope.run(&model, &scalar(5.))).unwrap();
    assert_eq!(again.len(), 6);
    assert_eq!(values(&again, "intermediates", "a.__call__.3"), [20.]);
}

#[test]
fn an_output_of_several_tensors_is_captured_by_their_places() {
    #[derive(Clone, Debug, PartialEq)]
    struct Several;
    impl FunctionalModule for Several {
        type Output = (Tensor, IndexMap<String, Tensor>, Option<Tensor>, Vec<Tensor>, f32);
        fn call(&self, _: &Scope, x: &Tensor) -> Result<Self::Output> {
            let map = [("left", x), ("right", x)].map(|(name, x)| (name.to_owned(), x.clone()));
            Ok(((x * 2.)?, map.into(), None, vec![(x * 3.)?], 1.))
        }
    }
    let call = Call::new().capture_intermediates();
    let (_, state) = call.apply(&Variables::default(), |scope| scope.call(&Several, &scalar(1.))).unwrap();
    let expected = ["0", "1.left", "1.right", "3.0"];
    assert_eq!(paths(&state), expected.map(|path| format!("intermediates.Several_0.__call__.0.{path}")));
    assert_eq!(values(&state, "intermediates", "Several_0.__call__.0.3.0"), [3.]);
}

#[test]
fn other_collections_are_as_mutable_as_without() {
    let x = ones(&[1]);
    let variables = Counter.init(key(0), &x).unwrap();
    let run = |call: Call| {
        let call = call.capture_intermediates();
        call.apply(&variables, |scope| scope.run(&Counter, &x)).unwrap().1
    };
    assert_eq!(paths(&run(Call::new())), ["intermediates.__call__.0"]);
    let both = run(Call::new().mutable("memory"));
    assert_eq!(paths(&both), ["intermediates.__call__.0", "memory.calls"]);
    assert_eq!(both.get("memory", "calls").unwrap().value.count().unwrap(), 1);
}

#[test]
fn a_method_of_the_model_itself_can_be_captured() {
    let call = Call::new().capture_intermediates_where(|_, _, method| method == "test");
    let (_, state) =
        call.apply(&Variables::default(), |scope| scope.run_named(&Bar, "test", &scalar(1.))).unwrap();
    assert_eq!(paths(&state), ["intermediates.test.0"]);
    assert_eq!(values(&state, "intermediates", "test.0"), [2.]);
}

#[test]
fn init_can_be_captured_too() {
    let call = Call::new().keys(key(0)).capture_intermediates();
    let x = ones(&[1, 2]);
    let (_, variables) = call.init(|scope| scope.call(&Dense::new(3), &x)).unwrap();
    let expected = ["intermediates.Dense_0.__call__.0", "params.Dense_0.bias", "params.Dense_0.kernel"];
    assert_eq!(paths(&variables), expected);
}

#[test]
fn captured_outputs_stand_beside_sown_ones() {
    let model = Body(|scope, x| {
        scope.sow("intermediates", "h", x)?;
        Ok((x + 1.)?)
    });
    let state = captured(Call::new().capture_intermediates(), &model);
    assert_eq!(paths(&state), ["intermediates.__call__.0", "intermediates.h.0"]);
}

#[test]
fn a_call_inside_of_a_captured_one_is_not_captured() {
    let model = Body(|_, x| {
        let (y, state) = Call::new().apply(&Variables::default(), |scope| scope.call(&Bar, x))?;
        assert!(state.is_empty());
        Ok(y)
    });
    let state = captured(Call::new().capture_intermediates_where(|_, _, _| true), &model);
    assert_eq!(paths(&state), ["intermediates.__call__.0"]);
}

#[test]
fn what_is_captured_is_what_interceptors_left() {
    let call = Call::new().capture_intermediates().intercept(|call| match call.module::<Bar>() {
        Some(_) => call.set_output(scalar(9.)),
        None => call.run(),
    });
    let model = Body(|scope, x| scope.call(&Bar, x));
    let state = captured(call, &model);
    assert_eq!(values(&state, "intermediates", "Bar_0.__call__.0"), [9.]);
    assert_eq!(values(&state, "intermediates", "__call__.0"), [9.]);
}

#[test]
fn a_closure_is_no_module_whose_output_is_captured() {
    let call = Call::new().capture_intermediates();
    let (_, state) = call.apply(&Variables::default(), |scope| Bar.call(scope, &scalar(1.))).unwrap();
    assert!(state.is_empty());
}
