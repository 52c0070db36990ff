use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::OnceLock;

use candle_core::Tensor;

use crate::{Leaf, Metadata, Value, Variable, VariableType};

/// A variable type known to the compiler: what [`VariableOf`] is generic over. Declared by
/// [`kinds!`](crate::kinds).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a kind of variable",
    note = "declare one: `kinds! {{ pub Scale(ScaleKind) in \"scales\"; }}`"
)]
pub trait VariableKind: Send + Sync + 'static {
    /// The type that variables of this kind have.
    fn variable_type() -> VariableType;
}

/// A [`Variable`] whose type is known to the compiler: `Param`, `BatchStat`, and so on.
///
/// It is what modules hold in their fields. It dereferences to the [`Variable`]; a clone is another handle
/// to the same variable.
///
/// ```
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
/// let kernel = Param::new(Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu)?);
/// assert_eq!(kernel.value()?.dims(), &[2, 3]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
pub struct VariableOf<K>(Variable, PhantomData<fn() -> K>);

impl<K: VariableKind> VariableOf<K> {
    /// A variable with this value.
    pub fn new(value: impl Into<Value>) -> Self {
        Self(Variable::new(K::variable_type(), value), PhantomData)
    }

    /// A variable with this value and metadata, made through the metadata's [`Hooks`](crate::Hooks).
    ///
    /// # Errors
    /// Those of the hooks.
    pub fn create(value: impl Into<Value>, metadata: Metadata) -> Result<Self, crate::Error> {
        Ok(Self(Variable::create(K::variable_type(), value, metadata)?, PhantomData))
    }

    /// The type of these variables.
    pub fn variable_type() -> VariableType {
        K::variable_type()
    }

    /// The same variable with its kind known, if it is of this type or a descendant of it; otherwise it
    /// comes back.
    pub fn from_variable(variable: Variable) -> Result<Self, Variable> {
        match variable.kind().is(K::variable_type()) {
            true => Ok(Self(variable, PhantomData)),
            false => Err(variable),
        }
    }

    /// A snapshot's leaf of this kind.
    pub fn leaf(value: impl Into<Value>) -> Leaf {
        Leaf::new(K::variable_type(), value)
    }

    /// The handle without the kind.
    pub fn as_variable(&self) -> &Variable {
        &self.0
    }
}

impl<K> Clone for VariableOf<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}
impl<K> Deref for VariableOf<K> {
    type Target = Variable;
    fn deref(&self) -> &Variable {
        &self.0
    }
}
impl<K> fmt::Debug for VariableOf<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
impl<K: VariableKind> From<Tensor> for VariableOf<K> {
    fn from(tensor: Tensor) -> Self {
        Self::new(tensor)
    }
}

/// Declares variable types: the handle that modules hold in their fields (a [`VariableOf`]), the marker
/// that tells it apart, the collection and, after a colon, the parent.
///
/// ```
/// use bridge_vars::{Param, kinds};
/// kinds! {
///     /// A learned scale.
///     pub Scale(ScaleKind) in "scales": Param;
/// }
/// assert!(Scale::variable_type().is(Param::variable_type()));
/// assert_eq!(Scale::variable_type().name(), "Scale");
/// assert_eq!(Scale::variable_type().collection(), "scales");
/// ```
#[macro_export]
macro_rules! kinds {
    ($($(#[$meta:meta])* $vis:vis $name:ident($marker:ident) in $collection:literal $(: $parent:ty)?);* $(;)?) => {$(
        $(#[$meta])*
        $vis type $name = $crate::VariableOf<$marker>;

        #[doc = concat!("The kind of [`", stringify!($name), "`].")]
        #[derive(Clone, Copy, Debug)]
        $vis enum $marker {}

        impl $crate::VariableKind for $marker {
            fn variable_type() -> $crate::VariableType {
                static TYPE: $crate::private::OnceLock<$crate::VariableType> = $crate::private::OnceLock::new();
                *TYPE.get_or_init(|| {
                    let parent = [$(<$parent>::variable_type())?].first().copied();
                    $crate::VariableType::declare(stringify!($name), $collection, parent)
                })
            }
        }
    )*};
}

kinds! {
    /// A trainable parameter, in `params`.
    pub Param(ParamKind) in "params";
    /// A low-rank adapter's parameter.
    #[doc(alias = "LoRAParam")]
    pub LoraParam(LoraParamKind) in "LoRAParam": Param;
    /// A running statistic, in `batch_stats`.
    pub BatchStat(BatchStatKind) in "batch_stats";
    /// What a module remembers between calls, in `cache`.
    pub Cache(CacheKind) in "cache";
    /// A value that a call left behind to be looked at, in `intermediates`.
    pub Intermediate(IntermediateKind) in "intermediates";
    /// A zero added to an intermediate value, so that its gradient can be had; in `perturbations`.
    pub Perturbation(PerturbationKind) in "perturbations": Intermediate;
    /// What a random stream holds.
    pub RngState(RngStateKind) in "RngState";
    /// A random stream's key.
    pub RngKey(RngKeyKind) in "RngKey": RngState;
    /// How often a random stream was drawn from.
    pub RngCount(RngCountKind) in "RngCount": RngState;
    /// What an optimizer remembers between steps.
    #[doc(alias = "OptState")]
    pub OptimizerState(OptimizerStateKind) in "OptState";
    /// What a metric counts and adds up.
    pub MetricState(MetricStateKind) in "MetricState";
}

/// The types above: collections are looked up by name, perhaps before anything of their type was made.
pub(crate) fn built_in() -> &'static [VariableType] {
    static TYPES: OnceLock<[VariableType; 11]> = OnceLock::new();
    TYPES.get_or_init(|| {
        [
            Param::variable_type(),
            LoraParam::variable_type(),
            BatchStat::variable_type(),
            Cache::variable_type(),
            Intermediate::variable_type(),
            Perturbation::variable_type(),
            RngState::variable_type(),
            RngKey::variable_type(),
            RngCount::variable_type(),
            OptimizerState::variable_type(),
            MetricState::variable_type(),
        ]
    })
}
