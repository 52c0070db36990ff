//! Measures speed: `cargo xtask bench [NAME]`.

#![deny(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user there")]

mod harness;
mod networks;
mod peer;
mod probe;
mod report;
mod rows;
mod side;
mod stepper;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use peer::Peers;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What every program does that computes with tensors. Until then, glibc gives memory back to the system as soon as some
/// hundred kilobytes are free, and rows with models of that size would measure how the system hands out pages.
fn free_a_large_block() {
    drop(std::hint::black_box(vec![1u8; 16 << 20]));
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, peers) = match *arguments.as_slice() {
        // One of the programs that rows are about: see `networks::program`.
        [networks::program::COMMAND, network, file] => {
            return networks::program::run(network, Path::new(file));
        }
        [] => ("", Peers::default()),
        [name] => (name, Peers::default()),
        // `cargo xtask bench` gives where they are.
        [name, peers] => (name, serde_json::from_str(peers)?),
        _ => return Err("usage: cargo xtask bench [NAME] [--peers]".into()),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/results.json");
    let selected = harness::select(rows::all(&peers), name)?;
    report::clear(&file)?;
    free_a_large_block();
    let measured = harness::run(selected)?;
    print!("{}", report::table(&measured));
    report::write(&file, &measured)
}
