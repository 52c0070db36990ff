//! `cargo xtask bench`: builds the benchmarks in release and runs them.

use crate::help::{self, Outcome};
use crate::process;

const HELP: &str = "\
Measure speed: ours against a peer, in alternating rounds of one run. Lower is better in every row.

Usage: cargo xtask bench [NAME]

Prints a table and writes target/bench/results.json anew. A row marked `busy machine` was taken while two threads did
not get close to two cores, and is worth little.

Arguments:
  NAME     Run only the rows whose names begin with this, as `graph/split`; all rows if absent

Options:
  --help   Print this
";

pub(crate) fn command(arguments: lexopt::Parser) -> Outcome {
    let Some(arguments) = help::parse(arguments, None, true, HELP)? else {
        return Ok(());
    };
    let status = process::cargo()
        .args(["run", "--release", "--package", "bridge-benches", "--"])
        .args(arguments.name)
        .status()
        .map_err(|error| help::failed(format!("cargo does not start: {error}")))?;
    if status.success() { Ok(()) } else { Err(help::failed("the benchmarks did not finish")) }
}
