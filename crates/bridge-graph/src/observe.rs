use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bridge_vars::{Error, Path, Result};
use rustc_hash::FxHashMap;

use crate::{CALL, Pytree, StatefulModule, SummaryRow, Visit, iter_modules};

/// Who a thread tells of the calls of modules, for as long as one call of theirs lasts.
pub(crate) trait Observer {
    /// Rows of what a module runs inside that is of another kind: the first is its own.
    fn inside(&self, path: &Path, rows: Vec<SummaryRow>);

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
/// Modules without a size, such as unit structs, can have one address: only one that is alone of its type is known.
pub(crate) struct Places(FxHashMap<Identity, Option<Path>>);

impl Places {
    pub(crate) fn of<M: Visit + ?Sized>(model: &M) -> Result<Self> {
        let mut places = FxHashMap::default();
        iter_modules(model, |path, module| {
            let again = |known: &mut Option<Path>| *known = None;
            places.entry(identity(module)).and_modify(again).or_insert_with(|| Some(path.clone()));
            Ok(())
        })?;
        Ok(Self(places))
    }

    fn path(&self, identity: Identity) -> Option<&Path> {
        self.0.get(&identity)?.as_ref()
    }
}

/// A module and its first field have one address, but not one type.
type Identity = (usize, TypeId);

fn identity(module: &dyn StatefulModule) -> Identity {
    let any: &dyn Any = module;
    (std::ptr::from_ref(module).addr(), any.type_id())
}

/// That of a module whose type is known.
pub(crate) fn identity_of<M: 'static>(module: &M) -> Identity {
    (std::ptr::from_ref(module).addr(), TypeId::of::<M>())
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
pub(crate) fn capture_of(module: Identity) -> Option<(Path, Rc<crate::capture::Captured>)> {
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
/// Without anyone who looks it costs about a nanosecond. Modules are known by address and type. Those without a size, such as
/// unit structs, can have one address: one is seen if it is alone of its type in the model, and one outside of the model is then
/// taken for it.
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
    In: Visit,
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
    In: Visit,
    Out: Pytree,
    E: From<Error>,
{
    let output = call()?;
    if is_watched() {
        tell(module, &Observed { method, input, output: &output })?;
    }
    Ok(output)
}

/// The innermost observer that knows the module, and the module's path.
fn observer_of(module: Identity) -> Option<(Path, Rc<dyn Observer>)> {
    if !is_watched() {
        return None;
    }
    OBSERVERS.with_borrow(|observers| {
        observers
            .iter()
            .rev()
            .find_map(|(places, observer)| Some((places.path(module)?.clone(), Rc::clone(observer))))
    })
}

/// True if a table is made of the module's calls.
#[doc(hidden)]
pub fn is_tabulated<M: 'static>(module: &M) -> bool {
    observer_of(identity_of(module)).is_some()
}

/// Puts rows of what a module runs inside into the table that is made of its calls; the first is its own.
#[doc(hidden)]
pub fn tabulate_inside<M: 'static>(module: &M, rows: Vec<SummaryRow>) {
    if let Some((path, observer)) = observer_of(identity_of(module)) {
        observer.inside(&path, rows);
    }
}

#[cold]
fn tell(module: &dyn StatefulModule, call: &Observed<'_>) -> Result<()> {
    if let Some((path, observer)) = observer_of(identity(module)) {
        observer.called(&path, module, call)?;
    }
    match capture_of(identity(module)) {
        Some((path, captured)) => captured.output(&path, module, call),
        None => Ok(()),
    }
}
