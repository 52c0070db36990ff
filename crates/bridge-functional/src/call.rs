use bridge_graph::{CALL, Summary, SummaryRow};
use bridge_ops::shapes_only;
use bridge_vars::{CollectionFilter, Path, Result, Variables};

use crate::intercept::{Interceptor, ModuleCall};
use crate::module_calls::CaptureFilter;
use crate::scope::Plan;
use crate::{Bound, Keys, Mode, Scope};

/// How functional code is run: with which keys, in which mode, and what it may change.
///
/// The methods of [`FunctionalModule`](crate::FunctionalModule) are short for the common cases; this runs
/// any closure over a [`Scope`], and with it any method of any module. A scope is one module's: to call
/// several, or one several times, make them children of it.
///
/// ```
/// use bridge_functional::{Call, Dense, FunctionalModule};
/// use bridge_random::key;
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::zeros((1, 2), DType::F32, &Device::Cpu)?;
/// let (_, variables) = Call::new().keys(key(0)).init(|scope| scope.run(&Dense::new(3), &x))?;
/// let (y, _) = Call::new().apply(&variables, |scope| scope.run(&Dense::new(3), &x))?;
/// assert_eq!(y.dims(), &[1, 3]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("linen.init", "linen.apply"))]
#[must_use = "it does nothing until `init` or `apply` is called on it"]
#[derive(Clone, Debug, Default)]
pub struct Call {
    keys: Keys,
    mutable: Option<CollectionFilter>,
    mode: Option<Mode>,
    plan: Plan,
}

impl Call {
    /// No keys, nothing mutable, no mode.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the keys that random streams start from.
    pub fn keys(mut self, keys: impl Into<Keys>) -> Self {
        self.keys = keys.into();
        self
    }

    /// With the collections that the call may change. For `init` it is all but `intermediates` unless said otherwise.
    pub fn mutable(mut self, mutable: impl Into<CollectionFilter>) -> Self {
        self.mutable = Some(mutable.into());
        self
    }

    /// In training or evaluation.
    pub fn mode(mut self, mode: impl Into<Option<Mode>>) -> Self {
        self.mode = mode.into();
        self
    }

    /// With lists of sown values that begin anew in this call, instead of going on from those that are passed in.
    pub fn sow_anew(mut self) -> Self {
        self.plan.sows_anew = true;
        self
    }

    /// With a function around every call of a module, from the root down. It sees module, method, input and output, and can
    /// change both; the one that was added first is outermost. To collect what it sees, let it share an `Arc<Mutex<..>>`.
    ///
    /// ```
    /// use bridge_functional::{Call, Dense, FunctionalModule};
    /// use bridge_random::key;
    /// use candle_core::{DType, Device, Tensor};
    /// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
    /// let dense = Dense::new(3);
    /// let variables = dense.init(key(0), &x)?;
    /// let clamped = Call::new().intercept(|call| {
    ///     call.run()?;
    ///     if call.module::<Dense>().is_some() && let Some(y) = call.output::<Tensor>() {
    ///         call.set_output(y.clamp(-1., 1.)?)?;
    ///     }
    ///     Ok(())
    /// });
    /// let (y, _) = clamped.apply(&variables, |scope| scope.run(&dense, &x))?;
    /// assert!(y.abs()?.max_all()?.to_scalar::<f32>()? <= 1.);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    #[doc(alias = "nn.intercept_methods")]
    pub fn intercept(
        mut self,
        interceptor: impl Fn(&mut ModuleCall<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.plan.interceptors.push(Interceptor::new(interceptor));
        self
    }

    /// With the output of every module's call in the collection `intermediates`, under the module's path and `__call__`: a
    /// list with an item a call. The collection can change then, and is among what comes back.
    ///
    /// ```
    /// use bridge_functional::{Call, Dense, FunctionalModule};
    /// use bridge_random::key;
    /// use candle_core::{DType, Device, Tensor};
    /// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
    /// let dense = Dense::new(3);
    /// let variables = dense.init(key(0), &x)?;
    /// let call = Call::new().capture_intermediates();
    /// let (y, captured) = call.apply(&variables, |scope| scope.run(&dense, &x))?;
    /// let seen = captured.get("intermediates", "__call__.0")?.tensor()?;
    /// assert_eq!(seen.to_vec2::<f32>()?, y.to_vec2::<f32>()?);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    pub fn capture_intermediates(self) -> Self {
        self.capture_intermediates_where(|_, _, method| method == CALL)
    }

    /// [`Call::capture_intermediates`] of the calls that a filter says yes to; it is asked with the module's path, the name of
    /// its type and the method.
    #[doc(alias = "capture_intermediates")]
    pub fn capture_intermediates_where(
        mut self,
        filter: impl Fn(&Path, &str, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.plan.capture = Some(CaptureFilter::new(filter));
        self
    }

    /// A module together with variables, whose calls are run like this.
    pub fn bind<F>(self, module: F, variables: &Variables) -> Bound<F> {
        let mutable = self.mutable.clone().unwrap_or_else(CollectionFilter::none);
        Bound::new(module, self.scope(variables, mutable))
    }

    /// Runs `f` and creates the variables that it asks for; returns those of mutable collections.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn init<T>(self, f: impl FnOnce(&Scope) -> Result<T>) -> Result<(T, Variables)> {
        self.init_from(&Variables::default(), f)
    }

    /// [`Call::init`] that starts with some variables there already.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn init_from<T>(
        self,
        variables: &Variables,
        f: impl FnOnce(&Scope) -> Result<T>,
    ) -> Result<(T, Variables)> {
        let mutable = self.mutable.clone().unwrap_or_else(|| CollectionFilter::all_but(["intermediates"]));
        self.run(variables, mutable, true, f)
    }

    /// The variables that `f` asks for, described and not made: no memory is taken for them. Operators of `bridge-ops`
    /// compute nothing; candle's own compute with zeros. [`Variables::materialize`] makes them, if there is a key for `params`.
    ///
    /// # Errors
    /// What `f` returns.
    #[doc(alias("jax.eval_shape", "lazy_init"))]
    pub fn describe<T>(self, f: impl FnOnce(&Scope) -> Result<T>) -> Result<(T, Variables)> {
        self.describe_from(&Variables::default(), f)
    }

    /// [`Call::describe`] that starts with some variables there already.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn describe_from<T>(
        mut self,
        variables: &Variables,
        f: impl FnOnce(&Scope) -> Result<T>,
    ) -> Result<(T, Variables)> {
        self.plan.describing = true;
        shapes_only(|| self.init_from(variables, f))
    }

    /// A [`Summary`] of the modules that `f` calls: a table of what each takes and gives, and of its variables, which are
    /// only described.
    ///
    /// # Errors
    /// What `f` returns.
    #[doc(alias = "nn.tabulate")]
    pub fn tabulate<T>(mut self, f: impl FnOnce(&Scope) -> Result<T>) -> Result<Summary> {
        (self.plan.describing, self.plan.summarizing) = (true, true);
        self.plan.initializing = true;
        let mutable = self.mutable.take().unwrap_or_else(|| CollectionFilter::all_but(["intermediates"]));
        let scope = self.scope(&Variables::default(), mutable);
        let described = shapes_only(|| f(&scope));
        scope.end();
        described?;
        let variables = scope.all_variables();
        let below = |path: Path| path.keys().iter().skip(1).cloned().collect();
        let leaves = variables.tree().iter().map(|(path, leaf)| (below(path), leaf.clone()));
        Ok(Summary::new(scope.take_rows(), leaves))
    }

    /// Runs `f` over the variables; returns all variables of the mutable collections, changed or not.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn apply<T>(
        self,
        variables: &Variables,
        f: impl FnOnce(&Scope) -> Result<T>,
    ) -> Result<(T, Variables)> {
        let mutable = self.mutable.clone().unwrap_or_else(CollectionFilter::none);
        self.run(variables, mutable, false, f)
    }

    /// [`Call::apply`] by shapes alone: variables may be only described. Also gives the rows of the modules that `f` calls.
    #[doc(hidden)]
    pub fn apply_shapes<T>(
        mut self,
        variables: &Variables,
        f: impl FnOnce(&Scope) -> Result<T>,
    ) -> Result<(T, Variables, Vec<SummaryRow>)> {
        (self.plan.describing, self.plan.summarizing) = (true, true);
        let mutable = self.mutable.take().unwrap_or_else(CollectionFilter::none);
        let scope = self.scope(variables, mutable);
        let output = shapes_only(|| f(&scope));
        scope.end();
        Ok((output?, scope.mutable_variables(), scope.take_rows()))
    }

    fn run<T>(
        mut self,
        variables: &Variables,
        mutable: CollectionFilter,
        initializing: bool,
        f: impl FnOnce(&Scope) -> Result<T>,
    ) -> Result<(T, Variables)> {
        self.plan.initializing = initializing;
        let scope = self.scope(variables, mutable);
        let output = f(&scope);
        scope.end();
        let output = output?;
        let nothing_changes = scope.mutable().is_none();
        let variables = if nothing_changes { Variables::default() } else { scope.mutable_variables() };
        Ok((output, variables))
    }

    fn scope(self, variables: &Variables, mutable: CollectionFilter) -> Scope {
        let mut plan = self.plan;
        plan.mutable = match plan.capture {
            Some(_) => mutable | "intermediates",
            None => mutable,
        };
        Scope::root(variables.clone(), self.keys, self.mode, plan)
    }
}
