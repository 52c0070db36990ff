//! The file that every program starts from: `NETWORK.safetensors`, with
//!
//! - the parameters under their paths, in Flax's layout: dense `kernel` is `[in, out]`, convolution `kernel` is
//!   `[height, width, in, out]`, `bias` and `scale` are `[out]`, an embedding is `[rows, width]`; all f32;
//! - `inputs`, `[20, ...]`: the batches, images as `[batch, height, width, channels]`, words as i64;
//! - `labels`, `[20, batch]`, i64 in 0..10; `minilm` has none.

#![allow(clippy::disallowed_types, reason = "what candle writes files of")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_bridge::graph::{Rngs, iter_variables, variables};
use candle_bridge::random::{key, normal, randint};
use candle_core::{DType, Device, Tensor};

use super::{Cnn, MiniLm, Mlp, Network, Transformer};
use crate::harness::Outcome;

/// One for each of the steps whose losses are compared: on examples that were learnt before, losses are small, and the
/// last bits of the arithmetic show in them. Later steps begin again.
pub(crate) const BATCHES: usize = 20;

/// Writes the file of a network by its name, and gives its place.
pub(crate) fn file(network: &str) -> Outcome<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{network}.safetensors"));
    let tensors = match network {
        "mlp" => tensors::<Mlp>(true),
        "cnn" => tensors::<Cnn>(true),
        "transformer" => tensors::<Transformer>(true),
        "minilm" => tensors::<MiniLm>(false),
        _ => Err(format!("there is no network {network:?}").into()),
    }?;
    candle_core::safetensors::save(&tensors, &path)?;
    Ok(path)
}

fn tensors<N: Network>(labels: bool) -> Outcome<HashMap<String, Tensor>> {
    let mut tensors = HashMap::new();
    for (place, (path, variable)) in variables(&N::new(&Rngs::new(0))?)?.into_iter().enumerate() {
        let value = variable.value()?;
        // Biases and scales differ from what they are made as, so that programs that mix them up are found out.
        let value = match value.rank() {
            1 => {
                let noise = normal(key(1).fold_in(place as u32), value.shape(), DType::F32, &Device::Cpu)?;
                (value + (noise * 0.02)?)?
            }
            _ => value,
        };
        tensors.insert(path.to_string(), value);
    }
    let batches = |make: &dyn Fn(u32) -> Outcome<Tensor>| -> Outcome<Tensor> {
        Ok(Tensor::stack(&(0..BATCHES as u32).map(make).collect::<Outcome<Vec<_>>>()?, 0)?)
    };
    let inputs = batches(&|batch| Ok(N::inputs(key(2).fold_in(batch))?))?;
    if labels {
        let examples = inputs.dim(1)?;
        let labels = |batch| Ok(randint(key(3).fold_in(batch), examples, 0, 10, DType::I64, &Device::Cpu)?);
        tensors.insert("labels".to_owned(), batches(&labels)?);
    }
    tensors.insert("inputs".to_owned(), inputs);
    Ok(tensors)
}

/// A network with what its file says.
pub(crate) struct Loaded<N> {
    pub(crate) network: N,
    pub(crate) inputs: Vec<Tensor>,
    /// As many as inputs, or none.
    pub(crate) labels: Vec<Tensor>,
}

impl<N: Network> Loaded<N> {
    pub(crate) fn new(path: &Path) -> Outcome<Self> {
        let mut tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let network = N::new(&Rngs::new(0))?;
        for (path, variable) in variables(&network)? {
            let path = path.to_string();
            let value = tensors.remove(&path).ok_or_else(|| format!("the file lacks {path}"))?;
            variable.set(value)?;
        }
        let mut batches = |name| -> Outcome<Vec<Tensor>> {
            let Some(batches) = tensors.remove(name) else { return Ok(Vec::new()) };
            (0..batches.dim(0)?).map(|batch| Ok(batches.get(batch)?.copy()?)).collect()
        };
        let (inputs, labels) = (batches("inputs")?, batches("labels")?);
        Ok(Self { network, inputs, labels })
    }
}

/// How many numbers a network learns.
pub(crate) fn parameters<N: Network>(network: &N) -> Outcome<usize> {
    let mut count = 0;
    iter_variables(network, |variable| {
        count += variable.value()?.elem_count();
        Ok(())
    })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<N: Network>(expected: usize) {
        assert_eq!(parameters(&N::new(&Rngs::new(0)).unwrap()).unwrap(), expected);
    }

    #[test]
    fn networks_have_the_parameters_that_they_say() {
        check::<Mlp>(669_706);
        check::<Cnn>(110_986);
        check::<Transformer>(3_162_122);
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mlp.safetensors");
        let tensors = tensors::<Mlp>(true).unwrap();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let loaded = Loaded::<Mlp>::new(&path).unwrap();
        assert_eq!((loaded.inputs.len(), loaded.labels.len()), (BATCHES, BATCHES));
        let bias = loaded.network.layers[2].bias.as_ref().unwrap().value().unwrap();
        let expected = tensors["layers.2.bias"].to_vec1::<f32>().unwrap();
        assert_eq!(bias.to_vec1::<f32>().unwrap(), expected);
        assert!(expected.iter().all(|&bias| bias != 0.0), "{expected:?}");
    }
}
