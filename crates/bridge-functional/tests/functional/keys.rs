//! The keys that modules draw.

use bridge_functional::{Call, Dense, FunctionalModule, Keys, Scope};
use bridge_random::{Initializer, Key, PathItem, Separator, fold_static, key};
use bridge_vars::{Result, Variables};
use candle_core::{DType, Tensor};

use crate::support::{Counter, device, ones, to_vec};

/// Flax's key: the names on the way and the number of the draw, folded into the stream's key.
fn expected(stream: Key, names: &[&str], count: u32) -> Key {
    let items = names.iter().map(|name| PathItem::Name(name)).chain([PathItem::Count(count)]);
    fold_static(stream, items, Separator::None)
}

fn draw(keys: impl Into<Keys>, f: impl FnOnce(&Scope) -> Result<Vec<Key>>) -> Vec<Key> {
    Call::new().keys(keys).apply(&Variables::default(), f).unwrap().0
}

#[test]
fn count_by_stream_and_module() {
    let keys = [("params", key(0)), ("dropout", key(1))];
    let drawn = draw(keys, |scope| {
        let child = scope.child_named("a", Counter)?;
        let below = |scope: &Scope| scope.make_rng("dropout");
        Ok(vec![
            scope.make_rng("dropout")?,
            scope.make_rng("params")?,
            scope.make_rng("dropout")?,
            child.with(|_, scope| below(scope))?,
            child.with(|_, scope| scope.child_named("b", Counter)?.with(|_, scope| below(scope)))?,
            child.with(|_, scope| below(scope))?,
        ])
    });
    let (params, dropout) = (key(0), key(1));
    let expected = [
        expected(dropout, &[], 1),
        expected(params, &[], 1),
        expected(dropout, &[], 2),
        expected(dropout, &["a"], 1),
        expected(dropout, &["a", "b"], 1),
        // The counter goes on when a child is called again.
        expected(dropout, &["a"], 2),
    ];
    assert_eq!(drawn, expected);
}

#[test]
fn children_of_a_child_called_again_go_on_too() {
    let drawn = draw(key(0), |scope| {
        let child = scope.child(Counter)?;
        let grandchild =
            || child.with(|_, scope| scope.child(Counter)?.with(|_, scope| scope.make_rng("noise")));
        Ok(vec![grandchild()?, grandchild()?])
    });
    let names = ["Counter_0", "Counter_0"];
    assert_eq!(drawn, [expected(key(0), &names, 1), expected(key(0), &names, 2)]);
}

#[test]
fn what_has_no_key_takes_that_of_params_and_its_counter() {
    let drawn = draw(key(0), |scope| {
        Ok(vec![scope.make_rng("dropout")?, scope.make_rng("params")?, scope.make_rng("noise")?])
    });
    assert_eq!(drawn, [1, 2, 3].map(|count| expected(key(0), &[], count)));
    Call::new()
        .keys(key(0))
        .apply(&Variables::default(), |scope| {
            // A key is made for it all the same.
            assert!(scope.has_rng("params") && !scope.has_rng("dropout"));
            assert!(scope.streams().eq(["params"]));
            Ok(())
        })
        .unwrap();
    Call::new()
        .keys([("dropout", key(0))])
        .apply(&Variables::default(), |scope| {
            assert!(scope.has_rng("dropout") && !scope.has_rng("params") && !scope.has_rng("noise"));
            Ok(())
        })
        .unwrap();
}

#[test]
fn parameters_draw_in_order() {
    let x = ones(&[1, 3]);
    let variables = Dense::new(2).bias_init(Initializer::Normal { stddev: 1. }).init(key(7), &x).unwrap();
    let check = |name: &str, count, initializer: Initializer, shape: &[usize]| {
        let value = initializer.init(expected(key(7), &[], count), shape, DType::F32, &device()).unwrap();
        let found: &Tensor = variables.get("params", name).unwrap().tensor().unwrap();
        assert_eq!(to_vec(found), to_vec(&value), "{name}");
    };
    check("kernel", 1, Initializer::lecun_normal(), &[3, 2]);
    check("bias", 2, Initializer::Normal { stddev: 1. }, &[2]);
}

#[test]
fn the_later_of_two_keys_of_a_stream_wins() {
    let keys = Keys::from([("a", key(0)), ("b", key(1)), ("a", key(2))]);
    assert_eq!((keys.get("a"), keys.get("b"), keys.get("c")), (Some(key(2)), Some(key(1)), None));
    assert!(keys.iter().map(|(name, _)| name.clone()).eq(["a", "b"]));
    assert_eq!(Keys::none().get("params"), None);
}
