//! A functional model of three levels against Linen's: children named by hand and by class, one called twice, batch norm,
//! dropout, sown values and captured ones.
#![forbid(unsafe_code)]

use bridge_tests::device;
use bridge_tests::golden::{Seeded, assert_groups, check};
use candle_bridge::functional::{BatchNorm, Call, Dense, Dropout, value_and_grad_with};
use candle_bridge::ops::relu;
use candle_bridge::prelude::{FunctionalModule, Mode, Scope};
use candle_bridge::random::{key, normal};
use candle_bridge::vars::{Filter, Leaf, Param, Path, PathKey, Result, Tree, Variables};
use candle_core::{DType, Tensor};

#[derive(Clone, Debug, PartialEq)]
struct Block {
    features: usize,
}

impl FunctionalModule for Block {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call(&Dense::new(self.features), x)?;
        let x = relu(&scope.call(&BatchNorm::new().momentum(0.9), &x)?)?;
        scope.sow("intermediates", "hidden", &x)?;
        let zero = || Ok(Tensor::zeros((), DType::F32, x.device())?);
        scope.sow_with("losses", "activity", &x.sqr()?.mean_all()?, zero, |sum, loss| Ok((sum + loss)?))?;
        scope.call(&Dropout::new(0.5), &x)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Stage {
    features: usize,
}

impl FunctionalModule for Stage {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let block = Block { features: self.features };
        let x = scope.call_named("block", &block, x)?;
        let x = scope.call(&block, &x)?;
        let mix = scope.child(Dense::new(self.features))?;
        mix.call(&mix.call(&x)?)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Model;

impl FunctionalModule for Model {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call(&Stage { features: 6 }, x)?;
        let x = scope.call_named("top", &Stage { features: 4 }, &x)?;
        scope.call_named("head", &Dense::new(3), &x)
    }
}

const ALL: [&str; 9] = [
    "input",
    "initial",
    "eval_output",
    "train_output",
    "updated",
    "train_output_without_losses",
    "updated_without_losses",
    "captured",
    "gradient",
];

fn compare(golden: &Seeded, group: &str, leaves: &Tree<Leaf>) -> Result<()> {
    leaves.try_for_each(|path: &Path, leaf| {
        let steps: Vec<String> = path.keys().iter().map(PathKey::to_string).collect();
        golden.compare(&format!("{group}/{}", steps.join("/")), leaf.tensor()?);
        Ok(())
    })
}

fn initial(golden: &Seeded) -> Result<(Tensor, Variables)> {
    let x = normal(key(golden.seed + 100), (8, 5), DType::F32, &device())?;
    let keys = [("params", key(golden.seed)), ("dropout", key(golden.seed + 1))];
    let variables = Model.eval().init(keys, &x)?;
    Ok((x, variables))
}

fn train(golden: &Seeded, variables: &Variables, x: &Tensor) -> Result<(Tensor, Variables)> {
    let mutable = ["batch_stats", "intermediates", "losses"];
    Model.train().apply_mut(variables, [("dropout", key(golden.seed + 7))], mutable, x)
}

#[test]
fn every_entry_has_a_test() {
    assert_groups("three_level", &ALL);
}

#[test]
fn paths_and_initial_values_are_linens() -> Result<()> {
    check("three_level", &["input", "initial"], |golden| {
        let (x, variables) = initial(golden)?;
        golden.compare("input", &x);
        compare(golden, "initial", variables.tree())
    })
}

#[test]
fn outputs_sown_values_statistics_and_gradients_are_linens() -> Result<()> {
    let groups = [
        "eval_output",
        "train_output",
        "updated",
        "train_output_without_losses",
        "updated_without_losses",
        "gradient",
    ];
    check("three_level", &groups, |golden| {
        let (x, variables) = initial(golden)?;
        golden.compare("eval_output", &Model.eval().apply(&variables, &x)?);

        let (y, updated) = train(golden, &variables, &x)?;
        golden.compare("train_output", &y);
        compare(golden, "updated", updated.tree())?;

        // Sown values add to those that are passed back.
        let fed = variables.filter_collections(|collection| collection != "losses");
        let (y, updated) = train(golden, &fed, &x)?;
        golden.compare("train_output_without_losses", &y);
        compare(golden, "updated_without_losses", updated.tree())?;

        let (_, _, gradients) = value_and_grad_with(&variables, Filter::of::<Param>(), |variables| {
            let (y, updated) = train(golden, variables, &x)?;
            Ok((y.sqr()?.mean_all()?, updated))
        })?;
        compare(golden, "gradient", gradients.to_state()?.tree())
    })
}

#[test]
fn captured_outputs_are_linens() -> Result<()> {
    check("three_level", &["captured"], |golden| {
        let (x, variables) = initial(golden)?;
        let call = Call::new().mode(Mode::Eval).capture_intermediates();
        let (_, captured) = call.apply(&variables, |scope| scope.run(&Model, &x))?;
        assert_eq!(captured.collections().collect::<Vec<_>>(), ["intermediates"]);
        compare(golden, "captured", captured.to_state()?.tree())
    })
}
