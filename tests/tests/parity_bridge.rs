//! Models of modules wrapped in modules of the other kind, up to three levels deep, against Flax's bridge: initial variables,
//! random streams and dropout masks to the bit; outputs, statistics and gradients closely.
#![forbid(unsafe_code)]

use bridge_tests::device;
use bridge_tests::golden::{Seeded, assert_groups, check};
use candle_bridge::functional::{
    self, BatchNorm, Call, Child, Dense, Dropout, FunctionalModule, Keys, Scope,
};
use candle_bridge::graph::{self, Field, Mode, Rngs, StatefulModule, eval, state, train};
use candle_bridge::random::{key, normal};
use candle_bridge::stateful::{self, BatchNormConfig, Linear};
use candle_bridge::vars::{
    BatchStat, Filter, Leaf, Param, Path, PathKey, Result, RngState, Value, Variables,
};
use candle_bridge::wrappers::{ToFunctional, ToStateful, lazy_init, to_functional};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// What a module gives: its output, and what its dropouts gave, in the order of their calls.
type Output = (Tensor, Vec<Tensor>);

const MOMENTUM: f64 = 0.9;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Block;

impl FunctionalModule for Block {
    type Output = Output;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Output> {
        let x = scope.call(&Dense::new(6), x)?;
        let x = scope.call(&BatchNorm::new().momentum(MOMENTUM), &x)?;
        let dropped = scope.call(&Dropout::new(0.5), &x)?;
        let y = scope.call(&Dense::new(4), &(x + &dropped)?.tanh()?)?;
        Ok((y, vec![dropped]))
    }
}

#[derive(StatefulModule)]
struct StatefulBlock {
    linear: Linear,
    noise: stateful::Dropout,
    norm: stateful::BatchNorm,
    // Called after `noise`, and before it in sorted order, in which streams are reseeded.
    dropout: stateful::Dropout,
    output: Linear,
}

impl StatefulBlock {
    fn new(inputs: usize, rngs: &Rngs) -> Result<Self> {
        let norm = BatchNormConfig { momentum: MOMENTUM, ..BatchNormConfig::default() };
        Ok(Self {
            linear: Linear::new(inputs, 6, rngs)?,
            noise: stateful::Dropout::new(0.5, rngs)?,
            norm: stateful::BatchNorm::with_config(6, &norm, rngs)?,
            dropout: stateful::Dropout::new(0.5, rngs)?,
            output: Linear::new(6, 4, rngs)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Output> {
        let x = self.linear.forward(x)?;
        let noise = self.noise.forward(&x)?;
        let x = self.norm.forward(&(x + &noise)?)?;
        let dropped = self.dropout.forward(&x)?;
        Ok((self.output.forward(&(x + &dropped)?.tanh()?)?, vec![noise, dropped]))
    }

    fn functional(inputs: usize) -> ToFunctional<Self> {
        to_functional(move |rngs| Self::new(inputs, rngs))
    }
}

#[derive(StatefulModule)]
struct MixedStateful {
    linear: Linear,
    block: ToStateful<Block>,
    dropout: stateful::Dropout,
}

impl MixedStateful {
    fn new(rngs: &Rngs) -> Result<Self> {
        Ok(Self {
            linear: Linear::new(5, 7, rngs)?,
            block: ToStateful::new(Block, rngs)?.mutable("batch_stats"),
            dropout: stateful::Dropout::new(0.5, rngs)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Output> {
        let (x, mut dropped) = self.block.call(&self.linear.forward(x)?)?;
        let last = self.dropout.forward(&x)?;
        let y = (x + &last)?;
        dropped.push(last);
        Ok((y, dropped))
    }
}

/// Functional layers around a wrapped stateful module.
fn around<M: Field>(
    scope: &Scope,
    x: &Tensor,
    inner: &Child<ToFunctional<M>>,
    forward: impl Fn(&M, &Tensor) -> Result<Output>,
) -> Result<Output> {
    let x = scope.call(&Dense::new(7), x)?;
    let (x, mut dropped) =
        inner.with(|inner, scope| inner.with_device(scope, x.device(), |module| forward(module, &x)))?;
    let last = scope.call(&Dropout::new(0.5), &x)?;
    let y = scope.call(&Dense::new(3), &(x + &last)?)?;
    dropped.push(last);
    Ok((y, dropped))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MixedFunctional;

impl FunctionalModule for MixedFunctional {
    type Output = Output;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Output> {
        let block = scope.child_named("block", StatefulBlock::functional(7))?;
        around(scope, x, &block, StatefulBlock::forward)
    }
}

#[derive(StatefulModule)]
struct Middle {
    linear: Linear,
    block: ToStateful<Block>,
    dropout: stateful::Dropout,
}

impl Middle {
    fn new(rngs: &Rngs) -> Result<Self> {
        Ok(Self {
            linear: Linear::new(7, 5, rngs)?,
            // Flax needs a sample here.
            block: ToStateful::new(Block, rngs)?,
            dropout: stateful::Dropout::new(0.5, rngs)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Output> {
        let (x, mut dropped) = self.block.call(&self.linear.forward(x)?)?;
        let last = self.dropout.forward(&x)?;
        let y = (x + &last)?;
        dropped.push(last);
        Ok((y, dropped))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Outer;

impl FunctionalModule for Outer {
    type Output = Output;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Output> {
        let middle = scope.child_named("middle", to_functional(Middle::new))?;
        around(scope, x, &middle, Middle::forward)
    }
}

/// Compares each variable with the entry of its collection and path; a key by its two words.
fn compare(golden: &Seeded, name: &str, variables: &Variables) -> Result<()> {
    variables.iter().try_for_each(|(path, leaf): (Path, &Leaf)| {
        let step = |key: &PathKey| match key.to_string().as_str() {
            "<rngs>" => "to_nnx__rngs".to_owned(),
            other => other.to_owned(),
        };
        let steps: Vec<String> = path.keys().iter().map(step).collect();
        let found = match &leaf.value {
            Value::Key(key) => Tensor::new(&key.words(), &device())?,
            Value::Count(count) => Tensor::new(*count, &device())?,
            value => value.tensor()?.clone(),
        };
        golden.compare(&format!("{name}/{}", steps.join("/")), &found);
        Ok(())
    })
}

/// Compares which elements the dropouts kept; none of what they took was zero.
fn compare_masks(golden: &Seeded, name: &str, dropped: &[Tensor]) -> Result<()> {
    for (index, dropped) in dropped.iter().enumerate() {
        golden.compare(&format!("{name}/{index}"), &dropped.ne(0f32)?);
    }
    Ok(())
}

fn loss(y: &Tensor) -> Result<Tensor> {
    Ok(y.sqr()?.mean_all()?)
}

/// A model whose outermost module is functional.
fn check_functional(model: &str, call: impl Fn(&Scope, &Tensor) -> Result<Output>) -> Result<()> {
    check("bridged", &[model], |golden| {
        let x = golden.entry("input").tensor(&device())?;
        let keys: Keys = [("params", key(golden.seed)), ("dropout", key(golden.seed + 1))].into();
        let init = Call::new().keys(keys).mode(Mode::Train);
        let (_, variables) = init.init(|scope| call(scope, &x))?;
        let without_graphs = variables.filter_collections(|collection| collection != "nnx");
        compare(golden, &format!("{model}/initial"), &without_graphs)?;

        let evaluation = Call::new().mode(Mode::Eval);
        let ((y, _), _) = evaluation.apply(&variables, |scope| call(scope, &x))?;
        golden.compare(&format!("{model}/eval_output"), &y);

        let train = |variables: &Variables, seed| {
            let training = Call::new().keys([("dropout", key(seed))]).mode(Mode::Train);
            training.mutable("batch_stats").apply(variables, |scope| call(scope, &x))
        };
        let (_, (y, dropped, updated), gradients) =
            functional::value_and_grad_with(&variables, Filter::of::<Param>(), |variables| {
                let ((y, dropped), updated) = train(variables, golden.seed + 7)?;
                Ok((loss(&y)?, (y, dropped, updated)))
            })?;
        golden.compare(&format!("{model}/train_output"), &y);
        compare_masks(golden, &format!("{model}/mask"), &dropped)?;
        compare(golden, &format!("{model}/updated"), &updated)?;
        compare(golden, &format!("{model}/gradient"), &gradients)?;
        let ((_, dropped), _) = train(&variables, golden.seed + 8)?;
        compare_masks(golden, &format!("{model}/second_mask"), &dropped)
    })
}

/// A model whose outermost module is stateful; what is functional inside is initialised.
fn check_stateful<M: StatefulModule>(
    model: &str,
    make: impl Fn(i64, &Tensor) -> Result<M>,
    call: impl Fn(&M, &Tensor) -> Result<Output>,
) -> Result<()> {
    check("bridged", &[model], |golden| {
        let x = golden.entry("input").tensor(&device())?;
        let module = make(golden.seed, &x)?;
        let variables = |filter: Filter| -> Result<Variables> {
            let variables = state(&module)?.filter(filter).to_variables();
            Ok(variables.filter_collections(|collection| collection != "nnx"))
        };
        compare(golden, &format!("{model}/initial"), &variables(Filter::Everything)?)?;

        eval(&module)?;
        golden.compare(&format!("{model}/eval_output"), &call(&module, &x)?.0);
        train(&module)?;
        let (_, (y, dropped), gradients) =
            graph::value_and_grad_with(&module, Filter::of::<Param>(), |module| {
                let (y, dropped) = call(module, &x)?;
                Ok((loss(&y)?, (y, dropped)))
            })?;
        golden.compare(&format!("{model}/train_output"), &y);
        compare_masks(golden, &format!("{model}/mask"), &dropped)?;
        compare(golden, &format!("{model}/updated"), &variables(Filter::of::<BatchStat>())?)?;
        compare(golden, &format!("{model}/gradient"), &gradients.to_variables())?;
        compare_masks(golden, &format!("{model}/second_mask"), &call(&module, &x)?.1)?;
        compare(golden, &format!("{model}/streams"), &variables(Filter::of::<RngState>())?)
    })
}

#[test]
fn every_entry_has_a_test() {
    let groups = [
        "input",
        "functional_in_stateful",
        "stateful_in_functional",
        "mixed_stateful",
        "mixed_functional",
        "functional_in_stateful_in_functional",
        "stateful_in_functional_in_stateful",
    ];
    assert_groups("bridged", &groups);
}

#[test]
fn inputs_are_drawn_as_by_jax() -> Result<()> {
    check("bridged", &["input"], |golden| {
        golden.compare("input", &normal(key(golden.seed + 100), (8, 5), DType::F32, &device())?);
        Ok(())
    })
}

#[test]
fn functional_in_stateful() -> Result<()> {
    let make = |seed, x: &Tensor| {
        let rngs = Rngs::new(seed).with_device(&device());
        ToStateful::new(Block, &rngs)?.mutable("batch_stats").lazy_init(x)
    };
    check_stateful("functional_in_stateful", make, ToStateful::call)
}

#[test]
fn stateful_in_functional() -> Result<()> {
    let block = StatefulBlock::functional(5);
    check_functional("stateful_in_functional", |scope, x| {
        block.with_device(scope, x.device(), |block| block.forward(x))
    })
}

#[test]
fn both_in_stateful() -> Result<()> {
    let make = |seed, x: &Tensor| {
        let module = MixedStateful::new(&Rngs::new(seed).with_device(&device()))?;
        lazy_init(&module, |module| module.forward(x))?;
        Ok(module)
    };
    check_stateful("mixed_stateful", make, MixedStateful::forward)
}

#[test]
fn both_in_functional() -> Result<()> {
    check_functional("mixed_functional", |scope, x| scope.run(&MixedFunctional, x))
}

#[test]
fn functional_in_stateful_in_functional() -> Result<()> {
    check_functional("functional_in_stateful_in_functional", |scope, x| scope.run(&Outer, x))
}

#[test]
fn stateful_in_functional_in_stateful() -> Result<()> {
    let make = |seed, x: &Tensor| {
        let rngs = Rngs::from_streams([("params", seed), ("dropout", seed + 1)]).with_device(&device());
        ToStateful::new(MixedFunctional, &rngs)?.mutable("batch_stats").lazy_init(x)
    };
    check_stateful("stateful_in_functional_in_stateful", make, ToStateful::call)
}
