use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use bridge_graph::{BareTensor, Misfit, Mismatch, Policy, Visit, find_duplicates, state, update_with};
use bridge_vars::{
    Filter, IsKind, Leaf, Path, PathKey, Result, State, TensorForm, Tree, Value, VariableKind, Variables,
};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::fit::{describe, is_like};
use crate::{CheckpointError, TensorFile};

/// Tensors that something else saved, on their way into a model: which of them, under which names, and in which layout.
///
/// Names become paths: `layers.0.weight`. The rules for names apply in the order in which they are given. Every
/// variable of the model that holds a tensor, or nothing yet, wants a tensor of its path, shape and dtype, and every tensor that is not
/// ruled out wants its variable, unless a [`Policy`] says otherwise. Nothing changes unless all is well. A variable that stands in several places of a
/// module is loaded under any of its paths, and under several if they have the same values.
///
/// ```
/// use bridge_graph::StatefulModule;
/// use bridge_train::Weights;
/// use bridge_vars::Param;
/// use candle_core::{DType, Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Dense { kernel: Param, bias: Param }
/// #[derive(StatefulModule)]
/// struct Model { head: Dense }
///
/// # let directory = tempfile::tempdir().map_err(bridge_vars::Error::new)?;
/// # let path = directory.path().join("model.safetensors");
/// // What PyTorch wrote: two features out, three in.
/// let weight = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
/// let bias = Tensor::zeros(2, DType::F32, &Device::Cpu)?;
/// let tensors = [("net.classifier.weight".to_owned(), weight), ("net.classifier.bias".to_owned(), bias)];
/// candle_core::safetensors::save(&tensors.into(), &path)?;
///
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let model = Model { head: Dense { kernel: Param::new(zeros(&[3, 2])?), bias: Param::new(zeros(&[2])?) } };
/// let weights = Weights::open(&path)?.prefix("net").rename("classifier", "head").from_pytorch();
/// let report = weights.load_into(&model)?;
/// assert_eq!(report.loaded.len(), 2);
/// assert_eq!(model.head.kernel.value()?.to_vec2::<f32>()?, [[0., 3.], [1., 4.], [2., 5.]]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("load_state_dict", "from_pretrained", "VarBuilder", "key_mapping"))]
#[derive(Clone, Debug)]
pub struct Weights {
    file: Arc<TensorFile>,
    names: Vec<NameRule>,
    layouts: Vec<(Filter, Layout)>,
    filter: Filter,
    pytorch: bool,
    cast: bool,
    policy: Policy,
}

/// What [`Weights`] did.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// The paths of the model that have new values.
    pub loaded: Vec<Path>,
    /// The names in the file that the rules left out.
    pub ignored: Vec<String>,
    /// What did not fit, where the policy allows that.
    pub misfit: Misfit,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} loaded, {} left out", self.loaded.len(), self.ignored.len())?;
        if !self.misfit.is_empty() {
            write!(f, "; {}", self.misfit)?;
        }
        Ok(())
    }
}

type Rename = dyn Fn(&str) -> Option<String> + Send + Sync;

#[derive(Clone)]
enum NameRule {
    Prefix(Path),
    Steps(Path, Path),
    With(Arc<Rename>),
}

impl fmt::Debug for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Self::Steps(from, to) => write!(f, "{from} -> {to}"),
            Self::With(_) => f.write_str("a closure"),
        }
    }
}

#[derive(Clone, Debug)]
enum Layout {
    Transposed,
    Permuted(Vec<usize>),
}

/// A tensor of the file, and where it goes.
#[derive(Clone)]
struct Plan {
    name: String,
    path: Path,
    layout: Option<Layout>,
}

impl Weights {
    /// Of a safetensors file, a file of `torch.save`, or the index of several.
    ///
    /// # Errors
    /// Those of [`TensorFile::open`].
    pub fn open(path: impl AsRef<FilePath>) -> Result<Self> {
        Ok(Self::new(TensorFile::open(path)?))
    }

    /// Of a file that is open.
    pub fn new(file: TensorFile) -> Self {
        Self {
            file: Arc::new(file),
            names: Vec::new(),
            layouts: Vec::new(),
            filter: Filter::Everything,
            pytorch: false,
            cast: false,
            policy: Policy::Strict,
        }
    }

    /// Only the tensors below a path, which is taken away from their names.
    pub fn prefix(mut self, path: impl Into<Path>) -> Self {
        self.names.push(NameRule::Prefix(path.into()));
        self
    }

    /// Another path for one or several steps, wherever they are: `rename("self_attn.q_proj", "query")`. An empty
    /// path takes them away.
    pub fn rename(mut self, from: impl Into<Path>, to: impl Into<Path>) -> Self {
        self.names.push(NameRule::Steps(from.into(), to.into()));
        self
    }

    /// Another name, or none: that tensor is left out.
    pub fn rename_with(mut self, rename: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.names.push(NameRule::With(Arc::new(rename)));
        self
    }

    /// Only these variables of the model; tensors of others are left out.
    pub fn filter(mut self, filter: impl Into<Filter>) -> Self {
        self.filter = filter.into();
        self
    }

    /// Swaps the last two dimensions, where a pattern covers the model's path: `transpose("**.kernel")`.
    pub fn transpose(mut self, pattern: &str) -> Self {
        self.layouts.push((Filter::path_matches(pattern), Layout::Transposed));
        self
    }

    /// Takes the dimensions in another order, where a pattern covers the model's path: dimension `i` of the variable
    /// is dimension `dims[i]` of the file's tensor.
    #[doc(alias("moveaxis"))]
    pub fn permute(mut self, pattern: &str, dims: impl Into<Vec<usize>>) -> Self {
        self.layouts.push((Filter::path_matches(pattern), Layout::Permuted(dims.into())));
        self
    }

    /// By PyTorch's conventions: a `weight` goes to the `kernel`, `scale` or `embedding` that the model has in its place,
    /// a kernel with its dimensions in Flax's order (of a linear layer transposed, of a convolution `[out, in, height,
    /// width]` to `[height, width, in, out]`), `running_mean` and `running_var` go to `mean` and `var`, and
    /// `num_batches_tracked` is left out.
    #[allow(clippy::wrong_self_convention, reason = "reads as a sentence: weights from PyTorch")]
    pub fn from_pytorch(mut self) -> Self {
        self.pytorch = true;
        self
    }

    /// Converts floating point numbers to the variable's dtype.
    pub fn cast(mut self) -> Self {
        self.cast = true;
        self
    }

    /// How strictly both must fit; [`Policy::Strict`] unless it is said.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Loads into a module, in place.
    ///
    /// # Errors
    /// [`CheckpointError::Weights`], with everything that does not fit; and if the file can not be read.
    pub fn load_into<M: Visit + ?Sized>(&self, module: &M) -> Result<LoadReport> {
        let (loaded, report) = self.fit(state(module)?.tree(), &[Path::root()], &find_duplicates(module)?)?;
        update_with(module, &State::from(loaded), Policy::Subset)?;
        Ok(report)
    }

    /// The variables with what is loaded in its place. A path is looked for in every collection.
    ///
    /// # Errors
    /// Those of [`Weights::load_into`].
    pub fn load_variables(&self, variables: &Variables) -> Result<(Variables, LoadReport)> {
        let roots: Vec<_> = variables.collections().map(|name| PathKey::from(name).into()).collect();
        let (loaded, report) = self.fit(variables.tree(), &roots, &[])?;
        Ok((variables.updated(&loaded.into())?, report))
    }

    /// What is loaded of what a model has, whose paths may be below any of the roots.
    fn fit(
        &self,
        model: &Tree<Leaf>,
        roots: &[Path],
        duplicates: &[Vec<Path>],
    ) -> Result<(Tree<Leaf>, LoadReport)> {
        let mut expected = Tree::default();
        for (path, leaf) in model.iter() {
            if self.takes(&path, leaf) {
                expected.insert(&path, leaf.clone())?;
            }
        }
        let mut report = LoadReport::default();
        let mut plans: Vec<Plan> = Vec::new();
        for name in self.file.names() {
            let Some(path) = self.path(name) else {
                report.ignored.push(name.to_owned());
                continue;
            };
            let place = |tree: &Tree<Leaf>| {
                let mut paths = roots.iter().map(|root| stored(root.concat(&path), duplicates));
                paths.find_map(|path| self.place(path, name, tree))
            };
            match place(&expected) {
                Some((path, layout)) => plans.push(Plan { name: name.to_owned(), path, layout }),
                None => match place(model).and_then(|(path, _)| Some((model.get(&path)?, path))) {
                    None => report.misfit.unexpected.push(path),
                    Some((leaf, path)) if !self.filter.matches(&path, leaf) => {
                        report.ignored.push(name.to_owned());
                    }
                    Some((leaf, path)) => report.misfit.mismatched.push(Mismatch {
                        path,
                        expected: format!("{}, which is no variable that holds a tensor", describe(leaf)),
                        found: "a tensor (`Weights::rename_with` can leave it out)".into(),
                    }),
                },
            }
        }
        plans.sort_by(|a, b| a.path.cmp(&b.path));
        let mut single = Vec::new();
        for same in plans.chunk_by(|a, b| a.path == b.path) {
            let [first, others @ ..] = same else { continue };
            let mut agree = true;
            for other in others {
                agree &= match (self.read(first, &expected)?, self.read(other, &expected)?) {
                    (Ok(first), Ok(other)) => first.identical(&other)?,
                    _ => false,
                };
            }
            match agree {
                true => single.push(first.clone()),
                false => report.misfit.mismatched.push(Mismatch {
                    path: first.path.clone(),
                    expected: "one tensor".into(),
                    found: same
                        .iter()
                        .map(|plan| format!("`{}`", plan.name))
                        .collect::<Vec<_>>()
                        .join(" and "),
                }),
            }
        }
        let plans = single;
        let read: Vec<_> = plans.par_iter().map(|plan| self.read(plan, &expected)).collect();
        let mut loaded = Tree::default();
        for (Plan { path, .. }, read) in plans.into_iter().zip(read) {
            match read? {
                Ok(leaf) => {
                    loaded.insert(&path, leaf)?;
                    report.loaded.push(path);
                }
                Err(mismatch) => report.misfit.mismatched.push(*mismatch),
            }
        }
        let met = |path: &Path| {
            let mismatched = report.misfit.mismatched.iter().any(|mismatch| mismatch.path == *path);
            mismatched || loaded.get(path).is_some()
        };
        let missing = expected.iter().map(|(path, _)| path).filter(|path| !met(path)).collect();
        report.misfit.missing = missing;
        report.misfit = std::mem::take(&mut report.misfit).settled(self.policy).map_err(|source| {
            bridge_vars::Error::from(CheckpointError::Weights { file: self.file.path().to_owned(), source })
        })?;
        Ok((loaded, report))
    }

    /// The path that the rules make of a name.
    fn path(&self, name: &str) -> Option<Path> {
        let mut path = Path::from(name);
        for rule in &self.names {
            path = match rule {
                NameRule::Prefix(prefix) if path.starts_with(prefix) => {
                    path.keys().iter().skip(prefix.len()).cloned().collect()
                }
                NameRule::Prefix(_) => return None,
                NameRule::Steps(from, to) => renamed(&path, from, to),
                NameRule::With(rename) => Path::from(rename(&path.to_string())?.as_str()),
            };
        }
        let tracked = path.last().is_some_and(|last| last.to_string() == "num_batches_tracked");
        (!self.pytorch || !tracked).then_some(path)
    }

    /// Where a tensor goes, and how its dimensions are to be laid out.
    fn place(&self, path: Path, name: &str, expected: &Tree<Leaf>) -> Option<(Path, Option<Layout>)> {
        let path = match self.pytorch && expected.get(&path).is_none() {
            true => pytorch_path(&path, expected)?,
            false => path,
        };
        let leaf = expected.get(&path)?;
        let usual = if self.pytorch { self.pytorch_layout(&path, name) } else { None };
        let given = self.layouts.iter().rev().find(|(filter, _)| filter.matches(&path, leaf));
        Some((path, given.map(|(_, layout)| layout.clone()).or(usual)))
    }

    /// Of a weight that becomes a kernel, whatever renamed it.
    fn pytorch_layout(&self, path: &Path, name: &str) -> Option<Layout> {
        let is = |path: &Path, step: &str| path.last().is_some_and(|last| *last == PathKey::from(step));
        if !is(path, "kernel") || !is(&Path::from(name), "weight") {
            return None;
        }
        match self.file.shape(name)?.len() {
            0 | 1 => None,
            2 => Some(Layout::Transposed),
            // [out, in, spatial..] to [spatial.., in, out]
            rank => Some(Layout::Permuted((2..rank).chain([1, 0]).collect())),
        }
    }

    /// Whether a variable wants a tensor: it holds one, or nothing yet.
    fn takes(&self, path: &Path, leaf: &Leaf) -> bool {
        let is_variable = leaf.kind != <BareTensor as IsKind>::Kind::variable_type();
        let holds = matches!(leaf.value, Value::Tensor(_) | Value::Described(_) | Value::Absent);
        is_variable && holds && self.filter.matches(path, leaf)
    }

    fn read(&self, plan: &Plan, expected: &Tree<Leaf>) -> Result<Result<Leaf, Box<Mismatch>>> {
        let Plan { name, path, layout } = plan;
        let (Some(leaf), Some(shape)) = (expected.get(path), self.file.shape(name)) else {
            return Err(self.file.malformed(format!("it lacks `{name}`")).into());
        };
        let misfit = |found: String| {
            let (path, expected) = (path.clone(), describe(leaf));
            Ok(Err(Box::new(Mismatch { path, expected, found })))
        };
        if self.file.dtype(name).is_none() {
            return misfit(format!("a tensor {shape:?} of a dtype that candle does not have"));
        }
        let mut tensor = self.file.tensor(name, &Device::Cpu)?;
        tensor = match layout {
            None => tensor,
            Some(Layout::Transposed) if shape.len() >= 2 => {
                tensor.transpose(shape.len() - 2, shape.len() - 1)?.contiguous()?
            }
            Some(Layout::Permuted(dims)) if is_order(dims, shape.len()) => {
                tensor.permute(dims.as_slice())?.contiguous()?
            }
            Some(Layout::Transposed) => {
                return misfit(format!("a tensor {shape:?}, which can not be transposed"));
            }
            Some(Layout::Permuted(dims)) => {
                return misfit(format!(
                    "a tensor {shape:?}, whose dimensions can not be in the order {dims:?}"
                ));
            }
        };
        let (wanted, device) = match &leaf.value {
            Value::Tensor(wanted) => (wanted.form(), wanted.device()),
            Value::Described(wanted) => (wanted.form(), wanted.device()),
            _ => return Ok(Ok(leaf.with_value(tensor))),
        };
        if self.cast && tensor.dtype().is_float() && wanted.dtype().is_float() {
            tensor = tensor.to_dtype(wanted.dtype())?;
        }
        let found = leaf.with_value(tensor.to_device(device)?);
        match is_like(leaf, &found) {
            true => Ok(Ok(found)),
            false => misfit(format!("{}{}", describe(&found), advice(&tensor, wanted))),
        }
    }
}

/// The path under which a module's state has what stands at a path.
fn stored(mut path: Path, duplicates: &[Vec<Path>]) -> Path {
    let other = |path: &Path| {
        duplicates.iter().find_map(|same| {
            let (first, others) = same.split_first()?;
            let alias = others.iter().find(|other| path.starts_with(other))?;
            Some(first.concat(&path.keys().iter().skip(alias.len()).cloned().collect()))
        })
    };
    // What stands in a shared part may itself stand in several places.
    for _ in 0..=path.len() {
        match other(&path) {
            Some(first) => path = first,
            None => break,
        }
    }
    path
}

/// Where the model has what PyTorch calls by another name.
fn pytorch_path(path: &Path, expected: &Tree<Leaf>) -> Option<Path> {
    let mut above = path.clone();
    let last = above.pop()?.to_string();
    let others: &[&str] = match last.as_str() {
        "weight" => &["kernel", "scale", "embedding"],
        "running_mean" => &["mean"],
        "running_var" => &["var"],
        _ => return None,
    };
    let mut paths = others.iter().map(|other| above.join(*other));
    paths.find(|path| expected.get(path).is_some())
}

/// What would make a tensor fit.
fn advice(found: &Tensor, expected: &TensorForm) -> &'static str {
    let transposed = found.rank() >= 2 && {
        let mut dims = found.dims().to_vec();
        dims.reverse();
        dims == expected.dims()
    };
    match (transposed, found.dims() == expected.dims()) {
        (true, false) => " (transposed? see `Weights::transpose`, `Weights::from_pytorch`)",
        (_, true) if found.dtype().is_float() && expected.dtype().is_float() => {
            " (`Weights::cast` would convert it)"
        }
        _ => "",
    }
}

fn is_order(dims: &[usize], rank: usize) -> bool {
    dims.len() == rank && (0..rank).all(|dim| dims.contains(&dim))
}

/// A path with other steps in the place of some.
fn renamed(path: &Path, from: &Path, to: &Path) -> Path {
    if from.is_empty() {
        return to.concat(path);
    }
    let mut rest = path.keys();
    let mut renamed = Path::root();
    while let [first, others @ ..] = rest {
        match rest.strip_prefix(from.keys()) {
            Some(after) => {
                renamed = renamed.concat(to);
                rest = after;
            }
            None => {
                renamed.push(first.clone());
                rest = others;
            }
        }
    }
    renamed
}
