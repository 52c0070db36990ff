//! Whether one state can take the place of another.

use bridge_graph::{Misfit, Mismatch};
use bridge_vars::{Leaf, Path, Result, State, Value};

/// Where `found` differs from `expected` in paths, types, shapes and dtypes.
pub(crate) fn differences(expected: &State, found: &State) -> Misfit {
    let mut misfit = Misfit::default();
    for (path, leaf) in expected.iter() {
        match found.tree().get(&path) {
            None => misfit.missing.push(path),
            Some(other) if is_like(leaf, other) => {}
            Some(other) => {
                misfit.mismatched.push(Mismatch { path, expected: describe(leaf), found: describe(other) })
            }
        }
    }
    let paths = found.iter().map(|(path, _)| path);
    misfit.unexpected = paths.filter(|path| expected.tree().get(path).is_none()).collect();
    misfit
}

/// The leaves of `found`, which has all paths of `expected`, on the devices of `expected`.
pub(crate) fn placed(expected: &State, found: &State) -> Result<State> {
    expected.map(|path, leaf| {
        let other = found.get(path)?;
        match (&leaf.value, &other.value) {
            (Value::Tensor(leaf), Value::Tensor(tensor)) => {
                Ok(other.with_value(tensor.get().to_device(leaf.device())?))
            }
            (Value::Described(leaf), Value::Tensor(tensor)) => {
                Ok(other.with_value(tensor.get().to_device(leaf.device())?))
            }
            _ => Ok(other.clone()),
        }
    })
}

pub(crate) fn is_like(expected: &Leaf, found: &Leaf) -> bool {
    // By name: a type that a file named before the program declared it is not the declared one.
    let kind = |leaf: &Leaf| (leaf.kind.name(), leaf.kind.collection());
    kind(expected) == kind(found) && found.value.can_replace(&expected.value)
}

pub(crate) fn describe(leaf: &Leaf) -> String {
    match &leaf.value {
        Value::Tensor(tensor) => format!("{} {tensor:?}", leaf.kind),
        Value::Described(described) => format!("{} {} (not made yet)", leaf.kind, described.form()),
        other => format!("{} {}", leaf.kind, other.kind()),
    }
}

/// A line for each path, as they stand in messages.
pub(crate) fn lines(misfit: &Misfit) -> String {
    let paths = |what: &'static str, paths: &[Path]| {
        paths.iter().map(|path| format!("\n  {what} `{path}`")).collect::<String>()
    };
    let mismatched = misfit.mismatched.iter().map(|Mismatch { path, expected, found }| {
        format!("\n  `{path}`: expected {expected}, found {found}")
    });
    paths("missing", &misfit.missing)
        + &paths("unexpected", &misfit.unexpected)
        + &mismatched.collect::<String>()
}
