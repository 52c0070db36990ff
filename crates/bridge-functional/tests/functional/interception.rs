//! Functions around the calls of modules.

use std::sync::{Arc, Mutex};

use bridge_functional::{Call, Dense, FunctionalModule, Method, ModuleCall, Scope, ScopeError};
use bridge_random::key;
use bridge_vars::{Result, Variables};
use candle_core::Tensor;

use crate::support::{Body, assert_error, ones, paths, scalar, to_vec, values};

#[derive(Clone, Debug, PartialEq)]
struct Identity;

impl FunctionalModule for Identity {
    type Output = Tensor;
    fn call(&self, _: &Scope, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }
    fn methods() -> Vec<(&'static str, Method<Self>)> {
        vec![("double", |_, _, x| Ok((x * 2.)?))]
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Failing;

impl FunctionalModule for Failing {
    type Output = Tensor;
    fn call(&self, scope: &Scope, _: &Tensor) -> Result<Tensor> {
        // An error of its own.
        Err(ScopeError::NameInUse { path: scope.path().join("failed") }.into())
    }
}

/// What interceptors saw, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
    /// Writes path, class and method of every call, before it runs.
    fn calls(&self) -> impl Fn(&mut ModuleCall<'_>) -> Result<()> + Send + Sync + 'static {
        let log = self.clone();
        move |call| {
            log.add(format!("{} {} {}", call.path(), call.class_name(), call.method()));
            call.run()
        }
    }
}

fn number(call: &ModuleCall<'_>) -> Result<f32> {
    Ok(call.output::<Tensor>().unwrap().to_scalar::<f32>()?)
}

fn add_one(call: &mut ModuleCall<'_>) -> Result<()> {
    call.run()?;
    call.set_output(scalar(number(call)? + 1.))
}

fn square(call: &mut ModuleCall<'_>) -> Result<()> {
    call.run()?;
    call.set_output(scalar(number(call)?.powi(2)))
}

/// What a module gives for 7 in this call.
fn of_seven<F: FunctionalModule<Output = Tensor>>(call: Call, module: &F) -> Result<f32> {
    let (y, _) = call.apply(&Variables::default(), |scope| scope.run(module, &scalar(7.)))?;
    Ok(y.to_scalar()?)
}

#[test]
fn an_interceptor_sees_the_module_what_it_takes_and_what_it_gives() {
    let log = Log::default();
    let seen = log.clone();
    let call = Call::new().intercept(move |call| {
        assert_eq!((call.class_name(), call.method(), call.path().len()), ("Identity", "__call__", 0));
        assert_eq!(call.module::<Identity>(), Some(&Identity));
        assert!(call.module::<Dense>().is_none());
        assert_eq!(call.input::<Tensor>().unwrap().to_scalar::<f32>()?, 7.);
        assert!(call.input::<f32>().is_none() && call.output::<Tensor>().is_none());
        call.run()?;
        assert_eq!(number(call)?, 7.);
        assert!(call.output::<f32>().is_none());
        seen.add("called");
        Ok(())
    });
    assert_eq!(of_seven(call, &Identity).unwrap(), 7.);
    assert_eq!(log.lines(), ["called"]);
}

#[test]
fn an_interceptor_changes_the_output_of_its_own_call_alone() {
    assert_eq!(of_seven(Call::new(), &Identity).unwrap(), 7.);
    assert_eq!(of_seven(Call::new().intercept(add_one), &Identity).unwrap(), 8.);
    assert_eq!(of_seven(Call::new(), &Identity).unwrap(), 7.);
}

#[test]
fn the_first_interceptor_is_outermost() {
    assert_eq!(of_seven(Call::new().intercept(add_one).intercept(square), &Identity).unwrap(), 50.);
    assert_eq!(of_seven(Call::new().intercept(square).intercept(add_one), &Identity).unwrap(), 64.);
}

#[test]
fn an_interceptor_changes_the_input() {
    let call = Call::new()
        .intercept(|call| {
            call.set_input(scalar(3.))?;
            call.run()
        })
        .intercept(|call| {
            let x = call.input::<Tensor>().unwrap().to_scalar::<f32>()?;
            call.set_input(scalar(x * 10.))?;
            call.run()
        });
    assert_eq!(of_seven(call, &Identity).unwrap(), 30.);
}

#[test]
fn every_module_is_seen_the_outer_one_first() {
    let log = Log::default();
    let outer = Body(|scope, x| {
        let x = scope.call_named("inner", &Body(|scope, x| scope.call(&Dense::new(2), x)), x)?;
        scope.call(&Identity, &x)
    });
    let call = Call::new().keys(key(0)).intercept(log.calls());
    let (y, variables) = call.init(|scope| scope.run(&outer, &ones(&[1, 2]))).unwrap();
    let expected = [
        " Body __call__",
        "inner Body __call__",
        "inner.Dense_0 Dense __call__",
        "Identity_0 Identity __call__",
    ];
    assert_eq!(log.lines(), expected);
    // It changes nothing by looking.
    let (same, unseen) = outer.init_with_output(key(0), &ones(&[1, 2])).unwrap();
    assert_eq!(to_vec(&y), to_vec(&same));
    assert!(variables.identical(&unseen).unwrap());
}

#[test]
fn a_method_has_the_name_that_it_was_called_by() {
    let log = Log::default();
    let call = Call::new().intercept(log.calls());
    call.apply(&Variables::default(), |scope| {
        let child = scope.child(Identity)?;
        assert_eq!(to_vec(&child.call_method("double", &scalar(2.))?), [4.]);
        child.call_method("__call__", &scalar(2.))?;
        // A method in a closure is not a call by name.
        child.with(|module, scope| module.call(scope, &scalar(2.)))
    })
    .unwrap();
    assert_eq!(log.lines(), ["Identity_0 Identity double", "Identity_0 Identity __call__"]);
    let log = Log::default();
    let call = Call::new().intercept(log.calls());
    let (y, _) =
        call.apply(&Variables::default(), |scope| scope.run_named(&Identity, "double", &scalar(2.))).unwrap();
    assert_eq!((to_vec(&y), log.lines()), (vec![4.], vec![" Identity double".to_owned()]));
}

#[test]
fn a_module_need_not_run() {
    let skip = |call: &mut ModuleCall<'_>| match call.module::<Failing>() {
        Some(_) => call.set_output(scalar(-1.)),
        None => call.run(),
    };
    let fails = |call: Call| {
        let error = of_seven(call, &Failing).unwrap_err();
        matches!(error.downcast_ref(), Some(ScopeError::NameInUse { .. }))
    };
    assert!(fails(Call::new()));
    assert_eq!(of_seven(Call::new().intercept(skip), &Failing).unwrap(), -1.);
    assert_eq!(of_seven(Call::new().intercept(skip), &Identity).unwrap(), 7.);
    assert!(fails(Call::new()));
}

#[test]
fn run_module_goes_past_the_interceptors_that_follow() {
    let past = |call: &mut ModuleCall<'_>| call.run_module();
    let call = Call::new().intercept(add_one).intercept(past).intercept(|_| panic!("asked"));
    assert_eq!(of_seven(call, &Identity).unwrap(), 8.);
}

#[test]
fn an_interceptor_can_recover_from_an_error() {
    let log = Log::default();
    let (outer, inner) = (log.clone(), log.clone());
    let call = Call::new()
        .intercept(move |call| {
            for attempt in 0..2 {
                if let Err(error) = call.run() {
                    outer.add(format!("{attempt} {error}"));
                }
            }
            call.set_output(scalar(0.))
        })
        .intercept(move |call| {
            inner.add("inner");
            call.run()
        });
    assert_eq!(of_seven(call, &Failing).unwrap(), 0.);
    let text =
        "`failed` is there twice: give one another name, or keep the first in a handle and use it again";
    // The second attempt meets the same interceptors.
    assert_eq!(log.lines(), ["inner", &format!("0 {text}"), "inner", &format!("1 {text}")]);
}

#[test]
fn a_child_that_is_run_twice_has_one_set_of_variables() {
    let call = Call::new().keys(key(0)).intercept(|call| {
        call.run()?;
        match call.module::<Dense>() {
            Some(_) => {
                let y = call.output::<Tensor>().unwrap().clone();
                call.set_input(y)?;
                call.run()
            }
            None => Ok(()),
        }
    });
    let x = ones(&[1, 2]);
    let (y, variables) = call.init(|scope| scope.call(&Dense::new(2), &x)).unwrap();
    assert_eq!(paths(&variables), ["params.Dense_0.bias", "params.Dense_0.kernel"]);
    let dense = variables.subtree("Dense_0").unwrap();
    let once = Dense::new(2).apply(&dense, &x).unwrap();
    assert_eq!(to_vec(&y), to_vec(&Dense::new(2).apply(&dense, &once).unwrap()));
}

#[test]
fn what_is_set_must_be_of_the_modules_types() {
    let check = |interceptor: fn(&mut ModuleCall<'_>) -> Result<()>, text: &str| {
        let call = Call::new().intercept(interceptor);
        let run = |scope: &Scope| {
            scope.child_named("outer", ())?.with(|(), scope| scope.call(&Identity, &scalar(7.)))
        };
        assert_error::<_, ScopeError>(call.apply(&Variables::default(), run), text);
    };
    check(
        |call| call.set_input(7f32),
        "at `outer.Identity_0`: an interceptor set an input of type f32, which is not the module's",
    );
    check(
        |call| {
            call.run()?;
            call.set_output((1u32, true))
        },
        "at `outer.Identity_0`: an interceptor set an output of type (u32, bool), which is not the module's",
    );
    check(
        |_| Ok(()),
        "at `outer.Identity_0`: no interceptor ran `Identity` or set an output: end it with `call.run()`",
    );
}

#[test]
fn a_wrong_type_leaves_what_was_set_before() {
    let call = Call::new().intercept(|call| {
        call.set_input(scalar(3.))?;
        assert!(call.set_input(true).is_err());
        call.run()?;
        assert!(call.set_output(true).is_err());
        Ok(())
    });
    assert_eq!(of_seven(call, &Identity).unwrap(), 3.);
}

#[test]
fn an_inner_interceptor_that_does_nothing_is_an_error_of_the_outer_ones_run() {
    let call = Call::new().intercept(|call| {
        let error = call.run().unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(ScopeError::NoOutput { .. })), "{error}");
        Err(error)
    });
    assert_error::<_, ScopeError>(
        of_seven(call.intercept(|_| Ok(())), &Identity),
        "no interceptor ran `Identity` or set an output: end it with `call.run()`",
    );
}

#[test]
fn other_types_than_tensors_pass_through() {
    #[derive(Clone, Debug, PartialEq)]
    struct Sum;
    impl FunctionalModule<Vec<f32>> for Sum {
        type Output = (f32, usize);
        fn call(&self, _: &Scope, numbers: &Vec<f32>) -> Result<(f32, usize)> {
            Ok((numbers.iter().sum(), numbers.len()))
        }
    }
    let call = Call::new().intercept(|call| {
        let mut numbers = call.input::<Vec<f32>>().unwrap().clone();
        numbers.push(10.);
        call.set_input(numbers)?;
        call.run()?;
        let (sum, count) = *call.output::<(f32, usize)>().unwrap();
        call.set_output((sum + 0.5, count))
    });
    let numbers = vec![1f32, 2.];
    let (y, _) = call.apply(&Variables::default(), |scope| scope.call(&Sum, &numbers)).unwrap();
    assert_eq!(y, (13.5, 3));
    assert_eq!(numbers, [1., 2.]);
}

#[test]
fn a_call_inside_of_a_call_has_its_own_interceptors() {
    let outer = Body(|_, x| {
        let call = Call::new().intercept(square);
        Ok(call.apply(&Variables::default(), |scope| scope.run(&Identity, x))?.0)
    });
    assert_eq!(of_seven(Call::new().intercept(add_one), &outer).unwrap(), 50.);
}

#[test]
fn an_interceptor_can_sow_in_the_modules_scope() {
    let call = Call::new().keys(key(0)).mutable(true).intercept(|call| {
        call.run()?;
        let y = call.output::<Tensor>().unwrap().sum_all()?;
        call.scope().sow("intermediates", "sum", y).map(|_| ())
    });
    let (_, variables) = call
        .init(|scope| {
            let child = scope.child_named("a", Body(|scope, x| scope.call(&Identity, x)))?;
            child.call(&child.call(&ones(&[3]))?)
        })
        .unwrap();
    let lists = ["intermediates.a.Identity_0.sum", "intermediates.a.sum"];
    let expected: Vec<_> = lists.iter().flat_map(|list| [format!("{list}.0"), format!("{list}.1")]).collect();
    assert_eq!(paths(&variables), expected);
    assert_eq!(values(&variables, "intermediates", "a.sum.1"), [3.]);
}
