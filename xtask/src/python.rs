//! Virtual environments of Python with pinned packages.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::help::{self, Outcome, file_failure};

const PYTHON_VARIABLE: &str = "CANDLE_BRIDGE_PYTHON";

/// The Python of a virtual environment that holds exactly what the requirements pin.
pub(crate) fn environment(directory: &Path, requirements: &Path) -> Outcome<PathBuf> {
    let python =
        if cfg!(windows) { directory.join("Scripts/python.exe") } else { directory.join("bin/python") };
    let wanted = fs::read_to_string(requirements).map_err(|error| file_failure(requirements, &error))?;
    // Written last, so that an interrupted installation starts over.
    let stamp = directory.join("installed.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let base = env::var_os(PYTHON_VARIABLE).unwrap_or_else(|| "python3".into());
    let mut create = Command::new(&base);
    create.args(["-m", "venv", "--clear"]).arg(directory);
    execute(&mut create, &base.to_string_lossy())?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    execute(&mut install, "pip")?;
    fs::write(&stamp, wanted).map_err(|error| file_failure(&stamp, &error))?;
    Ok(python)
}

pub(crate) fn execute(command: &mut Command, name: &str) -> Outcome {
    println!("{command:?}");
    let status = command.stdin(Stdio::null()).status().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => help::failed(format!(
            "{name} was not found: other frameworks are asked through Python; install Python 3.11 or newer, or set \
             {PYTHON_VARIABLE} to its path"
        )),
        _ => help::failed(format!("{name} does not start: {error}")),
    })?;
    if status.success() { Ok(()) } else { Err(help::failed(format!("{name} failed ({status})"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_python_is_a_clear_failure() {
        let failure = execute(&mut Command::new("no-such-python"), "no-such-python").unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("no-such-python was not found"), "{text}");
        assert!(text.contains(PYTHON_VARIABLE), "{text}");
    }
}
