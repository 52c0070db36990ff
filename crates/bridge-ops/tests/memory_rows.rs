//! What row-wise operators allocate: their results, and nothing else as large.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use bridge_ops::{
    CrossEntropy, Result, binary_cross_entropy_with_logits, embedding, layer_norm, log_softmax,
    mean_squared_error, rms_norm, softmax,
};
use candle_core::{DType, Device, Tensor, Var};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, which counts what is allocated and not yet freed.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all that is asked.
#[allow(unsafe_code, reason = "an allocator is unsafe")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is held at most during a call beyond what was held before it.
fn most<R>(call: impl FnOnce() -> R) -> (R, usize) {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let result = call();
    (result, MOST.load(Ordering::Relaxed) - before)
}

const ROWS: usize = 4096;
const COLUMNS: usize = 256;

/// One test: another in the same process would be counted too.
#[test]
fn nothing_but_results_is_as_large_as_the_input() {
    let device = &Device::Cpu;
    let labels = &Tensor::zeros(ROWS, DType::U32, device).unwrap();
    for dtype in [DType::F32, DType::BF16] {
        let size = ROWS * COLUMNS * dtype.size_in_bytes();
        let x = &Var::ones((ROWS, COLUMNS), dtype, device).unwrap();
        let targets = &Tensor::zeros((ROWS, COLUMNS), dtype, device).unwrap();
        let scale = &Var::ones(COLUMNS, dtype, device).unwrap();
        let smooth = CrossEntropy::new().label_smoothing(0.1);
        // With each: how many times as large as the input its result is.
        let operators: [(&str, usize, &dyn Fn() -> Result<Tensor>); 9] = [
            ("softmax", 1, &|| softmax(x)),
            ("log_softmax", 1, &|| log_softmax(x)),
            ("cross entropy", 0, &|| CrossEntropy::new().mean(x, labels)),
            ("smoothed cross entropy", 0, &|| smooth.per_example(x, labels)),
            ("mean_squared_error", 0, &|| mean_squared_error(x, targets)),
            ("binary cross entropy", 0, &|| binary_cross_entropy_with_logits(x, targets)),
            ("embedding", 1, &|| embedding(x, labels)),
            ("layer_norm", 1, &|| layer_norm(x, Some(scale), Some(scale), 1e-6)),
            ("rms_norm", 1, &|| rms_norm(x, Some(scale), 1e-6)),
        ];
        for (name, results, operator) in operators {
            // Threads and their buffers are made once.
            drop(operator().unwrap());
            let (y, held) = most(|| operator().unwrap());
            let allowed = results * size + size / 8;
            assert!(held <= allowed, "{name} of {dtype:?}: {held} bytes held, {allowed} expected at most");

            // candle's own parts of the pass: ones, or zeros and a sum where the gradient arrives.
            drop(y.backward().unwrap());
            let (gradients, held) = most(|| y.backward().unwrap());
            let of_results = results * size;
            let of_input = size;
            let in_sum = if name == "embedding" && dtype == DType::BF16 { 2 * size } else { 0 };
            let allowed = of_results + 3 * of_input + in_sum + size / 4;
            assert!(
                held <= allowed,
                "backward of {name} of {dtype:?}: {held} bytes, {allowed} expected at most"
            );
            assert_eq!(gradients.get(x).unwrap().dims(), x.dims());
        }
    }
}
