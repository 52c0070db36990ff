use std::fmt;

use crate::{Leaf, Path, Result, Sharding, State, Tree, Variables, VarsError};

/// Over which axes of a mesh of devices the axes of a value are spread; none for an axis that is not.
///
/// Axes after the last named one are not spread, so one without any says that each device has all of it.
#[doc(alias = "jax.sharding.PartitionSpec")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionSpec(pub Vec<Option<String>>);

impl fmt::Display for PartitionSpec {
    /// `P(model, None)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<&str> = self.0.iter().map(|axis| axis.as_deref().unwrap_or("None")).collect();
        write!(f, "P({})", axes.join(", "))
    }
}

impl PartitionSpec {
    /// Axes of a mesh for names of one's own, by rules from these to those: see [`Sharding::mesh_axes`].
    ///
    /// # Errors
    /// Those of [`Sharding::mesh_axes`].
    #[doc(alias("logical_to_mesh_axes", "logical_axis_rules"))]
    pub fn by_rules<'a>(&self, rules: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let named = Sharding { names: self.0.clone(), ..Sharding::default() };
        let sharding = rules.into_iter().fold(named, |sharding, (name, axis)| sharding.with_rule(name, axis));
        let axes = if sharding.rules.is_empty() { vec![None; self.0.len()] } else { sharding.mesh_axes()? };
        Ok(Self(axes.into_iter().map(|axis| axis.map(str::to_owned)).collect()))
    }
}

impl Leaf {
    /// How its metadata says that it is spread; what says nothing is not.
    ///
    /// # Errors
    /// Those of [`Sharding::mesh_axes`], and more names than the tensor has axes.
    #[doc(alias = "get_partition_spec")]
    pub fn partition_spec(&self) -> Result<PartitionSpec> {
        let Some(sharding) = self.metadata.sharding()? else { return Ok(PartitionSpec::default()) };
        let rank = self.value.tensor_form().map(|form| form.dims().len());
        if rank.is_some_and(|rank| rank < sharding.names.len()) {
            let names = sharding.names.into_iter().map(Option::unwrap_or_default).collect();
            return Err(VarsError::ShardingRank { names, rank: rank.unwrap_or_default() }.into());
        }
        Ok(PartitionSpec(sharding.mesh_axes()?.into_iter().map(|axis| axis.map(str::to_owned)).collect()))
    }
}

fn specs(leaves: &Tree<Leaf>) -> Result<Tree<PartitionSpec>> {
    leaves.try_map(|path: &Path, leaf| leaf.partition_spec().map_err(|error| error.at(path)))
}

impl State {
    /// How each leaf is spread over a mesh of devices.
    ///
    /// ```
    /// use bridge_random::{Initializer, key};
    /// use bridge_vars::{Initialize, Param, PartitionSpec, Path, State, with_partitioning};
    /// use candle_core::{DType, Device};
    /// let init = with_partitioning(Initializer::Zeros, ["", "model"]);
    /// let value = init.value(key(0), &(2, 4).into(), DType::F32, &Device::Cpu)?;
    /// let mut state = State::default();
    /// state.insert(&Path::from("kernel"), init.leaf(Param::variable_type(), value))?;
    /// let specs = state.partition_specs()?;
    /// assert_eq!(specs.get(&Path::from("kernel")).unwrap().to_string(), "P(None, model)");
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first of [`Leaf::partition_spec`], with its path.
    #[doc(alias("nnx.get_partition_spec", "get_named_sharding"))]
    pub fn partition_specs(&self) -> Result<Tree<PartitionSpec>> {
        specs(self.tree())
    }
}

impl Variables {
    /// [`State::partition_specs`]; paths begin with the collection's name.
    ///
    /// # Errors
    /// The first of [`Leaf::partition_spec`], with its path.
    #[doc(alias("linen.get_partition_spec", "get_sharding"))]
    pub fn partition_specs(&self) -> Result<Tree<PartitionSpec>> {
        specs(self.tree())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Described, Metadata, Param};
    use candle_core::{DType, Device};

    fn leaf(names: &[&str]) -> Leaf {
        let metadata = Metadata::default().with_sharding(&Sharding::new(names.iter().copied()));
        Leaf { metadata, ..Param::leaf(Described::new((2, 4), DType::F32, &Device::Cpu)) }
    }

    #[test]
    fn what_is_not_boxed_is_not_spread() {
        let mut variables = Variables::default();
        variables.insert(&Path::from("a"), leaf(&["x", ""])).unwrap();
        variables.insert(&Path::from("b"), Param::leaf(1u32)).unwrap();
        let specs = variables.partition_specs().unwrap();
        let spec = |path: &str| specs.get(&Path::from(path)).unwrap().to_string();
        assert_eq!((spec("params.a"), spec("params.b")), ("P(x, None)".into(), "P()".into()));
    }

    #[test]
    fn rules_come_later_too() {
        let logical = leaf(&["embed", "mlp"]).partition_spec().unwrap();
        let mesh = logical.by_rules([("mlp", "model"), ("embed", "model"), ("embed", "data")]).unwrap();
        assert_eq!(mesh.to_string(), "P(data, model)");
        assert_eq!(logical.by_rules([]).unwrap().to_string(), "P(None, None)");
    }

    #[test]
    fn names_are_checked() {
        let text = leaf(&["a", "a"]).partition_spec().unwrap_err().to_string();
        assert!(text.contains("`a`") && text.contains("twice"), "{text}");
        let text = leaf(&["a", "b", "c"]).partition_spec().unwrap_err().to_string();
        assert!(text.contains("3 names") && text.contains("2 axes"), "{text}");
    }
}
