use bridge_graph::{Field, Registry, StatefulModule, Visit};
use bridge_vars::Result;
use candle_core::Device;

use crate::{Checkpoint, CheckpointFile};

// A file of one module: its tensors have the names of their paths.
const WHOLE: &str = "";

/// Saves a module, its description and all of its state, in a file of its own. Tensors are named by their
/// paths: `encoder.layers.3.kernel`.
///
/// ```
/// use bridge_graph::StatefulModule;
/// use bridge_train::{load, load_into, save};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// let scale = Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?) };
/// # let directory = tempfile::tempdir().map_err(bridge_vars::Error::new)?;
/// # let path = directory.path().join("scale.safetensors");
/// save(&path, &scale)?;
/// scale.factor.set(Tensor::new(5f32, &Device::Cpu)?)?;
/// load_into(&path, &scale)?;
/// assert_eq!(scale.factor.value()?.to_scalar::<f32>()?, 2.);
/// let another: Scale = load(&path, &Device::Cpu)?;
/// assert_eq!(another.factor.value()?.to_scalar::<f32>()?, 2.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// Those of [`Checkpoint::module`] and [`Checkpoint::save`].
#[doc(alias("torch.save", "save_safetensors"))]
pub fn save<M: Visit + ?Sized>(path: impl AsRef<std::path::Path>, module: &M) -> Result<()> {
    Checkpoint::new().module(WHOLE, module)?.save(path)
}

/// Takes the values of a file over into a module's variables, in place: all of them, or none.
///
/// # Errors
/// Those of [`CheckpointFile::open`] and [`CheckpointFile::load_into`].
#[doc(alias = "load_state_dict")]
pub fn load_into<M: Visit + ?Sized>(path: impl AsRef<std::path::Path>, module: &M) -> Result<()> {
    // The values move on to the devices of the variables.
    CheckpointFile::open(path, &Device::Cpu)?.load_into(WHOLE, module)
}

/// Builds a module from a file alone.
///
/// # Errors
/// Those of [`CheckpointFile::open`] and [`CheckpointFile::module`].
#[doc(alias = "torch.load")]
pub fn load<M: Field>(path: impl AsRef<std::path::Path>, device: &Device) -> Result<M> {
    CheckpointFile::open(path, device)?.module(WHOLE)
}

/// Builds a module of any type that a registry knows from a file alone.
///
/// # Errors
/// Those of [`CheckpointFile::open`] and [`CheckpointFile::rebuild`].
pub fn rebuild(
    path: impl AsRef<std::path::Path>,
    registry: &Registry,
    device: &Device,
) -> Result<Box<dyn StatefulModule>> {
    CheckpointFile::open(path, device)?.rebuild(WHOLE, registry)
}
