use bridge_vars::{Filter, Path, PathKey, Result, RngCount, RngKey, Value};
use candle_core::Shape;

use crate::{RngStream, Visit, iter_streams};

/// Makes each random stream of a module a batch of streams, in place: what a function over a batch of examples or of
/// modules draws from, each lane by itself.
///
/// A stream that holds a batch is not drawn from as it is: construct a module of each of [`Rngs::lanes`](crate::Rngs::lanes), or
/// put what was there back before the module is called. A stream is split if the filter matches its key and its count. The backup that is returned puts back what was there, with
/// the one draw that the split took counted.
///
/// ```
/// use bridge_graph::{Rngs, split_rngs};
/// use bridge_random::key;
/// use bridge_vars::Filter;
/// let rngs = Rngs::new(0).with_stream("dropout", 1);
/// let backup = split_rngs(&rngs, 3, Filter::tag("dropout"))?;
/// assert_eq!(rngs.stream("dropout")?.lanes()?.len(), 3);
/// backup.restore();
/// assert_eq!(rngs.draw("dropout")?, key(1).fold_in(1));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// Those of [`RngStream::split`]. Nothing is changed then.
#[doc(alias = "nnx.split_rngs")]
pub fn split_rngs<M: Visit + ?Sized>(
    module: &M,
    shape: impl Into<Shape>,
    only: impl Into<Filter>,
) -> Result<RngBackup> {
    let shape = shape.into();
    replace(module, &only.into(), |stream| stream.split(shape.clone()))
}

/// [`split_rngs`] into one lane, which takes the stream's place: `squeeze` of Flax.
///
/// # Errors
/// Those of [`RngStream::draw`]. Nothing is changed then.
#[doc(alias = "nnx.split_rngs")]
pub fn split_rngs_squeezed<M: Visit + ?Sized>(module: &M, only: impl Into<Filter>) -> Result<RngBackup> {
    replace(module, &only.into(), |stream| {
        let [lane] = stream.draw()?.split();
        Ok(RngStream::new(stream.name(), lane))
    })
}

/// Makes each random stream of a module that the filter matches a fork of itself, in place. The backup that is returned puts
/// back what was there, with the one draw that the fork took counted.
///
/// # Errors
/// Those of [`RngStream::fork`]. Nothing is changed then.
#[doc(alias = "nnx.fork_rngs")]
pub fn fork_rngs<M: Visit + ?Sized>(module: &M, only: impl Into<Filter>) -> Result<RngBackup> {
    replace(module, &only.into(), RngStream::fork)
}

fn replace<M: Visit + ?Sized>(
    module: &M,
    only: &Filter,
    make: impl Fn(&RngStream) -> Result<RngStream>,
) -> Result<RngBackup> {
    // All are made before any takes a place, so that nothing is changed if one can not be.
    let (mut saved, mut made, mut undrawn) = (Vec::new(), Vec::new(), Vec::new());
    let result = iter_streams(module, |path, stream| {
        if matches(only, path, stream)? {
            let (key, count) = (stream.key().clone(), stream.count().clone());
            undrawn.push((count.clone(), count.leaf()?.value));
            made.push(make(stream)?);
            let (was_key, was_count) = (key.leaf()?.value, count.leaf()?.value);
            saved.push(Saved { key, count, was_key, was_count });
        }
        Ok(())
    });
    if let Err(error) = result {
        undrawn.into_iter().for_each(|(count, value)| count.set_raw(value));
        return Err(error);
    }
    for (saved, made) in saved.iter().zip(made) {
        saved.key.set_raw(made.key().leaf()?.value);
        saved.count.set_raw(made.count().leaf()?.value);
    }
    Ok(RngBackup(saved))
}

/// True if a filter matches both variables of a stream.
pub(crate) fn matches(filter: &Filter, path: &Path, stream: &RngStream) -> Result<bool> {
    Ok(filter.matches(&path.join(PathKey::from_static(&"key")), &stream.key().leaf()?)
        && filter.matches(&path.join(PathKey::from_static(&"count")), &stream.count().leaf()?))
}

/// What random streams were before [`split_rngs`] or [`fork_rngs`].
#[doc(alias = "nnx.SplitBackups")]
#[must_use = "streams stay as they are until they are restored"]
#[derive(Debug)]
pub struct RngBackup(Vec<Saved>);

#[derive(Debug)]
struct Saved {
    key: RngKey,
    count: RngCount,
    was_key: Value,
    was_count: Value,
}

impl RngBackup {
    /// Puts back the streams' keys and counts.
    #[doc(alias = "nnx.restore_rngs")]
    pub fn restore(self) {
        for Saved { key, count, was_key, was_count } in self.0 {
            key.set_raw(was_key);
            count.set_raw(was_count);
        }
    }

    /// Runs `f`, then puts the streams back, whether it failed or not.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn restore_after<T>(self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = f();
        self.restore();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rngs;
    use bridge_random::key;

    #[test]
    fn what_is_shared_is_split_once_and_all_is_restored() {
        let rngs = Rngs::new(0).with_stream("dropout", 1);
        let both = (&rngs, &rngs);
        let backup = split_rngs(both.0, 2, Filter::Everything).unwrap();
        for (_, stream) in both.1.iter() {
            assert_eq!(stream.shape().unwrap().dims(), [2]);
        }
        let failed: Result<()> = backup.restore_after(|| rngs.draw("dropout").map(|_| ()));
        assert!(failed.unwrap_err().to_string().contains("batch of keys"));
        assert_eq!(rngs.draw("dropout").unwrap(), key(1).fold_in(1));
        assert_eq!(rngs.draw("default").unwrap(), key(0).fold_in(1));
    }

    #[test]
    fn nothing_is_split_if_one_can_not_be() {
        let streams = vec![RngStream::new("a", 1), RngStream::new("b", 2).split(2).unwrap()];
        let before = crate::state(&streams).unwrap();
        let error = split_rngs(&streams, 3, Filter::Everything).unwrap_err().to_string();
        assert!(error.starts_with("the random stream `b` holds a batch of keys"), "{error}");
        assert!(crate::state(&streams).unwrap().identical(&before).unwrap());
        // Nor if it fails after its own draw.
        let error = split_rngs(&streams[0], usize::MAX, Filter::Everything).unwrap_err().to_string();
        assert!(error.contains("more elements than there is memory for"), "{error}");
        assert!(crate::state(&streams).unwrap().identical(&before).unwrap());
    }

    #[test]
    fn a_fork_is_undone_too() {
        let stream = RngStream::new("dropout", 1);
        let backup = fork_rngs(&stream, Filter::Everything).unwrap();
        assert_eq!(stream.draw().unwrap(), key(1).fold_in(0).fold_in(0));
        backup.restore();
        assert_eq!(stream.draw().unwrap(), key(1).fold_in(1));
        let backup = split_rngs_squeezed(&stream, Filter::Nothing).unwrap();
        assert_eq!(stream.draw().unwrap(), key(1).fold_in(2));
        backup.restore();
    }
}
