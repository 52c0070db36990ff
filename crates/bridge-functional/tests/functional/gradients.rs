//! Losses and gradients of variables.

use bridge_functional::{
    BatchNorm, Dense, FunctionalModule, Keys, Scope, value_and_grad, value_and_grad_with,
};
use bridge_graph::GraphError;
use bridge_random::key;
use bridge_vars::{Filter, Param, Result, Variables, VarsError};
use candle_core::Tensor;

use crate::support::{Counter, assert_error, device, ones, paths, to_vec};

#[derive(Clone, Debug, PartialEq)]
struct Model;

impl FunctionalModule for Model {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call(&Dense::new(2), x)?;
        scope.call(&BatchNorm::new(), &x)
    }
}

fn input() -> Tensor {
    Tensor::new(&[[1f32, -2.], [0.5, 3.], [-1., 0.25]], &device()).unwrap()
}

fn variables() -> Variables {
    Model.train().init(key(0), &input()).unwrap()
}

fn loss(variables: &Variables) -> Result<(Tensor, Variables)> {
    let (y, updates) = Model.train().apply_mut(variables, Keys::none(), "batch_stats", &input())?;
    let weights = Tensor::new(&[[1f32, 2.], [-1., 0.5], [0.25, -3.]], &device())?;
    Ok(((y.tanh()? * weights)?.sum_all()?, updates))
}

fn assert_untracked(variables: &Variables) {
    for (path, leaf) in variables.iter() {
        assert!(!leaf.tensor().unwrap().track_op(), "{path}");
    }
}

#[test]
fn statistics_come_beside_the_loss_and_out_of_the_graph() {
    let variables = variables();
    let (value, updates, gradients) = value_and_grad_with(&variables, Filter::of::<Param>(), loss).unwrap();
    assert!(!value.track_op());
    assert_eq!(paths(&updates), ["batch_stats.BatchNorm_0.mean", "batch_stats.BatchNorm_0.var"]);
    assert_untracked(&updates);
    assert_untracked(&gradients);
    assert_untracked(&variables);
    // What moved is what an ordinary call moves.
    let (expected, expected_updates) = loss(&variables).unwrap();
    assert!(updates.identical(&expected_updates).unwrap());
    assert_eq!(to_vec(&value), to_vec(&expected));
    let params = [
        "params.BatchNorm_0.bias",
        "params.BatchNorm_0.scale",
        "params.Dense_0.bias",
        "params.Dense_0.kernel",
    ];
    assert_eq!(paths(&gradients), params);
}

#[test]
fn agree_with_finite_differences() {
    let variables = variables();
    let (_, _, gradients) = value_and_grad_with(&variables, Filter::of::<Param>(), loss).unwrap();
    for path in ["BatchNorm_0.bias", "BatchNorm_0.scale", "Dense_0.kernel"] {
        let gradient = to_vec(gradients.get("params", path).unwrap().tensor().unwrap());
        let leaf = variables.get("params", path).unwrap();
        let at = |index: usize, step: f32| {
            let mut values = to_vec(leaf.tensor().unwrap());
            values[index] += step;
            let moved = Tensor::from_vec(values, leaf.tensor().unwrap().shape(), &device()).unwrap();
            let mut variables = variables.clone();
            variables.insert(&path.into(), leaf.with_value(moved)).unwrap();
            loss(&variables).unwrap().0.to_scalar::<f32>().unwrap()
        };
        for (index, found) in gradient.iter().enumerate() {
            let expected = (at(index, 1e-2) - at(index, -1e-2)) / 2e-2;
            assert!(
                (found - expected).abs() < 2e-2 * expected.abs().max(1.),
                "{path}: {found} is not {expected}"
            );
        }
    }
}

#[test]
fn what_the_filter_leaves_out_is_not_tracked() {
    let variables = variables();
    let only = Filter::path_in(["params.BatchNorm_0.scale"]);
    let (_, gradients) = value_and_grad(&variables, only, |tracked| {
        for (path, leaf) in tracked.iter() {
            assert_eq!(leaf.tensor()?.track_op(), path.to_string() == "params.BatchNorm_0.scale", "{path}");
        }
        let dense = Dense::new(2);
        let before = tracked.filter_collections(|name| name == "params");
        let hidden = bridge_functional::Call::new().apply(&before, |scope| scope.call(&dense, &input()))?.0;
        assert!(!hidden.track_op());
        Ok(loss(tracked)?.0)
    })
    .unwrap();
    assert_eq!(paths(&gradients), ["params.BatchNorm_0.scale"]);
}

#[test]
fn tracked_parameters_among_the_updates_are_cut_off_too() {
    let variables = variables();
    let (_, updates, _) = value_and_grad_with(&variables, Filter::of::<Param>(), |variables| {
        let all = bridge_vars::CollectionFilter::all();
        let (y, updates) = Model.train().apply_mut(variables, Keys::none(), all, &input())?;
        Ok(((y.sqr()? * 0.5)?.sum_all()?, updates))
    })
    .unwrap();
    assert_eq!(updates.len(), 6);
    assert_untracked(&updates);
}

#[test]
fn errors() {
    let variables = variables();
    assert_error::<_, GraphError>(
        value_and_grad(&variables, Filter::of::<Param>(), |variables| {
            Ok(variables.get("params", "Dense_0.bias")?.tensor()?.sum_all()?)
        }),
        "no gradient reached `params.BatchNorm_0.bias`, `params.BatchNorm_0.scale`, `params.Dense_0.kernel`: leave them \
         out of the filter, or find where the graph was cut (`detach`, or an operator of candle's without a backward)",
    );
    assert_error::<_, GraphError>(
        value_and_grad(&variables, Filter::Nothing, |variables| Ok(loss(variables)?.0)),
        "the filter `nothing` matches no variable to take gradients with respect to: `Filter::of::<Param>()` matches the \
         parameters",
    );
    assert_error::<_, GraphError>(
        value_and_grad(&variables, Filter::of::<Param>(), |_| Ok(ones(&[2]))),
        "a loss must be one number, found shape [2]: take its mean or sum",
    );
    let counting = Counter.init(key(0), &ones(&[1])).unwrap();
    assert_error::<_, VarsError>(
        value_and_grad(&counting, Filter::Everything, |_| Ok(ones(&[]))),
        "at `memory.calls`: expected a tensor, found a count",
    );
}

#[test]
fn again_after_a_step() {
    let mut variables = variables();
    let mut losses = Vec::new();
    for _ in 0..5 {
        let (value, updates, gradients) =
            value_and_grad_with(&variables, Filter::of::<Param>(), loss).unwrap();
        losses.push(value.to_scalar::<f32>().unwrap());
        let step = gradients
            .map(|path, gradient| {
                let param = variables.tree().get(path).unwrap();
                Ok(param.with_value((param.tensor()? - (gradient.tensor()? * 0.05)?)?))
            })
            .unwrap();
        variables = variables.updated(&step).unwrap().updated(&updates).unwrap();
    }
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
}
