//! Four ways to train the network: written either way, and each wrapped as the other.

use std::path::Path;

use candle_bridge::ops::softmax_cross_entropy;
use candle_bridge::prelude::*;
use candle_bridge::train::{AdamW, Checkpoint, CheckpointFile, Optimizer};
use candle_bridge::{functional, graph};

use crate::data::Digits;
use crate::models::{FunctionalNetwork, StatefulNetwork};

/// A network in training.
pub trait Way {
    /// One step of the optimizer; returns the loss before it. `key` decides what is dropped.
    fn step(&mut self, batch: &Digits, key: Key) -> Result<f32>;
    /// The network's output in evaluation.
    fn evaluate(&self, pixels: &Tensor) -> Result<Tensor>;
    /// The number of parameters.
    fn parameters(&self) -> Result<usize>;
    /// Writes everything that is needed to go on.
    fn save(&self, path: &Path) -> Result<()>;
    /// The output in evaluation of the network that is rebuilt from a file.
    fn evaluate_saved(&self, path: &Path, pixels: &Tensor) -> Result<Tensor>;
}

/// The names of the ways, in the order in which they train.
pub const NAMES: [&str; 4] = ["stateful", "functional", "to_stateful", "to_functional"];

/// A way by its name; every way starts from the same keys.
pub fn start(name: &str, sample: &Tensor, keys: &Keys) -> Result<Box<dyn Way>> {
    Ok(match name {
        "stateful" => Box::new(Stateful::new(sample, keys)?),
        "functional" => Box::new(Functional::new(FunctionalNetwork, sample, keys)?),
        "to_stateful" => Box::new(Wrapped::new(sample, keys)?),
        _ => Box::new(Functional::new(to_functional(StatefulNetwork::new), sample, keys)?),
    })
}

fn rule() -> AdamW {
    AdamW::new(3e-3)
}

fn count<'a>(leaves: impl Iterator<Item = &'a Leaf>) -> Result<usize> {
    leaves.map(|leaf| Ok(leaf.tensor()?.elem_count())).sum()
}

/// The key that a module at the root gets of a stream in a call with this key, as a wrapped one would.
fn key_in_call(keys: impl Into<Keys>, stream: &str) -> Result<Key> {
    Ok(Call::new().keys(keys).apply(&Variables::default(), |scope| scope.make_rng(stream))?.0)
}

struct Stateful {
    model: StatefulNetwork,
    optimizer: Optimizer<AdamW>,
}

impl Stateful {
    fn new(sample: &Tensor, keys: &Keys) -> Result<Self> {
        let streams = keys.iter().map(|(name, _)| Ok((name.clone(), key_in_call(keys, name)?)));
        let rngs = Rngs::from_streams(streams.collect::<Result<Vec<_>>>()?).with_device(sample.device());
        let model = StatefulNetwork::new(&rngs)?;
        let optimizer = Optimizer::for_module(rule(), &model, Filter::of::<Param>())?;
        Ok(Self { model, optimizer })
    }
}

impl Way for Stateful {
    fn step(&mut self, batch: &Digits, key: Key) -> Result<f32> {
        train(&self.model)?;
        reseed(&self.model, [("dropout", key_in_call([("dropout", key)], "dropout")?)])?;
        let (loss, gradients) = value_and_grad(&self.model, Filter::of::<Param>(), |model| {
            Ok(softmax_cross_entropy(&model.forward(&batch.pixels)?, &batch.labels)?)
        })?;
        self.optimizer.step(&self.model, &gradients)?;
        Ok(loss.to_scalar()?)
    }

    fn evaluate(&self, pixels: &Tensor) -> Result<Tensor> {
        eval(&self.model)?;
        Ok(self.model.forward(pixels)?)
    }

    fn parameters(&self) -> Result<usize> {
        count(state(&self.model)?.filter(Filter::of::<Param>()).iter().map(|(_, leaf)| leaf))
    }

    fn save(&self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new().module("model", &self.model)?;
        checkpoint.state("optimizer", &self.optimizer.state())?.save(path)
    }

    fn evaluate_saved(&self, path: &Path, pixels: &Tensor) -> Result<Tensor> {
        let file = CheckpointFile::open(path, pixels.device())?;
        let model: StatefulNetwork = file.module("model")?;
        eval(&model)?;
        Ok(model.forward(pixels)?)
    }
}

/// The functional network, and the stateful one as a functional one.
struct Functional<F> {
    model: F,
    variables: Variables,
    optimizer: Optimizer<AdamW>,
}

impl<F: FunctionalModule<Output = Tensor>> Functional<F> {
    fn new(model: F, sample: &Tensor, keys: &Keys) -> Result<Self> {
        let variables = model.train().init(keys, sample)?;
        let optimizer = Optimizer::for_variables(rule(), &variables, Filter::of::<Param>())?;
        Ok(Self { model, variables, optimizer })
    }
}

impl<F: FunctionalModule<Output = Tensor>> Way for Functional<F> {
    fn step(&mut self, batch: &Digits, key: Key) -> Result<f32> {
        let (loss, updates, gradients) =
            functional::value_and_grad_with(&self.variables, Filter::of::<Param>(), |variables| {
                let keys = [("dropout", key)];
                let (logits, updates) =
                    self.model.train().apply_mut(variables, keys, "batch_stats", &batch.pixels)?;
                Ok((softmax_cross_entropy(&logits, &batch.labels)?, updates))
            })?;
        self.variables = self.optimizer.step_variables(&self.variables, &gradients)?.updated(&updates)?;
        Ok(loss.to_scalar()?)
    }

    fn evaluate(&self, pixels: &Tensor) -> Result<Tensor> {
        self.model.eval().apply(&self.variables, pixels)
    }

    fn parameters(&self) -> Result<usize> {
        let params = self.variables.filter_collections(|collection| collection == "params");
        count(params.iter().map(|(_, leaf)| leaf))
    }

    fn save(&self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new().variables("model", &self.variables)?;
        checkpoint.state("optimizer", &self.optimizer.state())?.save(path)
    }

    fn evaluate_saved(&self, path: &Path, pixels: &Tensor) -> Result<Tensor> {
        let variables = CheckpointFile::open(path, pixels.device())?.variables("model")?;
        self.model.eval().apply(&variables, pixels)
    }
}

/// The functional network as a stateful one.
struct Wrapped {
    model: ToStateful<FunctionalNetwork>,
    optimizer: Optimizer<AdamW>,
}

impl Wrapped {
    fn new(sample: &Tensor, keys: &Keys) -> Result<Self> {
        let model = ToStateful::new(FunctionalNetwork, keys.clone())?.mutable("batch_stats");
        lazy_init(&model, |model| model.options().keys(keys).call(sample))?;
        let optimizer = Optimizer::for_module(rule(), &model, Filter::of::<Param>())?;
        Ok(Self { model, optimizer })
    }
}

impl Way for Wrapped {
    fn step(&mut self, batch: &Digits, key: Key) -> Result<f32> {
        train(&self.model)?;
        let (loss, gradients) = value_and_grad(&self.model, Filter::of::<Param>(), |model| {
            let logits = model.options().keys([("dropout", key)]).call(&batch.pixels)?;
            Ok(softmax_cross_entropy(&logits, &batch.labels)?)
        })?;
        self.optimizer.step(&self.model, &gradients)?;
        Ok(loss.to_scalar()?)
    }

    fn evaluate(&self, pixels: &Tensor) -> Result<Tensor> {
        eval(&self.model)?;
        self.model.call(pixels)
    }

    fn parameters(&self) -> Result<usize> {
        count(state(&self.model)?.filter(Filter::of::<Param>()).iter().map(|(_, leaf)| leaf))
    }

    fn save(&self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new().module("model", &self.model)?;
        checkpoint.state("optimizer", &self.optimizer.state())?.save(path)
    }

    fn evaluate_saved(&self, path: &Path, pixels: &Tensor) -> Result<Tensor> {
        let file = CheckpointFile::open(path, pixels.device())?;
        let registry = graph::Registry::new().with::<ToStateful<FunctionalNetwork>>();
        let rebuilt = file.rebuild("model", &registry)?;
        eval(&*rebuilt)?;
        let rebuilt: &dyn std::any::Any = &*rebuilt;
        match rebuilt.downcast_ref::<ToStateful<FunctionalNetwork>>() {
            Some(model) => model.call(pixels),
            None => self.evaluate(pixels),
        }
    }
}
