//! Mistakes that must not compile, and what the compiler says about them.
//!
//! Each file of `compile_fail/` is a program. A line that has errors ends with one `//~ ERROR code: message` for
//! each: the code that the error underlines, and a part of its message. These must be all of the program's errors.
//! `//~ FIXED line` says what to write in place of the line above; with all of these the program compiles.
//!
//! All programs, and their fixed forms, are targets of one generated package, checked by one call of cargo.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

#[derive(Debug)]
struct Case {
    name: String,
    expected: Vec<Expected>,
    program: String,
    fixed: String,
}

#[derive(Debug)]
struct Expected {
    line: usize,
    code: String,
    message: String,
}

/// An error as the compiler reports it, with each line and code that it underlines.
#[derive(Debug)]
struct Found {
    places: Vec<(usize, String)>,
    message: String,
}

/// What cargo says about one target.
#[derive(Debug, Default)]
struct Outcome {
    compiles: bool,
    errors: Vec<Found>,
}

impl Case {
    fn read(path: &Path) -> Self {
        let program = fs::read_to_string(path).unwrap();
        let mut expected = Vec::new();
        let mut fixed: Vec<&str> = Vec::new();
        for (number, line) in program.lines().enumerate() {
            for error in line.split("//~ ERROR ").skip(1) {
                let (code, message) = error.split_once(": ").expect("`//~ ERROR code: message`");
                let (code, message) = (code.trim().to_owned(), message.trim().to_owned());
                expected.push(Expected { line: number + 1, code, message });
            }
            match line.split_once("//~ FIXED") {
                Some((_, replacement)) => *fixed.last_mut().expect("a line above") = replacement,
                None => fixed.push(line),
            }
        }
        assert!(!expected.is_empty(), "{} expects no error", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        Self { name, expected, fixed: fixed.join("\n"), program }
    }

    fn fixed_name(&self) -> String {
        format!("{}_fixed", self.name)
    }

    /// What is not as it should be, if anything.
    fn problems(&self, outcomes: &BTreeMap<String, Outcome>) -> String {
        let mut problems = String::new();
        let none = Outcome::default();
        let (found, fixed) =
            (outcomes.get(&self.name).unwrap_or(&none), outcomes.get(&self.fixed_name()).unwrap_or(&none));
        for expected in
            self.expected.iter().filter(|expected| !found.errors.iter().any(|found| found.is(expected)))
        {
            writeln!(problems, "{}: missing {expected:?}", self.name).unwrap();
        }
        for error in
            found.errors.iter().filter(|found| !self.expected.iter().any(|expected| found.is(expected)))
        {
            writeln!(problems, "{}: unexpected {error:?}", self.name).unwrap();
        }
        if found.compiles || !fixed.compiles {
            writeln!(
                problems,
                "{}: compiles: {}, fixed: {} {:?}",
                self.name, found.compiles, fixed.compiles, fixed.errors
            )
            .unwrap();
        }
        problems
    }
}

impl Found {
    fn is(&self, expected: &Expected) -> bool {
        self.message.contains(&expected.message)
            && self.places.iter().any(|(line, code)| *line == expected.line && *code == expected.code)
    }

    /// The error in a compiler message; a summary of errors, which has no place, is none.
    fn parse(message: &Json) -> Option<Self> {
        if message["level"] != "error" {
            return None;
        }
        let primary = message["spans"].as_array()?.iter().filter(|span| span["is_primary"] == true);
        let places: Vec<_> = primary.filter_map(place).collect();
        let message = message["message"].as_str()?.to_owned();
        (!places.is_empty()).then_some(Self { places, message })
    }
}

fn place(span: &Json) -> Option<(usize, String)> {
    let number = |json: &Json| json.as_u64().and_then(|number| usize::try_from(number).ok());
    let text = &span["text"][0];
    let (start, end) = (number(&text["highlight_start"])?, number(&text["highlight_end"])?);
    let code = text["text"].as_str()?.chars().skip(start - 1).take(end - start).collect();
    Some((number(&span["line_start"])?, code))
}

/// Writes a package with every program as a target; it takes the workspace's crates, versions and profiles, so that
/// what is built of them already can serve.
fn write_package(directory: &Path, workspace: &Path, cases: &[Case]) {
    let root = fs::read_to_string(workspace.join("Cargo.toml")).unwrap();
    let profiles = root.find("\n[profile").map_or("", |start| &root[start..]);
    let crates = workspace.join("crates");
    let manifest = format!(
        "[package]\nname = \"compile-fail\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\nbridge-graph.path = '{0}/bridge-graph'\nbridge-vars.path = '{0}/bridge-vars'\n\
         candle-core = '*'\nserde = '*'\n{profiles}",
        crates.display(),
    );
    let programs = directory.join("src/bin");
    // Programs that are gone must not stay.
    let _ = fs::remove_dir_all(&programs);
    fs::create_dir_all(&programs).unwrap();
    fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    fs::copy(workspace.join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    for case in cases {
        fs::write(programs.join(format!("{}.rs", case.name)), &case.program).unwrap();
        fs::write(programs.join(format!("{}.rs", case.fixed_name())), &case.fixed).unwrap();
    }
}

fn cargo_check(directory: &Path, target: &Path) -> BTreeMap<String, Outcome> {
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--keep-going", "--message-format=json", "--target-dir"])
        .arg(target)
        .current_dir(directory)
        .output()
        .unwrap();
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let json: Json = serde_json::from_str(line).unwrap();
        if json["target"]["kind"][0] != "bin" {
            continue;
        }
        let outcome = outcomes.entry(json["target"]["name"].as_str().unwrap().to_owned()).or_default();
        match json["reason"].as_str() {
            Some("compiler-message") => outcome.errors.extend(Found::parse(&json["message"])),
            Some("compiler-artifact") => outcome.compiles = true,
            _ => {}
        }
    }
    assert!(
        !outcomes.is_empty(),
        "cargo did not get to the programs:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    outcomes
}

#[test]
fn compile_fail() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut files: Vec<PathBuf> =
        fs::read_dir(package.join("compile_fail")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let cases: Vec<Case> = files.iter().map(|file| Case::read(file)).collect();

    let directory = temporary.join("compile_fail");
    write_package(&directory, package.parent().unwrap(), &cases);
    let outcomes = cargo_check(&directory, temporary.parent().unwrap());
    let problems: String = cases.iter().map(|case| case.problems(&outcomes)).collect();
    assert!(problems.is_empty(), "\n{problems}");
}
