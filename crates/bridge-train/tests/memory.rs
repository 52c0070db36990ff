//! What a step of an optimizer allocates, and how long it takes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bridge_graph::{StatefulModule, state};
use bridge_train::{AdamW, Optimizer, Sgd, UpdateRule};
use bridge_vars::{Param, State};
use candle_core::{DType, Device, Tensor};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn note(bytes: usize) {
    BYTES.fetch_add(bytes, Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: everything is the system's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One at a time, so that nobody else's allocations are seen.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many allocations, and of how many bytes.
fn allocated(f: impl FnOnce()) -> (usize, usize) {
    let before = (COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    f();
    (COUNT.load(Ordering::Relaxed) - before.0, BYTES.load(Ordering::Relaxed) - before.1)
}

#[derive(StatefulModule)]
struct Layer {
    kernel: Param,
    bias: Param,
}

#[derive(StatefulModule)]
struct Model {
    layers: Vec<Layer>,
}

fn model(widths: &[usize], dtype: DType) -> Model {
    let param = |shape: &[usize]| Param::new(Tensor::ones(shape, dtype, &Device::Cpu).unwrap());
    let layer = |pair: &[usize]| Layer { kernel: param(&[pair[0], pair[1]]), bias: param(&[pair[1]]) };
    Model { layers: widths.windows(2).map(layer).collect() }
}

fn gradients(model: &Model) -> State {
    state(model).unwrap().map(|_, leaf| Ok(leaf.with_value((leaf.tensor()?.ones_like()? * 0.5)?))).unwrap()
}

/// The allocations of a step after some.
fn of_a_step<R: UpdateRule>(rule: R, model: &Model) -> (usize, usize) {
    let gradients = gradients(model);
    let mut optimizer = Optimizer::for_module(rule, model, true).unwrap();
    for _ in 0..4 {
        optimizer.step(model, &gradients).unwrap();
    }
    allocated(|| optimizer.step(model, &gradients).unwrap())
}

#[test]
fn a_step_allocates_nothing_in_proportion_to_the_elements() {
    let _alone = alone();
    for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
        let (small, large) = (model(&[2, 2, 2], dtype), model(&[300, 400, 500], dtype));
        let bytes = |model: &Model| {
            let adamw = of_a_step(AdamW::new(0.1), model);
            [adamw, of_a_step(Sgd::new(0.1).with_momentum(0.9), model), of_a_step(Sgd::new(0.1), model)]
        };
        assert_eq!(bytes(&small), bytes(&large), "{dtype:?}");
    }
}

/// candle lists a tensor's axes, for a moment, whenever it is changed in place: twice for each of the three tensors of a
/// parameter that change.
#[test]
fn a_step_allocates_nothing_else_for_each_parameter() {
    let _alone = alone();
    let (few, many) = (model(&[3; 3], DType::F32), model(&[3; 303], DType::F32));
    let step = |model: &Model| of_a_step(AdamW::new(0.1), model).0;
    assert!(step(&many) - step(&few) <= 6 * 2 * 300);
}

/// What was seen is not used again, so that a step needs new memory once; then it goes on without.
#[test]
fn a_value_that_was_seen_costs_one_allocation_of_its_size() {
    let _alone = alone();
    let model = model(&[100, 100], DType::F32);
    let gradients = gradients(&model);
    let mut optimizer = Optimizer::for_module(AdamW::new(0.1), &model, true).unwrap();
    let mut step = || allocated(|| optimizer.step(&model, &gradients).unwrap()).1;
    for _ in 0..4 {
        step();
    }
    let usual = step();
    drop(model.layers[0].kernel.value().unwrap());
    let following =
        [step(), step(), step(), step()].map(|bytes| bytes.saturating_sub(usual) >= 4 * 100 * 100);
    assert_eq!(following.iter().filter(|more| **more).count(), 1, "{following:?}");
    assert!(!following[3]);
}

#[test]
fn gradients_are_taken_with_respect_to_new_values_without_a_copy_of_them() {
    let _alone = alone();
    let model = model(&[100, 100], DType::F32);
    let gradients = gradients(&model);
    let mut optimizer = Optimizer::for_module(AdamW::new(0.1), &model, true).unwrap();
    for _ in 0..4 {
        optimizer.step(&model, &gradients).unwrap();
        let kernel = &model.layers[0].kernel;
        let (_, bytes) = allocated(|| drop(kernel.track().unwrap()));
        assert!(bytes < 1000, "{bytes}");
        // What was handed out stays.
        let tracking = kernel.track().unwrap();
        let before = tracking.leaf().to_vec2::<f32>().unwrap();
        for _ in 0..3 {
            optimizer.step(&model, &gradients).unwrap();
        }
        assert_eq!(tracking.leaf().to_vec2::<f32>().unwrap(), before);
    }
}

/// The least time of several, in seconds.
fn least(times: usize, mut f: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..times).map(time).fold(f64::INFINITY, f64::min)
}

/// The time to read three arrays, write two of them and another one: what AdamW does to memory, and nothing else.
fn streaming(length: usize) -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arrays: Vec<Vec<f32>> = (0..5).map(|at| vec![at as f32; length]).collect();
    let [p, g, mu, nu, new] = &mut arrays[..] else { panic!("five arrays") };
    let share = length.div_ceil(threads).max(1);
    least(30, || {
        std::thread::scope(|scope| {
            let parts = p.chunks(share).zip(g.chunks(share)).zip(mu.chunks_mut(share));
            let parts = parts.zip(nu.chunks_mut(share)).zip(new.chunks_mut(share));
            for ((((p, g), mu), nu), new) in parts {
                scope.spawn(move || {
                    for ((((p, g), mu), nu), new) in p.iter().zip(g).zip(mu).zip(nu).zip(new) {
                        *mu += g;
                        *nu += g;
                        *new = p + g;
                    }
                    black_box(());
                });
            }
        });
    })
}

#[test]
#[ignore = "measures: run it alone, in a release build"]
fn adamw_against_a_plain_pass_over_the_same_bytes() {
    let _alone = alone();
    for widths in [&[784, 512, 512, 10][..], &[1024, 1024, 1024, 1024, 100], &[16; 301]] {
        let model = model(widths, DType::F32);
        let gradients = gradients(&model);
        let count: usize = gradients.iter().map(|(_, leaf)| leaf.tensor().unwrap().elem_count()).sum();
        let mut optimizer = Optimizer::for_module(AdamW::new(1e-3), &model, true).unwrap();
        let plain = streaming(count);
        let step = least(60, || optimizer.step(&model, &gradients).unwrap());
        let plain = plain.min(streaming(count));
        let each = |seconds: f64| seconds * 1e9 / count as f64;
        println!(
            "{count} parameters in {} tensors: {:.1} us, {:.3} ns each; plain pass {:.3} ns each ({:.1} GB/s); ratio {:.2}",
            gradients.len(),
            step * 1e6,
            each(step),
            each(plain),
            28. / each(plain),
            step / plain,
        );
    }
}
