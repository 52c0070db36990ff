//! A program that trains a network and times its own steps, as `networks::program` says.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::harness::{Outcome, Skipped};

/// How much the losses of two programs may differ.
const TOLERANCE: f64 = 1e-4;

/// A program that has shown its losses and waits.
pub(crate) struct Stepper {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    losses: Vec<f64>,
    steps: u32,
}

impl Stepper {
    /// Starts a command and waits for its losses.
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child =
            child.map_err(|error| format!("{:?} does not start: {error}", command.get_program()))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the program has no input or output".into());
        };
        let mut stepper = Self { child, to, from: BufReader::new(from), losses: Vec::new(), steps: 1 };
        let line = stepper.line()?;
        let losses = losses(&line).ok_or_else(|| format!("{command:?} gave no losses: {:?}", line.trim()))?;
        stepper.losses = losses;
        Ok(stepper)
    }

    /// Why the losses of another program are not these, if they are not.
    pub(crate) fn disagrees(&self, other: &Self) -> Option<String> {
        disagreement(&self.losses, &other.losses)
    }

    /// Finds out how many steps last as long as a round.
    pub(crate) fn prepare(&mut self, round: Duration) -> Outcome {
        self.steps = 1;
        let seconds = self.seconds_per_step()?;
        self.steps = (round.as_secs_f64() / seconds).clamp(1.0, 1e6) as u32;
        Ok(())
    }

    pub(crate) fn seconds_per_step(&mut self) -> Outcome<f64> {
        writeln!(self.to, "{}", self.steps)?;
        self.to.flush()?;
        let line = self.line()?;
        Ok(line.trim().parse().map_err(|_| format!("the program gave no time: {:?}", line.trim()))?)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn losses(line: &str) -> Option<Vec<f64>> {
    let losses: Vec<f64> = line
        .strip_prefix("losses ")?
        .split_whitespace()
        .map(|loss| loss.parse().ok())
        .collect::<Option<_>>()?;
    (!losses.is_empty()).then_some(losses)
}

fn disagreement(ours: &[f64], theirs: &[f64]) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("{} losses beside {} of ours", theirs.len(), ours.len()));
    }
    // A NaN is never within.
    let within =
        |(ours, theirs): (&f64, &f64)| (ours - theirs).abs() <= TOLERANCE * ours.abs().max(theirs.abs());
    let step = ours.iter().zip(theirs).position(|pair| !within(pair))?;
    Some(format!("its loss of step {step} is {}, and ours {}", theirs[step], ours[step]))
}

/// How many processors each side has, and threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Threads {
    One,
    Two,
}

impl Threads {
    /// A program on as many processors as this, the same for each side.
    pub(crate) fn command(
        self,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Outcome<Command> {
        let allowed = allowed_processors()?;
        let (count, processors) = match (self, allowed.as_slice()) {
            (Self::One, [first, ..]) => ("1", first.to_string()),
            (Self::Two, [first, second, ..]) => ("2", format!("{first},{second}")),
            _ => return Err(Skipped("there are not enough processors".to_owned()).into()),
        };
        let mut command = Command::new("taskset");
        command.arg("--cpu-list").arg(processors).arg(program).args(arguments);
        for variable in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(variable, count);
        }
        command.env("JAX_PLATFORMS", "cpu").env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }
}

fn allowed_processors() -> Outcome<Vec<usize>> {
    let status = fs::read_to_string("/proc/self/status").map_err(
        |_| "comparing programs takes Linux, whose `taskset` gives all of them the same processors",
    )?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(list.and_then(processors).ok_or("the system does not say which processors may be used")?)
}

/// Of a list such as `0-1,4`.
fn processors(list: &str) -> Option<Vec<usize>> {
    let mut processors = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        processors.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_losses() {
        assert_eq!(losses("losses 2.5 1e-3\n"), Some(vec![2.5, 1e-3]));
        assert_eq!(losses("losses \n"), None);
        assert_eq!(losses("Traceback: losses 2"), None);
        assert_eq!(losses("losses 2.5 none"), None);
    }

    #[test]
    fn losses_agree_to_a_ten_thousandth() {
        assert_eq!(disagreement(&[2.0, 1.0], &[2.0001, 0.99995]), None);
        let message = disagreement(&[2.0, 1.0], &[2.0, 1.001]).unwrap();
        assert!(message.contains("step 1 is 1.001, and ours 1"), "{message}");
        assert!(disagreement(&[f64::NAN], &[f64::NAN]).is_some());
        assert!(disagreement(&[1.0, 1.0], &[1.0]).is_some());
    }

    #[test]
    fn reads_lists_of_processors() {
        assert_eq!(processors("\t0-1\n"), Some(vec![0, 1]));
        assert_eq!(processors("3,8-10"), Some(vec![3, 8, 9, 10]));
        assert_eq!(processors("none"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_program_is_asked_for_steps_and_gives_its_times() {
        let script = "echo losses 1 2; while read n; do echo 0.00$n; done";
        let mut program = Stepper::start(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(program.losses, [1.0, 2.0]);
        program.prepare(Duration::from_millis(7)).unwrap();
        assert_eq!(program.seconds_per_step().unwrap(), 0.007);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_program_that_fails_is_named() {
        let error = Stepper::start(Command::new("sh").args(["-c", "echo no network"])).map(drop).unwrap_err();
        assert!(error.to_string().contains("no network"), "{error}");
    }
}
