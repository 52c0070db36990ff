//! `cargo xtask bench`: builds the benchmarks in release and runs them.

use std::path::PathBuf;

use crate::help::{self, Outcome};
use crate::{golden, process};

const HELP: &str = "\
Measure speed: ours against a peer, in alternating rounds of one run. Lower is better in every row.

Usage: cargo xtask bench [NAME] [--peers]

Prints a table and writes target/bench/results.json anew. A row marked `busy machine` was taken while two threads did
not get close to two cores, and is worth little.

Arguments:
  NAME     Run only the rows whose names begin with this, as `graph/split`; all rows if absent

Options:
  --peers  Also run burn (benches/peers/burn, built first) and Flax (benches/peers/flax_graph.py), where a row has one of
           them as a peer. Takes what `cargo xtask golden` takes: Python 3.11 or newer, and the network the first time
  --help   Print this
";

pub(crate) fn command(arguments: lexopt::Parser) -> Outcome {
    let Some(arguments) = help::parse(arguments, Some("peers"), true, HELP)? else {
        return Ok(());
    };
    let peers = if arguments.flag { peers()? } else { Vec::new() };
    let status = process::cargo()
        .args(["run", "--profile", "bench", "--package", "bridge-benches", "--"])
        .arg(arguments.name.unwrap_or_default())
        .args(peers)
        .status()
        .map_err(|error| help::failed(format!("cargo does not start: {error}")))?;
    if status.success() { Ok(()) } else { Err(help::failed("the benchmarks did not finish")) }
}

/// Makes the other frameworks ready: burn's program, a Python that has Flax, and its script.
fn peers() -> Outcome<Vec<PathBuf>> {
    let root = process::root();
    let (folder, target) = (root.join("benches/peers"), root.join("target/peers"));
    let status = process::cargo()
        .args(["build", "--profile", "bench", "--locked", "--manifest-path"])
        .arg(folder.join("burn/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .map_err(|error| help::failed(format!("cargo does not start: {error}")))?;
    if !status.success() {
        return Err(help::failed("burn's side of the benchmarks was not built"));
    }
    let burn = target.join("release").join(format!("burn-graph{}", std::env::consts::EXE_SUFFIX));
    Ok(vec![burn, golden::python()?, folder.join("flax_graph.py")])
}
