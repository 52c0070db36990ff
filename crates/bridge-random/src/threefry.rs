//! The Threefry-2x32 block function: 20 rounds, as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).

use crate::Key;

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
