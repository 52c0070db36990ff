//! Measures speed: `cargo xtask bench [NAME]`.

#![deny(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user there")]

mod harness;
mod peer;
mod probe;
mod report;
mod rows;

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
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    // `cargo xtask bench --peers` gives where they are.
    let peers = match arguments.collect::<Vec<_>>().as_slice() {
        [] => Peers::default(),
        [burn, python, script] => {
            Peers { burn: Some(burn.into()), flax: Some((python.into(), script.into())) }
        }
        _ => return Err("usage: cargo xtask bench [NAME] [--peers]".into()),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/results.json");
    let selected = harness::select(rows::all(&peers), &name)?;
    report::clear(&file)?;
    free_a_large_block();
    let measured = harness::run(selected)?;
    print!("{}", report::table(&measured));
    report::write(&file, &measured)
}
