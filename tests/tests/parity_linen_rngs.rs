//! The keys that Linen derives from paths and counts, against Flax's.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use bridge_tests::device;
use bridge_tests::golden::{assert_sections, integer, items, key_of, open, text};
use candle_bridge::functional::{Call, FunctionalModule, Keys, Scope, ScopeRngs, lifted_name};
use candle_bridge::random::{Key, Separator, key};
use candle_bridge::vars::{Path, PathKey, Result, Variables};
use candle_core::Tensor;
use serde_json::Value as Json;

#[test]
fn every_section_has_a_test() {
    assert_sections(&open("jax/linen_rngs"), &["keys", "values", "dropout"]);
}

/// The last of `count` keys that the scope at a path draws.
fn draw(rngs: &ScopeRngs, path: &[Json], count: i64) -> Result<Key> {
    let scope = path.iter().fold(rngs.clone(), |scope, name| scope.child(text(name)));
    for _ in 1..count {
        scope.make_rng("params")?;
    }
    scope.make_rng("params")
}

/// Compares keys of lanes, nested as the splits are.
fn compare_lanes(
    rngs: &ScopeRngs,
    splits: &[Json],
    expected: &Json,
    draw: &impl Fn(&ScopeRngs) -> Result<Key>,
) -> Result<usize> {
    let [count, rest @ ..] = splits else {
        assert_eq!(draw(rngs)?, key_of(expected));
        return Ok(1);
    };
    let lanes = rngs.lanes([("params", true)], usize::try_from(integer(count)).unwrap_or_default());
    let expected = items(expected);
    assert_eq!(lanes.len(), expected.len());
    let compared =
        lanes.iter().zip(expected).map(|(lane, expected)| compare_lanes(lane, rest, expected, draw));
    compared.sum()
}

#[test]
fn keys_of_a_scope_by_path_count_and_lifted_transform() -> Result<()> {
    let file = open("jax/linen_rngs");
    let mut compared = 0;
    for case in items(&file["keys"]) {
        println!("{case}");
        let separator = match case["separator"] == true {
            true => Separator::ZeroByte,
            false => Separator::None,
        };
        let mut rngs = ScopeRngs::new(Keys::from(key_of(&case["root"])).with_separator(separator));
        let (path, count) = (items(&case["path"]), integer(&case["count"]));
        assert!(count > 0, "draws are counted from 1: {case}");
        // Of a scope that starts anew from a draw of the one around it, which its own counts follow.
        let mut first = 0;
        if let Some([around, drawn]) = case["fork"].as_array().map(Vec::as_slice) {
            rngs = items(around).iter().fold(rngs, |scope, name| scope.child(text(name)));
            for _ in 1..integer(drawn) {
                rngs.make_rng("params")?;
            }
            rngs = rngs.folded();
            first = if path.is_empty() { integer(drawn) } else { 0 };
        }
        if let Some(iterations) = case["fold_lanes"].as_array() {
            for (index, expected) in (0..).zip(iterations) {
                let iteration = rngs.iteration([("params", true)], index);
                assert_eq!(draw(&iteration, path, count)?, key_of(expected));
                compared += 1;
            }
        } else if let Some(splits) = case["split"].as_array() {
            compared += compare_lanes(&rngs, splits, &case["lanes"], &|rngs| draw(rngs, path, count))?;
        } else {
            assert_eq!(draw(&rngs, path, count - first)?, key_of(&case["key"]));
            compared += 1;
        }
    }
    assert_eq!((items(&file["keys"]).len(), compared), (88, 120));
    Ok(())
}

fn cases<'a>(file: &'a Json, name: &str) -> Vec<&'a Json> {
    items(&file["keys"]).iter().filter(|case| case["case"] == name).collect()
}

#[test]
fn keys_of_a_scope_whose_missing_streams_fall_back_to_params() -> Result<()> {
    let file = open("jax/linen_rngs");
    let cases = cases(&file, "fallback");
    let streams = ["dropout", "noise", "params", "noise", "dropout", "other"];
    let keys = Keys::from([("params", key(42)), ("dropout", key(1))]);
    let (found, _) = Call::new().keys(keys).apply(&Variables::default(), |scope| {
        streams.iter().map(|stream| scope.make_rng(stream)).collect::<Result<Vec<_>>>()
    })?;
    assert_eq!(cases.len(), streams.len());
    for ((case, stream), found) in cases.iter().zip(streams).zip(found) {
        assert!(text(&case["stream"]).starts_with(stream), "{case} is of another stream than {stream}");
        assert_eq!(found, key_of(&case["key"]), "{case}");
    }
    Ok(())
}

/// A parameter that is the key it was made from.
fn key_param(scope: &Scope, name: &'static str) -> Result<()> {
    scope.param_with(name, None, |key| Ok(Tensor::new(&key.words(), &device())?))?;
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
struct Leaf;

impl FunctionalModule<()> for Leaf {
    type Output = Key;
    fn call(&self, scope: &Scope, (): &()) -> Result<Key> {
        key_param(scope, "a")?;
        let key = scope.make_rng("params")?;
        key_param(scope, "b")?;
        Ok(key)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Mid;

impl FunctionalModule<()> for Mid {
    type Output = [Key; 2];
    fn call(&self, scope: &Scope, (): &()) -> Result<[Key; 2]> {
        key_param(scope, "p")?;
        let leaf = scope.child_named("leaf", Leaf)?;
        let drawn = [leaf.call(&())?, leaf.call(&())?];
        for name in ["ls_0", "ls_1", "d_x"] {
            scope.call_named(name, &Leaf, &())?;
        }
        Ok(drawn)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Top;

impl FunctionalModule<()> for Top {
    type Output = [Key; 2];
    fn call(&self, scope: &Scope, (): &()) -> Result<[Key; 2]> {
        scope.call(&Leaf, &())?;
        let drawn = scope.call(&Mid, &())?;
        scope.call_named("named", &Leaf, &())?;
        scope.call(&Leaf, &())?;
        key_param(scope, "t")?;
        Ok(drawn)
    }
}

#[test]
fn keys_of_params_and_draws_in_modules_named_by_class_and_by_hand() -> Result<()> {
    let file = open("jax/linen_rngs");
    let settings = [("nested", Separator::None), ("nested_fix_rng_separator", Separator::ZeroByte)];
    for (section, separator) in settings {
        let keys = Keys::from(key(42)).with_separator(separator);
        let ([first, second], variables) = Top.init_with_output(keys, &())?;
        let mut compared = 0;
        for case in cases(&file, section) {
            let what = text(&case["what"]);
            let found = match what.strip_prefix("param ").and_then(|what| what.split(' ').next()) {
                Some(name) => {
                    let module: Path =
                        items(&case["path"]).iter().map(|name| PathKey::from(text(name))).collect();
                    let words = variables.get("params", module.join(name))?.tensor()?.to_vec1::<u32>()?;
                    <[u32; 2]>::try_from(words).map(Key::from_words).ok()
                }
                None if what.contains("first call") => Some(first),
                None => Some(second),
            };
            assert_eq!(found, Some(key_of(&case["key"])), "{case}");
            compared += 1;
        }
        assert_eq!((compared, variables.len()), (18, 16));
    }
    Ok(())
}

/// The keys of a case of the golden file at a path: one, or those of its lanes.
fn keys_at(file: &Json, name: &str, root: i64, path: &[&str]) -> Json {
    let here = |case: &&&Json| {
        integer(&case["root"][1]) == root && items(&case["path"]).iter().map(text).eq(path.iter().copied())
    };
    let cases = cases(file, name);
    let case = cases.iter().find(here).unwrap_or_else(|| panic!("no case {name} at {path:?}"));
    case.get("lanes").or(case.get("key")).cloned().unwrap_or_default()
}

fn words(key: Key) -> Json {
    Json::from(key.words().to_vec())
}

/// What the golden file's cell draws in one trace: for `w`, for its child's `a`, and from `dropout`.
fn trace_cell(rngs: &ScopeRngs) -> Result<[Json; 3]> {
    let w = rngs.make_rng("params")?;
    let a = rngs.child("One_0").make_rng("params")?;
    Ok([w, a, rngs.make_rng("dropout")?].map(words))
}

#[test]
fn keys_of_bodies_that_are_traced_twice() -> Result<()> {
    let file = open("jax/linen_rngs");
    let scope = || {
        let rngs = ScopeRngs::new([("params", key(42)), ("dropout", key(1))]);
        rngs.child("s")
    };
    let compare = |steps: Vec<ScopeRngs>, section: &str, shared: Option<[Json; 3]>| -> Result<()> {
        let traces = steps.iter().map(trace_cell).collect::<Result<Vec<_>>>()?;
        let of = |part: usize| traces.iter().map(|trace| trace[part].clone()).collect::<Json>();
        let [w, a] = match &shared {
            Some([w, a, _]) => [w.clone(), a.clone()],
            None => [of(0), of(1)],
        };
        assert_eq!(w, keys_at(&file, section, 42, &["s"]), "{section}");
        if section != "scan_no_constancy_check" {
            assert_eq!(a, keys_at(&file, section, 42, &["s", "One_0"]), "{section}");
        }
        assert_eq!(of(2), keys_at(&file, section, 1, &["s"]), "{section}");
        Ok(())
    };
    let both = [("params", true), ("dropout", true)];
    let (_, steps) = scope().steps(both, 3, trace_cell)?;
    compare(steps, "scan_split", None)?;
    // Parameters that all steps share are those of the first trace, whose key is not split.
    let (shared, steps) = scope().steps([("params", false), ("dropout", true)], 3, trace_cell)?;
    compare(steps, "scan_broadcast", Some(shared))?;
    compare(scope().lanes(both, 3), "scan_no_constancy_check", None)?;

    // Each level traces twice, so what lies in two of them is made in the fourth trace.
    let outer = ScopeRngs::new(key(42)).child("rs");
    let split = || [("params", true)];
    let inner = |rngs: &ScopeRngs| -> Result<Json> {
        let (_, steps) = rngs.steps(split(), 3, |body| body.make_rng("params"))?;
        let drawn = steps.iter().map(|step| step.make_rng("params").map(words)).collect::<Result<Json>>()?;
        steps.first().into_iter().for_each(|step| rngs.continue_from(step));
        Ok(drawn)
    };
    let (_, steps) = outer.steps(split(), 2, inner)?;
    let drawn = steps.iter().map(inner).collect::<Result<Json>>()?;
    assert_eq!(drawn, keys_at(&file, "remat_scan_2x3", 42, &["rs"]));
    Ok(())
}

#[test]
fn names_and_counts_of_lifted_modules() -> Result<()> {
    let file = open("jax/linen_rngs");
    for (case, transform, class) in [("vmap_nosplit", "vmap", "One"), ("remat", "checkpoint", "One")] {
        let name = format!("{}_0", lifted_name(transform, class));
        let rngs = ScopeRngs::new(key(42)).child(name.as_str());
        assert_eq!(words(rngs.make_rng("params")?), keys_at(&file, case, 42, &[name.as_str()]));
    }
    let name = format!("{}_0", lifted_name("jit", "Cell"));
    assert_eq!(text(&cases(&file, "jit_class")[0]["fork"][0][0]), name);
    let [w, a, _] =
        trace_cell(&ScopeRngs::new([("params", key(42)), ("dropout", key(1))]).child(name).folded())?;
    assert_eq!(w, cases(&file, "jit_class")[0]["key"]);
    assert_eq!(a, cases(&file, "jit_class")[1]["key"]);

    // Branches are traced in their order, whichever is taken.
    let rngs = ScopeRngs::new(key(42));
    for section in ["cond_True", "cond_False", "after_cond"] {
        assert_eq!(words(rngs.make_rng("params")?), cases(&file, section)[0]["key"], "{section}");
    }
    let rngs = ScopeRngs::new(key(42));
    for case in cases(&file, "switch") {
        assert_eq!(words(rngs.make_rng("params")?), case["key"], "{case}");
    }
    // The condition of iteration 0 has the key of the body's.
    let [body, condition] = [
        rngs.iteration([("params", true)], 0).make_rng("params")?,
        rngs.condition([("params", true)], 0).make_rng("params")?,
    ];
    assert_eq!(body, condition);
    let expected = rngs.iteration([("params", true)], u32::MAX).make_rng("params")?;
    assert_eq!(rngs.condition([("params", true)], 1).make_rng("params")?, expected);
    Ok(())
}
