//! One model in several threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bridge_graph::{
    Flag, GraphDef, Program, Registry, Rngs, Shared, WeakShared, merge, split, state, update, value_and_grad,
};
use bridge_vars::{Filter, Hooks, Metadata, Param, State, Tree, Value, Variable, Variables};
use candle_core::Tensor;

use crate::support::{device, read, scalar};

#[test]
fn everything_can_go_to_other_threads() {
    fn check<T: Send + Sync>() {}
    check::<Variable>();
    check::<Param>();
    check::<Value>();
    check::<Metadata>();
    check::<Hooks>();
    check::<Filter>();
    check::<State>();
    check::<Variables>();
    check::<Tree<Variable>>();
    check::<GraphDef<Vec<Param>>>();
    check::<Program>();
    check::<Registry>();
    check::<Shared<Param>>();
    check::<WeakShared<Param>>();
    check::<Flag>();
    check::<Rngs>();
    check::<bridge_vars::Error>();
}

/// A vector whose elements are all equal, as long as no read is torn.
fn equal(value: f32) -> Tensor {
    Tensor::full(value, 4096, &device()).unwrap()
}

fn all_equal(tensor: &Tensor) -> f32 {
    let values: Vec<f32> = tensor.to_vec1().unwrap();
    assert!(values.iter().all(|value| *value == values[0]), "a torn read");
    values[0]
}

#[test]
fn readers_and_a_trainer() {
    let model = vec![Param::new(equal(0.)), Param::new(equal(0.))];
    let (graphdef, first) = split(&model).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..3 {
            let (model, graphdef, done) = (&model, &graphdef, &done);
            scope.spawn(move || {
                let mut last = 0.;
                while !done.load(Ordering::Acquire) {
                    match reader {
                        // Raw reads, snapshots, and merged copies.
                        0 => last = f32::max(last, all_equal(&model[0].value().unwrap())),
                        1 => {
                            let taken = state(model).unwrap();
                            let before = all_equal(taken.get("1").unwrap().tensor().unwrap());
                            thread::yield_now();
                            assert_eq!(all_equal(taken.get("1").unwrap().tensor().unwrap()), before);
                        }
                        _ => {
                            let copy = merge(graphdef, &state(model).unwrap()).unwrap();
                            copy[0].set(equal(-1.)).unwrap();
                        }
                    }
                }
                assert!(last >= 0.);
            });
        }
        for step in 1..200 {
            // In place, replaced, by a state, and within a differentiated call.
            let value = step as f32;
            match step % 4 {
                0 => model.iter().for_each(|param| {
                    param.change_in_place(|tensor| Ok(tensor.const_set(value.into())?)).unwrap();
                }),
                1 => model.iter().for_each(|param| param.set(equal(value)).unwrap()),
                2 => {
                    let next = first.map(|_, leaf| Ok(leaf.with_value(equal(value)))).unwrap();
                    update(&model, &next).unwrap();
                }
                _ => {
                    let loss = |model: &Vec<Param>| {
                        Ok((model[0].value()?.sqr()? + model[1].value()?.sqr()?)?.sum_all()?)
                    };
                    let (_, gradients) = value_and_grad(&model, Filter::of::<Param>(), loss).unwrap();
                    assert_eq!(gradients.len(), 2);
                    model.iter().for_each(|param| param.set(equal(value)).unwrap());
                }
            }
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(all_equal(&model[1].value().unwrap()), 199.);
    assert_eq!(all_equal(first.get("0").unwrap().tensor().unwrap()), 0.);
}

#[test]
fn hooks_do_not_hold_up_other_readers() {
    // A hook that reads and sets its own variable, and others, would wait for itself under a lock.
    let other = Param::new(scalar(2.));
    let seen = other.clone();
    let hooks = Hooks::new("test_threads").on_get(move |variable, value| {
        seen.set((variable.raw_value()? + 1.)?)?;
        Ok((value.tensor()? * 10.)?.into())
    });
    let param = Param::new(scalar(3.));
    param.set_metadata(Metadata::default().with_hooks(hooks));
    let values = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| read(&param))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!((values, read(&other)), (vec![30.; 4], 4.));
}

#[test]
fn hooks_stay_with_a_variable() {
    let hooks = Hooks::new("test_stay").on_get(|_, value| Ok((value.tensor()? * 2.)?.into()));
    let param = Param::new(scalar(3.));
    param.set_metadata(Metadata::default().with_hooks(hooks));
    let (graphdef, taken) = split(&param).unwrap();
    assert_eq!(read(&merge(&graphdef, &taken).unwrap()), 6.);
    assert_eq!(read(&bridge_graph::clone(&param).unwrap()), 6.);
    let plain = Param::new(scalar(3.));
    assert_ne!(bridge_graph::graphdef(&plain).unwrap(), graphdef);
    update(&plain, &taken).unwrap();
    assert_eq!(read(&plain), 6.);
}
