use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bridge_vars::{Error, Path, Result};
use rustc_hash::FxHashMap;

use crate::{CALL, Pytree, StatefulModule, Visit, iter_modules};

/// Who a thread tells of the calls of modules, for as long as one call of theirs lasts.
pub(crate) trait Observer {
    /// A module was called.
    fn called(&self, path: &Path, module: &dyn StatefulModule, call: &Observed<'_>) -> Result<()>;
}

/// What a module took and gave.
pub(crate) struct Observed<'a> {
    pub(crate) method: &'a str,
    pub(crate) input: &'a dyn Visit,
    pub(crate) output: &'a dyn Pytree,
}

/// The modules of a model by identity, which a call knows itself by.
///
/// Modules without a size can have one address, and are told apart from others only if they are alone.
pub(crate) struct Places(FxHashMap<(usize, TypeId), Option<Path>>);

impl Places {
    pub(crate) fn of<M: Visit + ?Sized>(model: &M) -> Result<Self> {
        let mut places = FxHashMap::default();
        iter_modules(model, |path, module| {
            let is_new = |known: &mut Option<Path>| *known = None;
            places.entry(identity(module)).and_modify(is_new).or_insert_with(|| Some(path.clone()));
            Ok(())
        })?;
        Ok(Self(places))
    }

    pub(crate) fn path(&self, module: &dyn StatefulModule) -> Option<&Path> {
        self.0.get(&identity(module))?.as_ref()
    }
}

/// A module and its first field have one address, but not one type.
fn identity(module: &dyn StatefulModule) -> (usize, TypeId) {
    let any: &dyn Any = module;
    (std::ptr::from_ref(module).addr(), any.type_id())
}

type Watched<T> = (Rc<Places>, Rc<T>);

thread_local! {
    static WATCHING: Cell<usize> = const { Cell::new(0) };
    static OBSERVERS: RefCell<Vec<Watched<dyn Observer>>> = const { RefCell::new(Vec::new()) };
    static CAPTURES: RefCell<Vec<Watched<crate::capture::Captured>>> = const { RefCell::new(Vec::new()) };
}

fn is_watched() -> bool {
    WATCHING.get() > 0
}

/// Ends what was begun, whatever happens in between.
struct Ends(fn());

impl Drop for Ends {
    fn drop(&mut self) {
        WATCHING.set(WATCHING.get().saturating_sub(1));
        (self.0)();
    }
}

/// Runs `f` with an observer of the calls of a model's modules.
pub(crate) fn watch<T>(places: Rc<Places>, observer: Rc<dyn Observer>, f: impl FnOnce() -> T) -> T {
    OBSERVERS.with_borrow_mut(|observers| observers.push((places, observer)));
    WATCHING.set(WATCHING.get() + 1);
    let _ends = Ends(|| {
        OBSERVERS.with_borrow_mut(Vec::pop);
    });
    f()
}

/// Runs `f` with what a model's modules sow and perturb captured.
pub(crate) fn capturing<T>(
    places: Rc<Places>,
    captured: Rc<crate::capture::Captured>,
    f: impl FnOnce() -> T,
) -> T {
    CAPTURES.with_borrow_mut(|captures| captures.push((places, captured)));
    WATCHING.set(WATCHING.get() + 1);
    let _ends = Ends(|| {
        CAPTURES.with_borrow_mut(Vec::pop);
    });
    f()
}

/// The innermost capture of a model that the module is in, and the module's path there.
pub(crate) fn capture_of(module: &dyn StatefulModule) -> Option<(Path, Rc<crate::capture::Captured>)> {
    if !is_watched() {
        return None;
    }
    CAPTURES.with_borrow(|captures| {
        captures
            .iter()
            .rev()
            .find_map(|(places, captured)| Some((places.path(module)?.clone(), Rc::clone(captured))))
    })
}

/// Runs a call of a module where [`Capture`](crate::Capture) and [`tabulate`](crate::tabulate()) see it: what it takes and
/// what it gives. Layers do it; in modules of your own it takes one line.
///
/// Without anyone who looks it costs about a nanosecond. Of several modules without a size in one model, such as unit structs,
/// none is seen: they can have one address, which is what a module is known by.
///
/// ```
/// use bridge_graph::{StatefulModule, observe};
/// use bridge_vars::Param;
/// use candle_core::{Module, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// impl Module for Scale {
///     fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
///         observe(self, x, || x.broadcast_mul(&self.factor.value()?))
///     }
/// }
/// ```
///
/// # Errors
/// What `call` returns.
#[doc(alias("method_outputs", "intercept_methods"))]
pub fn observe<M, In, Out, E>(module: &M, input: &In, call: impl FnOnce() -> Result<Out, E>) -> Result<Out, E>
where
    M: StatefulModule,
    In: Pytree,
    Out: Pytree,
    E: From<Error>,
{
    observe_method(module, CALL, input, call)
}

/// [`observe`] of another method than the module's call, under its name.
///
/// # Errors
/// What `call` returns.
pub fn observe_method<M, In, Out, E>(
    module: &M,
    method: &str,
    input: &In,
    call: impl FnOnce() -> Result<Out, E>,
) -> Result<Out, E>
where
    M: StatefulModule,
    In: Pytree,
    Out: Pytree,
    E: From<Error>,
{
    let output = call()?;
    if is_watched() {
        tell(module, &Observed { method, input: input.as_visit(), output: &output })?;
    }
    Ok(output)
}

#[cold]
fn tell(module: &dyn StatefulModule, call: &Observed<'_>) -> Result<()> {
    let observer = OBSERVERS.with_borrow(|observers| {
        observers.iter().rev().find_map(|(places, observer)| {
            Some((places.path(module)?.clone(), Rc::clone(observer)))
        })
    });
    if let Some((path, observer)) = observer {
        observer.called(&path, module, call)?;
    }
    match capture_of(module) {
        Some((path, captured)) => captured.output(&path, call),
        None => Ok(()),
    }
}
