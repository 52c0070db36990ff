//! What an optimizer and an average know about each parameter.

use bridge_graph::{Misfit, Mismatch, Visit, variables};
use bridge_vars::{Filter, Leaf, Path, Result, State, TensorValue, Tree, Value};
use candle_core::{DType, Shape};

use crate::fit::describe;

#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) path: Path,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
}

impl Parameter {
    /// Every leaf of a state, in order of the paths; and those that are not floats.
    pub(crate) fn all(parameters: &State) -> (Vec<Self>, Misfit) {
        let (mut all, mut misfit) = (Vec::new(), Misfit::default());
        for (path, leaf) in parameters.iter() {
            match &leaf.value {
                Value::Tensor(tensor) if is_float(tensor.dtype()) => {
                    all.push(Self { path, dtype: tensor.dtype(), shape: tensor.shape().clone() });
                }
                _ => {
                    let (expected, found) = ("a float tensor".into(), found(leaf));
                    misfit.mismatched.push(Mismatch { path, expected, found });
                }
            }
        }
        (all, misfit)
    }

    /// The leaf at the parameter's path, if it has its shape and dtype; otherwise notes what is wrong.
    pub(crate) fn find<'a>(&self, tree: &'a Tree<Leaf>, misfit: &mut Misfit) -> Option<&'a Leaf> {
        match tree.get(&self.path) {
            None => misfit.missing.push(self.path.clone()),
            Some(leaf) => match &leaf.value {
                value if self.tensor(value).is_some() => return Some(leaf),
                _ => misfit.mismatched.push(Mismatch {
                    path: self.path.clone(),
                    expected: format!("{}{:?}", self.dtype.as_str(), self.shape.dims()),
                    found: found(leaf),
                }),
            },
        }
        None
    }

    /// The tensor, if it has the parameter's shape and dtype.
    pub(crate) fn tensor<'a>(&self, value: &'a Value) -> Option<&'a TensorValue> {
        match value {
            Value::Tensor(tensor) if tensor.dtype() == self.dtype && *tensor.shape() == self.shape => {
                Some(tensor)
            }
            _ => None,
        }
    }
}

/// Finds parameters by paths that come in order: then the next one is tried first, and no path is searched for.
pub(crate) struct Cursor<'a> {
    parameters: &'a [Parameter],
    next: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(parameters: &'a [Parameter]) -> Self {
        Self { parameters, next: 0 }
    }

    /// The parameter's number.
    pub(crate) fn find(&mut self, path: &Path) -> Option<usize> {
        let at = match self.parameters.get(self.next) {
            Some(parameter) if parameter.path == *path => self.next,
            _ => self.parameters.binary_search_by(|parameter| parameter.path.cmp(path)).ok()?,
        };
        self.next = at + 1;
        Some(at)
    }
}

/// The tensors of all parameters, if a tree has them all in their shapes and dtypes; and how many leaves it has beside.
pub(crate) fn tensors<'a>(
    parameters: &[Parameter],
    tree: &'a Tree<Leaf>,
) -> Option<(Vec<&'a TensorValue>, usize)> {
    let mut cursor = Cursor::new(parameters);
    let (mut found, mut others) = (Vec::with_capacity(parameters.len()), 0);
    let walked = tree.try_for_each(|path, leaf| {
        match cursor.find(path) {
            None => others += 1,
            Some(at) => found.push(parameters[at].tensor(&leaf.value).ok_or(())?),
        }
        Ok::<(), ()>(())
    });
    // Paths of a tree differ, so that as many as there are parameters are all of them, in their order.
    (walked.is_ok() && found.len() == parameters.len()).then_some((found, others))
}

/// What is there instead of a float tensor.
fn found(leaf: &Leaf) -> String {
    match &leaf.value {
        Value::Described(_) => {
            format!("{}: `materialize` the model first, or load its values", describe(leaf))
        }
        _ => describe(leaf),
    }
}

/// The paths of a tree that are of none of the parameters, which are in order of their paths.
pub(crate) fn unexpected(parameters: &[Parameter], tree: &Tree<Leaf>) -> Vec<Path> {
    let known = |path: &Path| parameters.binary_search_by(|known| known.path.cmp(path)).is_ok();
    tree.iter().map(|(path, _)| path).filter(|path| !known(path)).collect()
}

/// The leaves of those of a module's variables that a filter matches.
pub(crate) fn selected<M: Visit + ?Sized>(module: &M, filter: &Filter) -> Result<State> {
    let mut state = State::default();
    for (path, variable) in variables(module)? {
        let leaf = variable.leaf()?;
        if filter.matches(&path, &leaf) {
            state.insert(&path, leaf)?;
        }
    }
    Ok(state)
}

/// The dtype of the arithmetic.
pub(crate) fn compute_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

pub(crate) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16 | DType::F32 | DType::F64)
}
