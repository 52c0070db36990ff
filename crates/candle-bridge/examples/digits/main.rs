//! Real handwriting, learned by a stateful network, by a functional one, and by each of them wrapped as the other.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]
#![allow(unreachable_pub, reason = "a program: nothing in it can be reached from outside")]
#![allow(clippy::cast_possible_truncation, reason = "counts of steps are small")]

mod data;
mod models;
mod options;
mod report;
mod training;
mod ways;

use std::process::ExitCode;

use candle_bridge::prelude::{Error, Result};

use crate::options::{HELP, Options};
use crate::report::{Progress, Summary};
use crate::training::{Setting, max_loss_difference};

fn main() -> ExitCode {
    let result = match Options::parse(lexopt::Parser::from_env()) {
        Ok(options) => run(options),
        Err(error) => {
            eprintln!("digits: {error}\n--help lists the options");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("digits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Option<Options>) -> Result<()> {
    let Some(options) = options else {
        print!("{HELP}");
        return Ok(());
    };
    let temporary = tempfile::tempdir().map_err(Error::new)?;
    let out = options.out.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(out).map_err(Error::new)?;
    let (train, test) = data::load(&options.device)?;
    println!("{} digits to learn from, {} held out", train.len(), test.len());

    let mut summary = Summary::default();
    for seed in options.seed..options.seed.saturating_add(i64::from(options.seeds)) {
        let setting =
            Setting { train: &train, test: &test, epochs: options.epochs, seed, seeds: options.seeds, out };
        let mut progress = Progress::new(seed, options.epochs);
        let outcomes = setting.train_all(|name, epoch, loss| progress.epoch(name, epoch, loss))?;
        progress.finish();
        summary.add(&outcomes, max_loss_difference(&outcomes));
    }
    summary.print();
    match &options.out {
        Some(out) => println!("checkpoints: saved, loaded, verified, in {}", out.display()),
        None => println!("checkpoints: saved, loaded, verified"),
    }
    if options.json {
        println!("{}", summary.json()?);
    }
    Ok(())
}
