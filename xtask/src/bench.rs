//! `cargo xtask bench`: builds the benchmarks in release and runs them.

use crate::help::{self, Outcome};
use crate::{peers, process};

const HELP: &str = "\
Measure speed: ours against a peer, in alternating rounds of one run. Lower is better in every row.

Usage: cargo xtask bench [NAME] [--peers]

Prints a table and writes target/bench/results.json anew. A row marked `busy machine` was taken while two threads did
not get close to two cores, and is worth little.

Rows that train networks (`train`, `train_one_thread`, `minilm`) compare programs. candle-nn's (benches/peers/candle_nn)
is built where such a row is asked for. A peer that cannot be had, or whose losses are not ours, leaves its rows out and
says why.

Arguments:
  NAME     Run only the rows whose names begin with this, as `graph/split` or `train/mlp`; all rows if absent

Options:
  --peers  Also run burn (benches/peers/burn), PyTorch and Flax (benches/peers/*.py), where a row has one of them as a
           peer. What is missing is built, or installed into target/peers-venv and target/golden-venv: that takes Python
           3.11 or newer, the network, and some gigabytes for PyTorch
  --help   Print this

Environment:
  CANDLE_BRIDGE_PYTHON   The Python to make the environments with; python3 if absent
";

pub(crate) fn command(arguments: lexopt::Parser) -> Outcome {
    let Some(arguments) = help::parse(arguments, Some("peers"), true, HELP)? else {
        return Ok(());
    };
    let name = arguments.name.unwrap_or_default();
    let peers = peers::find(&name, arguments.flag);
    let status = process::cargo()
        .args(["run", "--profile", "bench", "--package", "bridge-benches", "--"])
        .arg(name)
        .arg(peers.to_string())
        .status()
        .map_err(|error| help::failed(format!("cargo does not start: {error}")))?;
    if status.success() { Ok(()) } else { Err(help::failed("the benchmarks did not finish")) }
}
