//! Tables of modules and their variables.

use bridge_functional::{
    BatchNorm, Call, Dense, Dropout, FunctionalModule, Keys, Method, Mode, Scope, ScopeError, Sequential,
};
use bridge_graph::{Count, Summary, SummaryRow};
use bridge_ops::stand_in;
use bridge_random::key;
use bridge_vars::{Result, Value, Variables};
use candle_core::{DType, Shape, Tensor};

use crate::support::{Body, Counter, device, ones, param};

#[derive(Clone, Debug, PartialEq)]
struct Block {
    features: usize,
}

impl FunctionalModule for Block {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call_named("dense", &Dense::new(self.features).without_bias(), x)?;
        let x = scope.call_named("norm", &BatchNorm::new(), &x)?;
        let x = scope.call_named("dropout", &Dropout::new(0.5), &x)?;
        Ok(bridge_ops::relu(&x)?)
    }
    fn methods() -> Vec<(&'static str, Method<Self>)> {
        vec![("forward", Self::call)]
    }
}

/// Two blocks and a head; gives the sum of its logits beside them.
#[derive(Clone, Debug, PartialEq)]
struct Model;

impl FunctionalModule for Model {
    type Output = (Tensor, Vec<Tensor>);
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let x = scope.call_named("block1", &Block { features: 32 }, x)?;
        let x = scope.call_named("block2", &Block { features: 64 }, &x)?;
        scope.sow("intermediates", "hidden", &x)?;
        let logits = scope.call_named("head", &Dense::new(10), &x)?;
        Ok((logits.clone(), vec![x]))
    }
}

fn input(shape: impl Into<Shape>) -> Tensor {
    stand_in(shape, DType::F32, &device()).unwrap()
}

fn summary() -> Summary {
    Model.tabulate(&input((4, 28))).unwrap()
}

fn table(f: impl FnOnce(&Scope) -> Result<()>) -> Summary {
    Call::new().tabulate(f).unwrap()
}

/// Path, module and calls of each row.
fn outline(summary: &Summary) -> Vec<String> {
    let line = |row: &SummaryRow| format!("{} {} {}", row.path, row.module, row.calls);
    summary.rows().iter().map(line).collect()
}

#[test]
fn print_it() {
    println!("{}", summary());
    println!("{:60}", summary());
    println!("{:140}", summary());
    println!("{}", summary().to_markdown());
    println!("{}", summary().depth(1).to_json().unwrap());
    let t = table(|scope| { param(scope, "x")?; scope.call_named("a", &Dense::new(2), &input((1,2))).map(|_|()) });
    println!("{t}");
    let _ = (Keys::none(), Mode::Train, ScopeError::NameInUse{path: "a".into()}, Count::default(), key(0), Variables::default(), ones(&[1]), Counter, Body(|_,x| Ok(x.clone())), Sequential::new((Dense::new(1),)), Value::Absent);
}
