//! How free the machine is: what two threads get done of what one gets done.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// A row that was taken below this is worth little.
pub(crate) const BUSY_BELOW: f64 = 1.8;

/// Rounds of work, of which the first half lets the system move threads that it started on one core.
const ROUNDS: usize = 10;

/// How much work two threads do in the time of one: 2 on a free machine, 1 where only one core is left.
pub(crate) fn two_thread_scaling() -> f64 {
    let one = seconds_of_work();
    let two = thread::scope(|scope| {
        let other = scope.spawn(seconds_of_work);
        let here = seconds_of_work();
        here.max(other.join().unwrap_or(f64::INFINITY))
    });
    (2.0 * one / two).min(2.0)
}

/// The median of the later rounds.
fn seconds_of_work() -> f64 {
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        let started = Instant::now();
        work();
        *round = started.elapsed().as_secs_f64();
    }
    let later = &mut rounds[ROUNDS / 2..];
    later.sort_by(f64::total_cmp);
    later[later.len() / 2]
}

/// About ten milliseconds of dependent integer arithmetic: no memory to share, and little for a sibling of the core to
/// take away.
fn work() {
    let mut state: u64 = black_box(1);
    for _ in 0..8_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
    black_box(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_ratio_up_to_two() {
        let scaling = two_thread_scaling();
        assert!(scaling > 0.0 && scaling <= 2.0, "{scaling}");
    }
}
