use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use crate::twin::{
    DTYPES, check_any_number_of_threads, check_fewer_instructions, check_twin, with_gradients,
};
use bridge_ops::{Error, composition, dropout, dropout_with_key};
use bridge_random::{Scheme, bernoulli, key};
use candle_core::{DType, Tensor, Var};

fn mask(bits: &[u8]) -> Tensor {
    Tensor::new(bits, &device()).unwrap()
}

#[test]
fn values_of_any_layout() {
    let check = |x: &Tensor, mask: &Tensor| {
        let mask_bits = to_vec(&mask.broadcast_as(x.shape()).unwrap());
        let expected: Vec<f64> =
            to_vec(x).iter().zip(mask_bits).map(|(x, bit)| if bit != 0.0 { x / 0.7 } else { 0.0 }).collect();
        let y = dropout(x, 0.7, mask).unwrap();
        assert_eq!(y.dims(), x.dims());
        assert_close(&y, &expected, 0.0);
    };
    let full = mask(&[0, 1, 1, 0, 1, 1]).reshape((2, 3)).unwrap();
    check(&values((2, 3), 1), &full);
    check(&values((3, 2), 2).t().unwrap(), &full);
    check(&values((2, 9), 3).narrow(1, 2, 3).unwrap(), &full);
    check(&values(3, 4).broadcast_as((2, 3)).unwrap(), &full);
    check(&values((3, 2), 5), &full.t().unwrap());
    check(&values((4, 3), 6), &mask(&[1, 0, 1]));
    check(&values((3, 4), 7), &mask(&[1, 0, 1]).reshape((3, 1)).unwrap());
    check(&values((), 8), &mask(&[1]).reshape(()).unwrap());
    check(&values((0, 3), 8), &mask(&[1, 0, 1]));
}

/// Flax divides; candle's `x / 0.9` multiplies by the reciprocal, which rounds differently.
#[test]
fn the_kept_elements_are_divided_in_their_own_dtype() {
    let x: Vec<f32> = (1..100).map(|i| i as f32).collect();
    let y = dropout(&Tensor::new(x.as_slice(), &device()).unwrap(), 0.9, &mask(&[1])).unwrap();
    let divided: Vec<f32> = x.iter().map(|x| x / 0.9f32).collect();
    assert!(
        x.iter().zip(&divided).any(|(x, divided)| x * (1.0 / 0.9f32) != *divided),
        "the input must provoke it"
    );
    assert_eq!(y.to_vec1::<f32>().unwrap(), divided);

    let x: Vec<half::bf16> = x.into_iter().map(half::bf16::from_f32).collect();
    let y = dropout(&Tensor::new(x.as_slice(), &device()).unwrap(), 0.9, &mask(&[1])).unwrap();
    let divided: Vec<half::bf16> = x.iter().map(|x| x / half::bf16::from_f64(0.9)).collect();
    assert_eq!(y.to_vec1::<half::bf16>().unwrap(), divided);
}

#[test]
fn gradients_are_right() {
    let full = mask(&[0, 1, 1, 0, 1, 1]).reshape((2, 3)).unwrap();
    check_gradient(|inputs| dropout(&inputs[0], 0.3, &full), &[values((2, 3), 1)]);
    check_gradient(|inputs| dropout(&inputs[0].t()?, 0.3, &full), &[values((3, 2), 2)]);
    check_gradient(|inputs| dropout(&inputs[0].broadcast_as((2, 3))?, 0.3, &full), &[values(3, 3)]);
    check_gradient(|inputs| dropout(&inputs[0], 0.3, &mask(&[1, 0, 1])), &[values((2, 3), 4)]);
    check_gradient(|inputs| dropout_with_key(&inputs[0], 0.5, key(1), &[0]), &[values((4, 5), 5)]);
    check_gradient(|inputs| dropout_with_key(&inputs[0], 1.0, key(1), &[]), &[values((2, 3), 6)]);
}

#[test]
fn dropped_elements_do_not_leak_nan() {
    let x = Tensor::new(&[f32::NAN, f32::INFINITY, 1.0], &device()).unwrap();
    let bits = mask(&[0, 0, 1]);
    assert_eq!(to_vec(&dropout(&x, 0.5, &bits).unwrap()), [0.0, 0.0, 2.0]);
    assert_eq!(to_vec(&gradient_of_sum(|x| dropout(x, 0.5, &bits), &x)), [0.0, 0.0, 2.0]);
}

/// `nnx.Dropout(rate, broadcast_dims=dims)` of Flax 0.12.8 on `arange(1, 13).reshape(3, 4)` with `jax.random.key(7)`.
#[test]
fn masks_and_values_are_those_of_flax() {
    let x: Vec<f32> = (1..13).map(|i| i as f32).collect();
    let x = Tensor::from_vec(x, (3, 4), &device()).unwrap();
    let cases: [(f64, &[isize], [u8; 12]); 3] = [
        (0.3, &[], [1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0]),
        (0.1, &[-1], [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]),
        (0.1, &[0], [1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1]),
    ];
    for (rate, dims, mask) in cases {
        let y = dropout_with_key(&x, rate, key(7), dims).unwrap();
        let keep = (1.0 - rate) as f32;
        let flax: Vec<f32> = (1..13).zip(mask).map(|(i, bit)| f32::from(bit) * (i as f32 / keep)).collect();
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), flax);
    }
    let y = dropout_with_key(&x.to_dtype(DType::BF16).unwrap(), 0.3, key(7), &[]).unwrap();
    let flax = [1.4296875, 0.0, 4.28125, 5.71875, 0.0, 8.5625, 10.0, 11.4375, 12.875, 14.3125, 15.75, 0.0];
    assert_eq!(to_vec(&y), flax);
}

#[test]
fn rate_zero_is_the_input_and_rate_one_zeros() {
    let x = Var::from_tensor(&values((2, 3), 1)).unwrap();
    assert_eq!(dropout_with_key(&x, 0.0, key(0), &[]).unwrap().id(), x.id());

    let y = dropout_with_key(&x, 1.0, key(0), &[]).unwrap();
    assert_eq!(to_vec(&y), [0.0; 6]);
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(to_vec(gradients.get(&x).unwrap()), [0.0; 6]);
    let nan = Tensor::new(&[f32::NAN], &device()).unwrap();
    assert_eq!(to_vec(&dropout_with_key(&nan, 1.0, key(0), &[]).unwrap()), [0.0]);
}

/// Bit by bit: the mask is that of one draw of the whole, whatever is drawn at a time.
#[test]
fn masks_drawn_in_blocks_are_those_drawn_at_once() {
    let rate = 0.3;
    for shape in [vec![], vec![1], vec![0, 3], vec![511], vec![40, 1001]] {
        for dims in [vec![], vec![-1isize]] {
            if dims.len() > shape.len() {
                continue;
            }
            let mut drawn = shape.clone();
            dims.iter().for_each(|_| drawn[shape.len() - 1] = 1);
            let mask = bernoulli(key(9), 1.0 - rate, drawn, &device()).unwrap();
            let mask = mask.broadcast_as(shape.as_slice()).unwrap();
            check_twin(
                |x| dropout_with_key(&x[0], rate, key(9), &dims),
                |x| Ok(composition::dropout(&x[0], 1.0 - rate, &mask)?),
                &[shape.as_slice().into()],
                0.0,
            );
            check_twin(
                |x| dropout(&x[0], 1.0 - rate, &mask),
                |x| Ok(composition::dropout(&x[0], 1.0 - rate, &mask)?),
                &[shape.as_slice().into()],
                0.0,
            );
        }
    }
    check_fewer_instructions("dropout::masks_drawn_in_blocks_are_those_drawn_at_once");
}

#[test]
fn the_number_of_threads_does_not_matter() {
    check_any_number_of_threads("dropout::the_number_of_threads_does_not_matter", || {
        let mut results = Vec::new();
        for (dtype, _) in DTYPES {
            let x = values((101, 401), 9).to_dtype(dtype).unwrap();
            let (y, gradients) =
                with_gradients(|x| dropout_with_key(&x[0], 0.2, key(3), &[]), std::slice::from_ref(&x));
            results.push(y);
            results.extend(gradients);
        }
        results
    });
}

/// Elements of its draws depend on how many there are.
#[test]
fn keys_of_the_legacy_scheme_draw_the_whole_mask() {
    let legacy = key(5).with_scheme(Scheme::Legacy);
    let x = values((30, 70), 1);
    let mask = bernoulli(legacy, 0.75, x.shape(), &device()).unwrap();
    let expected = to_vec(&dropout(&x, 0.75, &mask).unwrap());
    assert_eq!(to_vec(&dropout_with_key(&x, 0.25, legacy, &[]).unwrap()), expected);
}

#[test]
fn wrong_arguments_are_errors() {
    let x = values((2, 3), 1);
    for keep in [0.0, -0.5, 1.5, f64::NAN] {
        assert!(matches!(dropout(&x, keep, &mask(&[1])), Err(Error::Probability { argument: "keep", .. })));
    }
    for rate in [-0.1, 1.1, f64::NAN] {
        let result = dropout_with_key(&x, rate, key(0), &[]);
        assert!(matches!(result, Err(Error::Probability { argument: "rate", .. })));
    }
    assert_eq!(
        message(dropout(&x, 0.5, &mask(&[1, 0]))),
        "dropout: `mask` must have a shape that broadcasts to that of `x`, [2, 3], found [2]"
    );
    assert!(matches!(dropout(&x, 0.5, &x), Err(Error::DType { argument: "mask", .. })));
    let integers = mask(&[1, 2]);
    assert!(matches!(dropout(&integers, 0.5, &mask(&[1])), Err(Error::DType { argument: "x", .. })));
    for axis in [2, -3] {
        assert!(matches!(dropout_with_key(&x, 0.5, key(0), &[axis]), Err(Error::Shape { .. })));
    }
    assert_eq!(
        message(dropout_with_key(&x, 0.5, key(0), &[2])),
        "dropout_with_key: `x` must have a dimension 2, which `broadcast_dims` names, found [2, 3]"
    );
}

/// candle walks into the graph of a mask, and panics where it finds no gradient.
#[test]
fn a_mask_may_be_computed_from_what_is_tracked() {
    let x = Var::from_tensor(&values((3, 4), 1)).unwrap();
    let mask = x.gt(0.0).unwrap();
    let gradients = dropout(&x, 0.5, &mask).unwrap().sum_all().unwrap().backward().unwrap();
    let expected: Vec<f64> = to_vec(&mask).into_iter().map(|bit| bit / 0.5).collect();
    assert_close(gradients.get(&x).unwrap(), &expected, 0.0);
}
