//! `cargo xtask test`: everything that guards the project.

use std::process::Stdio;
use std::time::Instant;

use crate::help::{self, Outcome};
use crate::process;

const HELP: &str = "\
Run everything that guards the project, the quick checks first.

Usage: cargo xtask test [--keep-going]

Options:
  --keep-going   Run the remaining steps after one has failed
  --help         Print this
";

/// One thing that must succeed.
#[derive(Debug)]
struct Step {
    name: &'static str,
    /// `NAME=value`, as a shell takes it.
    environment: Option<(&'static str, &'static str)>,
    /// Arguments of cargo.
    arguments: &'static str,
}

impl Step {
    const fn new(name: &'static str, arguments: &'static str) -> Self {
        Self { name, environment: None, arguments }
    }

    const fn with(self, name: &'static str, value: &'static str) -> Self {
        Self { environment: Some((name, value)), ..self }
    }

    fn command_line(&self) -> String {
        match self.environment {
            Some((name, value)) => format!("{name}={value:?} cargo {}", self.arguments),
            None => format!("cargo {}", self.arguments),
        }
    }

    fn run(&self) -> bool {
        let mut command = process::cargo();
        command.args(self.arguments.split_whitespace());
        if let Some((name, value)) = self.environment {
            command.env(name, value);
        }
        match command.status() {
            Ok(status) => status.success(),
            Err(error) => {
                eprintln!("cargo does not start: {error}");
                false
            }
        }
    }
}

/// The steps in order. A new guard is a new line here.
fn steps(has_nextest: bool) -> Vec<Step> {
    vec![
        Step::new("formatting", "fmt --all --check"),
        Step::new("layers", "xtask layers"),
        Step::new("lints", "clippy --workspace --all-targets -- -D warnings"),
        if has_nextest {
            Step::new("unit and integration tests", "nextest run --workspace")
        } else {
            Step::new("unit and integration tests", "test --workspace --lib --bins --tests --examples")
        },
        Step::new("documentation tests", "test --doc --workspace"),
        Step::new("the example", "run --example digits -- --epochs 1 --json"),
        Step::new("documentation", "doc --workspace --no-deps").with("RUSTDOCFLAGS", "-D warnings"),
    ]
}

pub(crate) fn command(arguments: lexopt::Parser) -> Outcome {
    let Some(arguments) = help::parse(arguments, Some("keep-going"), false, HELP)? else {
        return Ok(());
    };
    let started = Instant::now();
    let steps = steps(has_nextest());
    let report = run(&steps, arguments.flag, Step::run);
    let seconds = started.elapsed().as_secs_f64();
    let (passed, all) = (report.passed, steps.len());
    let summary = format!("{passed} of {all} steps passed in {seconds:.0} s");
    if passed == all {
        println!("\n{summary}");
        return Ok(());
    }
    let mut message = format!("{summary}; failed: {}", report.failed.join(", "));
    if report.not_run > 0 {
        message.push_str(&format!("; not run: {}", report.not_run));
    }
    Err(help::failed(message))
}

#[derive(Debug, PartialEq)]
struct Report {
    passed: usize,
    failed: Vec<&'static str>,
    not_run: usize,
}

fn run(steps: &[Step], keep_going: bool, execute: impl Fn(&Step) -> bool) -> Report {
    let mut report = Report { passed: 0, failed: Vec::new(), not_run: 0 };
    for (index, step) in steps.iter().enumerate() {
        if !keep_going && !report.failed.is_empty() {
            report.not_run += 1;
            continue;
        }
        println!("\n[{}/{}] {}: {}", index + 1, steps.len(), step.name, step.command_line());
        let started = Instant::now();
        let succeeded = execute(step);
        let seconds = started.elapsed().as_secs_f64();
        if succeeded {
            report.passed += 1;
            println!("{}: passed in {seconds:.1} s", step.name);
        } else {
            report.failed.push(step.name);
            println!("{}: FAILED after {seconds:.1} s", step.name);
        }
    }
    report
}

fn has_nextest() -> bool {
    process::cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 3] = [
        Step::new("one", "first"),
        Step::new("two", "second"),
        Step::new("three", "third").with("FLAGS", "-D warnings"),
    ];

    fn check(keep_going: bool, failing: &str, passed: usize, failed: &[&'static str], not_run: usize) {
        let expected = Report { passed, failed: failed.to_vec(), not_run };
        assert_eq!(run(&STEPS, keep_going, |step| step.name != failing), expected);
    }

    #[test]
    fn stops_at_the_first_failure_unless_told_to_keep_going() {
        check(false, "", 3, &[], 0);
        check(false, "two", 1, &["two"], 1);
        check(true, "two", 2, &["two"], 0);
    }

    #[test]
    fn command_lines_can_be_pasted_into_a_shell() {
        let [one, _, three] = STEPS;
        assert_eq!(one.command_line(), "cargo first");
        assert_eq!(three.command_line(), "FLAGS=\"-D warnings\" cargo third");
    }

    #[test]
    fn a_step_that_fails_is_noticed() {
        assert!(Step::new("version", "--version").run());
        assert!(!Step::new("nonsense", "--no-such-option").run());
    }
}
