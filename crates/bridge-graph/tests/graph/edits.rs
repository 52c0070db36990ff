//! New modules from old ones: parts replaced, variables taken out, values mapped.

use std::collections::BTreeMap;

use bridge_graph::{Shared, StatefulModule, iter_modules, map, pop, replace, replace_at, split, variable_at};
use bridge_vars::{BatchStat, Filter, Intermediate, Param};
use candle_core::DType;
use indexmap::IndexMap;

use crate::support::{Scale, param, paths, read, scalar, scale, zeros};

#[derive(StatefulModule)]
struct Model {
    blocks: Vec<Scale>,
    head: Option<Shared<Scale>>,
    tail: Shared<Scale>,
    boxed: Box<Scale>,
    pair: (Param, bool),
    by_name: BTreeMap<String, Scale>,
}

fn model() -> Model {
    let tail = Shared::new(scale(3.));
    Model {
        blocks: vec![scale(1.), scale(2.)],
        head: Some(tail.clone()),
        tail,
        boxed: Box::new(scale(4.)),
        pair: (param(5.), true),
        by_name: [("a".to_owned(), scale(6.))].into(),
    }
}

fn values(model: &Model) -> Vec<f32> {
    bridge_graph::variables(model).unwrap().iter().map(|(_, variable)| read(variable)).collect()
}

#[test]
fn any_place_that_can_be_pointed_at() {
    let old = model();
    let before = split(&old).unwrap();
    let check = |new: bridge_vars::Result<Model>, expected: &[f32]| {
        let new = new.unwrap();
        // In order of the paths: blocks, boxed, by_name, head with tail, pair.
        assert_eq!(values(&new), expected);
        new
    };
    check(replace(&old, |model| &model.blocks, vec![scale(9.)]), &[9., 4., 6., 3., 5.]);
    let new = check(replace(&old, |model| &model.blocks[1], scale(9.)), &[1., 9., 4., 6., 3., 5.]);
    assert!(new.blocks[0].factor.is_same(&old.blocks[0].factor), "the others stay the same variables");
    // A module and its first field have one address.
    check(replace(&old, |model| &model.blocks[0].factor, param(9.)), &[9., 2., 4., 6., 3., 5.]);
    check(replace(&old, |model| &model.by_name["a"], scale(9.)), &[1., 2., 4., 9., 3., 5.]);
    check(replace(&old, |model| &model.pair.0, param(9.)), &[1., 2., 4., 6., 3., 9.]);
    check(replace(&old, |model| &model.boxed, Box::new(scale(9.))), &[1., 2., 9., 6., 3., 5.]);
    assert!(!replace(&old, |model| &model.pair.1, false).unwrap().pair.1);
    assert_eq!(replace(&old, |model| &model.blocks[0].power, 7).unwrap().blocks[0].power, 7);
    // A shared part is replaced where the reference is, or wherever it stands.
    let new = check(replace(&old, |model| &model.head, None), &[1., 2., 4., 6., 5., 3.]);
    assert!(new.head.is_none() && new.tail.factor.is_same(&old.tail.factor));
    let new =
        check(replace(&old, |model| &model.tail, Shared::new(scale(9.))), &[1., 2., 4., 6., 3., 5., 9.]);
    assert!(!new.head.unwrap().is_same(&new.tail));
    let new = check(replace(&old, |model| &*model.tail, scale(9.)), &[1., 2., 4., 6., 9., 5.]);
    assert!(new.head.unwrap().is_same(&new.tail));
    // The old one is as it was.
    let after = split(&old).unwrap();
    assert!(after.0 == before.0 && after.1.identical(&before.1).unwrap());
}

#[test]
fn the_new_part_may_share_with_the_rest() {
    let old = model();
    let tied = replace(&old, |model| &model.blocks[1].factor, old.tail.factor.clone()).unwrap();
    assert!(tied.blocks[1].factor.is_same(&tied.tail.factor));
    assert_eq!(split(&tied).unwrap().1.len(), 5);
    // It may be the whole, or hold what it replaces.
    let again = replace(&old, |model| model, model()).unwrap();
    assert_eq!(values(&again), values(&old));
    let both = vec![scale(0.)];
    let more = replace(&old, |model| &model.blocks, both).unwrap();
    assert_eq!(more.blocks.len(), 1);
}

#[test]
fn by_path() {
    let old = model();
    let new = replace_at(&old, "blocks.1.factor", param(9.)).unwrap();
    assert_eq!(read(&variable_at(&new, "blocks.1.factor").unwrap()), 9.);
    assert!(replace_at(&old, "head", None::<Shared<Scale>>).unwrap().head.is_none());
    // Several things without a size have one address.
    let units: Vec<()> = vec![(), ()];
    let text = replace(&units, |units| &units[1], ()).map(|_| ()).unwrap_err().to_string();
    assert!(text.starts_with("found 2 parts (`0`, `1`) of type () to replace: select"), "{text}");
    assert_eq!(replace_at(&units, "1", ()).unwrap().len(), 2);
}

#[test]
fn what_is_not_there_or_does_not_fit() {
    let old = model();
    let text = replace_at(&old, "blocks.7", scale(1.)).map(|_| ()).unwrap_err().to_string();
    assert!(text.starts_with("found nothing at `blocks.7` to replace"), "{text}");
    let outside = scale(1.);
    let text = replace_at(&old, "blocks.0", outside.factor).map(|_| ()).unwrap_err().to_string();
    assert_eq!(text, "at `blocks.0`: the `GraphDef` has a variable Param, the type expects a `Scale`");
}

#[derive(StatefulModule)]
struct Watched {
    factor: Param,
    seen: Option<Intermediate>,
    by_name: BTreeMap<String, Intermediate>,
    in_order: IndexMap<String, (Option<BatchStat>, u8)>,
    by_number: IndexMap<u8, Intermediate>,
}

fn watched() -> Watched {
    let seen = Intermediate::new(1);
    Watched {
        factor: param(1.),
        by_name: [("x".to_owned(), seen.clone()), ("y".to_owned(), Intermediate::new(2))].into(),
        by_number: [(7, Intermediate::new(3)), (2, seen.clone())].into_iter().collect(),
        seen: Some(seen),
        in_order: [("b".to_owned(), (Some(BatchStat::new(4)), 0))].into_iter().collect(),
    }
}

#[test]
fn popped_variables_leave_options_and_maps() {
    let old = watched();
    let (new, popped) = pop(&old, Filter::of::<Intermediate>()).unwrap();
    assert_eq!(paths(&popped), ["by_name.x", "by_name.y", "by_number.7"]);
    assert!(new.seen.is_none() && new.by_name.is_empty() && new.by_number.is_empty());
    assert!(new.factor.is_same(&old.factor));
    assert_eq!(old.by_name.len(), 2);
    let (new, popped) = pop(&old, Filter::path("by_number.7")).unwrap();
    assert_eq!((popped.len(), new.by_number.keys().copied().collect::<Vec<_>>()), (1, vec![2]));
    let (new, popped) = pop(&old, Filter::of::<BatchStat>()).unwrap();
    assert_eq!(paths(&popped), ["in_order.b.0"]);
    assert!(new.in_order["b"].0.is_none());
    // What matches nothing changes nothing.
    let (new, popped) = pop(&old, Filter::Nothing).unwrap();
    assert!(popped.is_empty() && split(&new).unwrap().0 == split(&old).unwrap().0);
}

#[test]
fn what_must_be_there_can_not_be_popped() {
    let old = (watched(), vec![param(1.)], Shared::new(param(2.)));
    let text = pop(&old, Filter::of::<Param>()).map(|_| ()).unwrap_err().to_string();
    let expected = "`0.factor`, `1.0`, `2` can not be taken out, because nothing else can be there: make the field an \
                    `Option`, or leave it out of the filter";
    assert_eq!(text, expected);
    assert!(pop(&param(1.), Filter::Everything).is_err());
}

#[test]
fn mapping_changes_values_and_keeps_sharing() {
    let old = model();
    let new = map(&old, |path, leaf| match path.keys()[0] == "blocks".into() {
        true => Ok(leaf.with_value(zeros(&[2]).to_dtype(DType::F64)?)),
        false => Ok(leaf.clone()),
    })
    .unwrap();
    assert_eq!(new.blocks[0].factor.value().unwrap().dtype(), DType::F64);
    assert!(new.head.as_ref().unwrap().is_same(&new.tail));
    assert_eq!(read(&old.blocks[0].factor), 1.);
    let wrong = map(&old, |_, _| Ok(BatchStat::leaf(scalar(1.)))).map(|_| ()).unwrap_err().to_string();
    assert!(wrong.contains("`boxed.factor`: expected Param, found BatchStat f32[]"), "{wrong}");
}

#[test]
fn modules_come_in_order_of_their_paths() {
    let mut met = Vec::new();
    iter_modules(&model(), |path, module| {
        met.push(format!("{path}: {}", module.type_name()));
        Ok(())
    })
    .unwrap();
    let scales = ["blocks.0", "blocks.1", "boxed", "by_name.a", "head"].map(|path| format!("{path}: Scale"));
    assert_eq!(met, [vec![": Model".to_owned()], scales.to_vec()].concat());
}

#[test]
fn a_path_may_go_through_any_place_of_a_shared_part() {
    let new = replace_at(&model(), "tail.factor", param(9.)).unwrap();
    assert_eq!((read(&new.tail.factor), new.tail.is_same(new.head.as_ref().unwrap())), (9., true));
    // The place itself is a place of its own.
    let new = replace_at(&model(), "tail", Shared::new(scale(9.))).unwrap();
    assert_eq!((read(&new.tail.factor), read(&new.head.unwrap().factor)), (9., 3.));
}
