//! Losses and gradients of modules.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;

use bridge_graph::{
    GraphError, Rngs, Shared, StatefulModule, state, value_and_grad, value_and_grad_with, variables,
};
use bridge_vars::{BatchStat, Filter, LoraParam, Param, Path, Result, State, VarsError};
use candle_core::Tensor;

use crate::support::{assert_error, param, paths, read, scalar, scale, zeros};

#[derive(StatefulModule)]
struct Model {
    adapter: LoraParam,
    mean: BatchStat,
    weight: Param,
}

fn model() -> Model {
    Model { adapter: LoraParam::new(scalar(2.)), mean: BatchStat::new(scalar(0.)), weight: param(3.) }
}

impl Model {
    /// `weight² adapter`, whose mean is remembered.
    fn loss(&self) -> Result<Tensor> {
        let loss = (self.weight.value()?.sqr()? * self.adapter.value()?)?;
        self.mean.set(&loss)?;
        Ok(loss)
    }
}

fn values(state: &State) -> Vec<(String, f32)> {
    let value = |(path, leaf): (Path, &bridge_vars::Leaf)| {
        (path.to_string(), leaf.tensor().unwrap().to_scalar().unwrap())
    };
    state.iter().map(value).collect()
}

fn assert_nothing_tracked(model: &Model) {
    for (path, variable) in variables(model).unwrap() {
        assert!(!variable.value().unwrap().track_op(), "{path}");
        assert!(!variable.leaf().unwrap().tensor().unwrap().track_op(), "{path}");
    }
}

#[test]
fn with_respect_to_what_the_filter_matches() {
    let model = model();
    let (loss, gradients) = value_and_grad(&model, Filter::of::<Param>(), Model::loss).unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 18.);
    assert!(!loss.track_op());
    assert_eq!(values(&gradients), [("adapter".into(), 9.), ("weight".into(), 12.)]);
    assert_eq!(gradients.get("adapter").unwrap().kind, LoraParam::variable_type());
    assert!(gradients.iter().all(|(_, leaf)| !leaf.tensor().unwrap().track_op()));
    assert_eq!(read(&model.mean), 18.);
    assert_nothing_tracked(&model);
}

#[test]
fn frozen_ones_are_not_tracked() {
    let model = model();
    let (_, gradients) = value_and_grad(&model, Filter::of::<LoraParam>(), |model| {
        assert!(model.adapter.value()?.track_op());
        assert!(!model.weight.value()?.track_op());
        // The frozen part builds no graph.
        assert!(!model.weight.value()?.sqr()?.track_op());
        model.loss()
    })
    .unwrap();
    assert_eq!(values(&gradients), [("adapter".into(), 9.)]);
}

#[test]
fn a_shared_parameter_has_one_gradient() {
    let part = Shared::new(scale(3.));
    let module = vec![part.clone(), part];
    let (_, gradients) = value_and_grad(&module, Filter::of::<Param>(), |module| {
        Ok((module[0].factor.value()? * module[1].factor.value()?)?)
    })
    .unwrap();
    assert_eq!(values(&gradients), [("0.factor".into(), 6.)]);
}

#[test]
fn again_after_a_step() {
    let model = model();
    for _ in 0..3 {
        let weight = read(&model.weight);
        let (_, gradients) = value_and_grad(&model, Filter::path_in(["weight"]), Model::loss).unwrap();
        let gradient: f32 = gradients.get("weight").unwrap().tensor().unwrap().to_scalar().unwrap();
        assert_eq!(gradient, 4. * weight);
        model.weight.set((model.weight.value().unwrap() - (0.125 * f64::from(gradient))).unwrap()).unwrap();
        assert_eq!(read(&model.weight), weight / 2.);
    }
}

#[test]
fn a_graph_kept_past_a_step_still_has_its_own_values() {
    let model = model();
    let tracking = model.weight.track().unwrap();
    let loss = model.loss().unwrap();
    model.weight.set(scalar(100.)).unwrap();
    let gradients = loss.backward().unwrap();
    assert_eq!(gradients.get(tracking.leaf()).unwrap().to_scalar::<f32>().unwrap(), 12.);
}

#[test]
fn beside_the_loss() {
    let model = model();
    let (_, (inside, tensor), _) = value_and_grad_with(&model, Filter::of::<Param>(), |model| {
        let loss = model.loss()?;
        Ok((loss.clone(), (state(model)?, vec![Some(loss)])))
    })
    .unwrap();
    assert_eq!(paths(&inside), ["adapter", "mean", "weight"]);
    assert!(inside.iter().all(|(_, leaf)| !leaf.tensor().unwrap().track_op()));
    assert!(!tensor[0].as_ref().unwrap().track_op());
}

#[test]
fn errors() {
    let model = model();
    assert_error::<_, GraphError>(
        value_and_grad(&model, Filter::of::<Param>(), |model| model.mean.value()),
        "no gradient reached `adapter`, `weight`: leave them out of the filter, or find where the graph was cut \
         (`detach`, or an operator of candle's without a backward)",
    );
    assert_error::<_, GraphError>(
        value_and_grad(&model, Filter::path_in(["none"]), Model::loss),
        "the filter `path in [none]` matches no variable to take gradients with respect to: `Filter::of::<Param>()` \
         matches the parameters",
    );
    assert_error::<_, GraphError>(
        value_and_grad(&model, Filter::of::<Param>(), |model| {
            Ok(model.loss()?.broadcast_add(&zeros(&[2, 3]))?)
        }),
        "a loss must be one number, found shape [2, 3]: take its mean or sum",
    );
    assert_error::<_, VarsError>(
        value_and_grad(&Rngs::new(0), Filter::Everything, |_| Ok(scalar(0.))),
        "at `default.count`: expected a tensor, found a count",
    );
    assert_nothing_tracked(&model);
    let failed: Result<_> = value_and_grad(&model, Filter::of::<Param>(), |_| {
        Err(GraphError::NothingToDifferentiate { filter: "x".into() }.into())
    });
    failed.unwrap_err();
    assert_nothing_tracked(&model);
    // One number in whatever shape is one.
    value_and_grad(&model, Filter::of::<Param>(), |model| Ok(model.loss()?.reshape((1, 1))?)).unwrap();
}

#[test]
fn a_panic_leaves_nothing_tracked() {
    let model = model();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        value_and_grad(&model, Filter::of::<Param>(), |model| {
            model.loss()?;
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    assert_nothing_tracked(&model);
    value_and_grad(&model, Filter::of::<Param>(), Model::loss).unwrap();
}

#[test]
fn two_threads_with_filters_of_their_own() {
    let model = model();
    let barrier = Barrier::new(2);
    let run = |filter: Filter| {
        value_and_grad(&model, filter, |model| {
            barrier.wait();
            let loss = model.loss()?;
            barrier.wait();
            Ok(loss)
        })
        .unwrap()
        .1
    };
    let (adapter, weight) = std::thread::scope(|scope| {
        let adapter = scope.spawn(|| run(Filter::of::<LoraParam>()));
        let weight = scope.spawn(|| run(Filter::path_in(["weight"])));
        (adapter.join().unwrap(), weight.join().unwrap())
    });
    assert_eq!(values(&adapter), [("adapter".into(), 9.)]);
    assert_eq!(values(&weight), [("weight".into(), 12.)]);
    assert_nothing_tracked(&model);
}

#[test]
fn what_is_assigned_inside_is_detached_at_the_end() {
    let model = model();
    value_and_grad(&model, Filter::path_in(["weight"]), |model| {
        let loss = model.loss()?;
        let leaf = |variable: &bridge_vars::Variable| {
            Ok::<_, bridge_vars::Error>(variable.leaf()?.with_value(&loss))
        };
        model.mean.assign(&leaf(&model.mean)?);
        model.weight.assign(&leaf(&model.weight)?);
        assert!(model.mean.value()?.track_op());
        Ok(loss)
    })
    .unwrap();
    assert_nothing_tracked(&model);
    assert_eq!((read(&model.mean), read(&model.weight)), (18., 18.));
}
