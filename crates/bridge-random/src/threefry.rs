//! The Threefry-2x32 block function: 20 rounds, as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).

use crate::Key;
use crate::key::{high_word, low_word};

/// The constant that mixes the key's words into the third word of the schedule.
const PARITY: u32 = 0x1BD1_1BDA;

/// A key, expanded for the block function.
#[derive(Clone, Copy)]
pub(crate) struct KeySchedule(u32, u32, u32);

impl KeySchedule {
    #[inline(always)]
    pub(crate) fn new(key: Key) -> Self {
        let [first, second] = key.words();
        Self(first, second, first ^ second ^ PARITY)
    }

    /// The two words of the counter `(high, low)`.
    #[inline(always)]
    pub(crate) fn block(self, high: u32, low: u32) -> (u32, u32) {
        let Self(first, second, third) = self;
        let words = (high.wrapping_add(first), low.wrapping_add(second));
        let words = inject(rounds(words, [13, 15, 26, 6]), second, third, 1);
        let words = inject(rounds(words, [17, 29, 16, 24]), third, first, 2);
        let words = inject(rounds(words, [13, 15, 26, 6]), first, second, 3);
        let words = inject(rounds(words, [17, 29, 16, 24]), second, third, 4);
        inject(rounds(words, [13, 15, 26, 6]), third, first, 5)
    }
}

#[inline(always)]
fn rounds((mut x, mut y): (u32, u32), rotations: [u32; 4]) -> (u32, u32) {
    for rotation in rotations {
        x = x.wrapping_add(y);
        y = y.rotate_left(rotation) ^ x;
    }
    (x, y)
}

#[inline(always)]
fn inject((x, y): (u32, u32), to_x: u32, to_y: u32, group: u32) -> (u32, u32) {
    (x.wrapping_add(to_x), y.wrapping_add(to_y).wrapping_add(group))
}

/// The most words that JAX's legacy scheme draws from one key. Beyond, each run of so many has a child of its own.
const LEGACY_RUN: u64 = u32::MAX as u64;

/// Word `index` of the `total` that a key has under [`Scheme::Legacy`](crate::Scheme).
pub(crate) fn legacy_word(key: Key, index: u64, total: u64) -> u32 {
    legacy_word_in_runs(key, index, total, LEGACY_RUN)
}

fn legacy_word_in_runs(key: Key, index: u64, total: u64, run: u64) -> u32 {
    let runs = total / run;
    if runs == 0 {
        return legacy_pair_word(key, index, total);
    }
    let number = index / run;
    let length = if number < runs { run } else { total % run };
    legacy_pair_word(legacy_child(key, number, runs + 1), index % run, length)
}

/// Word `i` of a run shares its block with word `i + half`, and is the second word of it in the second half.
fn legacy_pair_word(key: Key, index: u64, total: u64) -> u32 {
    let half = total.div_ceil(2);
    let (first, is_second) = if index < half { (index, false) } else { (index - half, true) };
    // A total that is odd is padded with a zero.
    let second = if first + half < total { first + half } else { 0 };
    let (x, y) = KeySchedule::new(key).block(low_word(first), low_word(second));
    if is_second { y } else { x }
}

/// Child `index` of the `count` that a key has under [`Scheme::Legacy`](crate::Scheme).
pub(crate) fn legacy_child(key: Key, index: u64, count: u64) -> Key {
    let word = |index| legacy_pair_word(key, index, 2 * count);
    Key::from_words([word(2 * index), word(2 * index + 1)]).with_scheme(key.scheme())
}

/// Child `index` of a key under [`Scheme::Partitionable`](crate::Scheme).
pub(crate) fn child(key: Key, index: u64) -> Key {
    let (first, second) = KeySchedule::new(key).block(high_word(index), low_word(index));
    Key::from_words([first, second]).with_scheme(key.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scheme, key};

    #[test]
    fn a_legacy_draw_beyond_one_run_takes_children() {
        let key = key(42).with_scheme(Scheme::Legacy);
        let (run, total) = (7, 17);
        let words = |key, total| (0..total).map(move |index| legacy_pair_word(key, index, total));
        let children: Vec<Key> = (0..3).map(|index| legacy_child(key, index, 3)).collect();
        let expected = words(children[0], 7).chain(words(children[1], 7)).chain(words(children[2], 3));
        let found = (0..total).map(|index| legacy_word_in_runs(key, index, total, run));
        assert!(found.eq(expected));
    }
}
