use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bridge_vars::{Result, Value};

use crate::{Rngs, Visit, variables};

/// Constructs a module whose variables are described, not made: no memory is taken, whatever the model's size.
///
/// What the constructor makes through [`Rngs::init`], [`Rngs::variable`] and [`Rngs::full`], as layers do, has a shape and a
/// dtype, and knows how to be made. Then load its values from a file, or [`materialize`] it. Streams are drawn from as ever, so
/// that both ways to the values give the same.
///
/// ```
/// use bridge_graph::{Rngs, StatefulModule, describe, materialize};
/// use bridge_random::Initializer;
/// use bridge_vars::Param;
///
/// #[derive(StatefulModule)]
/// struct Table { rows: Param }
///
/// let table = |rngs: &Rngs| Ok(Table { rows: rngs.param(&Initializer::normal(0.02), (1000, 8))? });
/// let described = describe(&Rngs::new(0), table)?;
/// assert!(described.rows.value().is_err());
/// materialize(&described)?;
/// let made = table(&Rngs::new(0))?;
/// assert_eq!(described.rows.value()?.to_vec2::<f32>()?, made.rows.value()?.to_vec2::<f32>()?);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// What the constructor returns. One that reads the values that it makes can not be described.
#[doc(alias("nnx.eval_shape", "get_abstract_model", "as_abstract", "meta"))]
pub fn describe<M>(rngs: &Rngs, construct: impl FnOnce(&Rngs) -> Result<M>) -> Result<M> {
    struct Ends(Arc<AtomicBool>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Release);
        }
    }
    let describing = Ends(Arc::new(AtomicBool::new(true)));
    construct(&rngs.describing(&describing.0))
}

/// Makes the values of a module's variables that are only described, each by its own initializer, and runs the hooks that run
/// when a variable is made.
///
/// # Errors
/// The first value that can not be made, with its path; the variables before it are made then.
#[doc(alias = "materialise")]
pub fn materialize<M: Visit + ?Sized>(module: &M) -> Result<()> {
    for (path, variable) in variables(module)? {
        variable.materialize().map_err(|error| error.at(&path))?;
    }
    Ok(())
}

/// True if a value of a module is only described.
pub fn is_described<M: Visit + ?Sized>(module: &M) -> Result<bool> {
    Ok(variables(module)?
        .iter()
        .any(|(_, variable)| variable.leaf().is_ok_and(|leaf| matches!(leaf.value, Value::Described(_)))))
}
