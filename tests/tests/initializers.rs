//! Initializers in both kinds of module: the named ones by value, closures too, through wrappers and files.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use bridge_tests::device;
use candle_bridge::functional::{Dense, FunctionalModule};
use candle_bridge::graph::{Rngs, state};
use candle_bridge::random::{self, Initializer, key};
use candle_bridge::stateful::{Linear, LinearConfig};
use candle_bridge::train::{load, save};
use candle_bridge::vars::Result;
use candle_bridge::wrappers::{ToStateful, reinitialize};
use candle_core::{DType, Device, Shape, Tensor};

fn x() -> Tensor {
    Tensor::ones((2, 6), DType::F32, &device()).unwrap()
}

fn diagonal(_: random::Key, shape: &Shape, dtype: DType, device: &Device) -> random::Result<Tensor> {
    let (rows, columns) = shape.dims2()?;
    let ones = Tensor::eye(rows.max(columns), dtype, device)?;
    Ok(ones.narrow(0, 0, rows)?.narrow(1, 0, columns)?.contiguous()?)
}

/// The kernels that a module of each kind makes with an initializer, and what it makes itself of the same key.
fn check(initializer: &Initializer) -> Result<()> {
    let values = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let shape = (6, 4);
    let config = LinearConfig { kernel_init: initializer.into(), ..LinearConfig::default() };
    let linear = Linear::with_config(6, 4, &config, &Rngs::new(0).with_device(&device()))?;
    let expected = initializer.init(key(0).fold_in(0), shape, DType::F32, &device())?;
    assert_eq!(values(linear.kernel.value()?), values(expected), "{initializer:?}");

    let dense = Dense::new(4).kernel_init(initializer.clone());
    let variables = dense.init(key(0), &x())?;
    let drawn = candle_bridge::functional::ScopeRngs::new(key(0)).make_rng("params")?;
    let expected = initializer.init(drawn, shape, DType::F32, &device())?;
    assert_eq!(
        values(variables.get("params", "kernel")?.tensor()?.clone()),
        values(expected),
        "{initializer:?}"
    );
    Ok(())
}

#[test]
fn every_initializer_serves_both_kinds_of_module() -> Result<()> {
    for initializer in [
        Initializer::Zeros,
        Initializer::Ones,
        Initializer::Constant(0.5),
        Initializer::normal(0.1),
        Initializer::uniform(0.1),
        Initializer::truncated_normal(0.1),
        Initializer::lecun_normal(),
        Initializer::lecun_uniform(),
        Initializer::glorot_normal(),
        Initializer::glorot_uniform(),
        Initializer::he_normal(),
        Initializer::he_uniform(),
        Initializer::embedding(),
        Initializer::orthogonal(),
        Initializer::normal(0.1).under_jit(),
        Initializer::from_fn(diagonal),
    ] {
        check(&initializer)?;
    }
    Ok(())
}

#[test]
fn a_closure_is_absent_after_a_file_and_says_so_when_it_is_needed() -> Result<()> {
    let dense = || Dense::new(4).kernel_init(Initializer::from_fn(diagonal));
    let model = ToStateful::new(dense(), key(0))?.lazy_init(&x())?;
    let folder = std::env::temp_dir().join(format!("closure-{}.safetensors", std::process::id()));
    save(&folder, &model)?;
    let loaded: ToStateful<Dense> = load(&folder, &device())?;
    std::fs::remove_file(&folder).unwrap();
    // What was initialised needs no initializer.
    assert!(state(&loaded)?.identical(&state(&model)?)?);
    let outputs = [&loaded, &model].map(|model| model.call(&x()).unwrap().to_vec2::<f32>().unwrap());
    assert_eq!(outputs[0], outputs[1]);
    let error = reinitialize(&loaded, |model| model.call(&x())).unwrap_err().to_string();
    assert!(error.contains("diagonal` is a closure, which a file does not hold: set it again"), "{error}");
    Ok(())
}
