//! The programs of other frameworks that benchmarks compare with: built or installed where a row asks for them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::help::{self, Outcome};
use crate::{golden, process, python};

/// A program of `benches/peers`.
struct Peer {
    /// As the benchmarks know it.
    name: &'static str,
    rows: &'static [Rows],
    program: Program,
    /// Whether it is asked for by `--peers` alone.
    optional: bool,
}

/// The rows that a peer is in.
#[derive(Clone, Copy)]
enum Rows {
    Graph,
    /// Named for the peer.
    Training,
    /// Named for the peer.
    Forward,
}

enum Program {
    /// A binary of a folder, with the features it needs.
    Cargo { folder: &'static str, binary: &'static str, features: &'static str },
    /// A script, and the environment that it runs in.
    Python { script: &'static str, environment: fn() -> Outcome<PathBuf> },
}

const NETWORKS: [&str; 3] = ["mlp", "cnn", "transformer"];

const PEERS: [Peer; 7] = [
    Peer {
        name: "burn-graph",
        rows: &[Rows::Graph],
        program: Program::Cargo { folder: "burn", binary: "burn-graph", features: "" },
        optional: true,
    },
    Peer {
        name: "flax-graph",
        rows: &[Rows::Graph],
        program: Program::Python { script: "flax_graph.py", environment: golden::python },
        optional: true,
    },
    Peer {
        name: "candle-nn",
        rows: &[Rows::Training, Rows::Forward],
        program: Program::Cargo { folder: "candle_nn", binary: "train-candle-nn", features: "" },
        optional: false,
    },
    Peer {
        name: "candle-nn-tuned",
        rows: &[Rows::Training],
        program: Program::Cargo { folder: "candle_nn", binary: "train-candle-nn-tuned", features: "tuned" },
        optional: false,
    },
    Peer {
        name: "burn",
        rows: &[Rows::Training],
        program: Program::Cargo { folder: "burn", binary: "burn-train", features: "" },
        optional: true,
    },
    Peer {
        name: "torch",
        rows: &[Rows::Training, Rows::Forward],
        program: Program::Python { script: "train_torch.py", environment: training_python },
        optional: true,
    },
    Peer {
        name: "flax",
        rows: &[Rows::Training, Rows::Forward],
        program: Program::Python { script: "train_flax.py", environment: training_python },
        optional: true,
    },
];

/// The programs that rows beginning with a name are compared with: where each is, or why it is nowhere.
pub(crate) fn find(name: &str, with_optional: bool) -> Value {
    let mut found = Map::new();
    for peer in PEERS.iter().filter(|peer| (with_optional || !peer.optional) && peer.is_wanted(name)) {
        let place = match peer.program.command() {
            Ok(words) => json!({ "command": words }),
            Err(failure) => {
                eprintln!("no {} to compare with: {failure}", peer.name);
                json!({ "missing": failure.to_string() })
            }
        };
        found.insert(peer.name.to_owned(), place);
    }
    Value::Object(found)
}

impl Peer {
    /// Whether one of its rows may begin with the name.
    fn is_wanted(&self, name: &str) -> bool {
        self.rows.iter().any(|rows| match rows {
            Rows::Graph => "graph/".starts_with(name) || name.starts_with("graph/"),
            Rows::Forward => format!("minilm/forward/{}", self.name).starts_with(name),
            Rows::Training => ["train", "train_one_thread"].iter().any(|group| {
                NETWORKS.iter().any(|network| format!("{group}/{network}/{}", self.name).starts_with(name))
            }),
        })
    }
}

impl Program {
    /// Makes it, and says how it is started.
    fn command(&self) -> Outcome<Vec<PathBuf>> {
        let folder = process::root().join("benches/peers");
        match self {
            Self::Cargo { folder: part, binary, features } => {
                Ok(vec![build(&folder.join(part), binary, features)?])
            }
            Self::Python { script, environment } => Ok(vec![environment()?, folder.join(script)]),
        }
    }
}

fn build(folder: &Path, binary: &str, features: &str) -> Outcome<PathBuf> {
    let target = process::root().join("target/peers");
    let status = process::cargo()
        .args(["build", "--profile", "bench", "--locked", "--bin", binary, "--features", features])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .map_err(|error| help::failed(format!("cargo does not start: {error}")))?;
    if !status.success() {
        return Err(help::failed(format!("{binary} was not built")));
    }
    Ok(target.join("release").join(format!("{binary}{}", std::env::consts::EXE_SUFFIX)))
}

/// A Python that has PyTorch and Flax.
fn training_python() -> Outcome<PathBuf> {
    let root = process::root();
    python::environment(&root.join("target/peers-venv"), &root.join("benches/peers/requirements.txt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: &[&str]) {
        let wanted: Vec<_> = PEERS.iter().filter(|peer| peer.is_wanted(name)).map(|peer| peer.name).collect();
        assert_eq!(wanted, expected, "{name}");
    }

    #[test]
    fn only_peers_of_the_rows_are_wanted() {
        let training = ["candle-nn", "candle-nn-tuned", "burn", "torch", "flax"];
        check("graph/split", &["burn-graph", "flax-graph"]);
        check("train", &training);
        check("train/mlp", &training);
        check("train_one_thread/cnn/", &training);
        check("train/mlp/torch", &["torch"]);
        check("train/mlp/candle-nn", &["candle-nn", "candle-nn-tuned"]);
        check("minilm", &["candle-nn", "torch", "flax"]);
        check("vars", &[]);
    }

    #[test]
    fn everything_is_wanted_without_a_name() {
        assert!(PEERS.iter().all(|peer| peer.is_wanted("")));
    }

    #[test]
    fn their_files_are_there() {
        for peer in PEERS {
            let file = match peer.program {
                Program::Cargo { folder, .. } => format!("{folder}/Cargo.lock"),
                Program::Python { script, .. } => script.to_owned(),
            };
            assert!(process::root().join("benches/peers").join(&file).exists(), "{file}");
        }
    }
}
