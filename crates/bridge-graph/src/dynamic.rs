use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bridge_vars::{Name, Result};

use crate::{Field, Source, StatefulModule, Visit, Visitor};

/// How a boxed module is rebuilt, where `B` is a `Box<dyn Trait>`.
pub type Rebuild<B> = fn(&mut Source<'_>) -> Result<B>;

/// A function of type [`Rebuild`], whatever the box.
pub type ErasedRebuild = Arc<dyn Any + Send + Sync>;

/// The type of a boxed module: a name, and how it is rebuilt, which a file does not have.
#[derive(Clone)]
pub(crate) struct DynamicType(Arc<(Name, Option<ErasedRebuild>)>);

impl DynamicType {
    pub(crate) fn new(name: &'static str, rebuild: ErasedRebuild) -> Self {
        Self(Arc::new((Name::from(name), Some(rebuild))))
    }

    pub(crate) fn named(name: Name) -> Self {
        Self(Arc::new((name, None)))
    }

    pub(crate) fn name(&self) -> &Name {
        &self.0.0
    }

    pub(crate) fn rebuild<B: 'static>(&self) -> Option<Rebuild<B>> {
        self.0.1.as_ref()?.downcast_ref().copied()
    }
}

impl fmt::Debug for DynamicType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// What every module can do that can stand in a `Box<dyn StatefulModule>`. Implemented for all that are a [`Field`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stateful module",
    note = "write `#[derive(StatefulModule)]` on `{Self}`"
)]
pub trait BoxableModule: Visit + Any {
    #[doc(hidden)]
    fn rebuild_boxed(&self) -> Rebuild<Box<dyn StatefulModule>>;
}

impl<M: StatefulModule + Field> BoxableModule for M {
    fn rebuild_boxed(&self) -> Rebuild<Box<dyn StatefulModule>> {
        |source| Ok(Box::new(M::rebuild(source)?))
    }
}

impl Visit for Box<dyn StatefulModule> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        let module = &**self;
        visitor.dynamic(module.type_name(), &|| Arc::new(module.rebuild_boxed()), module)
    }
}
impl Field for Box<dyn StatefulModule> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.dynamic()
    }
}

/// Makes `Box<dyn Trait>` a field of modules, for a trait of yours, so that a list can hold layers of different types.
///
/// It declares a trait that yours must have as a supertrait. Splitting and merging work without more; to rebuild from a
/// file, the types must be registered, [`<dyn Trait>::register::<M>(registry)`](crate::Registry).
///
/// ```
/// use bridge_graph::{Registry, StatefulModule, dynamic, merge, split};
/// use bridge_vars::{Param, Result};
/// use candle_core::{Device, Tensor};
///
/// dynamic!(trait BoxableLayer for Layer);
/// trait Layer: BoxableLayer {
///     fn forward(&self, x: &Tensor) -> Result<Tensor>;
/// }
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
/// impl Layer for Scale {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         Ok(x.broadcast_mul(&self.factor.value()?)?)
///     }
/// }
/// #[derive(StatefulModule)]
/// struct Square;
/// impl Layer for Square {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         Ok(x.sqr()?)
///     }
/// }
///
/// let three = Tensor::new(3f32, &Device::Cpu)?;
/// let layers: Vec<Box<dyn Layer>> = vec![Box::new(Scale { factor: Param::new(three.clone()) }), Box::new(Square)];
/// let (graphdef, state) = split(&layers)?;
/// let merged = merge(&graphdef, &state)?;
/// let y = merged.iter().try_fold(three, |x, layer| layer.forward(&x))?;
/// assert_eq!(y.to_scalar::<f32>()?, 81.);
///
/// let registry = <dyn Layer>::register::<Scale>(Registry::new());
/// let registry = <dyn Layer>::register::<Square>(registry);
/// assert_eq!(registry.merge(&graphdef, &state)?.len(), 2);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[macro_export]
macro_rules! dynamic {
    ($vis:vis trait $boxable:ident for $target:ident) => {
        #[doc = concat!("What every module can do that can stand in a `Box<dyn ", stringify!($target), ">`.")]
        $vis trait $boxable: $crate::StatefulModule {
            #[doc(hidden)]
            fn rebuild_as_box(&self) -> $crate::Rebuild<::std::boxed::Box<dyn $target>>;
        }

        impl<M: $target + $crate::Field> $boxable for M {
            fn rebuild_as_box(&self) -> $crate::Rebuild<::std::boxed::Box<dyn $target>> {
                |source| ::core::result::Result::Ok(::std::boxed::Box::new(M::rebuild(source)?))
            }
        }

        impl $crate::Visit for ::std::boxed::Box<dyn $target> {
            fn visit(&self, visitor: &mut dyn $crate::Visitor) -> $crate::private::Result<()> {
                let module = &**self;
                visitor.dynamic(
                    $crate::StatefulModule::type_name(module),
                    &|| ::std::sync::Arc::new($boxable::rebuild_as_box(module)),
                    module,
                )
            }
        }
        impl $crate::Field for ::std::boxed::Box<dyn $target> {
            fn rebuild(source: &mut $crate::Source<'_>) -> $crate::private::Result<Self> {
                source.dynamic()
            }
        }

        impl dyn $target {
            /// Lets a registry rebuild boxes of this trait that hold an `M`.
            #[allow(dead_code, reason = "not every program reads files")]
            $vis fn register<M: $target + $crate::Field>(registry: $crate::Registry) -> $crate::Registry {
                let rebuild: $crate::Rebuild<::std::boxed::Box<dyn $target>> =
                    |source| ::core::result::Result::Ok(::std::boxed::Box::new(M::rebuild(source)?));
                registry.with_boxed(<M as $crate::StatefulModule>::static_type_name(), rebuild)
            }
        }
    };
}
