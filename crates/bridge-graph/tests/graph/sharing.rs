//! What stands in several places is stored once and stays shared.

use bridge_graph::{Shared, StatefulModule, clone, graphdef, merge, split, update};
use bridge_vars::{Leaf, Param, Variable};

use crate::support::{Scale, hash, param, read, round_trip, scalar, scale};

#[derive(StatefulModule)]
struct Model {
    blocks: Vec<Shared<Scale>>,
    head: Option<Shared<Scale>>,
    tied: (Param, Variable),
}

/// The second block is the head, and its factor stands twice more.
fn model() -> Model {
    let [first, second] = [1., 2.].map(|factor| Shared::new(scale(factor)));
    let tied = (second.factor.clone(), (*second.factor).clone());
    Model { blocks: vec![first, second.clone()], head: Some(second), tied }
}

fn assert_shared(model: &Model) {
    let head = model.head.as_ref().unwrap();
    assert!(head.is_same(&model.blocks[1]) && !head.is_same(&model.blocks[0]));
    assert!(model.tied.0.is_same(&head.factor) && model.tied.1.is_same(&head.factor));
    assert!(!model.tied.0.is_same(&model.blocks[0].factor));
}

#[test]
fn survives_split_merge_and_clone() {
    let original = model();
    let (graphdef, state) = split(&original).unwrap();
    // The first path in sorted order has it.
    let merged = round_trip(&original, &["blocks.0.factor", "blocks.1.factor"]);
    assert_shared(&merged);
    let cloned = clone(&merged).unwrap();
    assert_shared(&cloned);
    merged.tied.1.set(scalar(7.)).unwrap();
    assert_eq!(read(&merged.blocks[1].factor), 7.);
    assert_eq!((read(&cloned.tied.0), read(&original.tied.0)), (2., 2.));
    update(&original, &bridge_graph::state(&merged).unwrap()).unwrap();
    assert_eq!(read(&original.tied.0), 7.);
    assert_shared(&original);
    assert_eq!(read(&merge(&graphdef, &state).unwrap().tied.0), 2.);
}

#[test]
fn a_clone_has_variables_and_parts_of_its_own() {
    let original = model();
    let cloned = clone(&original).unwrap();
    assert!(!cloned.tied.0.is_same(&original.tied.0));
    assert!(!cloned.blocks[0].is_same(&original.blocks[0]));
    cloned.blocks[0].factor.set(scalar(9.)).unwrap();
    assert_eq!(read(&original.blocks[0].factor), 1.);
}

#[test]
fn the_order_of_fields_says_nothing() {
    #[derive(StatefulModule)]
    struct Backwards {
        z: Param,
        a: Vec<Param>,
    }
    let z = param(1.);
    round_trip(&Backwards { a: vec![param(2.), z.clone()], z }, &["a.0", "a.1"]);
}

#[test]
fn is_part_of_the_description() {
    let of = |tied: bool| {
        let first = param(1.);
        let second = if tied { first.clone() } else { param(1.) };
        graphdef(&vec![first, second]).unwrap()
    };
    assert_eq!(of(true), of(true));
    assert_ne!(of(true), of(false));
    assert_ne!(hash(&of(true)), hash(&of(false)));
    // Which one is shared counts too.
    let which = |index: usize| {
        let params = [param(1.), param(2.)];
        let again = params[index].clone();
        let [first, second] = params;
        graphdef(&(first, second, again)).unwrap()
    };
    assert_ne!(which(0), which(1));
    // One part in two places is not two parts of shared variables.
    let part = Shared::new(scale(1.));
    let same = vec![part.clone(), part.clone()];
    let twin = Shared::new(Scale { factor: part.factor.clone(), power: 2 });
    assert_ne!(graphdef(&same).unwrap(), graphdef(&vec![part, twin]).unwrap());
}

#[test]
fn a_handle_outside_the_module_changes_nothing() {
    let module = vec![param(1.), param(2.)];
    let alone = graphdef(&module).unwrap();
    let _held = module.clone();
    assert_eq!(graphdef(&module).unwrap(), alone);
}

#[test]
fn a_shared_variable_keeps_its_metadata_and_type() {
    let param = param(1.);
    param.set_metadata(bridge_vars::Metadata::from_iter([("axis", "data")]));
    let merged = round_trip(&vec![param.clone(), param], &["0"]);
    let leaf: Leaf = merged[1].leaf().unwrap();
    assert_eq!(leaf.metadata.get("axis").unwrap(), "data");
}

#[test]
fn parts_inside_shared_parts() {
    type Deep = Shared<Vec<Shared<Scale>>>;
    let inner = Shared::new(scale(1.));
    let outer: Deep = Shared::new(vec![inner.clone(), inner.clone()]);
    let merged = round_trip(&(outer.clone(), outer, inner), &["0.0.factor"]);
    assert!(merged.0.is_same(&merged.1));
    assert!(merged.0[0].is_same(&merged.2) && merged.0[1].is_same(&merged.2));
}

#[test]
fn a_variable_seen_as_another_type_is_an_error() {
    use bridge_vars::BatchStat;
    let (graphdef, state) = split(&param(1.)).unwrap();
    let other = bridge_graph::GraphDef::<BatchStat>::from_program(graphdef.program().clone());
    let error = merge(&other, &state).unwrap_err().to_string();
    assert_eq!(error, "the `GraphDef` has a variable Param, the type expects BatchStat");
    // A descendant is what its ancestor is.
    use bridge_vars::LoraParam;
    let (graphdef, state) = split(&LoraParam::new(scalar(1.))).unwrap();
    let as_param = bridge_graph::GraphDef::<Param>::from_program(graphdef.program().clone());
    assert_eq!(merge(&as_param, &state).unwrap().kind(), LoraParam::variable_type());
}
