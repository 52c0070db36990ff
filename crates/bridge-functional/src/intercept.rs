use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use bridge_graph::Pytree;
use bridge_vars::{Name, Path, Result};

use crate::Scope;
use crate::error::ScopeError;

/// A call of a module on its way through the interceptors: see [`Call::intercept`](crate::Call::intercept).
pub struct ModuleCall<'a> {
    scope: &'a Scope,
    module: &'a dyn Any,
    class: &'a Name,
    method: &'a str,
    input: &'a dyn Pytree,
    replaced: Option<Box<dyn Pytree>>,
    output_type: (TypeId, &'static str),
    body: &'a dyn Fn(&dyn Any) -> Result<Box<dyn Pytree>>,
    next: usize,
    output: Option<Box<dyn Pytree>>,
}

type Function = dyn Fn(&mut ModuleCall<'_>) -> Result<()> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Interceptor(Arc<Function>);

impl Interceptor {
    pub(crate) fn new(function: impl Fn(&mut ModuleCall<'_>) -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }
}

impl fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interceptor")
    }
}

impl<'a> ModuleCall<'a> {
    /// Runs a module's call through the interceptors.
    pub(crate) fn intercepted<In: Pytree, Out: Pytree>(
        scope: &Scope,
        (module, class, method): (&dyn Any, &Name, &str),
        input: &In,
        body: impl Fn(&In) -> Result<Out>,
    ) -> Result<Out> {
        let body = |input: &dyn Any| -> Result<Box<dyn Pytree>> {
            // `set_input` lets no other type in.
            let input = input.downcast_ref().ok_or_else(|| wrong_type::<In>(scope, "an input"))?;
            Ok(Box::new(body(input)?))
        };
        let mut call = ModuleCall {
            scope,
            module,
            class,
            method,
            input,
            replaced: None,
            output_type: (TypeId::of::<Out>(), type_name::<Out>()),
            body: &body,
            next: 0,
            output: None,
        };
        call.run()?;
        let output: Box<dyn Any> = call.output.take().ok_or_else(|| call.no_output())?;
        output.downcast().map(|output| *output).map_err(|_| wrong_type::<Out>(scope, "an output"))
    }

    /// Where the module is.
    pub fn path(&self) -> &Path {
        self.scope.path()
    }

    /// The module's scope.
    pub fn scope(&self) -> &Scope {
        self.scope
    }

    /// The name of the module's type.
    pub fn class_name(&self) -> &str {
        self.class
    }

    /// The method that is called: `__call__`, or the name it was called by.
    pub fn method(&self) -> &str {
        self.method
    }

    /// The module, if it is an `F`.
    pub fn module<F: 'static>(&self) -> Option<&'a F> {
        self.module.downcast_ref()
    }

    /// What the module is called with, if it is a `T`.
    pub fn input<T: 'static>(&self) -> Option<&T> {
        self.current_input().as_any().downcast_ref()
    }

    fn current_input(&self) -> &dyn Pytree {
        self.replaced.as_deref().unwrap_or(self.input)
    }

    /// Calls the module with something else of the same type.
    ///
    /// # Errors
    /// [`ScopeError::Intercepted`] for another type.
    pub fn set_input<T: Pytree>(&mut self, input: T) -> Result<()> {
        match self.input.as_any().type_id() == TypeId::of::<T>() {
            true => {
                self.replaced = Some(Box::new(input));
                Ok(())
            }
            false => Err(wrong_type::<T>(self.scope, "an input")),
        }
    }

    /// Runs the next interceptor or, after the last one, the module. Then there is an output.
    ///
    /// # Errors
    /// What they return; [`ScopeError::NoOutput`].
    pub fn run(&mut self) -> Result<()> {
        let Some(Interceptor(next)) = self.scope.root.plan.interceptors.get(self.next).cloned() else {
            return self.run_module();
        };
        self.next += 1;
        let returned = next(self);
        self.next -= 1;
        returned?;
        if self.output.is_some() { Ok(()) } else { Err(self.no_output()) }
    }

    /// Runs the module, past the interceptors that follow.
    ///
    /// # Errors
    /// What the module returns.
    #[doc(alias = "orig_method")]
    pub fn run_module(&mut self) -> Result<()> {
        self.output = Some((self.body)(self.current_input().as_any())?);
        Ok(())
    }

    /// What the module gave, if it is a `T`; nothing before it ran.
    pub fn output<T: 'static>(&self) -> Option<&T> {
        self.output.as_deref()?.as_any().downcast_ref()
    }

    /// Gives something else of the same type, whether the module ran or not.
    ///
    /// # Errors
    /// [`ScopeError::Intercepted`] for another type.
    pub fn set_output<T: Pytree>(&mut self, output: T) -> Result<()> {
        match self.output_type.0 == TypeId::of::<T>() {
            true => {
                self.output = Some(Box::new(output));
                Ok(())
            }
            false => Err(ScopeError::Intercepted {
                path: self.path().clone(),
                what: "an output",
                found: type_name::<T>(),
            }
            .into()),
        }
    }

    fn no_output(&self) -> bridge_vars::Error {
        ScopeError::NoOutput { path: self.path().clone(), class: self.class.to_string() }.into()
    }
}

fn wrong_type<T>(scope: &Scope, what: &'static str) -> bridge_vars::Error {
    ScopeError::Intercepted { path: scope.path().clone(), what, found: type_name::<T>() }.into()
}

impl fmt::Debug for ModuleCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleCall")
            .field("path", self.path())
            .field("class", &self.class)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
