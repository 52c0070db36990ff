use bridge_random::Key;
use bridge_vars::{Name, Path, Result};

use crate::error::GraphError;
use crate::{GraphNode, RngSeed, RngStream, Rngs, Visit, iter_graph};

/// What [`reseed_with`] does to a stream that holds a batch of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReseedPolicy {
    /// An error: `scalars_only` of Flax.
    #[default]
    ScalarsOnly,
    /// The new key is split to the shape of the batch: `match_shape` of Flax.
    MatchShape,
}

/// Starts a module's random streams again from these seeds or keys.
///
/// The streams whose name is given are met in sorted order of their paths; the `i`th of a name starts from
/// `fold_in(key, i)`, as in Flax. Names that no stream has are ignored.
///
/// ```
/// use bridge_graph::{RngStream, reseed};
/// use bridge_random::key;
/// let streams = vec![RngStream::new("dropout", 7), RngStream::new("dropout", 8)];
/// reseed(&streams, [("dropout", 0)])?;
/// assert_eq!(streams[1].draw()?, key(0).fold_in(1).fold_in(0));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// [`GraphError::ReseedBatched`] and [`GraphError::SeedBatched`] if a stream of these names, or a seed, is a batch of keys.
/// Nothing is changed then.
#[doc(alias = "nnx.reseed")]
pub fn reseed<M: Visit + ?Sized, N: Into<Name>, S: Into<RngSeed>>(
    module: &M,
    seeds: impl IntoIterator<Item = (N, S)>,
) -> Result<()> {
    reseed_with(module, ReseedPolicy::ScalarsOnly, seeds)
}

/// [`reseed`] that says what becomes of streams that hold a batch of keys.
///
/// ```
/// use bridge_graph::{ReseedPolicy, RngStream, reseed_with};
/// use bridge_random::key;
/// let stream = RngStream::new("params", 1).split(3)?;
/// reseed_with(&stream, ReseedPolicy::MatchShape, [("params", 9)])?;
/// assert_eq!(stream.lanes()?[2].draw()?, key(9).fold_in(0).fold_in(2).fold_in(0));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// Those of [`reseed`], under [`ReseedPolicy::ScalarsOnly`] alone for the module's streams.
#[doc(alias = "nnx.reseed")]
pub fn reseed_with<M: Visit + ?Sized, N: Into<Name>, S: Into<RngSeed>>(
    module: &M,
    policy: ReseedPolicy,
    seeds: impl IntoIterator<Item = (N, S)>,
) -> Result<()> {
    let seeds = Rngs::from_streams(seeds);
    let mut keys = Vec::new();
    for (name, stream) in seeds.iter() {
        let shape = stream.shape()?.into_dims();
        if !shape.is_empty() {
            return Err(GraphError::SeedBatched { stream: name.to_string(), shape }.into());
        }
        keys.push((name.clone(), stream.key().key()?));
    }
    if policy == ReseedPolicy::ScalarsOnly {
        iter_streams(module, |_, stream| {
            let named = stream.name();
            if !keys.iter().any(|(name, _)| *name == named) {
                return Ok(());
            }
            let shape = stream.shape()?.into_dims();
            if shape.is_empty() {
                return Ok(());
            }
            Err(GraphError::ReseedBatched { stream: named.to_string(), shape }.into())
        })?;
    }
    restart_streams(module, &keys, false).map(|_| ())
}

/// [`reseed_with`] the shapes of batches kept, that can seal the streams whose name is not given, so that every further draw
/// from them is an error until they are reseeded; says how many streams of each name there are.
///
/// # Errors
/// None that a derived module causes.
pub fn restart_streams<M: Visit + ?Sized>(
    module: &M,
    keys: &[(Name, Key)],
    seal_others: bool,
) -> Result<Vec<u32>> {
    let mut met = vec![0; keys.len()];
    iter_streams(module, |_, stream| {
        let name = stream.name();
        match keys.iter().zip(&mut met).find(|((given, _), _)| *given == name) {
            Some(((_, key), met)) => {
                let key = key.fold_in(*met);
                let shape = stream.shape()?;
                match shape.rank() {
                    0 => stream.restart(key),
                    _ => stream.restart(key.split_array(shape)?),
                }
                *met += 1;
            }
            None if seal_others => stream.seal(),
            None => {}
        }
        Ok(())
    })?;
    Ok(met)
}

/// Calls `f` on every random stream of a module and its path, in sorted order of the paths, each once.
///
/// # Errors
/// The first that `f` returns.
pub fn iter_streams<M: Visit + ?Sized>(
    module: &M,
    mut f: impl FnMut(&Path, &RngStream) -> Result<()>,
) -> Result<()> {
    iter_graph(module, |path, node| {
        let GraphNode::Module(module) = node else { return Ok(()) };
        let module: &dyn std::any::Any = module;
        module.downcast_ref::<RngStream>().map_or(Ok(()), |stream| f(path, stream))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridge_random::key;

    #[test]
    fn a_sealed_stream_is_opened_by_reseeding() {
        let stream = RngStream::new("dropout", 0);
        restart_streams(&stream, &[], true).unwrap();
        let error = stream.draw().unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(GraphError::StreamSealed { .. })), "{error}");
        reseed(&stream, [("params", 1), ("dropout", 2)]).unwrap();
        assert_eq!(stream.draw().unwrap(), key(2).fold_in(0).fold_in(0));
    }

    #[test]
    fn a_batch_is_reseeded_on_request_alone_and_nothing_by_half() {
        let single = RngStream::new("params", 1);
        let streams = vec![single, RngStream::new("params", 2).split(2).unwrap()];
        let error = reseed(&streams, [("params", 3)]).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(GraphError::ReseedBatched { .. })), "{error}");
        assert_eq!(streams[0].seed().unwrap(), 1.into());
        let batch = key(3).split_array(2).unwrap();
        let error = reseed(&streams, [("dropout", batch)]).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(GraphError::SeedBatched { .. })), "{error}");
        reseed_with(&streams, ReseedPolicy::MatchShape, [("params", 3)]).unwrap();
        assert_eq!(streams[0].seed().unwrap(), key(3).fold_in(0).into());
        assert_eq!(streams[1].seed().unwrap(), key(3).fold_in(1).split_array(2).unwrap().into());
    }
}
