//! Models that are deep or have many parts.

use bridge_graph::{Shared, StatefulModule, clone, iter_variables, merge, split, update, variables};
use bridge_vars::{Param, Path};

use crate::support::{hash, param, read, scalar};

#[derive(StatefulModule)]
struct Nested {
    factor: Param,
    inner: Option<Box<Nested>>,
}

fn nested(depth: usize) -> Nested {
    let innermost = Nested { factor: param(0.), inner: None };
    (1..depth).fold(innermost, |inner, number| Nested {
        factor: param(number as f32),
        inner: Some(Box::new(inner)),
    })
}

#[test]
fn a_thousand_levels() {
    let module = nested(1000);
    let (graphdef, state) = split(&module).unwrap();
    assert_eq!(state.len(), 1000);
    let merged = merge(&graphdef, &state).unwrap();
    merged.factor.set(scalar(-1.)).unwrap();
    update(&module, &split(&merged).unwrap().1).unwrap();
    assert_eq!(read(&module.factor), -1.);
    let mut deepest: Path = std::iter::repeat_n("inner".into(), 999).collect();
    deepest.push("factor");
    assert_eq!(state.get(&deepest).unwrap().tensor().unwrap().to_scalar::<f32>().unwrap(), 0.);
    assert_eq!(bridge_graph::graphdef(&clone(&module).unwrap()).unwrap(), graphdef);
    assert!(graphdef.to_string().lines().count() > 1000 && !state.to_string().is_empty());
    assert!(graphdef.diff(&graphdef).is_empty());
    let text = serde_json::to_string(&state).unwrap();
    assert!(serde_json::from_str::<bridge_vars::State>(&text).unwrap().identical(&state).unwrap());
}

#[test]
fn many_parts_and_much_sharing() {
    let layers: Vec<_> = (0..2000).map(|number| Shared::new(param(number as f32))).collect();
    let module = (layers.clone(), layers);
    let (graphdef, state) = split(&module).unwrap();
    assert_eq!((state.len(), graphdef.aliases().len()), (2000, 2000));
    let merged = merge(&graphdef, &state).unwrap();
    assert!(merged.0[1999].is_same(&merged.1[1999]));
    assert_eq!(hash(&graphdef), hash(&split(&merged).unwrap().0));
    let mut met = 0;
    iter_variables(&merged, |_| {
        met += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!((met, variables(&merged).unwrap().len()), (2000, 2000));
}
