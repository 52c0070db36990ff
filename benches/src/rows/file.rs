//! Files of some size: saved, read, and read from memory that they are mapped into.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use candle_bridge::graph::StatefulModule;
use candle_bridge::train::{CheckpointFile, load, save};
use candle_bridge::vars::Param;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{Device, Tensor};

use crate::harness::{Entry, Outcome, Row, Time};

#[derive(StatefulModule)]
struct Stack {
    layers: Vec<Param>,
}

/// 90 MB: of 24 layers, each as one of a small transformer.
const LAYERS: usize = 24;
const LAYER: (usize, usize) = (1536, 640);

struct Files {
    directory: tempfile::TempDir,
    model: Stack,
}

impl Files {
    fn new() -> Outcome<Arc<Self>> {
        // Beside the build, because what is temporary may be held in memory.
        let directory = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"))?;
        let layer = |_| Ok(Param::new(Tensor::rand(-1f32, 1., LAYER, &Device::Cpu)?));
        let files =
            Self { directory, model: Stack { layers: (0..LAYERS).map(layer).collect::<Outcome<_>>()? } };
        save(files.path("ours"), &files.model)?;
        candle_core::safetensors::save(&files.tensors()?, files.path("candle"))?;
        Ok(Arc::new(files))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn tensors<T: FromIterator<(String, Tensor)>>(&self) -> Outcome<T> {
        let layers = self.model.layers.iter().enumerate();
        layers.map(|(number, layer)| Ok((format!("layers.{number}"), layer.value()?))).collect()
    }
}

pub(super) fn rows() -> Vec<Entry> {
    vec![
        Entry::new("file/save/90mb", || {
            let files = Files::new()?;
            let (raw, candle) = (files.clone(), files.clone());
            let bytes = std::fs::read(files.path("ours"))?;
            let tensors = files.tensors()?;
            Ok(Row::new(Time::Milliseconds, move || Ok(save(files.path("saved"), &files.model)?))
                .against("raw write", move || {
                    let mut file = File::create(raw.path("raw"))?;
                    file.write_all(&bytes)?;
                    Ok(file.sync_all()?)
                })
                .against("candle", move || {
                    let path = candle.path("candle_saved");
                    candle_core::safetensors::save(&tensors, &path)?;
                    Ok(File::open(path)?.sync_all()?)
                }))
        }),
        Entry::new("file/load/90mb", || {
            let files = Files::new()?;
            let peer = files.path("candle");
            Ok(Row::new(Time::Milliseconds, move || {
                black_box(load::<Stack>(files.path("ours"), &Device::Cpu)?);
                Ok(())
            })
            .against("candle", move || {
                black_box(candle_core::safetensors::load(&peer, &Device::Cpu)?);
                Ok(())
            }))
        }),
        Entry::new("file/load_mmap/90mb", || {
            let files = Files::new()?;
            let peer = files.path("candle");
            Ok(Row::new(Time::Milliseconds, move || {
                // SAFETY: nothing else knows the file.
                #[allow(unsafe_code, reason = "as the peer")]
                let file = unsafe { CheckpointFile::open_mapped(files.path("ours"), &Device::Cpu) }?;
                black_box(file.module::<Stack>("")?);
                Ok(())
            })
            .against("candle", move || {
                // SAFETY: nothing else knows the file.
                #[allow(unsafe_code, reason = "candle maps files by no other function")]
                let file = unsafe { MmapedSafetensors::new(&peer) }?;
                let load = |(name, _): (String, _)| file.load(&name, &Device::Cpu);
                black_box(file.tensors().into_iter().map(load).collect::<Result<Vec<_>, _>>()?);
                Ok(())
            }))
        }),
    ]
}
