//! One step of training, and a forward pass, of whole networks beside other frameworks. All are programs of their own that
//! start from the same file, and no row is written unless their losses agree.
//!
//! Each has two threads, or one in `train_one_thread`.

use std::path::Path;
use std::process::Command;

use crate::harness::{Entry, Outcome, Row, Skipped};
use crate::networks::{data, program};
use crate::peer::Peers;
use crate::stepper::{Stepper, Threads};

const PEERS: [&str; 5] = ["candle-nn", "candle-nn-tuned", "burn", "torch", "flax"];

pub(crate) fn rows(peers: &Peers) -> Vec<Entry> {
    let mut rows = Vec::new();
    for (group, threads) in [("train", Threads::Two), ("train_one_thread", Threads::One)] {
        for network in ["mlp", "cnn", "transformer"] {
            rows.extend(
                PEERS.map(|peer| row(format!("{group}/{network}/{peer}"), peers, network, peer, threads)),
            );
        }
    }
    let forward = ["candle-nn", "torch", "flax"];
    rows.extend(
        forward.map(|peer| row(format!("minilm/forward/{peer}"), peers, "minilm", peer, Threads::Two)),
    );
    rows
}

fn row(name: String, peers: &Peers, network: &'static str, peer: &'static str, threads: Threads) -> Entry {
    let peers = peers.clone();
    Entry::new(name, move || {
        let (program, arguments) = peers.training(peer)?;
        let file = data::file(network)?;
        let ours = Stepper::start(&mut our_command(network, &file, threads)?)?;
        let rest = arguments.into_iter().chain([network.into(), file]);
        let mut command = threads.command(&program, rest)?;
        let theirs = Stepper::start(&mut command).map_err(|error| Skipped(error.to_string()))?;
        match ours.disagrees(&theirs) {
            Some(difference) => Err(Skipped(format!("{peer} computes something else: {difference}")).into()),
            None => Ok(Row::of_programs(ours, peer, theirs)),
        }
    })
}

/// Our program on a network.
pub(super) fn our_command(network: &str, file: &Path, threads: Threads) -> Outcome<Command> {
    let program = std::env::current_exe()?;
    threads.command(&program, [program::COMMAND.as_ref(), network.as_ref(), file.as_os_str()])
}
