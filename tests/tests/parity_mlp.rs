//! A whole model against Flax's: initial state to the bit; output, loss, gradients and statistics closely.
#![forbid(unsafe_code)]

use bridge_tests::device;
use bridge_tests::golden::{Seeded, assert_groups, check};
use candle_bridge::graph::{Rngs, StatefulModule, eval, state, value_and_grad_with};
use candle_bridge::ops::{relu, softmax_cross_entropy};
use candle_bridge::random::{key, normal, randint};
use candle_bridge::stateful::{BatchNorm, BatchNormConfig, Dropout, Linear};
use candle_bridge::vars::{BatchStat, Filter, Param, PathKey, Result, State};
use candle_core::{DType, Tensor};

#[derive(StatefulModule)]
struct Mlp {
    hidden: Linear,
    norm: BatchNorm,
    dropout: Dropout,
    output: Linear,
}

impl Mlp {
    fn new(rngs: &Rngs) -> Result<Self> {
        let norm = BatchNormConfig { momentum: 0.9, ..BatchNormConfig::default() };
        Ok(Self {
            hidden: Linear::new(8, 16, rngs)?,
            norm: BatchNorm::with_config(16, &norm, rngs)?,
            dropout: Dropout::new(0.5, rngs)?,
            output: Linear::new(16, 4, rngs)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = relu(&self.norm.forward(&self.hidden.forward(x)?)?)?;
        self.output.forward(&self.dropout.forward(&x)?)
    }
}

fn compare_state(golden: &Seeded, group: &str, state: &State) -> Result<()> {
    for (path, leaf) in state.iter() {
        let path: Vec<String> = path.keys().iter().map(PathKey::to_string).collect();
        golden.compare(&format!("{group}/{}", path.join("/")), leaf.tensor()?);
    }
    Ok(())
}

#[test]
fn every_entry_has_a_test() {
    assert_groups(
        "mlp",
        &["input", "labels", "initial", "train_output", "loss", "gradient", "updated", "eval_output"],
    );
}

#[test]
fn inputs_and_labels_are_drawn_as_by_jax() -> Result<()> {
    check("mlp", &["input", "labels"], |golden| {
        golden.compare("input", &normal(key(golden.seed + 100), (16, 8), DType::F32, &device())?);
        golden.compare("labels", &randint(key(golden.seed + 200), 16, 0, 4, DType::I32, &device())?);
        Ok(())
    })
}

#[test]
fn initial_state() -> Result<()> {
    check("mlp", &["initial"], |golden| {
        let mlp = Mlp::new(&Rngs::new(golden.seed).with_device(&device()))?;
        let variables = Filter::any([Filter::of::<Param>(), Filter::of::<BatchStat>()]);
        compare_state(golden, "initial", &state(&mlp)?.filter(variables))
    })
}

#[test]
fn training_output_loss_gradients_statistics_and_evaluation_output() -> Result<()> {
    let groups = ["train_output", "loss", "gradient", "updated", "eval_output"];
    check("mlp", &groups, |golden| {
        let mlp = Mlp::new(&Rngs::new(golden.seed).with_device(&device()))?;
        let x = golden.entry("input").tensor(&device())?;
        let labels = golden.entry("labels").tensor(&device())?;
        let (loss, logits, gradients) = value_and_grad_with(&mlp, Filter::of::<Param>(), |mlp| {
            let logits = mlp.forward(&x)?;
            Ok((softmax_cross_entropy(&logits, &labels)?, logits))
        })?;
        golden.compare("train_output", &logits);
        golden.compare("loss", &loss);
        compare_state(golden, "gradient", &gradients)?;
        compare_state(golden, "updated", &state(&mlp)?.filter(Filter::of::<BatchStat>()))?;
        eval(&mlp)?;
        golden.compare("eval_output", &mlp.forward(&x)?);
        Ok(())
    })
}
