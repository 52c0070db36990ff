//! Both `BatchNorm`s against Flax's: outputs in training and evaluation, and running statistics.
#![forbid(unsafe_code)]

use bridge_tests::device;
use bridge_tests::golden::{assert_groups, check};
use candle_bridge::functional::{BatchNorm as FunctionalBatchNorm, FunctionalModule};
use candle_bridge::graph::{Rngs, eval};
use candle_bridge::random::{key, normal};
use candle_bridge::stateful::{BatchNorm, BatchNormConfig};
use candle_bridge::vars::{CollectionFilter, Result};
use candle_core::DType;

const MOMENTUM: f64 = 0.9;

#[test]
fn every_entry_has_a_test() {
    assert_groups("batch_norm", &["input", "nnx", "linen"]);
}

#[test]
fn inputs_are_drawn_as_by_jax() -> Result<()> {
    check("batch_norm", &["input"], |golden| {
        let x = normal(key(golden.seed), (16, 8), DType::F32, &device())?;
        golden.compare("input", &x.affine(2., 1.)?);
        Ok(())
    })
}

#[test]
fn training_output_statistics_and_evaluation_output_of_the_stateful_one() -> Result<()> {
    check("batch_norm", &["nnx"], |golden| {
        let x = golden.entry("input").tensor(&device())?;
        let config = BatchNormConfig { momentum: MOMENTUM, ..BatchNormConfig::default() };
        let rngs = Rngs::new(golden.seed).with_device(&device());
        let norm = BatchNorm::with_config(8, &config, &rngs)?;
        golden.compare("nnx/train_output", &norm.forward(&x)?);
        golden.compare("nnx/mean", &norm.mean.value()?);
        golden.compare("nnx/var", &norm.var.value()?);
        eval(&norm)?;
        golden.compare("nnx/eval_output", &norm.forward(&x)?);
        Ok(())
    })
}

#[test]
fn training_output_statistics_and_evaluation_output_of_the_functional_one() -> Result<()> {
    check("batch_norm", &["linen"], |golden| {
        let x = golden.entry("input").tensor(&device())?;
        let norm = FunctionalBatchNorm::new().momentum(MOMENTUM);
        let variables = norm.train().init(key(golden.seed), &x)?;
        let collections = CollectionFilter::from("batch_stats");
        let (y, updated) = norm.train().apply_mut(&variables, key(golden.seed), collections, &x)?;
        golden.compare("linen/train_output", &y);
        golden.compare("linen/mean", updated.get("batch_stats", "mean")?.tensor()?);
        golden.compare("linen/var", updated.get("batch_stats", "var")?.tensor()?);
        golden.compare("linen/eval_output", &norm.eval().apply(&variables.updated(&updated)?, &x)?);
        Ok(())
    })
}
