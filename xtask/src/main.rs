//! The project's own commands, run as `cargo xtask COMMAND`.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user there")]

mod bench;
mod compile_time;
mod golden;
mod help;
#[cfg(test)]
mod invariants;
mod layers;
mod peers;
mod process;
mod python;
mod test;

use std::process::ExitCode;

use help::{Failure, Outcome};

fn main() -> ExitCode {
    match run(lexopt::Parser::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            match failure {
                Failure::Usage { .. } => ExitCode::from(2),
                Failure::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn run(mut arguments: lexopt::Parser) -> Outcome {
    use lexopt::Arg::{Long, Short, Value};
    match arguments.next() {
        Ok(Some(Value(command))) => match command.to_str() {
            Some("test") => test::command(arguments),
            Some("layers") => layers::command(arguments),
            Some("bench") => bench::command(arguments),
            Some("compile-time") => compile_time::command(arguments),
            Some("golden") => golden::command(arguments),
            _ => Err(help::usage(format!("there is no command {command:?}"), help::OVERVIEW)),
        },
        Ok(Some(Long("help") | Short('h'))) => {
            print!("{}", help::OVERVIEW);
            Ok(())
        }
        Ok(Some(other)) => Err(help::usage(other.unexpected(), help::OVERVIEW)),
        Ok(None) => Err(help::usage("a command is missing", help::OVERVIEW)),
        Err(error) => Err(help::usage(error, help::OVERVIEW)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], expected: &str) {
        let failure = run(lexopt::Parser::from_args(arguments)).unwrap_err();
        assert!(matches!(failure, Failure::Usage { .. }), "{failure}");
        let text = failure.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("Usage: cargo xtask"), "{text}");
    }

    #[test]
    fn unknown_arguments_are_errors_with_the_usage() {
        check(&[], "a command is missing");
        check(&["tset"], "there is no command \"tset\"");
        check(&["--verbose"], "--verbose");
        check(&["test", "--keepgoing"], "--keepgoing");
        check(&["test", "name"], "name");
        check(&["layers", "--all"], "--all");
        check(&["bench", "graph", "vars"], "vars");
        check(&["bench", "--fast"], "--fast");
        check(&["golden", "--check=yes"], "--check");
    }

    #[test]
    fn every_command_has_help() {
        for command in ["test", "layers", "bench", "golden"] {
            assert!(help::OVERVIEW.contains(&format!("  {command} ")), "{command}");
            run(lexopt::Parser::from_args([command, "--help"])).unwrap();
        }
        run(lexopt::Parser::from_args(["--help"])).unwrap();
    }
}
