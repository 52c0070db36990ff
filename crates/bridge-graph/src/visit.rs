use std::sync::Arc;

use bridge_vars::{Name, PathKey, Result, Variable};
use candle_core::{Device, Tensor};

use crate::dynamic::{BoxableModule, ErasedRebuild};
use crate::{Attribute, CallContext, Flag, Source};

/// What can be walked: a module, a variable, a container of them, a static value.
///
/// `#[derive(StatefulModule)]` implements it; so do variables, containers, numbers and strings.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be a field of a module",
    label = "not a module, a variable, a container of them, or plain data",
    note = "derive it: `#[derive(StatefulModule)]` on `{Self}`, if it holds variables or modules and is your own; for a map use \
            `BTreeMap` or `IndexMap`",
    note = "or mark the field: `#[module(static)]` if it is configuration (any serde type), `#[module(skip)]` if \
            it is rebuilt by `Default`"
)]
pub trait Visit: Send + Sync {
    /// Shows the visitor what is inside, children in order of their keys.
    ///
    /// # Errors
    /// Those of the visitor.
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()>;

    /// The type's name: what tells a part from its own first field, which has the same address.
    #[doc(hidden)]
    fn visited_type(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// What can stand in a module's field: it can be walked, and rebuilt from a `GraphDef` and a state.
// `Visit`'s text again: which of the two traits the compiler misses depends on the place.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be a field of a module",
    label = "not a module, a variable, a container of them, or plain data",
    note = "derive it: `#[derive(StatefulModule)]` on `{Self}`, if it holds variables or modules and is your own; for a map use \
            `BTreeMap` or `IndexMap`",
    note = "or mark the field: `#[module(static)]` if it is configuration (any serde type), `#[module(skip)]` if \
            it is rebuilt by `Default`"
)]
pub trait Field: Visit + Sized + 'static {
    /// Rebuilds it, reading in the order in which [`Visit::visit`] shows.
    fn rebuild(source: &mut Source<'_>) -> Result<Self>;
}

/// A module that owns its variables. Implemented by `#[derive(StatefulModule)]`.
#[doc(alias("Module", "nnx.Module", "Pytree"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stateful module",
    note = "write `#[derive(StatefulModule)]` on `{Self}`"
)]
pub trait StatefulModule: BoxableModule {
    /// The type's name, as files and messages have it.
    fn type_name(&self) -> &'static str;

    /// The type's name, without a value.
    fn static_type_name() -> &'static str
    where
        Self: Sized;
}

/// How the children of a node are held together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Structure {
    /// A module of a type with this name.
    Module(Name),
    /// An enum with the first name, which is the variant with the second; its fields follow as those of a module.
    Variant(Arc<(Name, Name)>),
    /// A list.
    List,
    /// A fixed number of parts.
    Tuple,
    /// A map in order of its keys.
    Map,
    /// A map with an order of its own: these are its keys. Its children are in order of their keys all the
    /// same.
    OrderedMap(Arc<[PathKey]>),
}

impl Structure {
    /// A variant of an enum: `Structure::variant(&"Activation", &"Gelu")`.
    pub fn variant(name: &'static &'static str, variant: &'static &'static str) -> Self {
        Self::Variant(Arc::new((Name::from_static(name), Name::from_static(variant))))
    }
}

/// What walks over a module. Implemented by the operations of this crate, and by any that needs more than
/// [`iter_graph`](crate::iter_graph).
///
/// What has no method of the implementation's own is passed over.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not walk over a module",
    note = "write `impl Visitor for {Self}`, or pass a closure to `iter_graph` or `iter_variables`"
)]
pub trait Visitor {
    /// A node begins; its children follow. `module` is there for a derived module.
    fn enter(&mut self, structure: Structure, module: Option<&dyn StatefulModule>) -> Result<()> {
        let _ = (structure, module);
        Ok(())
    }
    /// The node ends.
    fn exit(&mut self) -> Result<()> {
        Ok(())
    }
    /// A child under a key: calls [`Visit::visit`] of it.
    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()>;
    /// A part that may be absent: calls [`Visit::visit`] of it if it is there.
    fn optional(&mut self, part: Option<&dyn Visit>) -> Result<()>;
    /// A shared node, by identity: calls [`Visit::visit`] of it the first time.
    fn shared(&mut self, id: usize, target: &dyn Visit) -> Result<()>;
    /// A boxed module of a type with this name: calls [`Visit::visit`] of it. `rebuild` gives a
    /// [`Rebuild`](crate::Rebuild) of the box.
    fn dynamic(
        &mut self,
        type_name: &'static str,
        rebuild: &dyn Fn() -> ErasedRebuild,
        module: &dyn Visit,
    ) -> Result<()>;
    /// A variable.
    fn variable(&mut self, variable: &Variable) -> Result<()>;
    /// A bare tensor.
    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let _ = tensor;
        Ok(())
    }
    /// A static value.
    fn attribute(&mut self, attribute: &dyn Fn() -> Attribute) -> Result<()> {
        let _ = attribute;
        Ok(())
    }
    /// A flag.
    fn flag(&mut self, flag: &Flag) -> Result<()> {
        let _ = flag;
        Ok(())
    }
    /// A place that a call's context reaches.
    fn context(&mut self, context: &CallContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// A device that new tensors go to.
    fn device(&mut self, device: &Device) -> Result<()> {
        let _ = device;
        Ok(())
    }
    /// A weak reference to the shared node with this identity, or to none.
    fn weak(&mut self, id: Option<usize>) -> Result<()> {
        let _ = id;
        Ok(())
    }
}

/// What a visitor does that goes into boxed modules; into those that may be absent and into what is shared as well, there
/// `once`, by identity, or `always`.
macro_rules! goes_inside {
    (boxed) => {
        fn dynamic(
            &mut self,
            _type_name: &'static str,
            _rebuild: &dyn Fn() -> $crate::ErasedRebuild,
            module: &dyn $crate::Visit,
        ) -> bridge_vars::Result<()> {
            module.visit(self)
        }
    };
    (optional) => {
        goes_inside!(boxed);
        fn optional(&mut self, part: Option<&dyn $crate::Visit>) -> bridge_vars::Result<()> {
            part.map_or(Ok(()), |part| part.visit(self))
        }
    };
    (once) => {
        goes_inside!(optional);
        fn shared(&mut self, id: usize, target: &dyn $crate::Visit) -> bridge_vars::Result<()> {
            if self.seen.insert(id) { target.visit(self) } else { Ok(()) }
        }
    };
    (always) => {
        goes_inside!(optional);
        fn shared(&mut self, _id: usize, target: &dyn $crate::Visit) -> bridge_vars::Result<()> {
            target.visit(self)
        }
    };
}
pub(crate) use goes_inside;
