//! What the commands say about themselves, and how they fail.

use std::fmt;
use std::io;
use std::path::Path;

/// Printed by `cargo xtask --help`.
pub(crate) const OVERVIEW: &str = "\
The project's own commands.

Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  test           Run everything that guards the project
  layers         Check that dependencies between the crates point down
  bench          Measure speed
  compile-time   Measure what a derive costs
  golden         Regenerate or check the golden files

`cargo xtask COMMAND --help` says more of each.
";

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    Usage { message: String, usage: &'static str },
    /// What was asked for went wrong.
    Failed(String),
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { message, usage } => write!(f, "error: {message}\n\n{usage}"),
            Self::Failed(message) => write!(f, "error: {message}"),
        }
    }
}

pub(crate) fn usage(message: impl fmt::Display, usage: &'static str) -> Failure {
    Failure::Usage { message: message.to_string(), usage }
}

pub(crate) fn failed(message: impl Into<String>) -> Failure {
    Failure::Failed(message.into())
}

/// What went wrong with a file.
pub(crate) fn file_failure(path: &Path, error: &io::Error) -> Failure {
    failed(format!("{}: {error}", path.display()))
}

/// The arguments of a command that takes flags and at most one name.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) flag: bool,
    pub(crate) name: Option<String>,
}

/// Parses `[--FLAG] [NAME]`, each only where the command has it. `None` means that help was asked for and printed.
pub(crate) fn parse(
    mut parser: lexopt::Parser,
    flag: Option<&str>,
    takes_name: bool,
    text: &'static str,
) -> Outcome<Option<Arguments>> {
    use lexopt::Arg::{Long, Short, Value};
    let mut arguments = Arguments::default();
    while let Some(argument) = parser.next().map_err(|error| usage(error, text))? {
        match argument {
            Long("help") | Short('h') => {
                print!("{text}");
                return Ok(None);
            }
            Long(name) if Some(name) == flag => arguments.flag = true,
            Value(name) if takes_name && arguments.name.is_none() => {
                let name =
                    name.into_string().map_err(|name| usage(format!("{name:?} is not UTF-8"), text))?;
                arguments.name = Some(name);
            }
            other => return Err(usage(other.unexpected(), text)),
        }
    }
    Ok(Some(arguments))
}
