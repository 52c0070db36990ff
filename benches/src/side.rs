//! One side of a row: a routine of this program, or another program.

use std::time::{Duration, Instant};

use crate::harness::{Outcome, Routine};
use crate::peer::Program;
use crate::stepper::Stepper;

pub(crate) enum Side {
    Here {
        routine: Routine,
        calls: u32,
    },
    /// Gives seconds for each of what a call handles.
    Program(Program),
    /// Gives seconds for each step.
    Stepper(Stepper),
}

impl Side {
    pub(crate) fn here(routine: impl FnMut() -> Outcome + 'static) -> Self {
        Self::Here { routine: Box::new(routine), calls: 1 }
    }

    /// Finds out how many calls make a round, and warms up.
    pub(crate) fn prepare(&mut self, round: Duration) -> Outcome {
        match self {
            Self::Here { routine, calls } => *calls = calibrate(routine, round)?,
            Self::Program(program) => drop(program.round(round)?),
            Self::Stepper(stepper) => stepper.prepare(round)?,
        }
        Ok(())
    }

    /// Seconds for each of what a call handles; `for_each` divides those of a call.
    pub(crate) fn round(&mut self, round: Duration, for_each: impl FnOnce(f64) -> f64) -> Outcome<f64> {
        match self {
            Self::Here { routine, calls } => Ok(for_each(seconds_per_call(routine, *calls)?)),
            Self::Program(program) => program.round(round),
            Self::Stepper(stepper) => stepper.seconds_per_step(),
        }
    }
}

/// How many calls last as long as a round. Also warms up caches, pools and lazy set-up.
fn calibrate(routine: &mut Routine, round: Duration) -> Outcome<u32> {
    routine()?;
    let mut calls = 1;
    loop {
        let seconds = seconds_per_call(routine, calls)?;
        let wanted = round.as_secs_f64() / seconds;
        if f64::from(calls) * 4.0 >= wanted {
            return Ok(wanted.clamp(1.0, 1e9) as u32);
        }
        calls = calls.saturating_mul(4);
    }
}

fn seconds_per_call(routine: &mut Routine, calls: u32) -> Outcome<f64> {
    let started = Instant::now();
    for _ in 0..calls {
        routine()?;
    }
    // A clock that is too coarse to see the calls must not give a rate that is infinite.
    let elapsed = started.elapsed().max(Duration::from_nanos(1));
    Ok(elapsed.as_secs_f64() / f64::from(calls))
}
