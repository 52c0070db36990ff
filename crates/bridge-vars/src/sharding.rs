use serde::{Deserialize, Serialize};

use crate::{Result, VarsError};

/// How a value is to be spread over devices: names of its axes, rules from those names to the axes of a mesh, and
/// the mesh. Part of a variable's [`Metadata`](crate::Metadata).
///
/// candle has no mesh of devices; this is kept, carried along by every operation, and read by whoever places values.
///
/// ```
/// use bridge_vars::{Metadata, Sharding};
/// let sharding = Sharding::new(["embed", "mlp"]).with_rule("mlp", "model").with_mesh_axis("model", 4);
/// assert_eq!(sharding.mesh_axes()?, [None, Some("model")]);
/// let metadata = Metadata::default().with_sharding(&sharding);
/// assert_eq!(metadata.sharding()?, Some(sharding));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("Partitioned", "LogicallyPartitioned", "out_sharding", "PartitionSpec"))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharding {
    /// A name for each axis of the value; none for one that is not spread.
    pub names: Vec<Option<String>>,
    /// From names of axes to axes of the mesh, the first that fits first; none says that the axis is not spread.
    pub rules: Vec<(String, Option<String>)>,
    /// The mesh: its axes, each with a number of devices.
    pub mesh: Vec<(String, usize)>,
}

impl Sharding {
    /// With a name for each axis; an empty one stands for an axis that is not spread.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(|name| (!name.is_empty()).then(|| name.to_owned()));
        Self { names: names.collect(), ..Self::default() }
    }

    /// With a rule after those that are there.
    #[must_use]
    pub fn with_rule(mut self, name: &str, mesh_axis: &str) -> Self {
        self.rules.push((name.to_owned(), (!mesh_axis.is_empty()).then(|| mesh_axis.to_owned())));
        self
    }

    /// With one more axis of the mesh.
    #[must_use]
    pub fn with_mesh_axis(mut self, name: &str, devices: usize) -> Self {
        self.mesh.push((name.to_owned(), devices));
        self
    }

    /// The axis of the mesh for each axis of the value.
    ///
    /// For each name the first rule counts whose axis of the mesh no other name has taken; a name without a rule is an
    /// axis of the mesh itself where there are no rules, and is not spread where there are.
    ///
    /// # Errors
    /// [`VarsError::ShardingNameTwice`].
    #[doc(alias("logical_to_mesh_axes", "get_partition_spec"))]
    pub fn mesh_axes(&self) -> Result<Vec<Option<&str>>> {
        for (place, name) in self.names.iter().enumerate() {
            if let Some(name) = name
                && self.names.iter().take(place).flatten().any(|other| other == name)
            {
                let names = self.names.iter().map(|name| name.clone().unwrap_or_default()).collect();
                return Err(VarsError::ShardingNameTwice { name: name.clone(), names }.into());
            }
        }
        if self.rules.is_empty() {
            return Ok(self.names.iter().map(Option::as_deref).collect());
        }
        let mut axes: Vec<Option<&str>> = vec![None; self.names.len()];
        let mut decided = vec![false; self.names.len()];
        for (name, mesh_axis) in &self.rules {
            let mesh_axis = mesh_axis.as_deref();
            if mesh_axis.is_some() && axes.contains(&mesh_axis) {
                continue;
            }
            let place = self.names.iter().position(|other| other.as_ref() == Some(name));
            if let Some(place) = place.filter(|place| !decided[*place]) {
                decided[place] = true;
                axes[place] = mesh_axis;
            }
        }
        Ok(axes)
    }

    /// Puts an axis in at an index; unnamed axes before it are made where they are missing.
    pub fn add_axis(&mut self, index: usize, name: Option<&str>) {
        if self.names.len() < index {
            self.names.resize(index, None);
        }
        self.names.insert(index, name.map(str::to_owned));
    }

    /// Takes the axis at an index out.
    ///
    /// # Errors
    /// [`VarsError::ShardingAxis`] if the axis there has another name, or there is none.
    pub fn remove_axis(&mut self, index: usize, name: Option<&str>) -> Result<()> {
        match self.names.get(index) {
            Some(found) if found.as_deref() == name => {
                self.names.remove(index);
                Ok(())
            }
            _ => Err(VarsError::ShardingAxis {
                index,
                expected: name.unwrap_or("unnamed").to_owned(),
                names: self.names.iter().map(|name| name.clone().unwrap_or_default()).collect(),
            }
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hooks, Metadata, Param};

    /// The cases are `flax.linen.logical_to_mesh_axes`'s.
    #[test]
    fn the_first_free_rule_counts() {
        let check = |names: &[&str], rules: &[(&str, &str)], expected: &[Option<&str>]| {
            let sharding =
                rules.iter().fold(Sharding::new(names.iter().copied()), |sharding, (name, axis)| {
                    sharding.with_rule(name, axis)
                });
            assert_eq!(sharding.mesh_axes().unwrap(), expected, "{names:?} {rules:?}");
        };
        check(&["a", "", "b"], &[], &[Some("a"), None, Some("b")]);
        check(&["a", "b"], &[("a", "x"), ("b", "x")], &[Some("x"), None]);
        check(&["a", "b"], &[("a", "x"), ("b", "x"), ("b", "y")], &[Some("x"), Some("y")]);
        check(&["a", "b"], &[("b", "x"), ("a", "x"), ("a", "y")], &[Some("y"), Some("x")]);
        check(&["a"], &[("a", ""), ("a", "x")], &[None]);
        check(&["a", "c"], &[("a", "x")], &[Some("x"), None]);
    }

    #[test]
    fn axes_come_and_go() {
        let mut sharding = Sharding::new(["a"]);
        sharding.add_axis(0, Some("layers"));
        sharding.add_axis(3, None);
        assert_eq!(sharding, Sharding::new(["layers", "a", "", ""]));
        let text = sharding.remove_axis(1, Some("layers")).unwrap_err().to_string();
        assert_eq!(
            text,
            "expected the axis 1 of the sharding to be `layers`, found the axes [`layers`, `a`, ``, ``]"
        );
        sharding.remove_axis(0, Some("layers")).unwrap();
        assert_eq!(sharding, Sharding::new(["a", "", ""]));
    }

    #[test]
    fn a_variable_changes_its_sharding_and_tells_its_hooks() {
        let note = |sort: &'static str| {
            move |metadata: &mut Metadata, index: usize, name: Option<&str>| {
                metadata.set(sort, format!("{index} {}", name.unwrap_or("-")));
                Ok(())
            }
        };
        let hooks = Hooks::new("test_axes").on_add_axis(note("added")).on_remove_axis(note("removed"));
        let param = Param::new(0);
        param.set_metadata(Metadata::default().with_sharding(&Sharding::new(["a"])).with_hooks(hooks));
        param.add_axis(0, Some("layers")).unwrap();
        let metadata = param.metadata();
        assert_eq!(metadata.sharding().unwrap(), Some(Sharding::new(["layers", "a"])));
        assert_eq!(metadata.get("added").unwrap(), "0 layers");
        param.remove_axis(0, Some("layers")).unwrap();
        assert_eq!(param.metadata().sharding().unwrap(), Some(Sharding::new(["a"])));
        assert_eq!(param.metadata().get("removed").unwrap(), "0 layers");
        assert!(param.remove_axis(0, Some("layers")).is_err());
    }
}
