use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, PoisonError};

use bridge_graph::{CALL, Pytree, SummaryRow, shapes};
use bridge_vars::{Intermediate, Leaf, Name, Path, Result};
use indexmap::IndexMap;

use crate::intercept::ModuleCall;
use crate::scope::Scope;
use crate::{Child, FunctionalModule, class_name};

/// Whose outputs are captured: asked with path, class and method.
#[derive(Clone)]
pub(crate) struct CaptureFilter(Arc<dyn Fn(&Path, &str, &str) -> bool + Send + Sync>);

impl CaptureFilter {
    pub(crate) fn new(filter: impl Fn(&Path, &str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(filter))
    }
}

impl fmt::Debug for CaptureFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptureFilter")
    }
}

impl Scope {
    /// Calls a child that is named after its class and number, `Dense_0`, unless it has a name of its own
    /// ([`FunctionalModule::named`]).
    ///
    /// # Errors
    /// What the child returns.
    pub fn call<F: FunctionalModule<In>, In: Pytree>(&self, module: &F, input: &In) -> Result<F::Output> {
        let name = module.explicit_name().unwrap_or_else(|| self.next_name(module.class()));
        self.child_scope(name)?.run(module, input)
    }

    /// Calls a child with a name of its own.
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`](crate::ScopeError::NameInUse), and what the child returns.
    pub fn call_named<F: FunctionalModule<In>, In: Pytree>(
        &self,
        name: impl Into<Name>,
        module: &F,
        input: &In,
    ) -> Result<F::Output> {
        self.child_scope(name.into())?.run(module, input)
    }

    /// A child named after its class and number, to be called as often as needed.
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`](crate::ScopeError::NameInUse).
    pub fn child<F>(&self, module: F) -> Result<Child<F>> {
        Ok(Child::new(module, self.child_scope(self.next_name(class_name::<F>()))?))
    }

    /// A child with a name of its own, to be called as often as needed.
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`](crate::ScopeError::NameInUse).
    pub fn child_named<F>(&self, name: impl Into<Name>, module: F) -> Result<Child<F>> {
        Ok(Child::new(module, self.child_scope(name.into())?))
    }

    /// A child of each module of a list, named after the list and its place: `layers_0`, `layers_1`.
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`](crate::ScopeError::NameInUse).
    #[doc(alias = "setup")]
    pub fn children<F: Clone>(&self, name: &str, modules: &[F]) -> Result<Vec<Child<F>>> {
        let child =
            |(index, module): (usize, &F)| self.child_named(format!("{name}_{index}"), module.clone());
        modules.iter().enumerate().map(child).collect()
    }

    /// A child of each module of a map, named after the map and its key: `heads_left`, `heads_right`.
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`](crate::ScopeError::NameInUse).
    #[doc(alias = "setup")]
    pub fn child_map<'a, K, F>(
        &self,
        name: &str,
        modules: impl IntoIterator<Item = (&'a K, &'a F)>,
    ) -> Result<IndexMap<K, Child<F>>>
    where
        K: fmt::Display + Clone + Eq + Hash + 'a,
        F: Clone + 'a,
    {
        let child = |(key, module): (&K, &F)| {
            Ok((key.clone(), self.child_named(format!("{name}_{key}"), module.clone())?))
        };
        modules.into_iter().map(child).collect()
    }

    /// Calls the module that this scope belongs to, as [`FunctionalModule::apply`] does: what a closure given to
    /// [`Call`](crate::Call) does with the model, so that captures, interceptors and summaries see it.
    ///
    /// ```
    /// use bridge_functional::{Call, Dense};
    /// use bridge_random::key;
    /// use candle_core::{DType, Device, Tensor};
    /// let x = Tensor::zeros((1, 2), DType::F32, &Device::Cpu)?;
    /// let call = Call::new().keys(key(0)).capture_intermediates();
    /// let (_, variables) = call.init(|scope| scope.run(&Dense::new(3), &x))?;
    /// assert!(variables.get("intermediates", "__call__.0").is_ok());
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the module returns.
    pub fn run<F: FunctionalModule<In>, In: Pytree>(&self, module: &F, input: &In) -> Result<F::Output> {
        self.run_method(module, CALL, input, |scope, input| module.call(scope, input))
    }

    /// [`Scope::run`] of a method by its name.
    ///
    /// # Errors
    /// Those of [`FunctionalModule::call_method`].
    #[doc(alias = "method=")]
    pub fn run_named<F: FunctionalModule<In>, In: Pytree>(
        &self,
        module: &F,
        method: &str,
        input: &In,
    ) -> Result<F::Output> {
        self.run_method(module, method, input, |scope, input| module.call_method(method, scope, input))
    }

    /// Calls a module in this very scope: its parameters and children stand beside this module's own. What a wrapper does
    /// that is not to be seen in the paths.
    ///
    /// ```
    /// use bridge_functional::{Call, Dense};
    /// use bridge_random::key;
    /// use candle_core::{DType, Device, Tensor};
    /// let x = Tensor::zeros((1, 2), DType::F32, &Device::Cpu)?;
    /// let (_, variables) = Call::new().keys(key(0)).init(|scope| scope.share_scope(&Dense::new(3), &x))?;
    /// assert!(variables.get("params", "kernel").is_ok());
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`](crate::ScopeError::NameInUse) where both use a name, and what the module returns.
    #[doc(alias = "nn.share_scope")]
    pub fn share_scope<F: FunctionalModule<In>, In: Pytree>(
        &self,
        module: &F,
        input: &In,
    ) -> Result<F::Output> {
        self.observed(module, CALL, input, |scope, input| module.call(scope, input))
    }

    /// Runs a method of this scope's module: names begin again, and whoever looks at calls sees it.
    pub(crate) fn run_method<F: FunctionalModule<In>, In: Pytree>(
        &self,
        module: &F,
        method: &str,
        input: &In,
        body: impl Fn(&Scope, &In) -> Result<F::Output>,
    ) -> Result<F::Output> {
        if !self.root.watched {
            return self.enter(|scope| body(scope, input));
        }
        self.observed(module, method, input, |scope, input| scope.enter(|scope| body(scope, input)))
    }

    fn observed<F: FunctionalModule<In>, In: Pytree>(
        &self,
        module: &F,
        method: &str,
        input: &In,
        body: impl Fn(&Scope, &In) -> Result<F::Output>,
    ) -> Result<F::Output> {
        if !self.root.watched {
            return body(self, input);
        }
        let class = module.class();
        let place = self.begin_row(&class, method);
        let output = match self.root.plan.interceptors.is_empty() {
            true => body(self, input),
            false => ModuleCall::intercepted(self, (module.as_any(), &class, method), input, |input| {
                body(self, input)
            })
            .map_err(|error| self.located(error)),
        }?;
        if let Some(CaptureFilter(filter)) = &self.root.plan.capture
            && filter(self.path(), &class, method)
        {
            self.capture_output(method, &output)?;
        }
        if let Some(place) = place {
            self.end_row(place, input, &output)?;
        }
        Ok(output)
    }

    /// Whether the outputs of a module inside of this one are captured.
    #[doc(hidden)]
    pub fn captures(&self, path: &Path, class: &str, method: &str) -> bool {
        match &self.root.plan.capture {
            Some(CaptureFilter(filter)) => filter(&self.path().concat(path), class, method),
            None => false,
        }
    }

    /// Whether outputs are captured at all.
    #[doc(hidden)]
    pub fn is_capturing(&self) -> bool {
        self.root.plan.capture.is_some()
    }

    /// Whether a table is made of this call.
    #[doc(hidden)]
    pub fn is_summarizing(&self) -> bool {
        self.root.rows.is_some()
    }

    /// Puts rows of what this module runs inside into the table; the first is its own.
    #[doc(hidden)]
    pub fn summarize_inside(&self, inside: Vec<SummaryRow>) {
        let Some(rows) = &self.root.rows else { return };
        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in inside {
            let path = self.path().concat(&row.path);
            match rows.iter_mut().find(|known| known.path == path) {
                Some(known) if row.path.is_empty() => {
                    if !known.module.contains('(') {
                        known.module = format!("{}({})", known.module, row.module);
                    }
                }
                Some(known) if known.module == row.module => known.calls += row.calls,
                _ => rows.push(SummaryRow { path, ..row }),
            }
        }
    }

    fn capture_output<Out: Pytree>(&self, method: &str, output: &Out) -> Result<()> {
        let kind = Intermediate::variable_type();
        let list = Path::from(bridge_vars::PathKey::Name(method.into()));
        let index = self.items(&kind.collection_name(), &list);
        for (below, tensor) in bridge_graph::tensors(output)? {
            self.put(&list.join(index).concat(&below), Leaf::new(kind, tensor))?;
        }
        Ok(())
    }

    /// A module's row stands before those of its children.
    fn begin_row(&self, class: &Name, method: &str) -> Option<usize> {
        let mut rows = self.root.rows.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let module = if method == CALL { class.to_string() } else { format!("{class}.{method}") };
        let same = |row: &SummaryRow| row.path == *self.path() && row.module == module;
        Some(rows.iter().position(same).unwrap_or_else(|| {
            rows.push(SummaryRow::new(self.path().clone(), module));
            rows.len() - 1
        }))
    }

    fn end_row<In: Pytree, Out: Pytree>(&self, place: usize, input: &In, output: &Out) -> Result<()> {
        let (input, output) = (shapes(input)?, shapes(output)?);
        if let Some(rows) = &self.root.rows
            && let Some(row) = rows.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place)
        {
            row.call(input, output);
        }
        Ok(())
    }

    fn next_name(&self, class: Name) -> Name {
        let mut local = self.local();
        let number = match local.classes.iter_mut().find(|(name, _)| *name == class) {
            Some((_, number)) => {
                *number += 1;
                *number
            }
            None => {
                local.classes.push((class.clone(), 0));
                0
            }
        };
        Name::from(format!("{class}_{number}"))
    }

    fn child_scope(&self, name: Name) -> Result<Self> {
        self.reserve(&name, None)?;
        let local = Arc::clone(self.local().children.entry(name.clone()).or_default());
        Ok(Self { root: self.root.clone(), local, rngs: self.rngs.child(name), mode: self.mode })
    }
}
