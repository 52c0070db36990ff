//! The programs that rows are compared with.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::harness::{Outcome, Skipped};

/// A program of `benches/peers` that waits for rounds of an operation on a module to run.
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

    pub(crate) fn round(&mut self, round: Duration) -> Outcome<f64> {
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

/// Where a program is, or why it is nowhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// The program and its first arguments.
    Command(Vec<PathBuf>),
    Missing(String),
}

/// Where the other frameworks are, as far as `cargo xtask bench` was to look for them.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Peers(BTreeMap<String, Place>);

impl Peers {
    /// A program that trains networks, with its first arguments.
    pub(crate) fn training(&self, name: &str) -> Outcome<(PathBuf, Vec<PathBuf>)> {
        match self.0.get(name) {
            Some(Place::Command(words)) => {
                let (program, arguments) = words.split_first().ok_or("an empty command")?;
                Ok((program.clone(), arguments.to_vec()))
            }
            Some(Place::Missing(reason)) => Err(Skipped(reason.clone()).into()),
            None => Err(Skipped(format!("{name} runs only with --peers")).into()),
        }
    }

    pub(crate) fn start_burn(&self, operation: &str, model: &str) -> Outcome<Option<Program>> {
        self.start("burn-graph", operation, model)
    }

    pub(crate) fn start_flax(&self, operation: &str, model: &str) -> Outcome<Option<Program>> {
        self.start("flax-graph", operation, model)
    }

    /// `None` where there is none: the row is worth something without it.
    fn start(&self, name: &str, operation: &str, model: &str) -> Outcome<Option<Program>> {
        let Some(Place::Command(words)) = self.0.get(name) else { return Ok(None) };
        let (program, arguments) = words.split_first().ok_or("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments).args([operation, model]);
        command.env("JAX_PLATFORMS", "cpu").env("PYTHONDONTWRITEBYTECODE", "1");
        Program::start(&mut command).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_not_there_says_why() {
        let peers: Peers = serde_json::from_str(
            r#"{"torch": {"command": ["python", "train.py"]}, "burn": {"missing": "it was not built"}}"#,
        )
        .unwrap();
        assert_eq!(peers.training("torch").unwrap(), ("python".into(), vec!["train.py".into()]));
        for (name, expected) in [("burn", "it was not built"), ("flax", "flax runs only with --peers")] {
            let error = peers.training(name).unwrap_err();
            assert!(error.is::<Skipped>(), "{error}");
            assert_eq!(error.to_string(), expected);
        }
        assert!(peers.start_burn("clone", "mlp100").unwrap().is_none());
    }
}
