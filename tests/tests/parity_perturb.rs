//! Perturbations and sown values of a stateful model against nnx's, and the gradients of both kinds of variables.
#![forbid(unsafe_code)]

use bridge_tests::device;
use bridge_tests::golden::{Seeded, assert_groups, check};
use candle_bridge::graph::{Capture, Rngs, Sow, StatefulModule, state, value_and_grad_with};
use candle_bridge::ops::relu;
use candle_bridge::random::{key, normal};
use candle_bridge::stateful::Linear;
use candle_bridge::vars::{Filter, Intermediate, Param, Path, PathKey, Perturbation, Result, State};
use candle_core::{DType, Tensor};

#[derive(StatefulModule)]
struct Perturbed {
    first: Linear,
    second: Linear,
}

impl Perturbed {
    fn new(rngs: &Rngs) -> Result<Self> {
        Ok(Self { first: Linear::new(6, 8, rngs)?, second: Linear::new(8, 3, rngs)? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = relu(&self.first.forward(x)?)?;
        let hidden = self.perturb("hidden", &hidden)?;
        self.sow::<Intermediate>("hidden_sown", &hidden)?;
        self.second.forward(&hidden)
    }
}

fn compare(golden: &Seeded, group: &str, state: &State) -> Result<()> {
    state.iter().try_for_each(|(path, leaf)| {
        let steps: Vec<String> = path.keys().iter().map(PathKey::to_string).collect();
        golden.compare(&format!("{group}/{}", steps.join("/")), leaf.tensor()?);
        Ok(())
    })
}

#[test]
fn every_entry_has_a_test() {
    let groups = ["input", "initial", "output", "captured", "gradient", "perturbation_gradient"];
    assert_groups("perturb", &groups);
}

#[test]
fn perturbations_and_their_gradients_are_nnxs() -> Result<()> {
    let groups = ["input", "initial", "output", "captured", "gradient", "perturbation_gradient"];
    check("perturb", &groups, |golden| {
        let x = normal(key(golden.seed + 100), (4, 6), DType::F32, &device())?;
        golden.compare("input", &x);
        let model = Perturbed::new(&Rngs::new(golden.seed).with_device(&device()))?;
        compare(golden, "initial", &state(&model)?)?;

        let (_, zeros) = Capture::of::<Perturbation>().run(&model, |model| model.forward(&x))?;
        let perturbations = zeros.to_variable_tree();
        let wrt = Filter::of::<Param>() | Filter::of::<Perturbation>();
        let (_, (y, sown), gradients) =
            value_and_grad_with(&(&model, &perturbations), wrt, |(model, perturbations)| {
                let capture = Capture::of::<Intermediate>().init(&state(perturbations)?);
                let (y, sown) = capture.run(model, |model| model.forward(&x))?;
                Ok((y.sqr()?.mean_all()?, (y, sown)))
            })?;
        golden.compare("output", &y);
        compare(golden, "captured", &sown)?;
        let part = |index: usize| gradients.subtree(Path::root().join(index));
        compare(golden, "gradient", &part(0)?)?;
        compare(golden, "perturbation_gradient", &part(1)?)
    })
}
