//! `iter_graph` meets everything once.

use std::collections::BTreeMap;

use bridge_graph::{
    GraphNode, RngStream, Shared, StatefulModule, eval, iter_children, iter_graph, train, variables,
};
use bridge_random::key;
use bridge_vars::Param;

use crate::support::{Scale, param, scalar, scale};

#[derive(StatefulModule)]
struct Model {
    layers: Vec<Shared<Scale>>,
    maps: BTreeMap<usize, Shared<Scale>>,
    stream: RngStream,
    tied: Param,
}

fn model() -> Model {
    let (first, second) = (Shared::new(scale(1.)), Shared::new(scale(2.)));
    let tied = second.factor.clone();
    Model {
        maps: [(10, first.clone()), (9, Shared::new(scale(3.)))].into(),
        layers: vec![second.clone(), second, first],
        stream: RngStream::new("dropout", key(0)),
        tied,
    }
}

#[test]
fn once_and_in_order() {
    let mut met = Vec::new();
    iter_graph(&model(), |path, node| {
        let what = match node {
            GraphNode::Module(module) => module.type_name().to_owned(),
            GraphNode::Variable(variable) => variable.kind().to_string(),
            GraphNode::Static(value) => format!("{:?}", value()),
            other => panic!("{other:?}"),
        };
        met.push(format!("{path}: {what}"));
        Ok(())
    })
    .unwrap();
    let expected = [
        ": Model",
        "layers.0: Scale",
        "layers.0.factor: Param",
        "layers.0.power: UInt(2)",
        "layers.2: Scale",
        "layers.2.factor: Param",
        "layers.2.power: UInt(2)",
        "maps.9: Scale",
        "maps.9.factor: Param",
        "maps.9.power: UInt(2)",
        "stream: RngStream",
        "stream.count: RngCount",
        "stream.key: RngKey",
    ];
    assert_eq!(met, expected);
}

#[test]
fn its_variables_are_the_paths_of_the_state() {
    let model = model();
    let state = bridge_graph::state(&model).unwrap();
    let met = variables(&model).unwrap();
    assert!(met.iter().map(|(path, _)| path.clone()).eq(state.iter().map(|(path, _)| path)));
}

#[test]
fn handles_held_elsewhere_hide_nothing() {
    let alone = model();
    let held: Vec<_> = variables(&alone).unwrap();
    assert_eq!(variables(&alone).unwrap().len(), held.len());
}

#[test]
fn an_error_stops_it() {
    let mut met = 0;
    let stopped = iter_graph(&model(), |path, _| {
        met += 1;
        match met {
            3 => Err(bridge_graph::GraphError::NothingToDifferentiate { filter: path.to_string() }.into()),
            _ => Ok(()),
        }
    });
    assert!(stopped.is_err());
    assert_eq!(met, 3);
}

#[test]
fn bare_tensors_are_met_in_each_place() {
    let tensor = scalar(1.);
    let mut met = 0;
    iter_graph(&[tensor.clone(), tensor], |_, node| {
        met += usize::from(matches!(node, GraphNode::Tensor(_)));
        Ok(())
    })
    .unwrap();
    assert_eq!(met, 2);
    assert!(variables(&scalar(1.)).unwrap().is_empty());
    assert_eq!(variables(&param(1.)).unwrap().len(), 1);
}

#[test]
fn modes_reach_everything() {
    #[derive(StatefulModule)]
    struct Modal {
        deterministic: bridge_graph::Flag,
        use_running_average: bridge_graph::Flag,
        other: bridge_graph::Flag,
    }
    let modal = || Modal {
        deterministic: bridge_graph::Flag::new(false),
        use_running_average: bridge_graph::Flag::new(false),
        other: bridge_graph::Flag::new(false),
    };
    let module = (Shared::new(modal()), vec![Some(Box::new(modal()))]);
    let flags =
        |module: &Modal| [module.deterministic.get(), module.use_running_average.get(), module.other.get()];
    eval(&module).unwrap();
    assert_eq!([flags(&module.0), flags(module.1[0].as_ref().unwrap())], [[true, true, false]; 2]);
    train(&module).unwrap();
    assert_eq!([flags(&module.0), flags(module.1[0].as_ref().unwrap())], [[false; 3]; 2]);
}

#[test]
fn a_child_that_stands_inside_of_an_earlier_one_too_is_a_child() {
    let shared = Shared::new(scale(1.));
    let model = (vec![(Wrapper { inner: shared.clone() }, 3u8)], shared.clone(), Some(shared));
    let mut children = vec![];
    iter_children(&model, |path, child| {
        children.push(format!("{path}: {}", child.type_name()));
        Ok(())
    })
    .unwrap();
    assert_eq!(children, ["0.0.0: Wrapper", "1: Scale"]);
}

#[derive(StatefulModule)]
struct Wrapper {
    inner: Shared<Scale>,
}
