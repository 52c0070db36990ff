//! The order in which training visits its examples.

use serde::{Deserialize, Serialize};

use crate::{Error, Key, Result, permutation_vec};

/// The order in which each epoch of training visits its examples: a function of a key, the number of examples and the
/// number of the epoch.
///
/// So training that was interrupted goes on with the same batches, from the epoch and the batch alone. Epoch `e` has the
/// order `permutation(fold_in(key, e), count)` of JAX.
///
/// ```
/// use bridge_random::{Shuffler, key};
///
/// let shuffler = Shuffler::new(key(0), 10)?;
/// for epoch in 0..3 {
///     let sizes: Vec<usize> = shuffler.batches(epoch, 4)?.map(|batch| batch.len()).collect();
///     assert_eq!(sizes, [4, 4, 2]);
/// }
/// // Where training stopped, in epoch 1 after two batches.
/// let left: Vec<Vec<u32>> = shuffler.batches(1, 4)?.skip(2).collect();
/// assert_eq!(left, [shuffler.epoch(1)?[8..].to_vec()]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "DataLoader")]
#[doc(alias = "RandomSampler")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shuffler {
    key: Key,
    count: usize,
}

impl Shuffler {
    /// For `count` examples.
    ///
    /// # Errors
    ///
    /// More than 2^32 examples.
    pub fn new(key: Key, count: usize) -> Result<Self> {
        match u32::try_from(count.saturating_sub(1)) {
            Ok(_) => Ok(Self { key, count }),
            Err(_) => Err(Error::PermutationLength { found: count }),
        }
    }

    /// All examples' numbers, in the order of an epoch.
    ///
    /// # Errors
    ///
    /// None for a shuffler that [`Shuffler::new`] made.
    pub fn epoch(&self, epoch: u32) -> Result<Vec<u32>> {
        permutation_vec(self.key.fold_in(epoch), self.count)
    }

    /// The batches of an epoch, of `size` examples each; the last has what is left. [`Batches::full_only`] leaves that out.
    ///
    /// # Errors
    ///
    /// A size of 0.
    #[doc(alias = "batch_size")]
    pub fn batches(&self, epoch: u32, size: usize) -> Result<Batches> {
        if size == 0 {
            return Err(Error::BatchSize);
        }
        Ok(Batches { order: self.epoch(epoch)?, size, next: 0 })
    }
}

/// The batches of an epoch: what [`Shuffler::batches`] gives.
#[derive(Debug, Clone)]
pub struct Batches {
    order: Vec<u32>,
    size: usize,
    next: usize,
}

impl Batches {
    /// Without the last batch, if it is smaller than the others.
    #[doc(alias = "drop_last")]
    #[must_use]
    pub fn full_only(mut self) -> Self {
        self.order.truncate(self.order.len() / self.size * self.size);
        self
    }
}

impl Iterator for Batches {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        let rest = self.order.get(self.next..).filter(|rest| !rest.is_empty())?;
        let batch = rest[..rest.len().min(self.size)].to_vec();
        self.next += batch.len();
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.next.min(self.order.len())).div_ceil(self.size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    #[test]
    fn each_epoch_has_every_example_in_an_order_of_its_own() {
        let shuffler = Shuffler::new(key(1), 100).unwrap();
        let orders = [0, 1, 2].map(|epoch| shuffler.epoch(epoch).unwrap());
        assert_ne!(orders[0], orders[1]);
        for mut order in orders {
            order.sort_unstable();
            assert!(order.into_iter().eq(0..100));
        }
    }

    #[test]
    fn batches_follow_the_order_and_drop_nothing_unasked() {
        let shuffler = Shuffler::new(key(1), 10).unwrap();
        let batches = shuffler.batches(3, 4).unwrap();
        assert_eq!(batches.len(), 3);
        assert_eq!(batches.clone().collect::<Vec<_>>().concat(), shuffler.epoch(3).unwrap());
        assert_eq!(batches.full_only().map(|batch| batch.len()).collect::<Vec<_>>(), [4, 4]);
        assert_eq!(shuffler.batches(0, 100).unwrap().len(), 1);
        assert_eq!(Shuffler::new(key(1), 0).unwrap().batches(0, 4).unwrap().count(), 0);
        assert!(matches!(shuffler.batches(0, 0).unwrap_err(), Error::BatchSize));
    }
}
