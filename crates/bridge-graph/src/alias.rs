use bridge_vars::{Path, Result, State, Variable, VarsError};

use crate::program::{Def, Program};
use crate::split::program_of_part;
use crate::{GraphDef, GraphNode, Visit, iter_graph};

/// The other paths of what stands in several places, each with the one under which it is stored.
#[derive(Debug, Default)]
pub(crate) struct Aliases(Vec<(Path, Path)>);

impl Aliases {
    pub(crate) fn of(program: &Program) -> Self {
        let (mut variables, mut shared) = (Vec::new(), Vec::new());
        program.for_each(|path, def| match def {
            Def::Variable { .. } => variables.push(path.clone()),
            Def::Shared => shared.push(path.clone()),
            _ => {}
        });
        let mut aliases = Vec::new();
        program.for_each(|path, def| {
            let stored = match def {
                Def::VariableRef(number) => variables.get(*number),
                Def::SharedRef(number) | Def::Weak(Some(number)) => shared.get(*number),
                _ => None,
            };
            aliases.extend(stored.map(|stored| (path.clone(), stored.clone())));
        });
        aliases.sort();
        Self(aliases)
    }

    /// The path under which what is at a path is stored; the path itself if nothing above it is an alias.
    pub(crate) fn resolve(&self, path: &Path) -> Path {
        let mut resolved = path.clone();
        // Each round takes at least one step of what is below an alias away, so there is an end.
        while let Some((alias, stored)) = self.above(&resolved) {
            let below = resolved.keys().iter().skip(alias.len()).cloned().collect();
            resolved = stored.concat(&below);
        }
        resolved
    }

    /// The alias that a path goes through, if any: there is at most one, because nothing is stored below an alias.
    fn above(&self, path: &Path) -> Option<&(Path, Path)> {
        (1..=path.len()).find_map(|length| {
            let prefix: Path = path.keys().iter().take(length).cloned().collect();
            let at = self.0.binary_search_by(|(alias, _)| alias.cmp(&prefix)).ok()?;
            self.0.get(at)
        })
    }

    /// A state with leaves under aliases moved to where they are stored; nothing if there are none.
    ///
    /// # Errors
    /// [`VarsError::DuplicatePath`] if a leaf is given under two paths of one variable.
    pub(crate) fn renamed(&self, state: &State, unexpected: &[Path]) -> Result<Option<State>> {
        let mut renamed = None;
        for path in unexpected {
            let stored = self.resolve(path);
            if stored == *path {
                continue;
            }
            let state = renamed.get_or_insert_with(|| state.clone());
            let leaf = state.remove(path)?;
            if let Ok(first) = state.get(&stored) {
                // The same value twice says one thing.
                if !first.identical(&leaf)? {
                    let (first, second) = (first.kind.name(), leaf.kind.name());
                    return Err(VarsError::DuplicatePath { path: stored, first, second }.into());
                }
                continue;
            }
            state.insert(&stored, leaf)?;
        }
        Ok(renamed)
    }
}

impl<M> GraphDef<M> {
    /// The other paths of variables and parts that stand in several places, each with the path under which a state has
    /// them; in order.
    ///
    /// A weak reference is another path of the part that it leads to.
    pub fn aliases(&self) -> Vec<(Path, Path)> {
        Aliases::of(&self.program).0
    }

    /// The path under which a state has what is at `path`, which may go through aliases.
    pub fn resolve(&self, path: impl Into<Path>) -> Path {
        Aliases::of(&self.program).resolve(&path.into())
    }
}

/// The variable at a path of a module; any of its paths will do.
///
/// # Errors
/// [`VarsError::PathNotFound`], with paths that look like it.
#[doc(alias = "get_variable")]
pub fn variable_at<M: Visit + ?Sized>(module: &M, path: impl Into<Path>) -> Result<Variable> {
    let asked = path.into();
    let path = Aliases::of(&program_of_part(module)?).resolve(&asked);
    let (mut found, mut paths) = (None, Vec::new());
    iter_graph(module, |at, node| {
        if let GraphNode::Variable(variable) = node {
            match *at == path {
                true => found = Some(variable.clone()),
                false => paths.push(at.clone()),
            }
        }
        Ok(())
    })?;
    found.ok_or_else(|| {
        let close = asked.similar(paths);
        VarsError::PathNotFound { path: asked, close }.into()
    })
}

/// What stands in several places of a module: for each such variable and shared part all of its paths, the first
/// being where it is stored. Empty if nothing is shared.
///
/// ```
/// use bridge_graph::find_duplicates;
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// let tied = Param::new(Tensor::new(2f32, &Device::Cpu)?);
/// let duplicates = find_duplicates(&vec![tied.clone(), tied])?;
/// assert_eq!(duplicates, [["0".into(), "1".into()]]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// None that a derived module causes.
#[doc(alias = "nnx.find_duplicates")]
pub fn find_duplicates<M: Visit + ?Sized>(module: &M) -> Result<Vec<Vec<Path>>> {
    let (mut variables, mut shared) = (Vec::new(), Vec::new());
    program_of_part(module)?.for_each(|path, def| match def {
        Def::Variable { .. } => variables.push(vec![path.clone()]),
        Def::Shared => shared.push(vec![path.clone()]),
        Def::VariableRef(number) => {
            if let Some(paths) = variables.get_mut(*number) {
                paths.push(path.clone());
            }
        }
        Def::SharedRef(number) => {
            if let Some(paths) = shared.get_mut(*number) {
                paths.push(path.clone());
            }
        }
        _ => {}
    });
    let mut duplicates = variables;
    duplicates.extend(shared);
    duplicates.retain(|paths| paths.len() > 1);
    duplicates.sort();
    Ok(duplicates)
}
