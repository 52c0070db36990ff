//! References back, and what happens to those that lead nowhere.

use bridge_graph::{
    Field, GraphDef, GraphError, Policy, Program, Shared, StatefulModule, WeakShared, find_duplicates,
    graphdef, merge, split, state, update_with, variable_at,
};
use bridge_vars::{Param, State};
use serde_json::json;

use crate::support::{assert_error, device, param, read, scalar};

#[derive(Debug, StatefulModule)]
struct Person {
    age: Param,
    children: Vec<Shared<Person>>,
    parent: WeakShared<Person>,
}

/// A parent of two.
fn family() -> Shared<Person> {
    Shared::new_cyclic(|parent| {
        let child = |age| Shared::new(Person { age: param(age), children: vec![], parent: parent.clone() });
        Person { age: param(40.), children: vec![child(1.), child(2.)], parent: WeakShared::new() }
    })
}

#[test]
fn children_know_their_merged_parent() {
    let (graphdef, state) = split(&family()).unwrap();
    let merged = merge(&graphdef, &state).unwrap();
    assert!(merged.parent.upgrade().is_none());
    for child in &merged.children {
        assert!(child.parent.upgrade().unwrap().is_same(&merged));
    }
    merged.age.set(scalar(41.)).unwrap();
    assert_eq!(read(&merged.children[1].parent.upgrade().unwrap().age), 41.);
    // Nothing keeps it alive but its owner.
    let parent = merged.children[0].parent.clone();
    drop(merged);
    assert!(parent.upgrade().is_none());
}

#[test]
fn a_reference_may_come_before_what_it_leads_to() {
    let part = Shared::new(param(1.));
    let module = (part.downgrade(), vec![part.downgrade()], part);
    let (graphdef, state) = split(&module).unwrap();
    let merged = merge(&graphdef, &state).unwrap();
    assert!(merged.0.upgrade().unwrap().is_same(&merged.2));
    assert!(merged.1[0].upgrade().unwrap().is_same(&merged.2));
    assert_eq!(
        graphdef.to_string(),
        "tuple\n  0: refers to `2`\n  1: list\n    0: refers to `2`\n  2: shared Param f32[]"
    );
}

#[test]
fn paths_may_go_through_references() {
    let family = family();
    let graphdef = graphdef(&family).unwrap();
    assert_eq!(graphdef.resolve("children.1.parent.children.0.parent.age"), "age".into());
    let age = variable_at(&family, "children.1.parent.children.0.age").unwrap();
    assert!(age.is_same(&family.children[0].age));
}

#[test]
fn a_target_outside_is_an_error() {
    let parent = family();
    let text = "the weak references at `0.parent`, `1.parent` lead to a part outside of the module: put the part into \
                the module, as a `Shared` one, or set the reference to nothing";
    assert_error::<_, GraphError>(split(&parent.children), text);
    // A snapshot of the values has no references.
    assert_eq!(state(&parent.children).unwrap().len(), 2);
    // What is looked for by its path, or changed, needs no reference.
    assert!(variable_at(&parent.children, "1.age").unwrap().is_same(&parent.children[1].age));
    assert!(find_duplicates(&parent.children).unwrap().is_empty());
    let state =
        State::unflatten([("0.age".into(), Param::leaf(scalar(9.))), ("9".into(), Param::leaf(scalar(9.)))]);
    let report = update_with(&parent.children, &state.unwrap(), Policy::Partial).unwrap();
    assert_eq!((report.unexpected.len(), read(&parent.children[0].age)), (1, 9.));
    // What is gone is nothing.
    let children = parent.children.clone();
    drop(parent);
    let (graphdef, state) = split(&children).unwrap();
    assert!(merge(&graphdef, &state).unwrap()[0].parent.upgrade().is_none());
}

#[test]
fn the_direction_is_part_of_the_description() {
    let of = |number: usize| {
        let parts = [Shared::new(param(1.)), Shared::new(param(2.))];
        graphdef(&(parts[number].downgrade(), parts.to_vec())).unwrap()
    };
    assert_eq!(of(0), of(0));
    assert_ne!(of(0), of(1));
    assert_eq!(of(0).diff(&of(1)).to_string(), "~ `0`: refers to `1.0` became refers to `1.1`");
}

fn decoded<M: Field>(module: &M, change: impl FnOnce(&mut serde_json::Value)) -> GraphDef<M> {
    let mut json = split(module).unwrap().0.program().encode().unwrap();
    change(&mut json);
    GraphDef::from_program(std::sync::Arc::new(Program::decode(&json, &device()).unwrap()))
}

#[test]
fn files_with_wrong_references_are_refused() {
    let part = Shared::new(param(1.));
    let module = (part.downgrade(), part);
    let state = state(&module).unwrap();
    let graphdef = decoded(&module, |_| {});
    assert!(merge(&graphdef, &state).unwrap().0.upgrade().is_some());
    let wrong = decoded(&module, |json| json[1]["number"] = json!(u64::MAX));
    let text = "the `GraphDef` has no such part, the type expects the part that a weak reference leads to";
    assert_error::<_, GraphError>(merge(&wrong, &state).map(|_| ()), text);
    // To a part of another type.
    let parts = (Shared::new(1u8), Shared::new(param(1.)));
    let module = (parts.1.downgrade(), parts.0, parts.1);
    let state = bridge_graph::state(&module).unwrap();
    let wrong = decoded(&module, |json| json[1]["number"] = json!(0));
    let text = merge(&wrong, &state).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("the type expects a shared u8 that came before"), "{text}");
}

#[test]
fn a_part_that_contains_itself_is_refused() {
    type Nested = Shared<Vec<Shared<Vec<Param>>>>;
    let inner = Shared::new(vec![]);
    let module: Nested = Shared::new(vec![inner.clone(), inner]);
    let wrong = decoded(&module, |json| json[5]["number"] = json!(0));
    let text = merge(&wrong, &state(&module).unwrap()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        text,
        "at `1`: the `GraphDef` has number 0, which does, the type expects a shared part that does not contain \
         itself (a `WeakShared` can refer back)"
    );
}
