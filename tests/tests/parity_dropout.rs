//! Both `Dropout`s against Flax's: which elements they keep, and their outputs to the bit.
#![forbid(unsafe_code)]

use bridge_tests::device;
use bridge_tests::golden::{
    Entry, Seeded, assert_exact, assert_groups, check, integer, items, key_of, number, open, text,
};
use candle_bridge::functional::{Call, Dropout as FunctionalDropout, FunctionalModule, Scope};
use candle_bridge::graph::Rngs;
use candle_bridge::random::key;
use candle_bridge::stateful::{Dropout, DropoutConfig};
use candle_bridge::vars::{Result, Variables};
use candle_core::{DType, Tensor};
use serde_json::Value as Json;

fn ones(shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::ones(shape, DType::F32, &device())?)
}

#[test]
fn every_entry_has_a_test() {
    assert_groups("dropout", &["linen", "nnx"]);
}

/// Compares which elements of a tensor of ones were kept.
fn compare_mask(golden: &Seeded, name: &str, y: &Tensor) -> Result<()> {
    golden.compare(name, &y.ne(0f32)?);
    Ok(())
}

#[test]
fn masks_of_both_calls_of_stateful_dropout() -> Result<()> {
    check("dropout", &["nnx"], |golden| {
        let dropout = Dropout::new(0.5, &Rngs::from_streams([("dropout", golden.seed)]))?;
        let x = ones(&[8, 16])?;
        compare_mask(golden, "nnx/call_1", &dropout.forward(&x)?)?;
        compare_mask(golden, "nnx/call_2", &dropout.forward(&x)?)
    })
}

fn dropping(rate: f64) -> FunctionalDropout {
    FunctionalDropout::new(rate).deterministic(false)
}

/// One dropout twice, and another.
#[derive(Clone, Debug, PartialEq)]
struct InnerDropout {
    other_rate: f64,
}

impl FunctionalModule for InnerDropout {
    type Output = [Tensor; 3];
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<[Tensor; 3]> {
        let dropout = scope.child(dropping(0.5))?;
        Ok([dropout.call(x)?, dropout.call(x)?, scope.call(&dropping(self.other_rate), x)?])
    }
}

#[test]
fn masks_of_functional_dropout_at_the_top_and_nested_called_twice_in_one_apply() -> Result<()> {
    check("dropout", &["linen"], |golden| {
        let (x, nothing) = (ones(&[8, 16])?, Variables::default());
        let call = Call::new().keys([("dropout", key(golden.seed))]);
        let (top, _) = call
            .clone()
            .apply(&nothing, |scope| Ok([dropping(0.5).call(scope, &x)?, dropping(0.5).call(scope, &x)?]))?;
        compare_mask(golden, "linen/top/call_1", &top[0])?;
        compare_mask(golden, "linen/top/call_2", &top[1])?;
        let (nested, _) = call.apply(&nothing, |scope| scope.call(&InnerDropout { other_rate: 0.5 }, &x))?;
        compare_mask(golden, "linen/InnerDropout_0/Dropout_0/call_1", &nested[0])?;
        compare_mask(golden, "linen/InnerDropout_0/Dropout_0/call_2", &nested[1])?;
        compare_mask(golden, "linen/InnerDropout_0/Dropout_1/call_1", &nested[2])
    })
}

fn broadcast_dims(case: &Json) -> Vec<isize> {
    let dims = case.get("broadcast_dims").map(items).unwrap_or_default();
    dims.iter().map(|dim| isize::try_from(integer(dim)).unwrap_or_default()).collect()
}

#[test]
fn outputs_of_functional_dropout_by_path_count_rate_and_broadcast_dims() -> Result<()> {
    let file = open("jax/linen_rngs");
    let mut compared = 0;
    for case in items(&file["dropout"]) {
        let expected = Entry::read(case["path"].to_string(), &case["out"]);
        let x = ones(expected.shape())?;
        let call = Call::new().keys([("dropout", key_of(&case["root"]))]);
        let nothing = Variables::default();
        let found = match items(&case["path"]).first().map(text) {
            None => {
                let dropout = dropping(number(&case["rate"])).broadcast_dims(broadcast_dims(case));
                call.apply(&nothing, |scope| dropout.call(scope, &x))?.0
            }
            Some(name) => {
                let all = InnerDropout { other_rate: 0.25 };
                let [first, second, other] = call.apply(&nothing, |scope| all.call(scope, &x))?.0;
                match (name, integer(&case["count"])) {
                    ("Dropout_0", 1) => first,
                    ("Dropout_0", 2) => second,
                    ("Dropout_1", 1) => other,
                    unknown => unreachable!("no test of {unknown:?}"),
                }
            }
        };
        assert_exact(&found, &expected);
        compared += 1;
    }
    assert_eq!(compared, 4);
    Ok(())
}

#[test]
fn outputs_of_stateful_dropout_with_own_fallback_and_broadcast_streams() -> Result<()> {
    let file = open("jax/nnx_rngs");
    let mut compared = 0;
    for case in items(&file["dropout"]) {
        let name = text(&case["name"]);
        // The stream that it forks is `dropout`, or `default` where there is none of that name.
        let stream = if name.starts_with("default fallback") { "default" } else { "dropout" };
        let rngs = Rngs::from_streams([("params", key(77)), (stream, key_of(&case["root"]))]);
        for _ in 0..integer(&case["fork_count"]) {
            rngs.draw(stream)?;
        }
        let config = DropoutConfig { broadcast_dims: broadcast_dims(case), ..DropoutConfig::default() };
        let dropout = Dropout::with_config(number(&case["rate"]), &config, &rngs)?;
        let drawn =
            candle_bridge::graph::state(&rngs)?.get(format!("{stream}.count").as_str())?.value.count()?;
        assert_eq!(i64::from(drawn), integer(&case["stream_after_ctor"]), "{name}");
        for call in items(&case["calls"]) {
            let expected = Entry::read(name, call);
            assert_exact(&dropout.forward(&ones(expected.shape())?)?, &expected);
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
    Ok(())
}

#[test]
fn outputs_of_stateful_dropout_with_a_key_given_at_the_call() -> Result<()> {
    let file = open("jax/nnx_rngs");
    let dropout = Dropout::new(0.5, &Rngs::new(0))?;
    let mut compared = 0;
    for case in items(&file["dropout_call_rngs"]) {
        let rngs = Rngs::from_streams([("dropout", key_of(&case["root"]))]);
        for call in items(&case["calls"]) {
            let expected = Entry::read(case["name"].to_string(), call);
            let found = dropout.forward_with_key(&ones(expected.shape())?, rngs.draw("dropout")?)?;
            assert_exact(&found, &expected);
            compared += 1;
        }
    }
    let case = &file["dropout_call_key"];
    let expected = Entry::read(case["name"].to_string(), &case["out"]);
    assert_exact(&dropout.forward_with_key(&ones(expected.shape())?, key_of(&case["key"]))?, &expected);
    assert_eq!(compared, 2);
    Ok(())
}
