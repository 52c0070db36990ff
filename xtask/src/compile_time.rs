//! `cargo xtask compile-time`: what a derive costs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::help::{self, Outcome};
use crate::process;

const HELP: &str = "\
Compare how long 200 structs take to compile: with `#[derive(StatefulModule)]`, and with `Clone`, `Debug` and serde's two.

Usage: cargo xtask compile-time [--help]
";

const STRUCTS: usize = 200;
const ROUNDS: usize = 7;

pub(crate) fn command(arguments: lexopt::Parser) -> Outcome {
    if help::parse(arguments, None, false, HELP)?.is_none() {
        return Ok(());
    }
    let modules = Project::new("modules", &modules())?;
    let plain = Project::new("plain", &plain())?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(modules.build()?);
        peer.push(plain.build()?);
    }
    let (ours, peer) = (median(ours), median(peer));
    println!("{STRUCTS} modules                            {:.2} s", ours.as_secs_f64());
    println!("{STRUCTS} structs with Clone, Debug and serde  {:.2} s", peer.as_secs_f64());
    println!("ratio                                  {:.2}", ours.as_secs_f64() / peer.as_secs_f64());
    Ok(())
}

fn modules() -> String {
    let mut text = String::from("use bridge_graph::StatefulModule;\nuse bridge_vars::Param;\n");
    for number in 0..STRUCTS {
        let _ = write!(
            text,
            "#[derive(StatefulModule)]\npub struct Module{number} {{\n    pub kernel: Param,\n    pub bias: Option<Param>,\n    \
             pub layers: Vec<Param>,\n    pub rate: f64,\n    #[module(static)]\n    pub names: Vec<String>,\n}}\n"
        );
    }
    text
}

fn plain() -> String {
    let mut text = String::from("use serde::{Deserialize, Serialize};\n");
    for number in 0..STRUCTS {
        let _ = write!(
            text,
            "#[derive(Clone, Debug, Serialize, Deserialize)]\npub struct Module{number} {{\n    pub kernel: Vec<f32>,\n    pub \
             bias: Option<Vec<f32>>,\n    pub layers: Vec<Vec<f32>>,\n    pub rate: f64,\n    pub names: Vec<String>,\n}}\n"
        );
    }
    text
}

/// A library in a workspace of its own, built with the same profile and packages as the project.
struct Project(String);

impl Project {
    fn new(name: &str, source: &str) -> Outcome<Self> {
        let root = process::root();
        let folder = root.join("target/compile-time").join(name);
        let write = |path: &Path, text: &str| {
            fs::write(path, text).map_err(|error| help::failed(format!("{}: {error}", path.display())))
        };
        fs::create_dir_all(folder.join("src")).map_err(|error| help::failed(error.to_string()))?;
        let manifest = format!(
            "[package]\nname = \"compile-time-{name}\"\nedition = \"2024\"\n\n[dependencies]\nbridge-graph.path = \
             {:?}\nbridge-vars.path = {:?}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\n[workspace]\n",
            root.join("crates/bridge-graph"),
            root.join("crates/bridge-vars"),
        );
        write(&folder.join("Cargo.toml"), &manifest)?;
        write(&folder.join("src/lib.rs"), source)?;
        let locked = fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"));
        locked.map_err(|error| help::failed(error.to_string()))?;
        let project = Self(folder.join("Cargo.toml").to_string_lossy().into_owned());
        // What it depends on is not measured.
        project.build()?;
        Ok(project)
    }

    fn build(&self) -> Outcome<Duration> {
        let library = Path::new(&self.0).with_file_name("src").join("lib.rs");
        let file = fs::File::options().append(true).open(&library);
        let touched = file.and_then(|file| file.set_modified(std::time::SystemTime::now()));
        touched.map_err(|error| help::failed(error.to_string()))?;
        let mut command = process::cargo();
        command.args(["build", "--quiet", "--manifest-path", &self.0, "--target-dir"]);
        command.arg(process::root().join("target/compile-time/target"));
        let begun = Instant::now();
        match command.status() {
            Ok(status) if status.success() => Ok(begun.elapsed()),
            Ok(_) => Err(help::failed("the structs do not compile")),
            Err(error) => Err(help::failed(format!("cargo does not start: {error}"))),
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
