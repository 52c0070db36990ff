//! Work shared out over the cores: a fork and a join that cost about a microsecond.
//!
//! Rayon's pool, which candle's products use, parks its threads between two operators; waking them takes longer than
//! many of the operators of a small network. Here a worker waits for the next job awake for a moment before it parks.
//! There are as many threads as candle uses: `RAYON_NUM_THREADS`, else one a core.

#![allow(unsafe_code, reason = "a job borrows from the stack of the thread that waits for it")]

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::{self, Thread};

/// What a thread does: its number, and how many threads take part.
type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// How often a worker looks for the next job before it parks.
const LOOKS_BEFORE_PARKING: u32 = 4000;

/// How often the caller looks whether the workers are done before it lets other threads have its core.
const LOOKS_BEFORE_YIELDING: u32 = 20_000;

struct Pool {
    workers: Vec<Worker>,
    /// The number of the job in the upper bits, and in the lower 16 how many threads take part in it.
    announced: AtomicU64,
    job: UnsafeCell<Option<*const Job<'static>>>,
    unfinished: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Held by the thread whose job runs.
    owner: Mutex<()>,
}

struct Worker {
    parked: AtomicBool,
    thread: OnceLock<Thread>,
}

// SAFETY: `job` is written only by the thread that holds `owner`, while no worker takes part in a job, and read only by
// workers that take part in one, after they saw it announced.
unsafe impl Sync for Pool {}
// SAFETY: as above; the pointer is to something `Sync`.
unsafe impl Send for Pool {}

thread_local! {
    /// True while this thread is part of a job: what it shares out then, it does alone.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// How many threads a job can have.
pub(crate) fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| candle_core::utils::get_num_threads().clamp(1, 1 << 15))
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<&'static Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let worker = |_| Worker { parked: AtomicBool::new(false), thread: OnceLock::new() };
        let pool: &'static Pool = Box::leak(Box::new(Pool {
            workers: (1..threads()).map(worker).collect(),
            announced: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            unfinished: AtomicUsize::new(0),
            panic: Mutex::new(None),
            owner: Mutex::new(()),
        }));
        for (index, worker) in pool.workers.iter().enumerate() {
            let builder = thread::Builder::new().name(format!("bridge-ops-{}", index + 1));
            // Without its thread a worker is never counted on: see `able`.
            if let Ok(handle) = builder.spawn(move || work(pool, index + 1)) {
                let _ = worker.thread.set(handle.thread().clone());
            }
        }
        pool
    })
}

impl Pool {
    /// How many threads there are, the caller's included: workers in order, up to the first that did not start.
    fn able(&self) -> usize {
        1 + self.workers.iter().take_while(|worker| worker.thread.get().is_some()).count()
    }
}

fn work(pool: &'static Pool, number: usize) {
    INSIDE.set(true);
    let Some(worker) = pool.workers.get(number - 1) else { return };
    let mut seen = 0;
    loop {
        let mut looks = 0;
        let announced = loop {
            let announced = pool.announced.load(Ordering::Acquire);
            if announced != seen {
                break announced;
            }
            looks += 1;
            if looks < LOOKS_BEFORE_PARKING {
                spin_loop();
                continue;
            }
            // Sequentially consistent with the announcement, which looks at `parked` after it: one of the two sides
            // sees the other.
            worker.parked.store(true, Ordering::SeqCst);
            while pool.announced.load(Ordering::SeqCst) == seen {
                thread::park();
            }
            worker.parked.store(false, Ordering::SeqCst);
        };
        seen = announced;
        let participants = (announced & 0xffff) as usize;
        if number >= participants {
            continue;
        }
        // SAFETY: the job was written before it was announced, and stays until this worker says that it is done.
        if let Some(job) = unsafe { *pool.job.get() } {
            // SAFETY: the thread that owns the job waits in `run` for this worker, so that what it borrows lives.
            let job = unsafe { &*job };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(number, participants))) {
                *pool.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
        pool.unfinished.fetch_sub(1, Ordering::Release);
    }
}

/// Waits until no worker is part of the job any more, also when the caller's own part panics.
struct Join<'a>(&'a Pool);

impl Drop for Join<'_> {
    fn drop(&mut self) {
        let mut looks = 0;
        while self.0.unfinished.load(Ordering::Acquire) > 0 {
            looks += 1;
            if looks < LOOKS_BEFORE_YIELDING { spin_loop() } else { thread::yield_now() }
        }
        INSIDE.set(false);
    }
}

/// Runs `job(number, participants)` for each number below `participants`, on as many threads at a time as it is given.
///
/// At most `wanted` take part; fewer where there are not so many threads, and the caller alone inside of another job or
/// while another thread's job runs. So a job must do its work whatever the number of participants is.
pub(crate) fn run(wanted: usize, job: &Job<'_>) {
    if wanted <= 1 || threads() == 1 || INSIDE.get() {
        return job(0, 1);
    }
    let pool = pool();
    let _owner = match pool.owner.try_lock() {
        Ok(owner) => owner,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return job(0, 1),
    };
    let participants = wanted.min(pool.able());
    INSIDE.set(true);
    // SAFETY: only the lifetime changes. Workers use the job until `Join` is dropped, which is before `job` ends.
    let lasting = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
    // SAFETY: this thread holds `owner`, and no worker takes part in a job: the last one was waited for.
    unsafe { *pool.job.get() = Some(lasting) };
    pool.unfinished.store(participants - 1, Ordering::Relaxed);
    let number = (pool.announced.load(Ordering::Relaxed) >> 16) + 1;
    {
        let _join = Join(pool);
        pool.announced.store(number << 16 | participants as u64, Ordering::SeqCst);
        for worker in pool.workers.iter().take(participants - 1) {
            if worker.parked.load(Ordering::SeqCst)
                && let Some(thread) = worker.thread.get()
            {
                thread.unpark();
            }
        }
        job(0, participants);
    }
    let panic = pool.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// Calls `work` with ranges that together are `0..length`, each but the last a multiple of `grain` long.
///
/// A range is at least `least` long, so that little work stays on the caller's thread. How many ranges there are depends
/// on the number of threads: results must not.
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
    use std::sync::atomic::AtomicU32;

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
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| (0..50).for_each(|_| nested())))));
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
