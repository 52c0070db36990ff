//! Whether numbers are distributed as they should be: by Kolmogorov's and Smirnov's test, by moments, by counts.

use bridge_random::{
    Categorical, Choice, Key, SamplingMode, bernoulli, bernoulli_with, exponential, gumbel, gumbel_with, key,
    laplace, logistic, normal, permutation_vec, rademacher, randint, truncated_normal, uniform,
};
use candle_core::{DType, Device, Tensor};

const COUNT: usize = 20_000;
const KEYS: u32 = 50;
const CPU: &Device = &Device::Cpu;

fn keys() -> impl Iterator<Item = Key> {
    (0..KEYS).map(|number| key(1).fold_in(number))
}

fn erf(x: f64) -> f64 {
    libm::erf(x)
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// Tests a sampler's numbers against their distribution function, mean and variance, for each key and for all together.
fn check<E: std::fmt::Debug>(
    name: &str,
    draw: impl Fn(Key) -> Result<Tensor, E>,
    cdf: impl Fn(f64) -> f64,
    mean: f64,
    variance: f64,
) {
    // The chance of a distance beyond this, times the root of the number of draws, is 2·exp(-2·2.5²): one in 130,000.
    const DISTANCE: f64 = 2.5;
    let mut all = Vec::new();
    let distance = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let count = values.len() as f64;
        let steps = values.iter().enumerate().map(|(index, value)| {
            let (below, above, at) = (index as f64 / count, (index + 1) as f64 / count, cdf(*value));
            (at - below).abs().max((above - at).abs())
        });
        steps.fold(0.0, f64::max) * count.sqrt()
    };
    for key in keys() {
        let mut values = draw(key).unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        let found = distance(&mut values);
        assert!(found < DISTANCE, "{name} of {key}: {found}");
        all.extend(values);
    }
    let found = distance(&mut all);
    assert!(found < DISTANCE, "{name} of all keys: {found}");
    let count = all.len() as f64;
    let found_mean = all.iter().sum::<f64>() / count;
    let found_variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let deviation = variance.sqrt();
    assert!((found_mean - mean).abs() < 5.0 * deviation / count.sqrt(), "{name}: mean {found_mean}");
    assert!((found_variance / variance - 1.0).abs() < 0.02, "{name}: variance {found_variance}");
}

#[test]
fn continuous_ones() {
    use std::f64::consts::{FRAC_PI_6, PI};
    const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;
    for dtype in [DType::F32, DType::F64] {
        check("uniform", |key| uniform(key, COUNT, dtype, CPU), |x| x, 0.5, 1.0 / 12.0);
        check("normal", |key| normal(key, COUNT, dtype, CPU), normal_cdf, 0.0, 1.0);
        let (low, high) = (normal_cdf(-2.0), normal_cdf(2.0));
        let truncated_cdf = |x| (normal_cdf(x) - low) / (high - low);
        let truncated = |key| truncated_normal(key, -2.0, 2.0, COUNT, dtype, CPU);
        check("truncated normal", truncated, truncated_cdf, 0.0, 0.879_625_661_034_239_8_f64.powi(2));
        let gumbel_cdf = |x: f64| (-(-x).exp()).exp();
        check("gumbel", |key| gumbel(key, COUNT, dtype, CPU), gumbel_cdf, EULER_GAMMA, PI * FRAC_PI_6);
        let high = |key| gumbel_with(key, COUNT, SamplingMode::High, dtype, CPU);
        check("gumbel high", high, gumbel_cdf, EULER_GAMMA, PI * FRAC_PI_6);
        check("exponential", |key| exponential(key, COUNT, dtype, CPU), |x| 1.0 - (-x).exp(), 1.0, 1.0);
        let laplace_cdf = |x: f64| if x < 0.0 { 0.5 * x.exp() } else { 1.0 - 0.5 * (-x).exp() };
        check("laplace", |key| laplace(key, COUNT, dtype, CPU), laplace_cdf, 0.0, 2.0);
        let logistic_cdf = |x: f64| 1.0 / (1.0 + (-x).exp());
        check("logistic", |key| logistic(key, COUNT, dtype, CPU), logistic_cdf, 0.0, PI * PI / 3.0);
    }
}

/// Tests the counts of what was drawn against their probabilities, by Pearson's chi squared.
fn check_counts(name: &str, drawn: &[u32], probabilities: &[f64]) {
    let mut counts = vec![0.0; probabilities.len()];
    for value in drawn {
        counts[*value as usize] += 1.0;
    }
    let total = drawn.len() as f64;
    let mut chi_squared = 0.0;
    for (value, (count, probability)) in counts.into_iter().zip(probabilities).enumerate() {
        if *probability == 0.0 {
            assert_eq!(count, 0.0, "{name}: {value}");
        } else {
            chi_squared += (count - probability * total).powi(2) / (probability * total);
        }
    }
    let freedom = probabilities.iter().filter(|p| **p > 0.0).count() as f64 - 1.0;
    // Beyond four standard deviations, as Wilson and Hilferty make a normal number of it: one in 30,000.
    let spread = 2.0 / (9.0 * freedom);
    let bound = freedom * (1.0 - spread + 4.0 * spread.sqrt()).powi(3);
    assert!(chi_squared < bound, "{name}: chi squared {chi_squared}, expected about {freedom}");
}

fn u32s<E: std::fmt::Debug>(draw: impl Fn(Key) -> Result<Tensor, E>) -> Vec<u32> {
    let one = |key| {
        draw(key).unwrap().to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap()
    };
    keys().flat_map(one).collect()
}

#[test]
fn discrete_ones() {
    for p in [0.01, 0.5, 0.9] {
        let low = u32s(|key| bernoulli(key, p, COUNT, CPU));
        check_counts("bernoulli", &low, &[1.0 - p, p]);
        let high = u32s(|key| bernoulli_with(key, p, COUNT, SamplingMode::High, CPU));
        check_counts("bernoulli high", &high, &[1.0 - p, p]);
    }
    let signs = u32s(|key| rademacher(key, COUNT, DType::F32, CPU).unwrap().affine(0.5, 0.5));
    check_counts("rademacher", &signs, &[0.5; 2]);
    for span in [2, 10, 37] {
        let drawn = u32s(|key| randint(key, COUNT, 0, span, DType::U32, CPU));
        check_counts("randint", &drawn, &vec![1.0 / span as f64; span as usize]);
    }
    let probabilities = [0.1, 0.0, 0.2, 0.3, 0.4];
    let weights = Tensor::new(&probabilities, CPU).unwrap();
    let choice = Choice::new().weights(&weights);
    check_counts("choice", &u32s(|key| choice.indices(key, 5, COUNT, CPU)), &probabilities);
    // What comes first without replacement has the same distribution.
    let first = Choice::new().weights(&weights).without_replacement();
    let firsts: Vec<u32> = (0..100_000)
        .map(|number| first.indices(key(1).fold_in(number), 5, 1, CPU).unwrap().to_vec1::<u32>().unwrap()[0])
        .collect();
    check_counts("choice without replacement", &firsts, &probabilities);
    let logits = weights.log().unwrap();
    for mode in [SamplingMode::Low, SamplingMode::High] {
        let categorical = Categorical::new(&logits).shape(COUNT).mode(mode);
        check_counts("categorical", &u32s(|key| categorical.sample(key)), &probabilities);
    }
}

#[test]
fn any_element_comes_to_any_place() {
    const LENGTH: usize = 7;
    let orders: Vec<Vec<u32>> =
        (0..50_000).map(|number| permutation_vec(key(3).fold_in(number), LENGTH).unwrap()).collect();
    for place in 0..LENGTH {
        let there: Vec<u32> = orders.iter().map(|order| order[place]).collect();
        check_counts("permutation", &there, &[1.0 / LENGTH as f64; LENGTH]);
    }
}
