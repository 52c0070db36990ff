//! How free the machine is: what two threads get done of what one gets done.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// A row that was taken below this is worth little.
pub(crate) const BUSY_BELOW: f64 = 1.8;

/// How much work two threads do in the time of one: 2 on a free machine, 1 where only one core is left.
pub(crate) fn two_thread_scaling() -> f64 {
    let mut ratios = [0.0; 3];
    for ratio in &mut ratios {
        let started = Instant::now();
        work();
        let one = started.elapsed();
        let started = Instant::now();
        thread::scope(|scope| {
            scope.spawn(work);
            work();
        });
        let two = started.elapsed();
        *ratio = 2.0 * one.as_secs_f64() / two.as_secs_f64();
    }
    ratios.sort_by(f64::total_cmp);
    ratios[1].min(2.0)
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
