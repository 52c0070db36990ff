use bridge_graph::{GraphNode, Initialization, Visit, iter_graph};
use bridge_vars::Result;

/// Runs a method of a module once, to create the variables of every wrapped functional module that it
/// reaches.
///
/// Wrapped modules that were initialised before are initialised again.
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
/// lazy_init(&pair, |pair| pair.second.call(&pair.first.call(&x)?))?;
/// assert_eq!(state(&pair)?.get("second.kernel")?.tensor()?.dims(), &[3, 4]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// What `method` returns. The module is left out of initialisation in any case.
#[doc(alias = "bridge.lazy_init")]
pub fn lazy_init<M: Visit + ?Sized, T>(module: &M, method: impl FnOnce(&M) -> Result<T>) -> Result<T> {
    run(module, Initialization::new(), method)
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
    let _ends = Ends(module);
    begin(module, Some(pass))?;
    method(module)
}

fn begin<M: Visit + ?Sized>(module: &M, pass: Option<Initialization>) -> Result<()> {
    iter_graph(module, |_, node| {
        if let GraphNode::Context(context) = node {
            context.set_initializing(pass);
        }
        Ok(())
    })
}

/// Ends the pass whatever happens in it, a panic included.
struct Ends<'a, M: Visit + ?Sized>(&'a M);

impl<M: Visit + ?Sized> Drop for Ends<'_, M> {
    fn drop(&mut self) {
        // A walk that fails at the end failed at the beginning too, and that was returned.
        let _ = begin(self.0, None);
    }
}
