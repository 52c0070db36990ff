//! What a row is compared with: a routine of this program, or another program.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::harness::{Outcome, Routine, calibrate, seconds_per_call};

/// One side that is not ours.
pub(crate) struct Peer {
    pub(crate) name: String,
    side: Side,
}

enum Side {
    Here { routine: Routine, calls: u32 },
    Program(Program),
}

impl Peer {
    pub(crate) fn here(name: &str, routine: Routine) -> Self {
        Self { name: name.to_owned(), side: Side::Here { routine, calls: 1 } }
    }

    pub(crate) fn program(name: &str, program: Program) -> Self {
        Self { name: name.to_owned(), side: Side::Program(program) }
    }

    /// Finds out how many calls make a round, and warms up.
    pub(crate) fn prepare(&mut self, round: Duration) -> Outcome {
        match &mut self.side {
            Side::Here { routine, calls } => *calls = calibrate(routine, round)?,
            Side::Program(program) => drop(program.round(round)?),
        }
        Ok(())
    }

    /// Seconds for each of what a call handles; `for_each` divides those of a call.
    pub(crate) fn round(&mut self, round: Duration, for_each: impl FnOnce(f64) -> f64) -> Outcome<f64> {
        match &mut self.side {
            Side::Here { routine, calls } => Ok(for_each(seconds_per_call(routine, *calls)?)),
            Side::Program(program) => program.round(round),
        }
    }
}

/// A program of `benches/peers` that waits for rounds to run.
pub(crate) struct Program {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Program {
    fn start(command: &mut Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the peer has no input or output".into());
        };
        let mut program = Self { child, to, from: BufReader::new(from) };
        let greeting = program.line()?;
        match greeting.starts_with("leaves ") {
            true => Ok(program),
            false => Err(format!("{command:?} did not start: {greeting}").into()),
        }
    }

    fn round(&mut self, round: Duration) -> Outcome<f64> {
        writeln!(self.to, "{}", round.as_secs_f64())?;
        self.to.flush()?;
        Ok(self.line()?.trim().parse()?)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the other frameworks are, if they are to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    /// The program of `benches/peers/burn`.
    pub(crate) burn: Option<PathBuf>,
    /// A Python that has Flax, and the script.
    pub(crate) flax: Option<(PathBuf, PathBuf)>,
}

impl Peers {
    pub(crate) fn start_burn(&self, operation: &str, model: &str) -> Outcome<Option<Program>> {
        let start = |burn: &PathBuf| Program::start(Command::new(burn).args([operation, model]));
        self.burn.as_ref().map(start).transpose()
    }

    pub(crate) fn start_flax(&self, operation: &str, model: &str) -> Outcome<Option<Program>> {
        let start = |(python, script): &(PathBuf, PathBuf)| {
            let mut command = Command::new(python);
            command.arg(script).args([operation, model]);
            Program::start(command.env("JAX_PLATFORMS", "cpu").env("PYTHONDONTWRITEBYTECODE", "1"))
        };
        self.flax.as_ref().map(start).transpose()
    }
}
