use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bridge_graph::Pytree;
use bridge_vars::{Name, Result};
use candle_core::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{FunctionalModule, Scope};

/// Modules one after the other: a tuple of up to twelve, each of which takes what the one before gives, or a list.
///
/// Children are named as in Flax: `layers_0`, `layers_1`. An empty list gives its input back, where Linen refuses to be called.
///
/// ```
/// use bridge_functional::{Activation, Dense, FunctionalModule, Sequential};
/// use bridge_random::key;
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
/// let mlp = Sequential::new((Dense::new(8), Activation::Relu, Dense::new(3)));
/// let (y, variables) = mlp.init_with_output(key(0), &x)?;
/// assert_eq!(y.dims(), &[1, 3]);
/// assert!(variables.get("params", "layers_2.kernel").is_ok());
///
/// // Put together at run time.
/// let mut layers = Sequential::dynamic();
/// for features in [8, 3] {
///     layers = layers.with(Dense::new(features)).with(Activation::Relu);
/// }
/// assert_eq!(layers.init_with_output(key(0), &x)?.0.dims(), &[1, 3]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("linen.Sequential", "nn.Sequential"))]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sequential<L> {
    /// The modules, in order.
    pub layers: L,
}

impl<L> Sequential<L> {
    /// Of these modules.
    pub fn new(layers: L) -> Self {
        Self { layers }
    }
}

impl Sequential<Vec<BoxedModule>> {
    /// Of no module yet, for modules of any types from tensor to tensor.
    pub fn dynamic() -> Self {
        Self { layers: Vec::new() }
    }

    /// With one more module at the end.
    #[must_use]
    pub fn with(mut self, module: impl FunctionalModule<Output = Tensor>) -> Self {
        self.layers.push(BoxedModule::new(module));
        self
    }
}

fn name(index: usize) -> Name {
    Name::from(format!("layers_{index}"))
}

impl<F: FunctionalModule<Output = Tensor>> FunctionalModule for Sequential<Vec<F>> {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let mut modules = self.layers.iter().enumerate();
        modules.try_fold(x.clone(), |x, (index, module)| scope.call_named(name(index), module, &x))
    }
}

macro_rules! tuples {
    ($(($($before:ident $index:tt),* ; $last:ident $last_index:tt))+) => {$(
        tuples!(@chain [] [In] ($($before $index),*) ; $last $last_index);
    )+};
    // Each takes the output of the one before: bounds are gathered one by one.
    (@chain [$($done:ident $done_index:tt $from:ty),*] [$input:ty] ($next:ident $next_index:tt $(, $rest:ident $rest_index:tt)*) ; $last:ident $last_index:tt) => {
        tuples!(@chain [$($done $done_index $from,)* $next $next_index $input]
            [<$next as FunctionalModule<$input>>::Output] ($($rest $rest_index),*) ; $last $last_index);
    };
    (@chain [$($done:ident $done_index:tt $from:ty),*] [$input:ty] () ; $last:ident $last_index:tt) => {
        impl<In: Pytree, $($done,)* $last> FunctionalModule<In> for Sequential<($($done,)* $last,)>
        where
            $($done: FunctionalModule<$from>,)*
            $last: FunctionalModule<$input>,
        {
            type Output = <$last as FunctionalModule<$input>>::Output;

            fn call(&self, scope: &Scope, x: &In) -> Result<Self::Output> {
                $(let x = &scope.call_named(name($done_index), &self.layers.$done_index, x)?;)*
                scope.call_named(name($last_index), &self.layers.$last_index, x)
            }
        }
    };
}
tuples! {
    (; A 0)
    (A 0 ; B 1)
    (A 0, B 1 ; C 2)
    (A 0, B 1, C 2 ; D 3)
    (A 0, B 1, C 2, D 3 ; E 4)
    (A 0, B 1, C 2, D 3, E 4 ; F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5 ; G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6 ; H 7)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7 ; I 8)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8 ; J 9)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9 ; K 10)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10 ; L 11)
}

/// A module of any type from tensor to tensor. It stands for the module: its variables are where the module's would be, and it is
/// named after the module's class. In a handle, [`Scope::child`], give it a name.
///
/// Two are equal if their modules are. It has no serde form, because a file does not know its type: a tuple in a [`Sequential`],
/// or an enum of your own, has one.
///
/// ```
/// use bridge_functional::{BoxedModule, Dense};
/// assert_eq!(BoxedModule::new(Dense::new(3)), BoxedModule::new(Dense::new(3)));
/// ```
#[derive(Clone)]
pub struct BoxedModule(Arc<dyn Erased>);

impl BoxedModule {
    /// Of this module.
    pub fn new(module: impl FunctionalModule<Output = Tensor>) -> Self {
        Self(Arc::new(module))
    }
}

trait Erased: Any + fmt::Debug + Send + Sync {
    fn call_erased(&self, scope: &Scope, x: &Tensor) -> Result<Tensor>;
    fn call_method_erased(&self, name: &str, scope: &Scope, x: &Tensor) -> Result<Tensor>;
    fn class_erased(&self) -> Name;
    fn equals(&self, other: &dyn Any) -> bool;
    fn module(&self) -> &dyn Any;
}

impl<F: FunctionalModule<Output = Tensor>> Erased for F {
    fn call_erased(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        self.call(scope, x)
    }
    fn equals(&self, other: &dyn Any) -> bool {
        other.downcast_ref() == Some(self)
    }
    fn call_method_erased(&self, name: &str, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        self.call_method(name, scope, x)
    }
    fn class_erased(&self) -> Name {
        self.class()
    }
    fn module(&self) -> &dyn Any {
        self.as_any()
    }
}

impl FunctionalModule for BoxedModule {
    type Output = Tensor;

    fn class(&self) -> Name {
        self.0.class_erased()
    }

    fn as_any(&self) -> &dyn Any {
        self.0.module()
    }

    fn call_method(&self, name: &str, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        self.0.call_method_erased(name, scope, x)
    }

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        self.0.call_erased(scope, x)
    }
}

impl PartialEq for BoxedModule {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals((*other.0).module())
    }
}
impl fmt::Debug for BoxedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

const NO_FORM: &str = "a boxed module has no serde form: use a tuple in `Sequential`, or an enum of modules";

impl Serialize for BoxedModule {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(NO_FORM))
    }
}
impl<'de> Deserialize<'de> for BoxedModule {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(NO_FORM))
    }
}
