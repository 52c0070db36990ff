use std::any::Any;
use std::sync::Arc;

use bridge_vars::{Leaf, Path, PathKey, Result, Tree, Value, Variable, VariableOf};
use bridge_vars::{VariableKind, VariableType};
use candle_core::{Device, Tensor};

use crate::attribute::Static;
use crate::error::{GraphError, Misfit, Mismatch};
use crate::graphdef::{Def, Entry, Program, Spec};
use crate::{Attribute, Field, Flag, Structure};

/// What [`Field::rebuild`] reads a module from: its description, step by step, and the state's values.
#[derive(Debug)]
pub struct Source<'a> {
    entries: &'a [Entry],
    position: usize,
    path: Path,
    places: Vec<Option<&'a Tree<Leaf>>>,
    variables: Vec<Variable>,
    shared: Vec<Option<Arc<dyn Any + Send + Sync>>>,
    taken: usize,
    misfit: Misfit,
}

impl<'a> Source<'a> {
    /// Rebuilds a field, which is the whole of what `program` describes, with the values of `state`.
    pub(crate) fn read<T>(
        program: &'a Program,
        state: &'a Tree<Leaf>,
        rebuild: impl FnOnce(&mut Source<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut source = Source {
            entries: &program.entries,
            position: 0,
            path: Path::root(),
            places: vec![Some(state)],
            variables: Vec::new(),
            shared: Vec::new(),
            taken: 0,
            misfit: Misfit::default(),
        };
        let built = rebuild(&mut source)?;
        if let Some(entry) = source.entries.get(source.position) {
            return Err(source.structure("nothing more", &entry.def));
        }
        if source.taken < state.len() {
            let known = variable_paths(program);
            source.misfit.unexpected = state
                .iter()
                .map(|(path, _)| path)
                .filter(|path| known.binary_search(path).is_err())
                .collect();
        }
        match source.misfit.is_empty() {
            true => Ok(built),
            false => Err(GraphError::Misfit(source.misfit).into()),
        }
    }

    /// A child under a key.
    pub fn child<T: Field>(&mut self, key: &PathKey) -> Result<T> {
        self.child_with(key, T::rebuild)
    }

    /// A child that is marked `#[module(static)]`.
    pub fn static_child<T: Static>(&mut self, key: &PathKey) -> Result<T> {
        self.child_with(key, |source| {
            let entry = source.next("a static value")?;
            match &entry.def {
                Def::Attribute(attribute) => attribute.get().map_err(|found| {
                    source.structure_text(std::any::type_name::<T>(), format!("the static value {found}"))
                }),
                other => Err(source.structure("a static value", other)),
            }
        })
    }

    /// A child under a key, read by a closure.
    pub fn child_with<T>(
        &mut self,
        key: &PathKey,
        rebuild: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        match self.entries.get(self.position) {
            Some(entry) if entry.key == *key && !matches!(entry.def, Def::Exit) => {}
            other => {
                let found = match other {
                    Some(Entry { def: Def::Exit, .. }) | None => "nothing more".to_owned(),
                    Some(entry) => format!("`{}`", entry.key),
                };
                return Err(self.structure_text(&format!("`{key}`"), found));
            }
        }
        let place = self.places.last().copied().flatten().and_then(|place| place.child(key));
        self.places.push(place);
        self.path.push(key.clone());
        let built = rebuild(self)?;
        self.path.pop();
        self.places.pop();
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
        match self.entries.get(self.position) {
            Some(Entry { def: Def::Exit, .. }) | None => None,
            Some(entry) => Some(&entry.key),
        }
    }

    /// True if the next thing is a variable, rather than a node.
    pub fn peek_variable(&self) -> bool {
        let def = self.entries.get(self.position).map(|entry| &entry.def);
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
            Def::Variable { kind, spec, .. } => {
                let variable = Variable::from(self.leaf(*kind, spec));
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
        match &entry.def {
            Def::Tensor(spec) => match self.leaf(bare_tensor(), spec).value {
                Value::Tensor(tensor) => Ok(tensor.get().clone()),
                // A stand-in: the misfit is noted, and ends the merge.
                _ => Ok(Tensor::zeros((), candle_core::DType::U8, &Device::Cpu)?),
            },
            other => Err(self.structure("a bare tensor", other)),
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
            Def::Device(device) => Ok(device.clone()),
            other => Err(self.structure("a device", other)),
        }
    }

    /// A shared part: rebuilt the first time, the same one afterwards.
    pub(crate) fn shared<T: Any + Send + Sync>(
        &mut self,
        rebuild: impl FnOnce(&mut Self) -> Result<Arc<T>>,
    ) -> Result<Arc<T>> {
        let entry = self.next("a shared part")?;
        match &entry.def {
            Def::Shared => {
                // Its number is given before its own shared parts get theirs, as when it was split.
                let number = self.shared.len();
                self.shared.push(None);
                let built = rebuild(self)?;
                if let Some(place) = self.shared.get_mut(number) {
                    *place = Some(built.clone());
                }
                Ok(built)
            }
            Def::SharedRef(number) => {
                let known = self.shared.get(*number).cloned().flatten();
                match known.map(Arc::downcast) {
                    Some(Ok(shared)) => Ok(shared),
                    _ => Err(self.structure_text(
                        &format!("a shared {} that came before", std::any::type_name::<T>()),
                        format!("number {number}"),
                    )),
                }
            }
            other => Err(self.structure("a shared part", other)),
        }
    }

    /// The state's leaf at this place; notes what does not fit.
    fn leaf(&mut self, kind: VariableType, spec: &Spec) -> Leaf {
        match self.places.last().copied().flatten() {
            Some(Tree::Leaf(leaf)) => {
                self.taken += 1;
                if leaf.kind != kind || !spec.fits(leaf) {
                    self.misfit.mismatched.push(Mismatch {
                        path: self.path.clone(),
                        expected: format!("{kind} {spec}"),
                        found: format!("{} {}", leaf.kind, Spec::of(&leaf.value)),
                    });
                }
                Leaf { kind, value: leaf.value.clone(), metadata: leaf.metadata.clone() }
            }
            _ => {
                self.misfit.missing.push(self.path.clone());
                Leaf::new(kind, 0)
            }
        }
    }

    /// The error of a description that does not fit the type being rebuilt.
    pub fn unexpected(&self, expected: &str, found: String) -> bridge_vars::Error {
        self.structure_text(expected, found)
    }

    fn next(&mut self, expected: impl std::fmt::Display) -> Result<&'a Entry> {
        match self.entries.get(self.position) {
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

/// The paths of all values, in order.
fn variable_paths(program: &Program) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut path = Path::root();
    let mut depth = 0usize;
    for Entry { key, def } in &program.entries {
        match def {
            Def::Enter(_) => {
                if depth > 0 {
                    path.push(key.clone());
                }
                depth += 1;
            }
            Def::Exit => {
                path.pop();
                depth = depth.saturating_sub(1);
            }
            Def::Variable { .. } | Def::Tensor(_) if depth == 0 => paths.push(path.clone()),
            Def::Variable { .. } | Def::Tensor(_) => paths.push(path.join(key.clone())),
            _ => {}
        }
    }
    paths.sort();
    paths
}
