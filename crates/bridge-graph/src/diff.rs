use std::fmt;

use bridge_vars::Path;

use crate::GraphDef;
use crate::outline::Row;
use crate::program::{Def, Program};

/// In what two descriptions differ: see [`GraphDef::diff`]. Prints a line a difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphDiff {
    /// What only the second has: paths, and what is there. What is below an added part is not listed.
    pub added: Vec<(Path, String)>,
    /// What only the first has: paths, and what is there. What is below a removed part is not listed.
    pub removed: Vec<(Path, String)>,
    /// What both have, and is different: paths, what it is in the first, and in the second.
    pub changed: Vec<(Path, String, String)>,
}

impl GraphDiff {
    /// True if the two are equal.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl fmt::Display for GraphDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no difference");
        }
        let added = self.added.iter().map(|(path, what)| (path, format!("+ `{path}`: {what}")));
        let removed = self.removed.iter().map(|(path, what)| (path, format!("- `{path}`: {what}")));
        let changed = self.changed.iter();
        let changed = changed.map(|(path, from, to)| (path, format!("~ `{path}`: {from} became {to}")));
        let mut lines: Vec<_> = added.chain(removed).chain(changed).collect();
        lines.sort();
        let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl<M> GraphDef<M> {
    /// What changed from this description to another. Empty if the two are equal; shapes and dtypes do not count.
    ///
    /// ```
    /// use bridge_graph::{StatefulModule, graphdef};
    /// use bridge_vars::Param;
    ///
    /// #[derive(StatefulModule)]
    /// struct Model { weight: Param, bias: Option<Param>, depth: u32 }
    ///
    /// let of = |bias, depth| graphdef(&Model { weight: Param::new(0), bias, depth });
    /// let diff = of(None, 2)?.diff(&of(Some(Param::new(0)), 3)?);
    /// assert_eq!(diff.to_string(), "\
    /// ~ `bias`: none became Param a count
    /// ~ `depth`: 2 became 3");
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    pub fn diff<N>(&self, other: &GraphDef<N>) -> GraphDiff {
        self.program.diff(&other.program)
    }
}

impl Program {
    /// [`GraphDef::diff`].
    pub fn diff(&self, other: &Program) -> GraphDiff {
        let (mut first, mut second) = (self.rows(), other.rows());
        // Rows come in the order of a walk, which is that of their paths.
        first.sort_by(|a, b| a.path.cmp(&b.path));
        second.sort_by(|a, b| a.path.cmp(&b.path));
        let mut diff = GraphDiff::default();
        let (mut a, mut b) = (first.iter().peekable(), second.iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return diff,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.path.cmp(&b.path),
            };
            match order {
                std::cmp::Ordering::Less => {
                    diff.removed.extend(a.next().and_then(|row| top(&diff.removed, row)))
                }
                std::cmp::Ordering::Greater => {
                    diff.added.extend(b.next().and_then(|row| top(&diff.added, row)))
                }
                std::cmp::Ordering::Equal => {
                    if let (Some(a), Some(b)) = (a.next(), b.next())
                        && !same(a, b)
                    {
                        diff.changed.push((a.path.clone(), a.to_string(), b.to_string()));
                    }
                }
            }
        }
    }
}

/// The row, unless it is below the last one that was listed.
fn top(listed: &[(Path, String)], row: &Row<'_>) -> Option<(Path, String)> {
    let below = listed.last().is_some_and(|(path, _)| row.path.starts_with(path));
    (!below).then(|| (row.path.clone(), row.to_string()))
}

/// True if both say the same; references do where they lead to the same path, whatever the numbers.
fn same(a: &Row<'_>, b: &Row<'_>) -> bool {
    let defs = a.defs.len() == b.defs.len()
        && a.defs.iter().zip(&b.defs).all(|(a, b)| match (a, b) {
            (Def::VariableRef(_), Def::VariableRef(_))
            | (Def::SharedRef(_), Def::SharedRef(_))
            | (Def::Weak(Some(_)), Def::Weak(Some(_))) => true,
            (a, b) => a == b,
        });
    defs && a.leads_to == b.leads_to
}
