use bridge_ops::{all_finite, global_norm};
use candle_core::{DType, Tensor};

use crate::support::{device, message, to_vec, values};
use crate::twin::{DTYPES, check_any_number_of_threads, check_fewer_instructions};

fn tensors() -> Vec<Tensor> {
    let mut tensors = vec![];
    for (dtype, _) in DTYPES {
        for length in [0, 1, 5, 4095, 4097, 50_000] {
            tensors.push(values(length, tensors.len() as u32).to_dtype(dtype).unwrap());
        }
        tensors.push(values((7, 11), 3).to_dtype(dtype).unwrap().t().unwrap());
        tensors.push(values((1, 9), 4).to_dtype(dtype).unwrap().broadcast_as((300, 9)).unwrap());
    }
    tensors
}

fn norm(tensors: &[Tensor]) -> f64 {
    tensors.iter().flat_map(to_vec).map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn the_norm_over_all_tensors() {
    let tensors = tensors();
    for part in [&tensors[..], &tensors[3..4], &tensors[..1], &[]] {
        let (found, expected) = (global_norm(part).unwrap(), norm(part));
        assert!((found - expected).abs() <= 1e-12 * expected, "{found} {expected}");
    }
    // Squares that f32 can not hold.
    for value in [1e30f32, 1e-30] {
        let found = global_norm(&[Tensor::new(&[value, value], &device()).unwrap()]).unwrap();
        let expected = f64::from(value) * 2f64.sqrt();
        assert!((found - expected).abs() <= 1e-12 * expected, "{found} {expected}");
    }
    check_fewer_instructions("gradients::the_norm_over_all_tensors");
}

#[test]
fn the_norm_does_not_depend_on_the_number_of_threads() {
    check_any_number_of_threads("gradients::the_norm_does_not_depend_on_the_number_of_threads", || {
        vec![Tensor::new(global_norm(&tensors()).unwrap(), &device()).unwrap()]
    });
}

#[test]
fn finds_every_tensor_that_is_not_finite() {
    assert!(all_finite(&tensors()).unwrap().into_iter().all(|finite| finite));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut tensors = tensors();
        let expected: Vec<_> =
            (0..tensors.len()).map(|at| at % 3 == 0 || tensors[at].elem_count() == 0).collect();
        for (tensor, finite) in tensors.iter_mut().zip(&expected) {
            if !finite {
                let mut values = to_vec(tensor);
                let at = values.len() * 2 / 3;
                values[at] = bad;
                let dtype = tensor.dtype();
                *tensor = Tensor::new(values, &device()).unwrap().to_dtype(dtype).unwrap();
            }
        }
        assert_eq!(all_finite(&tensors).unwrap(), expected);
        let norm = global_norm(&tensors).unwrap();
        assert!(if bad.is_nan() { norm.is_nan() } else { norm == f64::INFINITY });
    }
    // The largest numbers are finite.
    let largest = Tensor::new(&[f32::MAX, f32::MIN], &device()).unwrap();
    assert_eq!(all_finite(&[largest]).unwrap(), [true]);
    check_fewer_instructions("gradients::finds_every_tensor_that_is_not_finite");
}

#[test]
fn refuses_integers() {
    let integers = [Tensor::zeros(3, DType::U32, &device()).unwrap()];
    let expected = "`tensors` must have a float dtype (bf16, f16, f32 or f64), found U32";
    assert!(message(global_norm(&integers)).contains(expected));
    assert!(message(all_finite(&integers)).contains(expected));
}
