//! The graph engine, in nanoseconds a leaf. What a row makes is dropped inside it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;

use candle_bridge::graph::{Field, Rngs, StatefulModule, iter_variables};
use candle_bridge::graph::{clone, merge, split, split_by, state, update};
use candle_bridge::stateful::Linear;
use candle_bridge::vars::{Filter, Param};
use candle_core::{DType, Device, Tensor};

use crate::harness::{Entry, Outcome, Routine, Row, Time};
use crate::peer::Peers;

const SIZE: usize = 8;

#[derive(StatefulModule)]
struct Mlp {
    input: Linear,
    hidden: Vec<Linear>,
    output: Linear,
}

#[derive(StatefulModule)]
struct Norm {
    scale: Param,
    bias: Param,
}

#[derive(StatefulModule)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

#[derive(StatefulModule)]
struct Block {
    attention: Attention,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    mlp_norm: Norm,
}

#[derive(StatefulModule)]
struct Transformer {
    embedding: Param,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

fn linear() -> candle_bridge::Result<Linear> {
    Linear::new(SIZE, SIZE, &Rngs::new(0))
}

fn zeros(shape: &[usize]) -> candle_bridge::Result<Param> {
    Ok(Param::new(Tensor::zeros(shape, DType::F32, &Device::Cpu)?))
}

fn norm() -> candle_bridge::Result<Norm> {
    Ok(Norm { scale: zeros(&[SIZE])?, bias: zeros(&[SIZE])? })
}

fn block() -> candle_bridge::Result<Block> {
    let attention = Attention { query: linear()?, key: linear()?, value: linear()?, out: linear()? };
    Ok(Block { attention, attention_norm: norm()?, up: linear()?, down: linear()?, mlp_norm: norm()? })
}

fn layers(count: usize) -> candle_bridge::Result<Vec<Linear>> {
    (0..count).map(|_| linear()).collect()
}

/// 100 layers, 200 leaves.
fn mlp100() -> candle_bridge::Result<Mlp> {
    Ok(Mlp { input: linear()?, hidden: layers(98)?, output: linear()? })
}

/// 12 blocks, 197 leaves.
fn transformer12() -> candle_bridge::Result<Transformer> {
    let blocks = (0..12).map(|_| block()).collect::<candle_bridge::Result<_>>()?;
    Ok(Transformer { embedding: zeros(&[SIZE, SIZE])?, blocks, norm: norm()?, head: linear()? })
}

fn routine<M: Field>(operation: &str, model: M) -> candle_bridge::Result<Routine> {
    let (graphdef, old) = split(&model)?;
    Ok(match operation {
        "split" => Box::new(move || {
            black_box(split(&model)?);
            Ok(())
        }),
        "split_filters3" => {
            let biases = Filter::of::<Param>() & Filter::path_contains("bias");
            Box::new(move || {
                let filters = [biases.clone(), Filter::of::<Param>(), Filter::Everything];
                black_box(split_by(&model, filters)?);
                Ok(())
            })
        }
        "merge" => Box::new(move || {
            black_box(merge(&graphdef, &old)?);
            Ok(())
        }),
        "state" => Box::new(move || {
            black_box(state(&model)?);
            Ok(())
        }),
        "update" => {
            // In turn, so that each call changes every variable.
            let new = old.map(|_, leaf| Ok(leaf.with_value(leaf.tensor()?.ones_like()?)))?;
            let mut turn = false;
            Box::new(move || {
                turn = !turn;
                Ok(update(&model, if turn { &new } else { &old })?)
            })
        }
        "clone" => Box::new(move || {
            black_box(clone(&model)?);
            Ok(())
        }),
        "graphdef_hash" => Box::new(move || {
            let mut hasher = DefaultHasher::new();
            graphdef.hash(&mut hasher);
            black_box(hasher.finish());
            Ok(())
        }),
        _ => Box::new(move || {
            let mut met = 0usize;
            iter_variables(&model, |variable| {
                black_box(variable);
                met += 1;
                Ok(())
            })?;
            black_box(met);
            Ok(())
        }),
    })
}

/// What programs without a module system write: each layer puts its tensors into a map under names.
trait Named {
    fn collect(&self, prefix: &str, map: &mut BTreeMap<String, Tensor>) -> candle_bridge::Result<()>;
}

impl Named for Param {
    fn collect(&self, prefix: &str, map: &mut BTreeMap<String, Tensor>) -> candle_bridge::Result<()> {
        map.insert(prefix.to_owned(), self.value()?);
        Ok(())
    }
}
impl<T: Named> Named for Option<T> {
    fn collect(&self, prefix: &str, map: &mut BTreeMap<String, Tensor>) -> candle_bridge::Result<()> {
        self.iter().try_for_each(|part| part.collect(prefix, map))
    }
}
impl<T: Named> Named for Vec<T> {
    fn collect(&self, prefix: &str, map: &mut BTreeMap<String, Tensor>) -> candle_bridge::Result<()> {
        let mut items = self.iter().enumerate();
        items.try_for_each(|(index, item)| item.collect(&format!("{prefix}.{index}"), map))
    }
}
macro_rules! named {
    ($($module:ident { $($field:ident),* })*) => {$(
        impl Named for $module {
            fn collect(&self, prefix: &str, map: &mut BTreeMap<String, Tensor>) -> candle_bridge::Result<()> {
                $(self.$field.collect(&format!("{prefix}.{}", stringify!($field)), map)?;)*
                Ok(())
            }
        }
    )*};
}
named! {
    Linear { kernel, bias }
    Norm { scale, bias }
    Mlp { input, hidden, output }
    Attention { query, key, value, out }
    Block { attention, attention_norm, up, down, mlp_norm }
    Transformer { embedding, blocks, norm, head }
}

/// The routine of a map from names to tensors.
fn map_of_names<M: Named + 'static>(model: M) -> Routine {
    Box::new(move || {
        let mut map = BTreeMap::new();
        model.collect("model", &mut map)?;
        black_box(map);
        Ok(())
    })
}

fn row<M: Field + Named>(operation: &str, name: &str, model: M, peers: &Peers) -> Outcome<Row> {
    let leaves = state(&model)?.len();
    let map = if operation == "state" { Some(map_of_names(clone(&model)?)) } else { None };
    let mut row = Row::new(Time::Nanoseconds, routine(operation, model)?).per(leaves, "leaf");
    if let Some(map) = map {
        row = row.against("BTreeMap of names", map);
    }
    let burns = match operation {
        "clone" => Some("clone"),
        "visit" => Some("visit"),
        "split" => Some("into_record"),
        "merge" => Some("load_record"),
        _ => None,
    };
    if let Some(burns) = burns
        && let Some(burn) = peers.start_burn(burns, name)?
    {
        row = row.against_program(&format!("burn {burns}"), burn);
    }
    if let Some(flax) = peers.start_flax(operation, name)? {
        row = row.against_program("Flax", flax);
    }
    Ok(row)
}

pub(crate) fn rows(peers: &Peers) -> Vec<Entry> {
    let mut entries = Vec::new();
    for operation in
        ["split", "split_filters3", "merge", "state", "update", "clone", "visit", "graphdef_hash"]
    {
        let entry = |model: &str, build: fn(&str, &Peers) -> Outcome<Row>| {
            let peers = peers.clone();
            Entry::new(format!("graph/{operation}/{model}"), move || build(operation, &peers))
        };
        entries.extend([
            entry("mlp100", |operation, peers| row(operation, "mlp100", mlp100()?, peers)),
            entry("list1000", |operation, peers| row(operation, "list1000", layers(1000)?, peers)),
            entry("transformer12", |operation, peers| {
                row(operation, "transformer12", transformer12()?, peers)
            }),
            // Ten times as many leaves, to see that the cost of each stays.
            entry("list10000", |operation, _| {
                row(operation, "list10000", layers(10_000)?, &Peers::default())
            }),
        ]);
    }
    entries
}
