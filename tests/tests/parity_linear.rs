//! `Linear` and `Dense` against Flax's: initial weights to the bit, outputs closely.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use bridge_tests::device;
use bridge_tests::golden::{Entry, Seeded, assert_exact, assert_groups, check, items, key_of, open, text};
use candle_bridge::functional::{Call, Child, Dense, FunctionalModule, Scope};
use candle_bridge::graph::Rngs;
use candle_bridge::random::{key, normal};
use candle_bridge::stateful::Linear;
use candle_bridge::vars::{Name, Path, PathKey, Result, Variables};
use candle_core::{DType, Tensor};

#[test]
fn every_entry_has_a_test() {
    assert_groups("linear", &["input", "default", "separate_streams"]);
    assert_groups("dense", &["input", "top", "nested"]);
}

#[test]
fn inputs_are_drawn_as_by_jax() -> Result<()> {
    for file in ["linear", "dense"] {
        check(file, &["input"], |golden| {
            golden.compare("input", &normal(key(golden.seed + 100), (1, 32), DType::F32, &device())?);
            Ok(())
        })?;
    }
    Ok(())
}

fn check_linear(streams: &str, rngs: impl Fn(i64) -> Rngs) -> Result<()> {
    check("linear", &[streams], |golden| {
        let linear = Linear::new(32, 64, &rngs(golden.seed).with_device(&device()))?;
        golden.compare(&format!("{streams}/kernel"), &linear.kernel.value()?);
        let bias = linear.bias.as_ref().map(|bias| bias.value()).transpose()?;
        golden.compare(&format!("{streams}/bias"), &bias.unwrap_or_else(|| panic!("a bias")));
        let x = golden.entry("input").tensor(&device())?;
        golden.compare(&format!("{streams}/output"), &linear.forward(&x)?);
        Ok(())
    })
}

#[test]
fn kernel_bias_and_output_of_linear_with_the_default_stream() -> Result<()> {
    check_linear("default", Rngs::new)
}

#[test]
fn kernel_bias_and_output_of_linear_with_separate_streams() -> Result<()> {
    check_linear("separate_streams", |seed| Rngs::from_streams([("params", seed), ("dropout", seed + 1)]))
}

#[test]
fn kernels_of_linear_after_other_layers() -> Result<()> {
    const LATER: [&str; 4] = ["Conv", "Embed", "LinearGeneral", "MultiHeadAttention"];
    let file = open("jax/nnx_rngs");
    let mut compared = 0;
    for case in items(&file["values"]) {
        let name = text(&case["name"]);
        let rngs = |stream| Rngs::from_streams([(stream, key_of(&case["root"]))]).with_device(&device());
        let kernel = match name {
            "Linear(3,4), Rngs(params=0)" => Linear::new(3, 4, &rngs("params"))?.kernel,
            "2nd Linear(4,2) after Linear(3,4), Rngs(0)" => {
                let rngs = rngs("default");
                Linear::new(3, 4, &rngs)?;
                Linear::new(4, 2, &rngs)?.kernel
            }
            later if LATER.iter().any(|layer| later.starts_with(layer)) => continue,
            unknown => panic!("no test of {unknown}"),
        };
        assert_exact(&kernel.value()?, &Entry::read(name, &case["out"]));
        compared += 1;
    }
    assert_eq!(compared, 2);
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
struct Inner;

impl FunctionalModule for Inner {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call(&Dense::new(24), x)?;
        scope.call(&Dense::new(16), &x)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Outer;

impl FunctionalModule for Outer {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call(&Inner, x)?;
        scope.call(&Inner, &x)
    }
}

fn compare_variables(golden: &Seeded, group: &str, variables: &Variables) -> Result<()> {
    for (path, leaf) in variables.iter() {
        let path: Vec<String> = path.keys().iter().map(PathKey::to_string).collect();
        golden.compare(&format!("{group}/{}", path.join("/")), leaf.tensor()?);
    }
    Ok(())
}

fn check_dense(group: &str, module: &impl FunctionalModule<Output = Tensor>) -> Result<()> {
    check("dense", &[group], |golden| {
        let x = golden.entry("input").tensor(&device())?;
        let (y, variables) = module.init_with_output(key(golden.seed), &x)?;
        compare_variables(golden, group, &variables)?;
        golden.compare(&format!("{group}/output"), &y);
        Ok(())
    })
}

#[test]
fn kernel_bias_and_output_of_dense_at_the_top() -> Result<()> {
    check_dense("top", &Dense::new(64))
}

#[test]
fn names_kernels_biases_and_output_of_dense_two_modules_deep() -> Result<()> {
    check_dense("nested", &Outer)
}

/// Children get their names in the order in which they are constructed, the last layer's first.
#[derive(Clone, Debug, PartialEq)]
struct MLP1;

impl FunctionalModule for MLP1 {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let (last, first) = (scope.child(Dense::new(2))?, scope.child(Dense::new(4))?);
        last.call(&candle_bridge::ops::relu(&first.call(x)?)?)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Block;

impl FunctionalModule for Block {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let (mlp, pre) = (scope.child(MLP1)?, scope.child_named("pre", Dense::new(3))?);
        mlp.call(&pre.call(x)?)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Net;

impl FunctionalModule for Net {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let block = |name| -> Result<Child<Block>> { scope.child_named(Name::from(name), Block) };
        let (first, second) = (block("blocks_0")?, block("blocks_1")?);
        let head = scope.child_named("head", Dense::new(2))?;
        head.call(&second.call(&first.call(x)?)?)
    }
}

/// Flax's `Sequential([Dense(3), relu, Dense(2)])`.
fn sequential(scope: &Scope, x: &Tensor) -> Result<Tensor> {
    let x = candle_bridge::ops::relu(&scope.call_named("layers_0", &Dense::new(3), x)?)?;
    scope.call_named("layers_2", &Dense::new(2), &x)
}

#[test]
fn kernels_of_dense_in_nested_and_named_modules() -> Result<()> {
    const LATER: [&str; 5] = [
        "Conv(3,(2,2))",
        "Embed(5,3)",
        "DenseGeneral((2,2),axis=(-2,-1))",
        "MultiHeadAttention(2)",
        "LSTMCell(3).ig",
    ];
    let file = open("jax/linen_rngs");
    let x = Tensor::ones((1, 3), DType::F32, &device())?;
    let mut compared = 0;
    for case in items(&file["values"]) {
        let name = text(&case["name"]);
        let call = Call::new().keys(key_of(&case["root"]));
        let (_, variables) = match name {
            "Dense(4) alone" => call.init(|scope| Dense::new(4).call(scope, &x))?,
            "MLP" => call.init(|scope| MLP1.call(scope, &x))?,
            "Net" => call.init(|scope| Net.call(scope, &x))?,
            "Sequential([Dense(3),relu,Dense(2)])" | "Sequential" => {
                call.init(|scope| sequential(scope, &x))?
            }
            later if LATER.contains(&later) => continue,
            unknown => panic!("no test of {unknown}"),
        };
        let path: Path = items(&case["path"]).iter().map(|name| PathKey::from(text(name))).collect();
        let kernel = variables.get("params", path.join("kernel"))?;
        assert_exact(kernel.tensor()?, &Entry::read(format!("{name} at {path}"), &case["out"]));
        compared += 1;
    }
    assert_eq!(compared, 13);
    Ok(())
}
