//! A training from start to end, and the comparison of several.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_bridge::prelude::*;
use candle_bridge::random::Shuffler;

use crate::data::Digits;
use crate::ways::{self, NAMES, Way};

const BATCH: usize = 32;

/// What came of a training.
pub struct Outcome {
    pub name: &'static str,
    pub parameters: usize,
    /// The loss of every step.
    pub losses: Vec<f32>,
    /// The mean loss of the last epoch.
    pub train_loss: f64,
    /// The share of test digits that are recognised.
    pub test_accuracy: f64,
    pub seconds: f64,
}

/// What all trainings have in common.
pub struct Setting<'a> {
    pub train: &'a Digits,
    pub test: &'a Digits,
    pub epochs: usize,
    pub seed: i64,
    /// How many seeds there are, this one among them.
    pub seeds: u32,
    /// Where checkpoints go.
    pub out: &'a Path,
}

impl Setting<'_> {
    /// Trains in one way. `dropout_key` gives the key of a step from the step's own; `each_epoch` hears the
    /// epoch's number and mean loss.
    pub fn train(
        &self,
        name: &'static str,
        dropout_key: impl Fn(usize, Key) -> Key,
        mut each_epoch: impl FnMut(usize, f64),
    ) -> Result<Outcome> {
        let start = Instant::now();
        let [params, dropout, order] = key(self.seed).split();
        let sample = self.train.at(&[0])?.pixels;
        let mut way = ways::start(name, &sample, &Keys::from([("params", params), ("dropout", dropout)]))?;
        let mut losses = Vec::new();
        let mut train_loss = f64::NAN;
        let shuffler = Shuffler::new(order, self.train.len())?;
        for epoch in 0..self.epochs {
            let first = losses.len();
            for batch in shuffler.batches(epoch as u32, BATCH)? {
                let step = losses.len();
                let key = dropout_key(step, dropout.fold_in(step as u32));
                losses.push(way.step(&self.train.at(&batch)?, key)?);
            }
            let epoch_losses = losses.get(first..).unwrap_or_default();
            train_loss =
                epoch_losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / epoch_losses.len() as f64;
            each_epoch(epoch + 1, train_loss);
        }
        let seconds = start.elapsed().as_secs_f64();
        let logits = way.evaluate(&self.test.pixels)?;
        verify_checkpoint(&self.checkpoint(name), &*way, &self.test.pixels, &logits)?;
        Ok(Outcome {
            name,
            parameters: way.parameters()?,
            losses,
            train_loss,
            test_accuracy: candle_bridge::ops::accuracy(&logits, &self.test.labels)?,
            seconds,
        })
    }

    /// The checkpoint of a way: each seed has its own.
    fn checkpoint(&self, name: &str) -> PathBuf {
        self.out.join(match self.seeds {
            1 => format!("{name}.safetensors"),
            _ => format!("{name}_seed_{}.safetensors", self.seed),
        })
    }

    /// Trains in all four ways.
    pub fn train_all(&self, mut each_epoch: impl FnMut(&'static str, usize, f64)) -> Result<Vec<Outcome>> {
        let train = |name| self.train(name, |_, key| key, |epoch, loss| each_epoch(name, epoch, loss));
        NAMES.into_iter().map(train).collect()
    }
}

/// Saves, loads, and compares, to the bit: what the loaded network says of the pixels with `logits`, and what the
/// loaded optimizer remembers.
fn verify_checkpoint(path: &Path, way: &dyn Way, pixels: &Tensor, logits: &Tensor) -> Result<()> {
    way.save(path)?;
    compare(path, way, &*way.resume(path, pixels.device())?, pixels, logits)
}

fn compare(path: &Path, saved: &dyn Way, loaded: &dyn Way, pixels: &Tensor, logits: &Tensor) -> Result<()> {
    let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    let differs = |what: &str| {
        let message = format!("the {what} loaded from {} is not the saved one", path.display());
        Err(Error::new(io::Error::other(message)))
    };
    match bits(logits)? == bits(&loaded.evaluate(pixels)?)? {
        true if saved.optimizer_state().identical(&loaded.optimizer_state())? => Ok(()),
        true => differs("optimizer"),
        false => differs("network"),
    }
}

/// The largest difference between the losses of a network and of the same one wrapped, over all steps.
pub fn max_loss_difference(outcomes: &[Outcome]) -> f64 {
    let losses =
        |name: &str| outcomes.iter().find(|outcome| outcome.name == name).map(|outcome| &outcome.losses);
    [("functional", "to_stateful"), ("stateful", "to_functional")]
        .into_iter()
        .filter_map(|(plain, wrapped)| Some(difference(losses(plain)?, losses(wrapped)?)))
        .fold(0., f64::max)
}

/// The largest difference of two trainings' losses; infinite if there is something that is no number.
pub fn difference(a: &[f32], b: &[f32]) -> f64 {
    let apart = |(a, b): (&f32, &f32)| {
        let apart = (f64::from(*a) - f64::from(*b)).abs();
        if apart.is_nan() { f64::INFINITY } else { apart }
    };
    match a.len() == b.len() {
        true => a.iter().zip(b).map(apart).fold(0., f64::max),
        false => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(epochs: usize, test: impl FnOnce(&Setting<'_>)) {
        let (train, held_out) = crate::data::load(&Device::Cpu).unwrap();
        let train = train.at(&(0..160).collect::<Vec<_>>()).unwrap();
        let out = tempfile::tempdir().unwrap();
        test(&Setting { train: &train, test: &held_out, epochs, seed: 0, seeds: 1, out: out.path() });
    }

    #[test]
    fn wrapping_changes_no_loss_and_the_same_seed_gives_the_same_losses() {
        check(2, |setting| {
            let outcomes = setting.train_all(|_, _, _| {}).unwrap();
            assert_eq!(max_loss_difference(&outcomes), 0.);
            assert_eq!(outcomes[0].losses.len(), 10);
            assert_eq!(outcomes[0].parameters, outcomes[1].parameters);
            let again = setting.train("stateful", |_, key| key, |_, _| {}).unwrap();
            assert_eq!(again.losses, outcomes[0].losses);
        });
    }

    #[test]
    fn a_loaded_training_goes_on_and_an_older_one_is_noticed() {
        check(1, |setting| {
            let keys = Keys::from([("params", key(1)), ("dropout", key(2))]);
            let path = setting.checkpoint("moment");
            for name in NAMES {
                let mut way = ways::start(name, &setting.train.pixels, &keys).unwrap();
                way.step(setting.train, key(3)).unwrap();
                let pixels = &setting.test.pixels;
                let before = way.evaluate(pixels).unwrap();
                verify_checkpoint(&path, &*way, pixels, &before).unwrap();
                let mut loaded = way.resume(&path, pixels.device()).unwrap();
                let loss = way.step(setting.train, key(4)).unwrap();
                let after = way.evaluate(pixels).unwrap();
                let error = |logits| compare(&path, &*way, &*loaded, pixels, logits).unwrap_err().to_string();
                assert!(error(&after).contains("the network loaded from"), "{}", error(&after));
                assert!(error(&before).contains("the optimizer loaded from"), "{}", error(&before));
                assert_eq!(loaded.step(setting.train, key(4)).unwrap(), loss);
                compare(&path, &*way, &*loaded, pixels, &after).unwrap();
            }
        });
    }

    #[test]
    fn every_seed_has_its_own_checkpoints() {
        check(1, |setting| {
            let names = |seeds| {
                [3, -1].map(|seed| {
                    let setting = Setting { seed, seeds, ..*setting };
                    setting.checkpoint("stateful").file_name().unwrap().to_str().unwrap().to_owned()
                })
            };
            assert_eq!(names(2), ["stateful_seed_3.safetensors", "stateful_seed_-1.safetensors"]);
            assert_eq!(names(1)[0], "stateful.safetensors");
        });
    }

    #[test]
    fn one_other_key_in_a_wrapped_training_shows() {
        check(1, |setting| {
            for (plain, wrapped) in [("functional", "to_stateful"), ("stateful", "to_functional")] {
                let plain = setting.train(plain, |_, key| key, |_, _| {}).unwrap();
                let changed = |step, key: Key| if step == 2 { key.fold_in(1) } else { key };
                let wrapped = setting.train(wrapped, changed, |_, _| {}).unwrap();
                assert_eq!(difference(&plain.losses[..2], &wrapped.losses[..2]), 0.);
                assert!(difference(&plain.losses, &wrapped.losses) > 0.);
            }
        });
    }
}
