//! Tests: what guards an invariant, by the table in `docs/architecture.md`, exists; so do the tests that
//! `docs/flax-behaviour.md` and `docs/bridge.md` name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::help::OVERVIEW;
use crate::process;

const INVARIANTS: &str = "| invariant | guarded by |";
const BEHAVIOURS: &str = "| Flax | here | test |";

/// What the tables with this head name in backticks in their last column, row by row.
fn guards<'a>(document: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let mut rows = Vec::new();
    let mut lines = document.lines();
    while lines.any(|line| line == head) {
        let table = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
        rows.extend(table.map(|row| {
            let guards = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
            guards.split('`').skip(1).step_by(2).collect()
        }));
    }
    rows
}

/// The project as it lies on the disk.
struct Project {
    root: PathBuf,
    /// The text of every Rust file of its packages.
    sources: Vec<String>,
    /// The text of the `lib.rs` of every crate but those that call the system or have kernels.
    libraries: Vec<String>,
}

impl Project {
    fn read(root: PathBuf) -> Self {
        let mut sources = Vec::new();
        for folder in ["crates", "tests", "benches", "xtask"] {
            read_sources(&root.join(folder), &mut sources);
        }
        let crates = list(&root.join("crates")).into_iter().filter(|path| {
            let unsafe_ones = ["bridge-random", "bridge-ops", "bridge-train"];
            !unsafe_ones.iter().any(|unsafe_one| path.ends_with(unsafe_one))
        });
        let libraries = crates.map(|path| fs::read_to_string(path.join("src/lib.rs")).unwrap()).collect();
        Self { root, sources, libraries }
    }

    /// Whether there is such a command, attribute, path or test.
    fn has(&self, guard: &str) -> bool {
        if let Some(command) = guard.strip_prefix("cargo xtask ") {
            OVERVIEW.contains(&format!("\n  {command} "))
        } else if guard.starts_with("#![") {
            self.libraries.iter().all(|library| library.lines().any(|line| line == guard))
        } else if guard.contains(['/', '.']) {
            self.has_path(guard)
        } else {
            let test = format!("fn {guard}(");
            self.sources.iter().any(|source| {
                source.match_indices(&test).any(|(at, _)| source[..at].trim_end().ends_with("#[test]"))
            })
        }
    }

    /// A `*` in the name of a file stands for anything.
    fn has_path(&self, path: &str) -> bool {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some((start, end)) = name.split_once('*') else { return self.root.join(path).exists() };
        list(&self.root.join(folder))
            .iter()
            .filter_map(|path| path.file_name()?.to_str())
            .any(|found| found.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)))
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn read_sources(folder: &Path, sources: &mut Vec<String>) {
    for path in list(folder) {
        if path.is_dir() && !path.ends_with("target") {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// Fails unless a page has a table with this head, each row of which names guards that exist.
fn check(page: &str, head: &str, rows: usize) {
    let project = Project::read(process::root());
    let document = fs::read_to_string(project.root.join(page)).unwrap();
    let guards = guards(&document, head);
    assert!(guards.len() > rows, "the table of {page} is not where it was: {guards:?}");
    let without = guards.iter().position(Vec::is_empty);
    assert!(without.is_none(), "row {without:?} of {page} names nothing that guards it");
    let gone: Vec<_> = guards.into_iter().flatten().filter(|guard| !project.has(guard)).collect();
    assert!(gone.is_empty(), "{page} names guards that do not exist: {gone:?}");
}

#[test]
fn every_guard_of_the_architecture_exists() {
    check("docs/architecture.md", INVARIANTS, 10);
}

#[test]
fn every_behaviour_of_flax_has_its_test() {
    check("docs/flax-behaviour.md", BEHAVIOURS, 100);
}

#[test]
fn every_statement_of_the_bridge_has_its_test() {
    check("docs/bridge.md", BEHAVIOURS, 60);
    let page = fs::read_to_string(process::root().join("docs/bridge.md")).unwrap();
    for (letter, last) in [('F', 3), ('L', 6), ('N', 17), ('T', 16), ('X', 2), ('B', 8)] {
        for number in 1..=last {
            let begins = format!("| {letter}{number} ");
            assert!(page.lines().any(|line| line.starts_with(&begins)), "no row for {letter}{number}");
        }
    }
}

#[test]
fn a_guard_that_is_gone_is_noticed() {
    // Put together here, so that this file does not define what it looks for.
    let gone = ["no", "such", "test"].join("_");
    let project = Project::read(process::root());
    for guard in [
        "cargo xtask lay",
        "#![forbid(missing_code)]",
        "xtask/src/nothing.rs",
        "xtask/src/lib_*.rs",
        "nothing.toml",
        gone.as_str(),
    ] {
        assert!(!project.has(guard), "{guard}");
    }
    assert!(!project.has("has_path"), "it is no test");
    for guard in ["cargo xtask layers", "xtask/src/l*s.rs", "a_guard_that_is_gone_is_noticed"] {
        assert!(project.has(guard), "{guard}");
    }
    let table = "\n| invariant | guarded by |\n|---|---|\n| `a` | `b`, `c` |\n| d | `e` in f |\n\n| `g` | `h` |\n\n\
                 | invariant | guarded by |\n|---|---|\n| i | `j` |";
    assert_eq!(guards(table, INVARIANTS), [vec!["b", "c"], vec!["e"], vec!["j"]]);
}
