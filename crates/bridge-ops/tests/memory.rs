//! What operators allocate: their results, and nothing else of that size.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use bridge_ops::{Activation, collect_gradients, linear_with_activation, softplus, tanh};
use bridge_ops::{Result, abs, dropout_with_key, elu, gelu, gelu_exact, leaky_relu, relu, sigmoid, silu};
use candle_core::{DType, Device, Tensor, Var};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's, counting all bytes that are asked for.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        BYTES.fetch_add(size, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = BYTES.load(Ordering::Relaxed);
    let result = work();
    (result, BYTES.load(Ordering::Relaxed) - before)
}

/// For the graph, and for the first use of threads and buffers.
const LITTLE: usize = 16 * 1024;

/// The one test of this binary, as the allocator counts what all threads ask for.
#[test]
fn operators_of_elements_allocate_their_results_alone() {
    let operators: [(&str, fn(&Tensor) -> Result<Tensor>); 11] = [
        ("relu", relu),
        ("gelu", gelu),
        ("gelu_exact", gelu_exact),
        ("silu", silu),
        ("sigmoid", sigmoid),
        ("tanh", tanh),
        ("softplus", softplus),
        ("elu", |x| elu(x, 1.0)),
        ("leaky_relu", |x| leaky_relu(x, 0.01)),
        ("abs", abs),
        ("dropout_with_key", |x| dropout_with_key(x, 0.5, bridge_random::key(0), &[])),
    ];
    let count = 1 << 18;
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let x = Var::ones(count, dtype, &Device::Cpu).unwrap();
        let size = count * dtype.size_in_bytes();
        for (name, operator) in operators {
            operator(&x).unwrap().sum_all().unwrap().backward().unwrap();
            let (y, bytes) = allocated(|| operator(&x).unwrap());
            assert!((size..size + LITTLE).contains(&bytes), "{name} {dtype:?}: {bytes} instead of {size}");

            // What candle adds: the gradient of the sum, and zeros and a sum for each of the two tensors.
            let identity = x.affine(1.0, 0.0).unwrap().sum_all().unwrap();
            let (_, of_candle) = allocated(|| identity.backward().unwrap());
            let loss = y.sum_all().unwrap();
            let (_, bytes) = allocated(|| loss.backward().unwrap());
            let room = of_candle + LITTLE;
            assert!(
                bytes < room,
                "{name} {dtype:?}: {bytes} backward, {of_candle} of an operator of candle's"
            );
        }
    }
    linear_allocates_its_result();
}

/// A backward pass under `collect_gradients` makes the gradient of the input; those of the parameters are in memory that
/// was there before.
fn linear_allocates_its_result() {
    let (rows, inputs, outputs) = (64, 512, 1024);
    let ones = |shape: &[usize]| Var::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let (x, kernel, bias) = (ones(&[rows, inputs]), ones(&[inputs, outputs]), ones(&[outputs]));
    let relu = Activation::Relu;
    let (x_size, size, kernel_size) = (4 * rows * inputs, 4 * rows * outputs, 4 * inputs * outputs);
    let forward = || linear_with_activation(&x, &kernel, Some(&bias), relu).unwrap();
    let leaves = [kernel.as_tensor(), bias.as_tensor()];
    for pass in 0..3 {
        let (y, bytes) = allocated(forward);
        let loss = y.sum_all().unwrap();
        let ((_, collected), backward) =
            allocated(|| collect_gradients(&leaves, || loss.backward()).unwrap());
        for collected in collected.into_iter().flatten() {
            collected.home.give_back(&collected.gradient);
        }
        // The first pass also makes buffers to pack in, and the gradients.
        if pass > 0 {
            assert!((size..size + LITTLE).contains(&bytes), "{bytes} instead of {size}");
            // Besides what candle makes: of the sum and of the input, zeros, gradients and their sums.
            let of_candle = 3 * size + 3 * x_size;
            assert!(backward < of_candle + LITTLE, "{backward} backward, a kernel has {kernel_size}");
        }
    }
}
