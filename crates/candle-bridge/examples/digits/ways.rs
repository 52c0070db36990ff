//! Four ways to train the network: written either way, and each wrapped as the other.

use std::any::Any;
use std::io;
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
    /// What the optimizer remembers.
    fn optimizer_state(&self) -> State;
    /// Writes everything that is needed to go on.
    fn save(&self, path: &Path) -> Result<()>;
    /// The network and the optimizer that are rebuilt from a file.
    fn resume(&self, path: &Path, device: &Device) -> Result<Box<dyn Way>>;
}

/// The names of the ways, in the order in which they train.
pub const NAMES: [&str; 4] = ["stateful", "functional", "to_stateful", "to_functional"];

/// A way by its name; every way starts from the same keys.
pub fn start(name: &str, sample: &Tensor, keys: &Keys) -> Result<Box<dyn Way>> {
    Ok(match name {
        "stateful" => Box::new(Stateful::<StatefulNetwork>::new(sample, keys)?),
        "functional" => Box::new(Functional::new(FunctionalNetwork, sample, keys)?),
        "to_stateful" => Box::new(Stateful::<Wrapped>::new(sample, keys)?),
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

/// A network that owns its variables.
trait Network: StatefulModule + Sized {
    fn create(sample: &Tensor, keys: &Keys) -> Result<Self>;
    /// The output in training; `key` decides what is dropped.
    fn call_in_training(&self, pixels: &Tensor, key: Key) -> Result<Tensor>;
    /// The output in evaluation.
    fn call_in_evaluation(&self, pixels: &Tensor) -> Result<Tensor>;
    /// The network that a file describes.
    fn load(file: &CheckpointFile) -> Result<Self>;
}

impl Network for StatefulNetwork {
    fn create(sample: &Tensor, keys: &Keys) -> Result<Self> {
        let streams = keys.iter().map(|(name, _)| Ok((name.clone(), key_in_call(keys, name)?)));
        Self::new(&Rngs::from_streams(streams.collect::<Result<Vec<_>>>()?).with_device(sample.device()))
    }

    fn call_in_training(&self, pixels: &Tensor, key: Key) -> Result<Tensor> {
        reseed(self, [("dropout", key_in_call([("dropout", key)], "dropout")?)])?;
        Ok(self.forward(pixels)?)
    }

    fn call_in_evaluation(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.forward(pixels)?)
    }

    fn load(file: &CheckpointFile) -> Result<Self> {
        file.module("model")
    }
}

/// The functional network as a stateful one.
type Wrapped = ToStateful<FunctionalNetwork>;

impl Network for Wrapped {
    fn create(sample: &Tensor, keys: &Keys) -> Result<Self> {
        let model = ToStateful::new(FunctionalNetwork, keys.clone())?.mutable("batch_stats");
        lazy_init(&model, |model| model.options().keys(keys).call(sample))?;
        Ok(model)
    }

    fn call_in_training(&self, pixels: &Tensor, key: Key) -> Result<Tensor> {
        self.options().keys([("dropout", key)]).call(pixels)
    }

    fn call_in_evaluation(&self, pixels: &Tensor) -> Result<Tensor> {
        self.call(pixels)
    }

    // As a program would that only learns from the file what is in it.
    fn load(file: &CheckpointFile) -> Result<Self> {
        let rebuilt = file.rebuild("model", &graph::Registry::new().with::<Self>())?;
        let name = rebuilt.type_name();
        let rebuilt: Box<dyn Any> = rebuilt;
        match rebuilt.downcast() {
            Ok(model) => Ok(*model),
            Err(_) => {
                Err(Error::new(io::Error::other(format!("the checkpoint holds another module, {name}"))))
            }
        }
    }
}

struct Stateful<M> {
    model: M,
    optimizer: Optimizer<AdamW>,
}

impl<M: Network> Stateful<M> {
    fn new(sample: &Tensor, keys: &Keys) -> Result<Self> {
        Self::with_model(M::create(sample, keys)?)
    }

    fn with_model(model: M) -> Result<Self> {
        let optimizer = Optimizer::for_module(rule(), &model, Filter::of::<Param>())?;
        Ok(Self { model, optimizer })
    }
}

impl<M: Network> Way for Stateful<M> {
    fn step(&mut self, batch: &Digits, key: Key) -> Result<f32> {
        train(&self.model)?;
        let (loss, gradients) = value_and_grad(&self.model, Filter::of::<Param>(), |model| {
            Ok(softmax_cross_entropy(&model.call_in_training(&batch.pixels, key)?, &batch.labels)?)
        })?;
        self.optimizer.step(&self.model, &gradients)?;
        Ok(loss.to_scalar()?)
    }

    fn evaluate(&self, pixels: &Tensor) -> Result<Tensor> {
        eval(&self.model)?;
        self.model.call_in_evaluation(pixels)
    }

    fn parameters(&self) -> Result<usize> {
        count(state(&self.model)?.filter(Filter::of::<Param>()).iter().map(|(_, leaf)| leaf))
    }

    fn optimizer_state(&self) -> State {
        self.optimizer.state()
    }

    fn save(&self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new().module("model", &self.model)?;
        checkpoint.state("optimizer", &self.optimizer.state())?.save(path)
    }

    fn resume(&self, path: &Path, device: &Device) -> Result<Box<dyn Way>> {
        let file = CheckpointFile::open(path, device)?;
        let mut resumed = Self::with_model(M::load(&file)?)?;
        resumed.optimizer.restore(&file.state("optimizer")?)?;
        Ok(Box::new(resumed))
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
        Self::with_variables(model, variables)
    }

    fn with_variables(model: F, variables: Variables) -> Result<Self> {
        let optimizer = Optimizer::for_variables(rule(), &variables, Filter::of::<Param>())?;
        Ok(Self { model, variables, optimizer })
    }
}

impl<F: FunctionalModule<Output = Tensor> + Clone + 'static> Way for Functional<F> {
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

    fn optimizer_state(&self) -> State {
        self.optimizer.state()
    }

    fn save(&self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new().variables("model", &self.variables)?;
        checkpoint.state("optimizer", &self.optimizer.state())?.save(path)
    }

    fn resume(&self, path: &Path, device: &Device) -> Result<Box<dyn Way>> {
        let file = CheckpointFile::open(path, device)?;
        let mut resumed = Self::with_variables(self.model.clone(), file.variables("model")?)?;
        resumed.optimizer.restore(&file.state("optimizer")?)?;
        Ok(Box::new(resumed))
    }
}
