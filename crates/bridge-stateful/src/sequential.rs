use bridge_graph::{StatefulModule, Visit, dynamic, observe};
use bridge_vars::Result;
use candle_core::{Module, Tensor};

dynamic!(pub trait BoxableLayer for Layer);

/// A layer of any type: what a [`Sequential`] that is put together at run time is made of. Implemented for every stateful
/// module that is candle's [`Module`].
#[doc(alias("nnx.Module", "nn.Module"))]
pub trait Layer: BoxableLayer + Module {}

impl<M: Module + StatefulModule + bridge_graph::Field> Layer for M {}

impl std::fmt::Debug for dyn Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name())
    }
}

impl Module for Box<dyn Layer> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        (**self).forward(x)
    }
}

/// Layers one after the other: a tuple of up to twelve, whose types the compiler knows, or a list.
///
/// Paths are as in Flax, `layers.0.kernel`. An empty list gives its input back.
///
/// ```
/// use bridge_graph::{Rngs, state};
/// use bridge_stateful::{Activation, Linear, Sequential};
/// use candle_core::{DType, Device, Module, Tensor};
/// let rngs = Rngs::new(0);
/// let mlp = Sequential::new((Linear::new(2, 8, &rngs)?, Activation::Relu, Linear::new(8, 3, &rngs)?));
/// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
/// assert_eq!(mlp.forward(&x)?.dims(), &[1, 3]);
///
/// // The same, put together at run time.
/// let mut layers = Sequential::dynamic();
/// for layer in [Linear::new(2, 8, &rngs)?, Linear::new(8, 3, &rngs)?] {
///     layers.push(layer);
///     layers.push(Activation::Relu);
/// }
/// assert_eq!(layers.forward(&x)?.dims(), &[1, 3]);
/// assert!(state(&layers)?.get("layers.2.kernel").is_ok());
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("nnx.Sequential", "nn.Sequential"))]
#[derive(Debug, Default, StatefulModule)]
#[module(crate = "bridge_graph")]
pub struct Sequential<L> {
    /// The layers, in order.
    pub layers: L,
}

impl<L> Sequential<L> {
    /// Of these layers.
    pub fn new(layers: L) -> Self {
        Self { layers }
    }
}

impl Sequential<Vec<Box<dyn Layer>>> {
    /// Of no layer yet, for layers of any types.
    pub fn dynamic() -> Self {
        Self { layers: Vec::new() }
    }

    /// Adds a layer at the end.
    pub fn push(&mut self, layer: impl Layer + 'static) {
        self.layers.push(Box::new(layer));
    }

    /// With one more layer at the end.
    #[must_use]
    pub fn with(mut self, layer: impl Layer + 'static) -> Self {
        self.push(layer);
        self
    }
}

/// What a [`Sequential`] can be made of.
pub trait Layers: Visit {
    /// The input through all of them.
    ///
    /// # Errors
    /// What the layers return.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor>;
}

impl<M: Module + Visit> Layers for Vec<M> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
    }
}
impl<M: Module + Visit, const N: usize> Layers for [M; N] {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))+) => {$(
        impl<$($name: Module + Visit),+> Layers for ($($name,)+) {
            fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
                let x = x.clone();
                $(let x = self.$index.forward(&x)?;)+
                Ok(x)
            }
        }
    )+};
}
tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11)
}

impl<L: Layers + bridge_graph::Field> Module for Sequential<L> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        observe(self, x, || self.layers.forward(x))
    }
}

impl<L: Layers + bridge_graph::Field> Sequential<L> {
    /// The input through all layers.
    ///
    /// # Errors
    /// What the layers return.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(Module::forward(self, x)?)
    }
}
