//! A program as people read it: a line for each part, in a tree.

use std::fmt;

use bridge_vars::{Metadata, Path};

use crate::program::{Def, Entry, Program};
use crate::{Attribute, Structure};

/// What is at a path: one or more entries, put into words.
pub(crate) struct Row<'a> {
    pub(crate) path: Path,
    pub(crate) defs: Vec<&'a Def>,
    /// What a reference leads to.
    pub(crate) leads_to: Option<Path>,
}

impl Program {
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let (mut variables, mut shared) = (Vec::new(), Vec::new());
        let mut rows: Vec<Row<'_>> = Vec::new();
        let mut goes_on = false;
        self.for_each(|path, def| {
            match def {
                Def::Variable { .. } => variables.push(path.clone()),
                Def::Shared => shared.push(path.clone()),
                _ => {}
            }
            match rows.last_mut().filter(|_| goes_on) {
                Some(row) => row.defs.push(def),
                None => rows.push(Row { path: path.clone(), defs: vec![def], leads_to: None }),
            }
            goes_on = def.goes_on();
        });
        for row in &mut rows {
            row.leads_to = row.defs.last().and_then(|def| match def {
                Def::VariableRef(number) => variables.get(*number).cloned(),
                Def::SharedRef(number) | Def::Weak(Some(number)) => shared.get(*number).cloned(),
                _ => None,
            });
        }
        rows
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for def in &self.defs {
            match (def, &self.leads_to) {
                (Def::Some, _) => {}
                (Def::Shared, _) => f.write_str("shared ")?,
                (Def::Dynamic(_), _) => f.write_str("boxed ")?,
                (Def::Enter(Structure::Module(name)), _) => f.write_str(name)?,
                (Def::Enter(Structure::Variant(names)), _) => write!(f, "{}::{}", names.0, names.1)?,
                (Def::Enter(Structure::List), _) => f.write_str("list")?,
                (Def::Enter(Structure::Tuple), _) => f.write_str("tuple")?,
                (Def::Enter(Structure::Map), _) => f.write_str("map")?,
                (Def::Enter(Structure::OrderedMap(order)), _) => {
                    let keys: Vec<_> = order.iter().map(ToString::to_string).collect();
                    write!(f, "map in the order [{}]", keys.join(", "))?;
                }
                (Def::None, _) => f.write_str("none")?,
                (Def::Attribute(attribute), _) => attribute.fmt(f)?,
                (Def::Flag(on), _) => write!(f, "{}", if *on { "on" } else { "off" })?,
                (Def::Device(device), _) => write!(f, "device {:?}", device.location())?,
                (Def::Variable { kind, metadata, spec }, _) => {
                    write!(f, "{kind}{spec}")?;
                    metadata_after(metadata, f)?;
                }
                (Def::Tensor(spec), _) => write!(f, "tensor{spec}")?,
                (Def::VariableRef(_) | Def::SharedRef(_), Some(path)) => write!(f, "the same as `{path}`")?,
                (Def::Weak(Some(_)), Some(path)) if path.is_empty() => f.write_str("refers to the whole")?,
                (Def::Weak(Some(_)), Some(path)) => write!(f, "refers to `{path}`")?,
                (Def::Weak(_), _) => f.write_str("refers to nothing")?,
                (Def::VariableRef(number) | Def::SharedRef(number), None) => write!(f, "number {number}")?,
                (Def::Exit, _) => {}
            }
        }
        Ok(())
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::UInt(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Typed(value) => write!(f, "{value:?}"),
            Self::Encoded(value) => write!(f, "{value:?}"),
        }
    }
}

fn metadata_after(metadata: &Metadata, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match metadata.is_empty() {
        true => Ok(()),
        false => write!(f, " {metadata:?}"),
    }
}

/// Of a node with more children than this, only the first and the last are shown.
const LONG: usize = 12;
const FIRST: usize = 4;
const LAST: usize = 2;

impl fmt::Display for Program {
    /// A line an entry, children below their node. Of a long list the first and the last items are shown, and what is in
    /// between is counted; with `{:#}`, everything is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let counts = child_counts(&self.entries);
        // For each open node: how many children it has, and how many came.
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut counts = counts.into_iter();
        let mut hidden_below: Option<usize> = None;
        let mut first = true;
        for row in &rows {
            let depth = row.path.len();
            open.truncate(depth);
            let (count, came) = match open.last_mut() {
                Some((count, came)) => {
                    *came += 1;
                    (*count, *came - 1)
                }
                None => (0, 0),
            };
            if matches!(row.defs.last(), Some(Def::Enter(_))) {
                open.push((counts.next().unwrap_or(0), 0));
            }
            if hidden_below.is_some_and(|hidden| depth > hidden) {
                continue;
            }
            hidden_below = None;
            let hidden = !f.alternate() && count > LONG && (FIRST..count - LAST).contains(&came);
            if hidden {
                hidden_below = Some(depth);
                if came > FIRST {
                    continue;
                }
            }
            if !std::mem::take(&mut first) {
                f.write_str("\n")?;
            }
            let indent = depth * 2;
            match (hidden, row.path.last()) {
                (true, _) => write!(f, "{:indent$}.. {} more", "", count - FIRST - LAST)?,
                (false, Some(key)) => write!(f, "{:indent$}{key}: {row}", "")?,
                (false, None) => write!(f, "{row}")?,
            }
        }
        Ok(())
    }
}

/// How many children each node has, in order of the nodes' beginnings.
fn child_counts(entries: &[Entry]) -> Vec<usize> {
    let (mut counts, mut open) = (Vec::new(), Vec::<usize>::new());
    let mut goes_on = false;
    for Entry { def, .. } in entries {
        if matches!(def, Def::Exit) {
            open.pop();
            continue;
        }
        if !goes_on && let Some(count) = open.last().and_then(|node| counts.get_mut(*node)) {
            *count += 1;
        }
        if matches!(def, Def::Enter(_)) {
            open.push(counts.len());
            counts.push(0);
        }
        goes_on = def.goes_on();
    }
    counts
}
