//! Work shared out over the cores, by the pool whose threads run candle's own elementwise operators.
//!
//! One pool, because its threads wait for work awake for a moment: two would take the cores from each other. It has
//! `CANDLE_NUM_THREADS` threads, else `RAYON_NUM_THREADS`, else one a core.

use candle_core::utils::barrier_pool;
use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError, TryLockError};

/// What a thread does: its number, and how many threads take part.
type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

thread_local! {
    /// True while this thread is part of a job: what it shares out then, it does alone.
    static INSIDE: Cell<bool> = Cell::new(std::thread::current().name().is_some_and(is_of_candles_pool));
}

/// A job of candle's that calls an operator would wait for itself.
fn is_of_candles_pool(name: &str) -> bool {
    name.starts_with("candle-bp-")
}

/// How many threads a job can have.
pub(crate) fn threads() -> usize {
    barrier_pool().n_workers() + 1
}

/// Runs `job(number, participants)` for each number below `participants`, on as many threads at a time as it is given.
///
/// At most `wanted` take part; fewer where there are not so many threads, and the caller alone inside of another job or
/// while another thread's job runs. So a job must do its work whatever the number of participants is.
pub(crate) fn run(wanted: usize, job: &Job<'_>) {
    /// Held by the thread whose job runs.
    static OWNER: Mutex<()> = Mutex::new(());
    if wanted <= 1 || INSIDE.get() || threads() == 1 {
        return job(0, 1);
    }
    let _owner = match OWNER.try_lock() {
        Ok(owner) => owner,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return job(0, 1),
    };
    let participants = wanted.min(threads());
    let panicked: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);
    barrier_pool().execute(|thread| {
        // candle gives the caller the last number.
        let number = (thread + 1) % threads();
        if number < participants {
            let inside = INSIDE.replace(true);
            // A panic that candle's pool sees makes it useless ever after.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(number, participants))) {
                *panicked.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            INSIDE.set(inside);
        }
    });
    if let Some(panic) = panicked.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

/// Calls `work` with ranges that together are `0..length`, each but the last a multiple of `grain` long.
///
/// There are no more ranges than `least` goes into the length, rounded up: little work stays on the caller's thread. How
/// many there are depends on the number of threads: results must not.
pub(crate) fn ranges(length: usize, grain: usize, least: usize, work: impl Fn(Range<usize>) + Sync) {
    if length == 0 {
        return;
    }
    let wanted = length.div_ceil(least.max(1)).min(threads());
    run(wanted, &|number, participants| {
        let each = length.div_ceil(participants).div_ceil(grain) * grain;
        let range = (number * each).min(length)..((number + 1) * each).min(length);
        if !range.is_empty() {
            work(range);
        }
    });
}

/// Calls `work` with every item, in no order. `weight` is how much work an item is, so that each thread gets its share.
pub(crate) fn items<T: Send>(items: Vec<T>, weight: impl Fn(&T) -> usize, work: impl Fn(T) + Sync) {
    let total = items.iter().map(&weight).sum::<usize>().max(1);
    let wanted = threads().min(items.len());
    let mut shares: Vec<Vec<T>> = std::iter::repeat_with(Vec::new).take(wanted.max(1)).collect();
    let (count, mut before) = (shares.len(), 0);
    for item in items {
        let share = (before * count / total).min(count - 1);
        before += weight(&item);
        if let Some(share) = shares.get_mut(share) {
            share.push(item);
        }
    }
    let shares: Vec<Mutex<Vec<T>>> = shares.into_iter().map(Mutex::new).collect();
    run(wanted, &|number, participants| {
        for share in shares.iter().skip(number).step_by(participants) {
            let items = std::mem::take(&mut *share.lock().unwrap_or_else(PoisonError::into_inner));
            items.into_iter().for_each(&work);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn every_index_is_met_once_whatever_the_lengths() {
        for length in [0, 1, 7, 64, 1000] {
            for grain in [1, 8, 4096] {
                let met: Vec<AtomicU32> = (0..length).map(|_| AtomicU32::new(0)).collect();
                ranges(length, grain, 1, |range| {
                    for index in range {
                        met[index].fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(met.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{length} {grain}");
            }
        }
    }

    #[test]
    fn every_item_is_met_once_and_can_be_changed() {
        let mut numbers = vec![1u32; 1000];
        items(
            numbers.chunks_mut(7).collect(),
            |chunk| chunk.len(),
            |chunk: &mut [u32]| {
                chunk.iter_mut().for_each(|number| *number += 1);
            },
        );
        assert!(numbers.iter().all(|&number| number == 2));
        items(Vec::<u32>::new(), |_| 1, |_| unreachable!("there is no item"));
    }

    #[test]
    fn a_job_inside_a_job_and_jobs_of_many_threads_run_too() {
        let count = AtomicU32::new(0);
        let nested = || {
            ranges(64, 1, 1, |outer| {
                for _ in outer {
                    ranges(10, 1, 1, |inner| {
                        count.fetch_add(inner.len() as u32, Ordering::Relaxed);
                    });
                }
            });
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| (0..50).for_each(|_| nested())))));
        assert_eq!(count.into_inner(), 4 * 50 * 640);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_next_job_runs() {
        for _ in 0..20 {
            for bad in [0, 63] {
                let panicked = catch_unwind(|| {
                    ranges(64, 1, 1, |range| assert!(!range.contains(&bad), "on purpose"));
                });
                assert!(panicked.is_err());
            }
        }
        let count = AtomicU32::new(0);
        ranges(64, 1, 1, |range| {
            count.fetch_add(range.len() as u32, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 64);
    }
}
