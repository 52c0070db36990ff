//! The command line.

use std::path::PathBuf;

use candle_bridge::prelude::{Device, Error, Result};
use lexopt::prelude::*;

pub const HELP: &str = "\
Learn to read real handwriting, four ways: with a stateful network, with a functional one, and with each of
them wrapped as the other.

Usage: cargo run --release --example digits -- [OPTIONS]

Options:
  --epochs N     Passes over the training data (30)
  --seed N       The first seed (0)
  --seeds N      How many seeds to train with; what is printed at the end is their mean (1)
  --device NAME  cpu, cuda or cuda:N (cpu)
  --out DIR      Keep the checkpoints here, one a way and seed; otherwise they are verified and removed
  --json         Print the results as JSON in the last line
  --help         Print this
";

pub struct Options {
    pub epochs: usize,
    pub seed: i64,
    pub seeds: u32,
    pub device: Device,
    pub out: Option<PathBuf>,
    pub json: bool,
}

impl Options {
    /// What was asked for; nothing if it was help.
    pub fn parse(mut arguments: lexopt::Parser) -> Result<Option<Self>> {
        let mut options = Self { epochs: 30, seed: 0, seeds: 1, device: Device::Cpu, out: None, json: false };
        while let Some(argument) = arguments.next().map_err(Error::new)? {
            match argument {
                Long("epochs") => options.epochs = positive(&mut arguments, "--epochs")?,
                Long("seed") => options.seed = number(&mut arguments)?,
                Long("seeds") => options.seeds = positive(&mut arguments, "--seeds")?,
                Long("device") => options.device = device(&mut arguments)?,
                Long("out") => options.out = Some(arguments.value().map_err(Error::new)?.into()),
                Long("json") => options.json = true,
                Long("help") | Short('h') => return Ok(None),
                other => return Err(Error::new(other.unexpected())),
            }
        }
        Ok(Some(options))
    }
}

fn number<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    arguments: &mut lexopt::Parser,
) -> Result<T> {
    arguments.value().and_then(|value| value.parse()).map_err(Error::new)
}

fn positive<T>(arguments: &mut lexopt::Parser, name: &str) -> Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static> + PartialOrd + From<u8>,
{
    let value = number(arguments)?;
    match value >= T::from(1) {
        true => Ok(value),
        false => Err(Error::new(lexopt::Error::from(format!("{name} must be 1 or more")))),
    }
}

fn device(arguments: &mut lexopt::Parser) -> Result<Device> {
    let name = arguments.value().and_then(|value| value.string()).map_err(Error::new)?;
    match name.split_once(':').unwrap_or((&name, "0")) {
        ("cpu", "0") => Ok(Device::Cpu),
        ("cuda", ordinal) if ordinal.parse::<usize>().is_ok() => {
            Device::new_cuda(ordinal.parse().map_err(Error::new)?).map_err(|error| {
                Error::new(lexopt::Error::from(format!("no {name}: {error} (build with `--features cuda`)")))
            })
        }
        _ => {
            let message = format!("no device {name:?}: write cpu, cuda or cuda:N");
            Err(Error::new(lexopt::Error::from(message)))
        }
    }
}
