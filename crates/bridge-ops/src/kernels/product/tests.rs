use std::process::Command;

use candle_core::WithDType;

use super::super::activation::LeakyRelu;
use super::super::element::Element;
use super::super::simd::VARIABLE;
use super::*;

/// Runs a test of this file with fewer instructions, each in a process of its own.
#[track_caller]
fn again_with_fewer_instructions(test: &str) {
    const AGAIN: &str = "CANDLE_BRIDGE_TEST_AGAIN";
    if std::env::var_os(AGAIN).is_some() {
        return;
    }
    for level in ["portable", "avx2"] {
        let name = format!("kernels::product::tests::{test}");
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args([&name, "--exact"]).env(VARIABLE, level).env(AGAIN, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{level}: {text}");
    }
}

/// Exact: it halves.
fn epilogue() -> Epilogue {
    Epilogue::LeakyRelu(LeakyRelu { negative_slope: 0.5 })
}

fn numbers<T: Element>(length: usize, seed: usize) -> Vec<T> {
    (0..length)
        .map(|index| T::narrow(T::Wide::real(((index * 37 + seed * 11) % 23) as f64 / 16. - 0.625)))
        .collect()
}

fn at<T: Element>(
    values: &[T],
    columns: usize,
    row: usize,
    column: usize,
    transposed: bool,
    rows: usize,
) -> f64 {
    let index = if transposed { column * rows + row } else { row * columns + column };
    values[index].widen().to_f64()
}

/// Products of small multiples of 1/16: exact in every dtype of arithmetic.
fn check<T: Element>(rows: usize, depth: usize, columns: usize) {
    let (a, b) = (numbers::<T>(rows * depth, 1), numbers::<T>(depth * columns, 2));
    let bias = numbers::<T>(columns, 3);
    for (a_transposed, b_transposed) in [(false, false), (true, false), (false, true), (true, true)] {
        let matrix = |values, rows, columns, transposed| match transposed {
            true => Matrix::<T>::contiguous(values, columns, rows).unwrap().transposed(),
            false => Matrix::<T>::contiguous(values, rows, columns).unwrap(),
        };
        let (left, right) = (matrix(&a, rows, depth, a_transposed), matrix(&b, depth, columns, b_transposed));
        let expected = |row: usize, column: usize| -> f64 {
            let term = |step| {
                at(&a, depth, row, step, a_transposed, rows)
                    * at(&b, columns, step, column, b_transposed, depth)
            };
            (0..depth).map(term).sum()
        };
        let y = output(&left, &right, Some(&bias), epilogue());
        let mut sums = vec![T::Wide::ONE; rows * columns];
        product(&left, &right, &Sum::new(&mut sums, columns, true));
        let (gradient, output) = (numbers::<T>(rows * depth, 4), numbers::<T>(rows * depth, 5));
        let pulled = PulledBack::new(
            matrix(&gradient, rows, depth, a_transposed),
            matrix(&output, rows, depth, a_transposed),
            epilogue(),
        );
        let mut pulled_sums = vec![T::Wide::ONE; rows * columns];
        product(&pulled, &right, &Sum::new(&mut pulled_sums, columns, false));
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let place = row * columns + column;
            let what = format!("{rows} {depth} {columns} {a_transposed} {b_transposed} at {row} {column}");
            let wide = expected(row, column);
            assert_eq!(sums[place].to_f64(), wide + 1., "{what}");
            let biased = wide + bias[column].widen().to_f64();
            let biased = T::narrow(T::Wide::real(if biased < 0. { biased / 2. } else { biased }));
            assert_eq!(y[place].to_f64(), biased.to_f64(), "{what}");
            let term = |step| {
                let below = at(&output, depth, row, step, a_transposed, rows) < 0.;
                at(&gradient, depth, row, step, a_transposed, rows)
                    * if below { 0.5 } else { 1. }
                    * at(&b, columns, step, column, b_transposed, depth)
            };
            let pulled: f64 = (0..depth).map(term).sum();
            assert!((pulled_sums[place].to_f64() - pulled).abs() < 1e-3, "{what}");
        }
    }
}

#[test]
fn agrees_with_the_definition() {
    let sizes = [1, 2, 4, 5, 7, 16, 17, 33];
    for rows in sizes.into_iter().chain([65]) {
        for depth in [0, 1, 15, 16, 17, 40] {
            for columns in sizes {
                check::<f32>(rows, depth, columns);
            }
            check::<f64>(rows, depth, 37);
            check::<half::bf16>(rows, depth, 37);
            check::<half::f16>(rows, depth, 19);
        }
    }
    for (rows, depth, columns) in [(0, 3, 2), (3, 2, 0), (150, 1100, 70), (3, 2100, 600), (70, 70, 600)] {
        check::<f32>(rows, depth, columns);
    }
    check::<f64>(100, 1030, 20);
    check::<half::bf16>(40, 1030, 40);
    again_with_fewer_instructions("agrees_with_the_definition");
}

/// Compares tiles with loops whose every access is checked, on slices that end where a tile should.
struct CheckTiles;

impl CheckTiles {
    fn check<R: Real, I: Instructions>(rows: usize, depth: usize, packing: Packing, narrow: bool, add: bool) {
        let lanes = R::Lanes::<I>::COUNT;
        let width = if narrow { lanes } else { 2 * lanes };
        let right_step = width + 3;
        let place = |row: usize, step: usize| match packing {
            Packing::Rows => step / GROUP * GROUP * rows + row * GROUP + step % GROUP,
            Packing::Columns => step * GROUP + row,
            Packing::InPlace { step: apart } => step * apart + row,
        };
        let last = depth.saturating_sub(1);
        let left_length = match packing {
            Packing::Rows => depth.div_ceil(GROUP) * GROUP * rows,
            Packing::Columns => depth * GROUP,
            Packing::InPlace { .. } if depth == 0 => 0,
            Packing::InPlace { .. } => place(rows - 1, last) + 1,
        };
        let left = numbers::<R>(left_length, 1);
        let right = numbers::<R>(last * right_step + width, 2);
        let (step, before) = (width + 2, numbers::<R>((rows - 1) * (width + 2) + width, 3));
        let mut expected = before.clone();
        for (row, column) in (0..rows).flat_map(|row| (0..width).map(move |column| (row, column))) {
            let sum = (0..depth).fold(R::ZERO, |sum, depth| {
                left[place(row, depth)].times_plus::<I>(right[depth * right_step + column], sum)
            });
            let out = &mut expected[row * step + column];
            *out = if add { sum + *out } else { sum };
        }
        let mut found = before;
        // SAFETY: rows of the vector, which is read after.
        #[allow(unsafe_code, reason = "see there")]
        let mut target = unsafe { Target::new(found.as_mut_ptr(), step, rows, width) };
        let tile = Tile { rows, depth, left: &left, packing, right: &right, right_step, narrow, add };
        // SAFETY: kernels run at a level that the processor has.
        #[allow(unsafe_code, reason = "see there")]
        unsafe {
            tile.run::<I>(&mut target, 0, 0);
        }
        assert!(found == expected, "{rows} rows, {depth} deep, {packing:?}, narrow {narrow}, add {add}");
    }
}

impl Kernel for CheckTiles {
    type Output = ();

    fn run<I: Instructions>(self) {
        for (rows, depth) in (1..=I::ROWS).flat_map(|rows| [0, 1, 15, 16, 17, 40].map(|depth| (rows, depth)))
        {
            for packing in [Packing::Rows, Packing::Columns, Packing::InPlace { step: rows + 5 }] {
                for (narrow, add) in [(false, false), (false, true), (true, false), (true, true)] {
                    Self::check::<f32, I>(rows, depth, packing, narrow, add);
                    Self::check::<f64, I>(rows, depth, packing, narrow, add);
                }
            }
        }
    }
}

#[test]
fn tiles_reach_what_checked_loops_reach() {
    dispatch(CheckTiles);
    again_with_fewer_instructions("tiles_reach_what_checked_loops_reach");
}

/// So that it does not matter how a product is shared out, or in which batch an example is.
#[test]
fn a_result_depends_on_its_row_and_column_alone() {
    let (rows, depth, columns) = (131, 1500, 77);
    let irregular =
        |length: usize| -> Vec<f32> { (0..length).map(|index| (index as f32 * 0.731).sin()).collect() };
    let (a, b) = (irregular(rows * depth), irregular(depth * columns));
    let mut whole = vec![0f32; rows * columns];
    let right = Matrix::contiguous(&b, depth, columns).unwrap();
    product(&Matrix::contiguous(&a, rows, depth).unwrap(), &right, &Sum::new(&mut whole, columns, false));
    for (from, count) in [(0, 1), (5, 3), (17, 20), (100, 31)] {
        let mut part = vec![0f32; count * columns];
        let left = Matrix::contiguous(&a[from * depth..][..count * depth], count, depth).unwrap();
        product(&left, &right, &Sum::new(&mut part, columns, false));
        assert_eq!(part, whole[from * columns..][..count * columns]);
    }
}

/// `cargo test --release -p bridge-ops -- --ignored --nocapture rates`
#[test]
#[ignore = "prints how fast products are"]
fn rates() {
    for (rows, depth, columns, left_transposed, right_transposed) in [
        (128, 784, 512, false, false),
        (128, 512, 512, false, false),
        (128, 512, 512, false, true),
        (784, 128, 512, true, false),
        (512, 128, 512, true, false),
        (1024, 256, 1024, false, false),
        (1024, 1024, 256, false, true),
        (256, 1024, 1024, true, false),
        (128, 512, 10, false, false),
        (512, 128, 10, true, false),
        (128, 10, 512, false, true),
        (1024, 1024, 1024, false, false),
        (1, 512, 512, false, false),
        (16, 64, 128, false, false),
    ] {
        let (a, b) = (vec![1f32; rows * depth], vec![1f32; depth * columns]);
        let matrix = |values, rows, columns, transposed| match transposed {
            true => Matrix::<f32>::contiguous(values, columns, rows).unwrap().transposed(),
            false => Matrix::<f32>::contiguous(values, rows, columns).unwrap(),
        };
        let left = matrix(&a, rows, depth, left_transposed);
        let right = matrix(&b, depth, columns, right_transposed);
        let mut sums = vec![0f32; rows * columns];
        let mut best = f64::INFINITY;
        for _ in 0..200 {
            let started = std::time::Instant::now();
            product(&left, &right, &Sum::new(&mut sums, columns, false));
            best = best.min(started.elapsed().as_secs_f64());
        }
        let (x, w) = (
            candle_core::Tensor::from_slice(&a, (rows, depth), &candle_core::Device::Cpu).unwrap(),
            candle_core::Tensor::from_slice(&b, (depth, columns), &candle_core::Device::Cpu).unwrap(),
        );
        let mut theirs = f64::INFINITY;
        for _ in 0..100 {
            let started = std::time::Instant::now();
            std::hint::black_box(x.matmul(&w).unwrap());
            theirs = theirs.min(started.elapsed().as_secs_f64());
        }
        let flops = 2e-9 * (rows * depth * columns) as f64;
        println!(
            "{rows}x{depth}x{columns} {left_transposed} {right_transposed}: {:.0} GFLOP/s, candle {:.0} ({:.1} us)",
            flops / best,
            flops / theirs,
            best * 1e6
        );
    }
}
