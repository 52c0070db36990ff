//! `cargo xtask golden`: the files that hold what JAX and Flax compute, and what safetensors reads.

mod compare;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::help::{self, Outcome, file_failure};
use crate::process;
use crate::python::{environment, execute};

const HELP: &str = "\
Regenerate the golden files in tests/golden/{jax,flax,safetensors} with the real JAX, Flax and safetensors.

Usage: cargo xtask golden [--check]

Makes a virtual environment in target/golden-venv with the packages that tests/golden/requirements.txt pins. That takes
Python 3.11 or newer, and an x86-64 processor with AVX2 for the bits to agree.

Options:
  --check   Change nothing: compare with what is stored, and fail if anything differs
  --help    Print this

Environment:
  CANDLE_BRIDGE_PYTHON   The Python to make the environment with; python3 if absent
";

/// Each folder of golden files with the script that writes it.
const FOLDERS: [(&str, &str); 4] = [
    ("jax", "generate_jax.py"),
    ("flax", "generate_flax.py"),
    ("optax", "generate_optax.py"),
    ("safetensors", "generate_safetensors.py"),
];

pub(crate) fn command(arguments: lexopt::Parser) -> Outcome {
    let Some(arguments) = help::parse(arguments, Some("check"), false, HELP)? else {
        return Ok(());
    };
    let root = process::root();
    let stored = root.join("tests/golden");
    let fresh = root.join("target/golden");

    let python = python()?;
    remove(&fresh)?;
    for (folder, script) in FOLDERS {
        let mut generator = Command::new(&python);
        generator.arg(stored.join(script)).arg(fresh.join(folder)).env("PYTHONDONTWRITEBYTECODE", "1");
        execute(&mut generator, script)?;
    }
    if arguments.flag {
        check(&stored, &fresh)
    } else {
        FOLDERS.iter().try_for_each(|(folder, _)| replace(&stored.join(folder), &fresh.join(folder)))
    }
}

fn check(stored: &Path, fresh: &Path) -> Outcome {
    let mut total = compare::Comparison::default();
    for (folder, _) in FOLDERS {
        total.folders(&stored.join(folder), &fresh.join(folder), folder)?;
    }
    for difference in &total.differences {
        println!("{difference}");
    }
    let summary = format!("checked {} values in {} files", total.values, total.files);
    if total.differences.is_empty() {
        println!("{summary}");
        Ok(())
    } else {
        let count = total.differences.len();
        Err(help::failed(format!("differing entries: {count}; {summary}")))
    }
}

/// The Python of the environment that has JAX and Flax, made if need be.
pub(crate) fn python() -> Outcome<PathBuf> {
    let root = process::root();
    environment(&root.join("target/golden-venv"), &root.join("tests/golden/requirements.txt"))
}

/// Puts the fresh files in place of those stored, and removes stored ones that are no longer made.
fn replace(stored: &Path, fresh: &Path) -> Outcome {
    fs::create_dir_all(stored).map_err(|error| file_failure(stored, &error))?;
    for name in compare::names(stored)? {
        remove(&stored.join(name))?;
    }
    for name in compare::names(fresh)? {
        let target = stored.join(&name);
        fs::copy(fresh.join(&name), &target).map_err(|error| file_failure(&target, &error))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Outcome {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_failure(path, &error)),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| file_failure(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> PathBuf {
        process::root().join("tests/golden")
    }

    #[test]
    fn one_flipped_bit_of_what_is_stored_fails_the_check() {
        let copy = tempfile::tempdir().unwrap();
        for (folder, _) in FOLDERS {
            replace(&copy.path().join(folder), &golden().join(folder)).unwrap();
        }
        check(&golden(), copy.path()).unwrap();

        let file = copy.path().join("flax/linear.json");
        let text = read(&file).unwrap();
        let start = text.find("\"u32\":[").unwrap() + "\"u32\":[".len();
        let end = start + text[start..].find(',').unwrap();
        let bits: u32 = text[start..end].parse().unwrap();
        let flipped = format!("{}{}{}", &text[..start], bits ^ 1, &text[end..]);
        fs::write(&file, flipped).unwrap();
        let failure = check(copy.path(), &golden()).unwrap_err().to_string();
        assert!(failure.contains("differing entries: 1;"), "{failure}");
    }

    #[test]
    fn replacing_removes_files_that_are_no_longer_made() {
        let directory = tempfile::tempdir().unwrap();
        let (stored, fresh) = (directory.path().join("stored"), directory.path().join("fresh"));
        for (folder, name) in [(&stored, "old.json"), (&fresh, "new.json")] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(name), "{}").unwrap();
        }
        replace(&stored, &fresh).unwrap();
        assert_eq!(compare::names(&stored).unwrap(), ["new.json"]);
    }
}
