use std::any::Any;
use std::sync::{Arc, OnceLock};

use bridge_vars::{Leaf, Metadata, Path, PathKey, Result, Tree, Value, Variable, VariableOf};
use bridge_vars::{Name, VariableKind, VariableType};
use candle_core::{Device, Tensor};
use rustc_hash::FxHashMap;

use crate::attribute::Static;
use crate::error::{GraphError, Misfit, Mismatch};
use crate::program::{Def, Entry, Program, Spec, described};
use crate::values::{Handle, Place, Values};
use crate::{Attribute, Field, Flag, Registry, Shared, Structure, WeakShared};

/// What [`Field::rebuild`] reads a module from: its description, step by step, and the values.
#[derive(Debug)]
pub struct Source<'a> {
    program: &'a Program,
    position: usize,
    path: Path,
    values: Values<'a>,
    variables: Vec<Variable>,
    shared: FxHashMap<usize, Part>,
    /// How many shared parts began.
    begun: usize,
    registry: Option<&'a Registry>,
    /// Whether a variable without a value that fits is made without one.
    lenient: bool,
    /// Whether a bare tensor has no value that fits: there can be no module then.
    lacks_tensors: bool,
    /// How often one of several types of a name was tried.
    attempts: usize,
    misfit: Misfit,
}

/// A shared part: its place, and how far it is.
#[derive(Clone, Debug)]
struct Part {
    place: Arc<dyn Any + Send + Sync>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Progress {
    /// Only referred to so far.
    Expected,
    Begun,
    Done,
}

/// How far a source was read.
#[derive(Debug)]
pub(crate) struct Position {
    position: usize,
    path: usize,
    places: usize,
    taken: usize,
    variables: Vec<Variable>,
    shared: FxHashMap<usize, Part>,
    begun: usize,
    lacks_tensors: bool,
    misfit: Misfit,
}

impl<'a> Source<'a> {
    /// With the values of a state.
    pub(crate) fn merging(program: &'a Program, state: &'a Tree<Leaf>) -> Self {
        Self::new(program, Values::State { state, places: vec![Place::of(state)], taken: 0 })
    }

    /// With what a walk met: the variables themselves, or new ones of their values.
    pub(crate) fn walking(program: &'a Program, handles: &'a [Handle], fresh: bool) -> Self {
        Self::new(program, Values::Walk { handles, next: 0, fresh })
    }

    fn new(program: &'a Program, values: Values<'a>) -> Self {
        Self {
            program,
            position: 0,
            path: Path::root(),
            values,
            variables: Vec::new(),
            shared: FxHashMap::default(),
            begun: 0,
            registry: None,
            lenient: false,
            lacks_tensors: false,
            attempts: 0,
            misfit: Misfit::default(),
        }
    }

    pub(crate) fn with_registry(self, registry: &'a Registry) -> Self {
        Self { registry: Some(registry), ..self }
    }

    /// Makes variables without a value, and says which, where the state has none that fits.
    pub(crate) fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    /// Rebuilds a field, which is the whole of what the program describes.
    pub(crate) fn read<T>(mut self, rebuild: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Misfit)> {
        let built = rebuild(&mut self)?;
        if let Some(entry) = self.entry() {
            return Err(self.structure("nothing more", &entry.def));
        }
        if self.shared.values().any(|part| part.progress == Progress::Expected) {
            let expected = "the part that a weak reference leads to";
            return Err(self.structure_text(expected, "no such part".into()));
        }
        if let Values::State { state, taken, .. } = &self.values
            && *taken < state.len()
        {
            let known = self.program.value_paths();
            let paths = state.iter().map(|(path, _)| path);
            self.misfit.unexpected = paths.filter(|path| known.binary_search(path).is_err()).collect();
        }
        match self.misfit.is_empty() || self.lenient && !self.lacks_tensors {
            true => Ok((built, self.misfit)),
            false => Err(GraphError::Misfit(self.misfit).into()),
        }
    }

    fn entry(&self) -> Option<&'a Entry> {
        self.program.entries.get(self.position)
    }

    /// A child under a key.
    pub fn child<T: Field>(&mut self, key: &PathKey) -> Result<T> {
        self.child_with(key, T::rebuild)
    }

    /// A child that is marked `#[module(static)]`.
    pub fn static_child<T: Static>(&mut self, key: &PathKey) -> Result<T> {
        self.child_with(key, Self::static_value)
    }

    /// A static value of any type.
    pub fn static_value<T: Static>(&mut self) -> Result<T> {
        let entry = self.next("a static value")?;
        match &entry.def {
            Def::Attribute(attribute) => attribute.get().map_err(|found| {
                self.structure_text(std::any::type_name::<T>(), format!("the static value {found}"))
            }),
            other => Err(self.structure("a static value", other)),
        }
    }

    /// A child under a key, read by a closure.
    pub fn child_with<T>(
        &mut self,
        key: &PathKey,
        rebuild: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        match self.entry() {
            Some(entry) if entry.key == *key && !matches!(entry.def, Def::Exit) => {}
            other => {
                let found = match other {
                    Some(Entry { def: Def::Exit, .. }) | None => "nothing more".to_owned(),
                    Some(entry) => format!("`{}`", entry.key),
                };
                return Err(self.structure_text(&format!("`{key}`"), found));
            }
        }
        if let Values::State { places, .. } = &mut self.values {
            let place = places.last_mut().map_or(Place::Nothing, |place| place.child(key));
            places.push(place);
        }
        self.path.push(key.clone());
        let built = rebuild(self)?;
        self.path.pop();
        if let Values::State { places, .. } = &mut self.values {
            places.pop();
        }
        Ok(built)
    }

    /// A node begins.
    pub fn enter(&mut self, structure: &Structure) -> Result<()> {
        let entry = self.next(structure)?;
        match &entry.def {
            Def::Enter(found) if found == structure => Ok(()),
            other => Err(self.structure(structure, other)),
        }
    }

    /// An enum begins: the name of the variant that it is.
    pub fn enter_variant(&mut self, name: &Name) -> Result<&'a str> {
        let expected = || format!("a variant of `{name}`");
        let entry = self.next("a variant of an enum")?;
        match &entry.def {
            Def::Enter(Structure::Variant(names)) if names.0 == *name => Ok(names.1.as_str()),
            other => Err(self.structure(expected(), other)),
        }
    }

    /// A map that keeps an order begins: the keys in that order.
    pub(crate) fn enter_ordered_map(&mut self) -> Result<&'a [PathKey]> {
        let entry = self.next("an ordered map")?;
        match &entry.def {
            Def::Enter(Structure::OrderedMap(order)) => Ok(order),
            other => Err(self.structure("an ordered map", other)),
        }
    }

    /// The node ends.
    pub fn exit(&mut self) -> Result<()> {
        let entry = self.next("the end of a node")?;
        match &entry.def {
            Def::Exit => Ok(()),
            _ => Err(self.structure_text("nothing more", format!("`{}`", entry.key))),
        }
    }

    /// The key of the next child of the node that was entered, if it has one more.
    pub fn peek_child(&self) -> Option<&'a PathKey> {
        match self.entry() {
            Some(Entry { def: Def::Exit, .. }) | None => None,
            Some(entry) => Some(&entry.key),
        }
    }

    /// True if the next thing is a variable, rather than a node.
    pub fn peek_variable(&self) -> bool {
        let def = self.entry().map(|entry| &entry.def);
        matches!(def, Some(Def::Variable { .. } | Def::VariableRef(_)))
    }

    /// True if an optional part is there.
    pub fn is_some(&mut self) -> Result<bool> {
        let entry = self.next("an optional part")?;
        match &entry.def {
            Def::Some => Ok(true),
            Def::None => Ok(false),
            other => Err(self.structure("an optional part", other)),
        }
    }

    /// A variable.
    pub fn variable(&mut self) -> Result<Variable> {
        let entry = self.next("a variable")?;
        match &entry.def {
            Def::Variable { kind, spec, metadata } => {
                let variable = match &mut self.values {
                    Values::State { .. } => Variable::from(self.leaf(*kind, metadata, spec)),
                    Values::Walk { handles, next, fresh } => match handles.get(*next) {
                        Some(Handle::Variable(variable)) => {
                            *next += 1;
                            match fresh {
                                true => Variable::from(variable.leaf()?),
                                false => variable.clone(),
                            }
                        }
                        _ => return Err(self.structure_text("a variable", "none in the walk".into())),
                    },
                };
                self.variables.push(variable.clone());
                Ok(variable)
            }
            Def::VariableRef(index) => match self.variables.get(*index) {
                Some(variable) => Ok(variable.clone()),
                None => Err(self.structure_text("a variable that came before", format!("number {index}"))),
            },
            other => Err(self.structure("a variable", other)),
        }
    }

    /// A variable of a kind.
    pub fn variable_of<K: VariableKind>(&mut self) -> Result<VariableOf<K>> {
        VariableOf::from_variable(self.variable()?).map_err(|variable| {
            self.structure_text(K::variable_type().name(), format!("a variable {}", variable.kind()))
        })
    }

    /// A bare tensor.
    pub fn tensor(&mut self) -> Result<Tensor> {
        let entry = self.next("a bare tensor")?;
        let Def::Tensor(spec) = &entry.def else { return Err(self.structure("a bare tensor", &entry.def)) };
        if let Values::Walk { handles, next, .. } = &mut self.values {
            return match handles.get(*next) {
                Some(Handle::Tensor(tensor)) => {
                    *next += 1;
                    Ok(tensor.clone())
                }
                _ => Err(self.structure_text("a bare tensor", "none in the walk".into())),
            };
        }
        match self.leaf(bare_tensor(), &Metadata::default(), spec).value {
            Value::Tensor(tensor) => Ok(tensor.get().clone()),
            // A stand-in: the misfit is noted, and ends the merge.
            _ => {
                self.lacks_tensors = true;
                Ok(Tensor::zeros((), candle_core::DType::U8, &Device::Cpu)?)
            }
        }
    }

    /// A static value.
    pub fn attribute<T>(&mut self, expected: &str, read: impl FnOnce(&Attribute) -> Option<T>) -> Result<T> {
        let entry = self.next(expected)?;
        let found = match &entry.def {
            Def::Attribute(attribute) => read(attribute),
            _ => None,
        };
        found.ok_or_else(|| self.structure(expected, &entry.def))
    }

    /// A flag.
    pub fn flag(&mut self) -> Result<Flag> {
        let entry = self.next("a flag")?;
        match &entry.def {
            Def::Flag(on) => Ok(Flag::new(*on)),
            other => Err(self.structure("a flag", other)),
        }
    }

    /// A device.
    pub fn device(&mut self) -> Result<Device> {
        let entry = self.next("a device")?;
        match &entry.def {
            Def::Device(device) => Ok((**device).clone()),
            other => Err(self.structure("a device", other)),
        }
    }

    /// A boxed module, whose type the description names.
    pub fn dynamic<B: 'static>(&mut self) -> Result<B> {
        let entry = self.next("a boxed module")?;
        let Def::Dynamic(module) = &entry.def else {
            return Err(self.structure("a boxed module", &entry.def));
        };
        match (module.rebuild::<B>(), self.registry) {
            (Some(rebuild), _) => rebuild(self),
            (None, Some(registry)) => registry.build(module.name(), self),
            (None, None) => Registry::new().build(module.name(), self),
        }
    }

    /// A shared part: rebuilt the first time, the same one afterwards.
    pub(crate) fn shared<M: Field>(&mut self) -> Result<Shared<M>> {
        let entry = self.next("a shared part")?;
        match &entry.def {
            Def::Shared => {
                // Its number is given before its own shared parts get theirs, as when it was split.
                let number = self.begun;
                self.begun += 1;
                let place = self.place::<M>(number, Progress::Begun)?;
                let built = M::rebuild(self)?;
                // The place is new, or only weak references have it.
                let _ = place.set(built);
                if let Some(part) = self.shared.get_mut(&number) {
                    part.progress = Progress::Done;
                }
                Ok(Shared::from_place(place))
            }
            Def::SharedRef(number) => match self.shared.get(number) {
                Some(Part { progress: Progress::Done, .. }) => {
                    self.place(*number, Progress::Done).map(Shared::from_place)
                }
                Some(Part { progress: Progress::Begun, .. }) => Err(self.structure_text(
                    "a shared part that does not contain itself (a `WeakShared` can refer back)",
                    format!("number {number}, which does"),
                )),
                _ => Err(self.no_part::<M>(*number)),
            },
            other => Err(self.structure("a shared part", other)),
        }
    }

    /// A weak reference to a shared part, which may come later.
    pub(crate) fn weak<M: Send + Sync + 'static>(&mut self) -> Result<WeakShared<M>> {
        let entry = self.next("a weak reference")?;
        match &entry.def {
            Def::Weak(None) => Ok(WeakShared::new()),
            Def::Weak(Some(number)) => {
                let progress = self.shared.get(number).map_or(Progress::Expected, |part| part.progress);
                Ok(WeakShared::to_place(&self.place::<M>(*number, progress)?))
            }
            other => Err(self.structure("a weak reference", other)),
        }
    }

    /// The place of a shared part, made if it has none; it is in this state from here on.
    fn place<M: Send + Sync + 'static>(
        &mut self,
        number: usize,
        progress: Progress,
    ) -> Result<Arc<OnceLock<M>>> {
        let part = self.shared.entry(number).or_insert_with(|| {
            let place = Arc::new(OnceLock::<M>::new());
            Part { place, progress }
        });
        part.progress = progress;
        part.place.clone().downcast().map_err(|_| self.no_part::<M>(number))
    }

    fn no_part<M>(&self, number: usize) -> bridge_vars::Error {
        let expected = format!("a shared {} that came before", std::any::type_name::<M>());
        self.structure_text(&expected, format!("number {number}"))
    }

    /// The state's leaf at this place; notes what does not fit, and then has what the description says without a value.
    fn leaf(&mut self, kind: VariableType, metadata: &Metadata, spec: &Spec) -> Leaf {
        let absent = || Leaf { metadata: metadata.clone(), ..Leaf::new(kind, Value::Absent) };
        let Values::State { places, taken, .. } = &mut self.values else { return absent() };
        match places.last() {
            Some(Place::Leaf(leaf)) => {
                *taken += 1;
                if leaf.kind == kind && spec.fits(leaf) {
                    return (*leaf).clone();
                }
                self.misfit.mismatched.push(Mismatch {
                    path: self.path.clone(),
                    expected: format!("{kind}{spec}"),
                    found: described(leaf),
                });
            }
            _ => self.misfit.missing.push(self.path.clone()),
        }
        absent()
    }

    /// Counts a try of one of several types: where they are nested, a description that fits none could take a try for
    /// every combination.
    pub(crate) fn attempt(&mut self) -> Result<()> {
        self.attempts += 1;
        match self.attempts > 1000 + 10 * self.program.entries.len() {
            true => Err(self
                .structure_text("boxed modules of names of their own", "too many that may be meant".into())),
            false => Ok(()),
        }
    }

    pub(crate) fn position(&self) -> Position {
        let (places, taken) = match &self.values {
            Values::State { places, taken, .. } => (places.len(), *taken),
            Values::Walk { next, .. } => (0, *next),
        };
        Position {
            position: self.position,
            path: self.path.len(),
            places,
            taken,
            variables: self.variables.clone(),
            shared: self.shared.clone(),
            begun: self.begun,
            lacks_tensors: self.lacks_tensors,
            misfit: self.misfit.clone(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Goes back to where it was before a try, or to the end of one.
    pub(crate) fn go_back(&mut self, to: Position) {
        self.position = to.position;
        while self.path.len() > to.path {
            self.path.pop();
        }
        match &mut self.values {
            Values::State { places, taken, .. } => {
                places.truncate(to.places);
                *taken = to.taken;
            }
            Values::Walk { next, .. } => *next = to.taken,
        }
        self.variables = to.variables;
        self.shared = to.shared;
        self.begun = to.begun;
        self.lacks_tensors = to.lacks_tensors;
        self.misfit = to.misfit;
    }

    pub(crate) fn misfits_since(&self, before: &Position) -> usize {
        self.misfit.len() - before.misfit.len()
    }

    /// The error of a variant that the enum being rebuilt does not have.
    pub fn unknown_variant(&self, name: &str, found: &str, known: &[&str]) -> bridge_vars::Error {
        let known: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
        let expected = match known.is_empty() {
            true => format!("no variant of `{name}`, which has none"),
            false => format!("a variant of `{name}`: {}", known.join(", ")),
        };
        self.structure_text(&expected, format!("`{found}`"))
    }

    /// The error of a description that does not fit the type being rebuilt.
    pub fn unexpected(&self, expected: &str, found: String) -> bridge_vars::Error {
        self.structure_text(expected, found)
    }

    fn next(&mut self, expected: impl std::fmt::Display) -> Result<&'a Entry> {
        match self.entry() {
            Some(entry) => {
                self.position += 1;
                Ok(entry)
            }
            None => Err(self.structure_text(&expected.to_string(), "nothing more".into())),
        }
    }

    fn structure(&self, expected: impl std::fmt::Display, found: &Def) -> bridge_vars::Error {
        self.structure_text(&expected.to_string(), found.to_string())
    }

    fn structure_text(&self, expected: &str, found: String) -> bridge_vars::Error {
        GraphError::Structure { path: self.path.clone(), expected: expected.into(), found }.into()
    }
}

bridge_vars::kinds! {
    /// What a state calls a field that is a tensor and no variable.
    pub BareTensor(BareTensorKind) in "tensors";
}

pub(crate) fn bare_tensor() -> VariableType {
    BareTensor::variable_type()
}
