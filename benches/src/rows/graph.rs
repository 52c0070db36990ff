//! The graph engine, in nanoseconds a leaf. What a row makes is dropped inside it.

use std::hint::black_box;

use candle_bridge::graph::{Field, Rngs, StatefulModule};
use candle_bridge::graph::{clone, iter_graph, merge, split, update};
use candle_bridge::stateful::Linear;

use crate::harness::{Entry, Outcome, Routine, Row, Time};

#[derive(StatefulModule)]
struct Mlp {
    input: Linear,
    hidden: Vec<Linear>,
    output: Linear,
}

fn layers(count: usize) -> candle_bridge::Result<Vec<Linear>> {
    let rngs = Rngs::new(0);
    (0..count).map(|_| Linear::new(8, 8, &rngs)).collect()
}

/// 100 layers, 200 leaves.
fn mlp100() -> candle_bridge::Result<Mlp> {
    let rngs = Rngs::new(0);
    Ok(Mlp { input: Linear::new(8, 8, &rngs)?, hidden: layers(98)?, output: Linear::new(8, 8, &rngs)? })
}

/// 1,000 layers, 2,000 leaves.
fn list1000() -> candle_bridge::Result<Vec<Linear>> {
    layers(1000)
}

fn routine<M: Field>(operation: &str, model: M) -> candle_bridge::Result<Routine> {
    let (graphdef, state) = split(&model)?;
    Ok(match operation {
        "split" => Box::new(move || {
            black_box(split(&model)?);
            Ok(())
        }),
        "merge" => Box::new(move || {
            black_box(merge(&graphdef, &state)?);
            Ok(())
        }),
        "update" => Box::new(move || Ok(update(&model, black_box(&state))?)),
        "clone" => Box::new(move || {
            black_box(clone(&model)?);
            Ok(())
        }),
        _ => Box::new(move || {
            let mut met = 0usize;
            iter_graph(&model, |_, node| {
                black_box(node);
                met += 1;
                Ok(())
            })?;
            black_box(met);
            Ok(())
        }),
    })
}

pub(crate) fn rows() -> Vec<Entry> {
    let row = |leaves: usize, routine: candle_bridge::Result<Routine>| -> Outcome<Row> {
        Ok(Row::new(Time::Nanoseconds, routine?).per(leaves, "leaf"))
    };
    ["split", "merge", "update", "clone", "visit"]
        .into_iter()
        .flat_map(|operation| {
            [
                Entry::new(format!("graph/{operation}/mlp100"), move || {
                    row(200, mlp100().and_then(|model| routine(operation, model)))
                }),
                Entry::new(format!("graph/{operation}/list1000"), move || {
                    row(2000, list1000().and_then(|model| routine(operation, model)))
                }),
            ]
        })
        .collect()
}
