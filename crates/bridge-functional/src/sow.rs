use bridge_vars::{Leaf, Name, Path, PathKey, Perturbation, Result, Value, VariableType};
use candle_core::Tensor;

use crate::Scope;
use crate::error::ScopeError;

impl Scope {
    /// Appends a value to the list under a name in a collection, where the call may change it; otherwise it does nothing and
    /// gives false.
    ///
    /// ```
    /// use bridge_functional::Call;
    /// use bridge_vars::Variables;
    /// use candle_core::{Device, Tensor};
    /// let x = Tensor::new(2f32, &Device::Cpu)?;
    /// let call = Call::new().mutable("intermediates");
    /// let (_, sown) = call.apply(&Variables::default(), |scope| scope.sow("intermediates", "hidden", &x))?;
    /// assert_eq!(sown.get("intermediates", "hidden.0")?.tensor()?.to_scalar::<f32>()?, 2.);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`] if a child has the name, or a variable of the collection.
    #[doc(alias = "linen.Module.sow")]
    pub fn sow(&self, collection: &str, name: impl Into<Name>, value: impl Into<Value>) -> Result<bool> {
        if !self.is_mutable_collection(collection) {
            return Ok(false);
        }
        let kind = VariableType::from_collection(collection);
        let name = name.into();
        self.reserve_sown(&kind.collection_name(), &name)?;
        let list = Path::from(PathKey::Name(name.clone()));
        if self.find(&kind.collection_name(), &name).is_some() {
            return Err(ScopeError::NameInUse { path: self.path().join(name) }.into());
        }
        self.begin_list(&kind.collection_name(), &list);
        let index = self.items(&kind.collection_name(), &list);
        self.put(&list.join(index), Leaf::new(kind, value))?;
        Ok(true)
    }

    /// Puts a value together with the one under a name in a collection, which starts as `init`. False where the call may not
    /// change the collection.
    ///
    /// ```
    /// use bridge_functional::Call;
    /// use bridge_vars::Variables;
    /// use candle_core::{Device, Tensor};
    /// let scalar = |value: f32| Ok::<_, bridge_vars::Error>(Tensor::new(value, &Device::Cpu)?);
    /// let (_, losses) = Call::new().mutable("losses").apply(&Variables::default(), |scope| {
    ///     for loss in [1., 2.] {
    ///         scope.sow_with("losses", "activity", &scalar(loss)?, || scalar(0.), |sum, loss| Ok((sum + loss)?))?;
    ///     }
    ///     Ok(())
    /// })?;
    /// assert_eq!(losses.get("losses", "activity")?.tensor()?.to_scalar::<f32>()?, 3.);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Scope::sow`], and what `init` and `reduce` return.
    #[doc(alias("reduce_fn", "init_fn"))]
    pub fn sow_with(
        &self,
        collection: &str,
        name: impl Into<Name>,
        value: &Tensor,
        init: impl FnOnce() -> Result<Tensor>,
        reduce: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<bool> {
        if !self.is_mutable_collection(collection) {
            return Ok(false);
        }
        let kind = VariableType::from_collection(collection);
        let name = name.into();
        self.reserve_sown(&kind.collection_name(), &name)?;
        let path = Path::from(PathKey::Name(name.clone()));
        if self.items(&kind.collection_name(), &path) > 0 {
            return Err(ScopeError::NameInUse { path: self.path().join(name) }.into());
        }
        let before = match self.find(&kind.collection_name(), &name) {
            Some(leaf) => self.tensor_of(&leaf, || self.path().join(name.clone()))?,
            None => init()?,
        };
        self.put(&path, Leaf::new(kind, reduce(&before, value)?))?;
        Ok(true)
    }

    /// The value plus the perturbation of this name in the collection `perturbations`: zeros where the call may change the
    /// collection. Its gradient is that of the value. Without the collection it is the value.
    ///
    /// ```
    /// use bridge_functional::{Call, Keys, value_and_grad};
    /// use bridge_vars::Perturbation;
    /// use candle_core::{Device, Tensor};
    /// let x = Tensor::new(3f32, &Device::Cpu)?;
    /// let (_, variables) = Call::new().init(|scope| scope.perturb("hidden", &x))?;
    /// let (_, gradients) = value_and_grad(&variables, Perturbation::variable_type(), |variables| {
    ///     Ok(Call::new().apply(variables, |scope| Ok(scope.perturb("hidden", &x)?.sqr()?))?.0)
    /// })?;
    /// assert_eq!(gradients.get("perturbations", "hidden")?.tensor()?.to_scalar::<f32>()?, 6.);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ScopeError::VariableNotFound`] if the collection is there without the name, [`ScopeError::CollectionNotFound`] if it is
    /// there and empty; a perturbation of another shape.
    #[doc(alias = "linen.Module.perturb")]
    pub fn perturb(&self, name: impl Into<Name>, value: &Tensor) -> Result<Tensor> {
        self.perturb_in(Perturbation::variable_type().collection(), name, value)
    }

    /// [`Scope::perturb`] in a collection of one's own.
    ///
    /// # Errors
    /// Those of [`Scope::perturb`].
    pub fn perturb_in(&self, collection: &str, name: impl Into<Name>, value: &Tensor) -> Result<Tensor> {
        let kind = VariableType::from_collection(collection);
        let (collection, name) = (kind.collection_name(), name.into());
        let path = || self.path().join(name.clone());
        if let Some(leaf) = self.find(&collection, &name) {
            let leaf = leaf.with_value(self.tensor_of(&leaf, path)?);
            return leaf.perturb(value).map_err(|error| error.at(&path()));
        }
        if self.is_mutable_collection(&collection) {
            self.reserve(&name, Some(&collection))?;
            let zeros = self.full(0., value.shape(), value.dtype(), value.device())?;
            self.put(&Path::from(PathKey::Name(name)), Leaf::new(kind, zeros))?;
            return Ok(value.clone());
        }
        match self.has_collection(&collection) {
            true => Err(self.not_found(&collection, &name)),
            false => Ok(value.clone()),
        }
    }

    /// What is sown again in one call has its name already.
    fn reserve_sown(&self, collection: &Name, name: &Name) -> Result<()> {
        match self.is_variable_of(collection, name) {
            true => Ok(()),
            false => self.reserve(name, Some(collection)),
        }
    }
}
