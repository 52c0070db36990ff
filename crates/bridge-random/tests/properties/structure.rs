//! How draws and keys relate to each other.

use bridge_random::{
    Choice, Initializer, Key, KeyArray, PathItem, SamplingMode, Scheme, Separator, bernoulli, exponential,
    fill_bernoulli, fold_static, gumbel, gumbel_with, key, laplace, logistic, normal, permute, rademacher,
    randint, shuffle, truncated_normal, uniform, uniform_between,
};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

const CPU: &Device = &Device::Cpu;

fn keys() -> impl Strategy<Value = Key> {
    any::<[u32; 2]>().prop_map(Key::from_words)
}

fn schemes() -> impl Strategy<Value = Scheme> {
    prop_oneof![Just(Scheme::Partitionable), Just(Scheme::Legacy)]
}

/// The bits of a float tensor.
fn bits(tensor: &Tensor) -> Vec<u64> {
    let values = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    values.into_iter().map(f64::to_bits).collect()
}

proptest! {
    #[test]
    fn a_longer_draw_begins_with_the_shorter(key in keys(), count in 0..40_000usize, more in 0..40_000usize) {
        let long = key.bits_u32(count + more);
        prop_assert!(key.bits_u32(count) == long[..count]);
        for dtype in [DType::F32, DType::BF16] {
            let [short, long] = [count, count + more].map(|count| bits(&normal(key, count, dtype, CPU).unwrap()));
            prop_assert!(short == long[..count]);
        }
    }

    #[test]
    fn the_shape_is_of_no_consequence(key in keys(), a in 0..6usize, b in 0..6usize, c in 0..6usize, scheme in schemes()) {
        let key = key.with_scheme(scheme);
        let [flat, shaped] = [vec![a * b * c], vec![a, b, c]].map(|shape| uniform(key, shape, DType::F64, CPU).unwrap());
        prop_assert_eq!(shaped.dims(), [a, b, c]);
        prop_assert_eq!(bits(&flat), bits(&shaped));
    }

    #[test]
    fn parts_make_up_the_whole(key in keys(), start in 0..1000u64, lengths in prop::collection::vec(0..300usize, 0..5)) {
        let count: usize = lengths.iter().sum();
        let whole = key.bits_u16(start as usize + count);
        let mut next = start;
        for length in lengths {
            let (mut words, mut decisions) = (vec![0; length], vec![0; length]);
            key.fill_bits_u16(next, &mut words).unwrap();
            fill_bernoulli(key, 0.5, next, &mut decisions).unwrap();
            prop_assert_eq!(&words, &whole[next as usize..][..length]);
            let all = bernoulli(key, 0.5, next as usize + length, CPU).unwrap();
            prop_assert_eq!(&decisions, &all.to_vec1::<u8>().unwrap()[next as usize..]);
            next += length as u64;
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same(key in keys(), count in 0..200_000usize, threads in 1..6usize, scheme in schemes()) {
        let key = key.with_scheme(scheme);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let draw = || bits(&normal(key, count, DType::F32, CPU).unwrap());
        prop_assert!(pool.install(draw) == draw());
    }

    #[test]
    fn children_are_folded_in(key in keys(), count in 1..20usize) {
        let children = key.split_vec(count);
        for (index, child) in children.iter().enumerate() {
            prop_assert_eq!(*child, key.fold_in(index as u32));
        }
        let batch = key.split_array((1, count)).unwrap();
        prop_assert_eq!(batch.elements(), &children[..]);
        prop_assert_eq!(batch.lane(0).unwrap(), KeyArray::from(children));
    }

    #[test]
    fn legacy_children_share_no_key_with_others(key in keys(), count in 2..20usize) {
        let key = key.with_scheme(Scheme::Legacy);
        let mut children = key.split_vec(count);
        prop_assert!(children.iter().all(|child| child.scheme() == Scheme::Legacy));
        children.sort();
        children.dedup();
        prop_assert_eq!(children.len(), count);
    }

    #[test]
    fn a_key_survives_a_file(key in keys(), scheme in schemes()) {
        let key = key.with_scheme(scheme);
        let json = serde_json::to_string(&key).unwrap();
        prop_assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), key);
    }

    #[test]
    fn orders_hold_what_they_were_given(key in keys(), rows in 0..8usize, columns in 0..8usize, axis in -2..2isize) {
        let x = Tensor::arange(0, (rows * columns) as u32, CPU).unwrap().reshape((rows, columns)).unwrap();
        for ordered in [permute(key, &x, axis).unwrap(), shuffle(key, &x, axis).unwrap()] {
            prop_assert_eq!(ordered.dims(), x.dims());
            let mut values = ordered.flatten_all().unwrap().to_vec1::<u32>().unwrap();
            values.sort_unstable();
            prop_assert!(values.into_iter().eq(0..(rows * columns) as u32));
        }
    }

    #[test]
    fn choices_without_replacement_differ(key in keys(), population in 1..50usize, weighted: bool) {
        let weights = uniform(key, population, DType::F32, CPU).unwrap().affine(1.0, 0.1).unwrap();
        let mut choice = Choice::new().without_replacement();
        if weighted {
            choice = choice.weights(&weights);
        }
        let mut chosen = choice.indices(key, population, population, CPU).unwrap().to_vec1::<u32>().unwrap();
        chosen.sort_unstable();
        prop_assert!(chosen.into_iter().eq(0..population as u32));
    }

    #[test]
    fn separated_paths_that_differ_have_keys_that_differ(
        left in prop::collection::vec("[a-c]{1,3}", 1..4),
        right in prop::collection::vec("[a-c]{1,3}", 1..4),
    ) {
        let fold = |path: &[String]| {
            fold_static(key(0), path.iter().map(|name| PathItem::Name(name)), Separator::ZeroByte)
        };
        prop_assert_eq!(fold(&left) == fold(&right), left == right);
    }

    #[test]
    fn initial_values_are_finite_in_every_dtype(key in keys(), rows in 1..9usize, columns in 1..9usize) {
        let initializers =
            [Initializer::lecun_normal(), Initializer::he_uniform(), Initializer::embedding(), Initializer::normal(2.0)];
        for initializer in initializers {
            for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
                let x = initializer.init(key, (rows, columns), dtype, CPU).unwrap();
                prop_assert_eq!((x.dims(), x.dtype()), (&[rows, columns][..], dtype));
                prop_assert!(bits(&x).into_iter().all(|bits| f64::from_bits(bits).is_finite()));
            }
        }
    }
}

#[test]
fn nothing_is_drawn_into_nothing() {
    for dims in [vec![0], vec![3, 0], vec![0, 2, 2]] {
        let dims = dims.as_slice();
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let drawn = [
                uniform(key(0), dims, dtype, CPU),
                uniform_between(key(0), dims, -1.0, 1.0, dtype, CPU),
                normal(key(0), dims, dtype, CPU),
                truncated_normal(key(0), -2.0, 2.0, dims, dtype, CPU),
                gumbel(key(0), dims, dtype, CPU),
                gumbel_with(key(0), dims, SamplingMode::High, dtype, CPU),
                exponential(key(0), dims, dtype, CPU),
                laplace(key(0), dims, dtype, CPU),
                logistic(key(0), dims, dtype, CPU),
                rademacher(key(0), dims, dtype, CPU),
                Initializer::normal(1.0).init(key(0), dims, dtype, CPU),
            ];
            for drawn in drawn {
                let drawn = drawn.unwrap();
                assert_eq!((drawn.dims(), drawn.dtype()), (dims, dtype));
            }
        }
        assert_eq!(bernoulli(key(0), 0.5, dims, CPU).unwrap().dims(), dims);
        assert_eq!(bridge_random::bits(key(0), dims, DType::U32, CPU).unwrap().dims(), dims);
        assert_eq!(randint(key(0), dims, 0, 5, DType::I64, CPU).unwrap().dims(), dims);
        assert_eq!(Choice::new().indices(key(0), 3, dims, CPU).unwrap().dims(), dims);
        assert_eq!(key(0).split_array(dims).unwrap().dims(), dims);
        let legacy = key(0).with_scheme(Scheme::Legacy);
        assert_eq!(normal(legacy, dims, DType::F32, CPU).unwrap().dims(), dims);
        assert!(legacy.split_array(dims).unwrap().is_empty());
    }
}
