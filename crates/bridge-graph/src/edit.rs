use bridge_vars::{Filter, Path, PathKey, Result, State, Variable};
use candle_core::{Device, Tensor};

use crate::alias::Aliases;
use crate::dynamic::{DynamicType, ErasedRebuild};
use crate::error::GraphError;
use crate::program::Def;
use crate::source::Source;
use crate::split::{Splitter, program_of_part};
use crate::{Attribute, Field, Flag, StatefulModule, Structure, Visit, Visitor};

/// A module like this one, with another part, variable or plain value in the place of the one that `select` picks.
///
/// Everything else is the same: the new module has the very variables of the old one, and sharing follows from what
/// is the same variable or part, so that the new part may share with the rest.
///
/// `select` returns a field, an item of a list, or what is inside of an `Option` or a [`Shared`](crate::Shared): something
/// that a walk comes to. For a place that can't be pointed at, use [`replace_at`].
///
/// ```
/// use bridge_graph::{StatefulModule, replace};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
/// #[derive(StatefulModule)]
/// struct Model { layers: Vec<Scale>, head: Option<Scale>, depth: u32 }
///
/// let scale = |value: f32| Ok::<_, bridge_vars::Error>(Scale { factor: Param::new(Tensor::new(value, &Device::Cpu)?) });
/// let model = Model { layers: vec![scale(1.)?, scale(2.)?], head: None, depth: 2 };
///
/// let model = replace(&model, |model| &model.head, Some(scale(3.)?))?;
/// let model = replace(&model, |model| &model.depth, 3)?;
/// // Ties the second layer to the first.
/// let tied = replace(&model, |model| &model.layers[1].factor, model.layers[0].factor.clone())?;
/// assert!(tied.layers[1].factor.is_same(&model.layers[0].factor));
/// assert_eq!(tied.head.unwrap().factor.value()?.to_scalar::<f32>()?, 3.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// Two kinds of fields are no places: one marked `#[module(skip)]` has its default again, and one marked
/// `#[module(static)]` is replaced with the module that has it.
///
/// # Errors
/// [`GraphError::NotSelected`] if a walk does not come to what `select` picks, or comes to several things at its address;
/// [`GraphError::Structure`] if the new part does not fit its place.
#[doc(alias("tree_at", "eqx.tree_at"))]
pub fn replace<M: Field, T: Visit>(
    module: &M,
    select: impl for<'a> FnOnce(&'a M) -> &'a T,
    with: T,
) -> Result<M> {
    let selected = select(module);
    let target = Target::Part { address: std::ptr::from_ref(selected).addr(), name: selected.visited_type() };
    edit(module, Edit { target, with: Some(&with), ..Edit::nothing() }).map(|(edited, _)| edited)
}

/// [`replace`] of what is at a path, which may go through any of the places where a shared part stands.
///
/// # Errors
/// Those of [`replace`].
pub fn replace_at<M: Field, T: Visit>(module: &M, path: impl Into<Path>, with: T) -> Result<M> {
    let mut path: Path = path.into();
    // The last step is the place itself, even where what stands in it is shared.
    if let Some(last) = path.pop() {
        path = Aliases::of(&program_of_part(module)?).resolve(&path).join(last);
    }
    let target = Target::Path(path);
    edit(module, Edit { target, with: Some(&with), ..Edit::nothing() }).map(|(edited, _)| edited)
}

/// A module like this one without the variables that a filter matches, and their state.
///
/// A variable can go where its absence is possible: from an `Option`, which is `None` then, or from a map. The new module
/// has the very other variables of the old one.
///
/// ```
/// use bridge_graph::{StatefulModule, pop};
/// use bridge_vars::{Filter, Intermediate, Param};
///
/// #[derive(StatefulModule)]
/// struct Model { weight: Param, seen: Option<Intermediate> }
///
/// let model = Model { weight: Param::new(1), seen: Some(Intermediate::new(2)) };
/// let (model, popped) = pop(&model, Filter::of::<Intermediate>())?;
/// assert!(model.seen.is_none());
/// assert_eq!(popped.get("seen")?.value.count()?, 2);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// [`GraphError::NotOptional`] with every path at which a variable that the filter matches must be.
#[doc(alias = "nnx.pop")]
pub fn pop<M: Field>(module: &M, filter: impl Into<Filter>) -> Result<(M, State)> {
    let filter = filter.into();
    edit(module, Edit { pop: Some(&filter), ..Edit::nothing() })
}

/// A module of the same form with the very same variables, whose flags are its own.
pub(crate) fn rebuilt<M: Field>(module: &M) -> Result<M> {
    edit(module, Edit::nothing()).map(|(rebuilt, _)| rebuilt)
}

/// What is to be done on the way through a module.
struct Edit<'a> {
    target: Target,
    with: Option<&'a dyn Visit>,
    pop: Option<&'a Filter>,
}

impl Edit<'_> {
    fn nothing() -> Self {
        Self { target: Target::Nothing, with: None, pop: None }
    }
}

enum Target {
    Nothing,
    Part { address: usize, name: &'static str },
    Path(Path),
}

fn edit<M: Field>(module: &M, edit: Edit<'_>) -> Result<(M, State)> {
    let selects = edit.with.is_some();
    let mut editor = Editor {
        edit,
        splitter: Splitter::recording(),
        path: Path::root(),
        nodes: Vec::new(),
        gone: false,
        found: Vec::new(),
        popped: State::default(),
        popped_variables: Vec::new(),
        fixed: Vec::new(),
    };
    editor.descend(module)?;
    if editor.gone {
        editor.fixed.push(Path::root());
    }
    if selects && editor.found.len() != 1 {
        let target = match editor.edit.target {
            Target::Path(path) => format!("at `{path}`"),
            Target::Part { name, .. } => format!("of type {name}"),
            Target::Nothing => String::new(),
        };
        return Err(GraphError::NotSelected { target, found: editor.found }.into());
    }
    if !editor.fixed.is_empty() {
        return Err(GraphError::NotOptional { paths: editor.fixed }.into());
    }
    let (program, _, handles) = editor.splitter.finish()?;
    let edited = Source::walking(&program, &handles, false).read(M::rebuild)?.0;
    Ok((edited, editor.popped))
}

/// Shows a [`Splitter`] the module as it is to be.
struct Editor<'a> {
    edit: Edit<'a>,
    splitter: Splitter<'a>,
    path: Path,
    /// For each open node the entry that began it, and whether children can be left out.
    nodes: Vec<(usize, bool)>,
    /// The last thing that was visited was left out.
    gone: bool,
    found: Vec<Path>,
    popped: State,
    popped_variables: Vec<Variable>,
    /// Where a variable that was to go must be.
    fixed: Vec<Path>,
}

impl Editor<'_> {
    fn is_target(&self, part: &dyn Visit) -> bool {
        match &self.edit.target {
            Target::Nothing => false,
            Target::Part { address, name } => {
                std::ptr::from_ref(part).addr() == *address && part.visited_type() == *name
            }
            // The parts under one path are an option or a shared part and what is inside: the outermost is meant.
            Target::Path(path) => self.path == *path && self.found.is_empty(),
        }
    }

    fn descend(&mut self, part: &dyn Visit) -> Result<()> {
        if let Some(with) = self.edit.with
            && self.is_target(part)
        {
            self.found.push(self.path.clone());
            // The new part may contain the old one, which is to stay there.
            let target = std::mem::replace(&mut self.edit.target, Target::Nothing);
            let visited = with.visit(self);
            self.edit.target = target;
            return visited;
        }
        part.visit(self)
    }

    fn entries(&self) -> usize {
        self.splitter.program.as_ref().map_or(0, |program| program.entries.len())
    }

    /// Takes back what was written down since there were this many entries.
    fn take_back(&mut self, entries: usize) {
        if let Some(program) = &mut self.splitter.program {
            program.entries.truncate(entries);
        }
    }
}

impl Visitor for Editor<'_> {
    fn enter(&mut self, structure: Structure, module: Option<&dyn StatefulModule>) -> Result<()> {
        let is_map = matches!(structure, Structure::Map | Structure::OrderedMap(_));
        self.nodes.push((self.entries(), is_map));
        self.splitter.enter(structure, module)
    }

    fn exit(&mut self) -> Result<()> {
        self.nodes.pop();
        self.splitter.exit()
    }

    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        let before = self.entries();
        self.path.push(key.clone());
        self.splitter.set_key(key);
        self.descend(child)?;
        if std::mem::take(&mut self.gone) {
            self.take_back(before);
            match self.nodes.last() {
                Some(&(node, true)) => {
                    if let Some(program) = &mut self.splitter.program
                        && let Some(entry) = program.entries.get_mut(node)
                        && let Def::Enter(Structure::OrderedMap(order)) = &mut entry.def
                    {
                        *order = order.iter().filter(|other| *other != key).cloned().collect();
                    }
                }
                _ => self.fixed.push(self.path.clone()),
            }
        }
        self.path.pop();
        Ok(())
    }

    fn optional(&mut self, part: Option<&dyn Visit>) -> Result<()> {
        let Some(part) = part else { return self.splitter.optional(None) };
        let before = self.entries();
        self.splitter.define(|| Def::Some);
        self.descend(part)?;
        if std::mem::take(&mut self.gone) {
            self.take_back(before);
            self.splitter.define(|| Def::None);
        }
        Ok(())
    }

    fn shared(&mut self, id: usize, target: &dyn Visit) -> Result<()> {
        match self.splitter.begin_shared(id) {
            true => {
                self.descend(target)?;
                // The part is in other places too, so it can't go.
                if std::mem::take(&mut self.gone) {
                    self.fixed.push(self.path.clone());
                }
                Ok(())
            }
            false => Ok(()),
        }
    }

    fn dynamic(
        &mut self,
        type_name: &'static str,
        rebuild: &dyn Fn() -> ErasedRebuild,
        module: &dyn Visit,
    ) -> Result<()> {
        self.splitter.define(|| Def::Dynamic(DynamicType::new(type_name, rebuild())));
        self.descend(module)
    }

    fn variable(&mut self, variable: &Variable) -> Result<()> {
        if self.popped_variables.iter().any(|popped| popped.is_same(variable)) {
            self.gone = true;
            return Ok(());
        }
        if let Some(filter) = self.edit.pop {
            let leaf = variable.leaf()?;
            if !self.splitter.has_seen(variable) && filter.matches(&self.path, &leaf) {
                self.popped.insert(&self.path, leaf)?;
                self.popped_variables.push(variable.clone());
                self.gone = true;
                return Ok(());
            }
        }
        self.splitter.variable(variable)
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        self.splitter.tensor(tensor)
    }
    fn attribute(&mut self, attribute: &dyn Fn() -> Attribute) -> Result<()> {
        self.splitter.attribute(attribute)
    }
    fn flag(&mut self, flag: &Flag) -> Result<()> {
        self.splitter.flag(flag)
    }
    fn device(&mut self, device: &Device) -> Result<()> {
        self.splitter.device(device)
    }
    fn weak(&mut self, id: Option<usize>) -> Result<()> {
        self.splitter.weak(id)
    }
}
