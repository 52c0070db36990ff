use bridge_graph::{GraphNode, Initialization, Visit, iter_graph, variables};
use bridge_vars::{Path, Result, Variable};

/// What [`lazy_init`] did.
#[derive(Clone, Debug)]
pub struct LazyInit<T> {
    /// What the method returned.
    pub output: T,
    /// The paths of the variables that were made.
    pub created: Vec<Path>,
}

/// Runs a method of a module once, to create the variables of every wrapped functional module that it
/// reaches. Gives what the method returned and the paths of what was made.
///
/// A wrapped module that has its variables already is not initialised again: [`reinitialize`] does that, and
/// [`lazy_init_missing`] leaves it as it is.
///
/// ```
/// use bridge_functional::Dense;
/// use bridge_graph::{Rngs, StatefulModule, state};
/// use bridge_wrappers::{ToStateful, lazy_init};
/// use candle_core::{DType, Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Pair { first: ToStateful<Dense>, second: ToStateful<Dense> }
///
/// let rngs = Rngs::new(0);
/// let pair = Pair {
///     first: ToStateful::new(Dense::new(3), &rngs)?,
///     second: ToStateful::new(Dense::new(4), &rngs)?,
/// };
/// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
/// let made = lazy_init(&pair, |pair| pair.second.call(&pair.first.call(&x)?))?;
/// assert_eq!(made.output.dims(), &[1, 4]);
/// assert_eq!(made.created.len(), 4);
/// assert_eq!(state(&pair)?.get("second.kernel")?.tensor()?.dims(), &[3, 4]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// [`WrapperError::AlreadyInitialized`](crate::WrapperError::AlreadyInitialized), and what `method` returns. The module is left
/// out of initialisation in any case, and after an error it can be initialised as if it had not been tried.
#[doc(alias = "bridge.lazy_init")]
pub fn lazy_init<M: Visit + ?Sized, T>(
    module: &M,
    method: impl FnOnce(&M) -> Result<T>,
) -> Result<LazyInit<T>> {
    reporting(module, Initialization::new(), method)
}

/// [`lazy_init`] that makes what is missing and keeps the variables that are there: for a model that has got new parts.
///
/// # Errors
/// What `method` returns.
pub fn lazy_init_missing<M: Visit + ?Sized, T>(
    module: &M,
    method: impl FnOnce(&M) -> Result<T>,
) -> Result<LazyInit<T>> {
    reporting(module, Initialization::completing(), method)
}

/// [`lazy_init`] of wrapped modules that may have variables already: they get new ones, from the next keys of their streams.
///
/// # Errors
/// What `method` returns.
pub fn reinitialize<M: Visit + ?Sized, T>(
    module: &M,
    method: impl FnOnce(&M) -> Result<T>,
) -> Result<LazyInit<T>> {
    reporting(module, Initialization::replacing(), method)
}

fn reporting<M: Visit + ?Sized, T>(
    module: &M,
    pass: Initialization,
    method: impl FnOnce(&M) -> Result<T>,
) -> Result<LazyInit<T>> {
    // Held, so that no new variable has the identity of an old one.
    let before = variables(module)?;
    let output = run(module, pass, method)?;
    let was_there = |variable: &Variable| before.iter().any(|(_, old)| old.is_same(variable));
    let after = variables(module)?;
    // Most variables stay where they were.
    let known = |path: &Path, variable: &Variable| {
        let place = before.binary_search_by(|(old, _)| old.cmp(path));
        place.is_ok_and(|place| before.get(place).is_some_and(|(_, old)| old.is_same(variable)))
    };
    let new = after.into_iter().filter(|(path, variable)| !known(path, variable) && !was_there(variable));
    Ok(LazyInit { output, created: new.map(|(path, _)| path).collect() })
}

/// [`lazy_init`] that makes what is missing and keeps the variables that are there.
pub(crate) fn complete<M: Visit + ?Sized, T>(module: &M, method: impl FnOnce(&M) -> Result<T>) -> Result<T> {
    run(module, Initialization::completing(), method)
}

fn run<M: Visit + ?Sized, T>(
    module: &M,
    pass: Initialization,
    method: impl FnOnce(&M) -> Result<T>,
) -> Result<T> {
    let mut ends = Ends { module, failed: Some(pass) };
    contexts(module, |context| context.set_initializing(Some(pass)))?;
    let output = method(module)?;
    ends.failed = None;
    Ok(output)
}

fn contexts<M: Visit + ?Sized>(module: &M, f: impl Fn(&bridge_graph::CallContext)) -> Result<()> {
    iter_graph(module, |_, node| {
        if let GraphNode::Context(context) = node {
            f(context);
        }
        Ok(())
    })
}

/// Ends the pass whatever happens in it, a panic included.
struct Ends<'a, M: Visit + ?Sized> {
    module: &'a M,
    failed: Option<Initialization>,
}

impl<M: Visit + ?Sized> Drop for Ends<'_, M> {
    fn drop(&mut self) {
        // A walk that fails at the end failed at the beginning too, and that was returned.
        let _ = contexts(self.module, |context| match self.failed {
            Some(pass) => context.abandon(pass),
            None => context.set_initializing(None),
        });
    }
}
