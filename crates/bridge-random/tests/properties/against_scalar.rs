//! Each sampler against its plain definition, to the bit, on a million draws.

use bridge_random::{
    Categorical, Choice, Key, SamplingMode, Scheme, bernoulli, bernoulli_with, exponential, gumbel,
    gumbel_with, key, laplace, logistic, normal, permutation_vec, rademacher, randint, randint_vec, shuffle,
    truncated_normal, uniform, uniform_between,
};
use candle_core::{DType, Device, Tensor};

use crate::scalar::{self, Words};

const COUNT: usize = 1_000_000;
const CPU: &Device = &Device::Cpu;

/// Compares a draw, widened to f64, with what gives one element of it.
fn check<E>(name: &str, draw: impl Fn(Key) -> Result<Tensor, E>, element: impl Fn(Words, u64) -> f64)
where
    E: std::fmt::Debug,
{
    let key = key(11).fold_in(name.len() as u32);
    let drawn = draw(key).unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(drawn.len(), COUNT);
    for (index, found) in drawn.into_iter().enumerate() {
        let expected = element(key.words(), index as u64);
        assert_eq!(found.to_bits(), expected.to_bits(), "element {index} of {name}: {found} or {expected}");
    }
}

/// The same for a function that gives f32.
fn check_f32<E: std::fmt::Debug>(
    name: &str,
    draw: impl Fn(Key) -> Result<Tensor, E>,
    element: impl Fn(Words, u64) -> f32,
) {
    check(name, draw, |key, index| f64::from(element(key, index)));
}

#[test]
fn uniform_numbers() {
    check_f32("uniform", |key| uniform(key, COUNT, DType::F32, CPU), scalar::unit);
    check("uniform f64", |key| uniform(key, COUNT, DType::F64, CPU), scalar::unit64);
    let between = |dtype| move |key| uniform_between(key, COUNT, -0.3, 1.7, dtype, CPU);
    check_f32("between", between(DType::F32), |key, index| scalar::uniform(key, index, -0.3, 1.7));
    check("between f64", between(DType::F64), |key, index| scalar::uniform64(key, index, -0.3, 1.7));
    check_f32("between f16", between(DType::F16), |key, index| scalar::uniform_f16(key, index, -0.3, 1.7));
    check_f32("between bf16", between(DType::BF16), |key, index| scalar::uniform_bf16(key, index, -0.3, 1.7));
}

#[test]
fn normal_numbers() {
    check_f32("normal", |key| normal(key, COUNT, DType::F32, CPU), scalar::normal);
    check_f32("normal f16", |key| normal(key, COUNT, DType::F16, CPU), scalar::normal_f16);
    check_f32("normal bf16", |key| normal(key, COUNT, DType::BF16, CPU), scalar::normal_bf16);
    check("normal f64", |key| normal(key, COUNT, DType::F64, CPU), scalar::normal64);
    for (lower, upper) in [(-2f32, 2f32), (-0.7, 1.9), (0.5, 0.6), (-4.0, -1.0)] {
        let draw = |key| truncated_normal(key, lower, upper, COUNT, DType::F32, CPU);
        check_f32(&format!("truncated normal, {lower} to {upper}"), draw, |key, index| {
            scalar::truncated_normal(key, index, lower, upper)
        });
    }
}

#[test]
fn random_bits() {
    let key = key(8);
    let words = key.words();
    let indices = 0..COUNT as u64;
    assert!(
        key.bits_u8(COUNT).into_iter().eq(indices.clone().map(|index| scalar::bits32(words, index) as u8))
    );
    assert!(
        key.bits_u16(COUNT).into_iter().eq(indices.clone().map(|index| scalar::bits32(words, index) as u16))
    );
    assert!(key.bits_u32(COUNT).into_iter().eq(indices.clone().map(|index| scalar::bits32(words, index))));
    assert!(key.bits_u64(COUNT).into_iter().eq(indices.map(|index| scalar::bits64(words, index))));
}

#[test]
fn without_replacement() {
    let key = key(13);
    let words = key.words();
    let weights = uniform(key.fold_in(1), COUNT, DType::F32, CPU).unwrap();
    let chosen =
        Choice::new().without_replacement().weights(&weights).indices(key, COUNT, 5000, CPU).unwrap();
    let score = |(index, weight): (u64, f32)| {
        scalar::gumbel(words, index) + if weight == 0.0 { f32::NEG_INFINITY } else { scalar::ln(weight) }
    };
    let scores: Vec<f32> = (0..).zip(weights.to_vec1::<f32>().unwrap()).map(score).collect();
    assert_eq!(chosen.to_vec1::<u32>().unwrap(), scalar::greatest(&scores, 5000));

    // Three of 250 categories of each of 4,000 lines; the draws come first in the result.
    let (lines, categories) = (4000, 250);
    let logits = normal(key.fold_in(2), (lines, categories), DType::F32, CPU).unwrap();
    let drawn = Categorical::new(&logits).shape((3, lines)).without_replacement().sample(key).unwrap();
    let drawn = drawn.t().unwrap().to_vec2::<u32>().unwrap();
    for (line, (logits, drawn)) in logits.to_vec2::<f32>().unwrap().into_iter().zip(drawn).enumerate() {
        let first = (line * categories) as u64;
        let scores: Vec<f32> =
            (first..).zip(logits).map(|(index, logit)| scalar::gumbel(words, index) + logit).collect();
        assert_eq!(drawn, scalar::greatest(&scores, 3), "line {line}");
    }

    let x = Tensor::arange(0, COUNT as u32, CPU).unwrap().reshape((COUNT / 50, 50)).unwrap();
    let shuffled = shuffle(key, &x, 1).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap();
    assert!(shuffled == scalar::shuffle(words, (0..COUNT as u32).collect(), 50));
}

#[test]
fn other_numbers() {
    check_f32("gumbel", |key| gumbel(key, COUNT, DType::F32, CPU), scalar::gumbel);
    let high = |key| gumbel_with(key, COUNT, SamplingMode::High, DType::F32, CPU);
    check_f32("gumbel high", high, |key, index| scalar::gumbel_high(key, index, COUNT as u64));
    check_f32("exponential", |key| exponential(key, COUNT, DType::F32, CPU), scalar::exponential);
    check_f32("laplace", |key| laplace(key, COUNT, DType::F32, CPU), scalar::laplace);
    check_f32("logistic", |key| logistic(key, COUNT, DType::F32, CPU), scalar::logistic);
}

#[test]
fn decisions() {
    let number = |decision: bool| if decision { 1.0 } else { 0.0 };
    check(
        "bernoulli",
        |key| bernoulli(key, 0.1, COUNT, CPU),
        |key, index| number(scalar::bernoulli(key, index, 0.1)),
    );
    let high = |key| bernoulli_with(key, 0.1, COUNT, SamplingMode::High, CPU);
    check("bernoulli high", high, |key, index| number(scalar::bernoulli_high(key, index, COUNT as u64, 0.1)));
    check(
        "rademacher",
        |key| rademacher(key, COUNT, DType::I32, CPU),
        |key, index| 2.0 * number(scalar::bernoulli(key, index, 0.5)) - 1.0,
    );
}

#[test]
fn integers() {
    for (low, high) in [(0, 10), (-5, 1_000_003), (0, 65_537), (i32::MIN, i32::MAX)] {
        let draw = |key| randint(key, COUNT, low.into(), high.into(), DType::I32, CPU);
        check(&format!("{low}..{high}"), draw, |key, index| scalar::randint(key, index, low, high).into());
    }
    let key = key(4);
    let found: Vec<i64> = randint_vec(key, COUNT, -3, 1i64 << 40).unwrap();
    for (index, found) in found.into_iter().enumerate() {
        assert_eq!(found, scalar::randint64(key.words(), index as u64, -3, 1 << 40), "element {index}");
    }
    // These depend on rounds of sorting, and on what stands in them.
    for count in [COUNT, 1625, 1626] {
        assert!(permutation_vec(key, count).unwrap() == scalar::permutation(key.words(), count as u64));
    }
    let chosen = Choice::new().without_replacement().indices(key, COUNT, 1000, CPU).unwrap();
    let expected = &scalar::permutation(key.words(), COUNT as u64)[..1000];
    assert_eq!(chosen.to_vec1::<u32>().unwrap(), expected);
}

#[test]
fn categories() {
    // A line for each of many draws, of five categories.
    let logits = [0.5f32, -1.0, 2.0, f32::NEG_INFINITY, 0.0];
    let tensor = Tensor::new(&logits, CPU).unwrap();
    check(
        "categorical",
        |key| Categorical::new(&tensor).shape(COUNT).sample(key),
        |key, index| {
            let mut best = (0, f32::NEG_INFINITY);
            for (category, logit) in logits.into_iter().enumerate() {
                let sum = scalar::gumbel(key, index * 5 + category as u64) + logit;
                if sum > best.1 {
                    best = (category, sum);
                }
            }
            best.0 as f64
        },
    );
    // With replacement and weights: the first whose cumulative weight reaches a uniform number.
    let weights = [0.1f32, 0.0, 0.4, 0.25];
    let tensor = Tensor::new(&weights, CPU).unwrap();
    check(
        "choice",
        |key| Choice::new().weights(&tensor).indices(key, 4, COUNT, CPU),
        |key, index| {
            let mut sums = weights;
            for place in 1..4 {
                sums[place] += sums[place - 1];
            }
            let target = sums[3] * (1.0 - scalar::unit(key, index));
            sums.iter().position(|sum| *sum >= target).unwrap() as f64
        },
    );
}

#[test]
fn legacy_words() {
    // The plain form makes all counters for each word, so fewer of them.
    for count in [1, 2, 7, 1000] {
        let key = key(9).with_scheme(Scheme::Legacy);
        let expected = (0..count).map(|index| scalar::legacy_bits32(key.words(), index, count));
        assert!(key.bits_u32(count as usize).into_iter().eq(expected), "{count}");
    }
}
