//! Optimizers against Optax's: the same parameters after the same steps.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use bridge_tests::device;
use bridge_tests::golden::{Entry, assert_exact, fields, open};
use candle_bridge::train::{AdamW, Optimizer, Sgd, UpdateRule, clip_by_global_norm, global_norm};
use candle_bridge::vars::{Filter, Param, Path, Result, State};
use candle_core::{DType, Tensor};

const NAMES: [&str; 2] = ["kernel", "bias"];
const STEPS: usize = 50;
const SHOWN: [usize; 4] = [1, 2, 10, 50];

/// How far an element may be off, relative to its size.
const TOLERANCE: f32 = 1e-6;

fn entries() -> BTreeMap<String, Entry> {
    let file = open("optax/optimizers");
    fields(&file["entries"]).map(|(name, json)| (name.to_owned(), Entry::read(name, json))).collect()
}

fn state(of: impl Fn(&str) -> Result<Tensor>) -> Result<State> {
    let mut state = State::default();
    for name in NAMES {
        state.insert(&Path::from(name), Param::leaf(of(name)?))?;
    }
    Ok(state)
}

fn start(entries: &BTreeMap<String, Entry>) -> Result<State> {
    state(|name| entries[&format!("start/{name}")].tensor(&device()))
}

fn gradients(entries: &BTreeMap<String, Entry>, step: usize) -> Result<State> {
    state(|name| Ok(entries[&format!("gradients/{name}")].tensor(&device())?.get(step)?))
}

fn assert_near(found: &Tensor, entry: &Entry, what: &str) {
    let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found.len(), entry.bits().len(), "{what}");
    for (at, (found, expected)) in found.into_iter().zip(entry.floats()).enumerate() {
        let off = (found - expected).abs();
        assert!(off <= TOLERANCE * expected.abs(), "{what}, element {at}: {found}, expected {expected}");
    }
}

fn check<R: UpdateRule>(case: &str, optimizer: impl FnOnce(&State) -> Result<Optimizer<R>>) -> Result<()> {
    let entries = entries();
    let mut parameters = start(&entries)?;
    let mut optimizer = optimizer(&parameters)?;
    for step in 1..=STEPS {
        parameters = optimizer.update(&parameters, &gradients(&entries, step - 1)?)?;
        if SHOWN.contains(&step) {
            for name in NAMES {
                let what = format!("{case}/step_{step}/{name}");
                assert_near(parameters.get(name)?.tensor()?, &entries[&what], &what);
            }
        }
    }
    Ok(())
}

#[test]
fn every_entry_has_a_test() {
    let cases = [
        "adam",
        "adamw",
        "adamw_all_set",
        "clipped_adamw",
        "clipped_sgd",
        "groups",
        "sgd",
        "sgd_decayed",
        "sgd_momentum",
        "sgd_nesterov",
    ];
    let mut expected: BTreeSet<String> = ["norms".to_owned()].into();
    for name in NAMES {
        expected.extend(["start", "gradients"].map(|what| format!("{what}/{name}")));
        for step in SHOWN {
            expected.extend(cases.map(|case| format!("{case}/step_{step}/{name}")));
        }
    }
    assert_eq!(entries().into_keys().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn adamw() -> Result<()> {
    check("adamw", |parameters| Optimizer::new(AdamW::new(3e-3).with_weight_decay(0.05), parameters))?;
    let rule = AdamW::new(2e-3).with_beta1(0.8).with_beta2(0.95).with_epsilon(1e-4).with_weight_decay(0.01);
    check("adamw_all_set", |parameters| Optimizer::new(rule, parameters))?;
    check("adam", |parameters| Optimizer::new(AdamW::new(3e-3).with_weight_decay(0.), parameters))
}

#[test]
fn sgd() -> Result<()> {
    check("sgd", |parameters| Optimizer::new(Sgd::new(0.01), parameters))?;
    let momentum = || Sgd::new(0.002).with_momentum(0.9);
    check("sgd_momentum", |parameters| Optimizer::new(momentum(), parameters))?;
    check("sgd_nesterov", |parameters| Optimizer::new(momentum().with_nesterov(true), parameters))?;
    check("sgd_decayed", |parameters| Optimizer::new(momentum().with_weight_decay(0.01), parameters))
}

#[test]
fn clipping_by_the_global_norm() -> Result<()> {
    let adamw = || AdamW::new(3e-3).with_weight_decay(0.05);
    check("clipped_adamw", |parameters| Optimizer::new(adamw(), parameters)?.with_global_norm_clipping(1.5))?;
    check("clipped_sgd", |parameters| {
        Optimizer::new(Sgd::new(0.01), parameters)?.with_global_norm_clipping(1.5)
    })
}

#[test]
fn norms_and_gradients_clipped_beforehand() -> Result<()> {
    let entries = entries();
    let norms = (0..STEPS).map(|step| Ok(global_norm(&gradients(&entries, step)?)? as f32));
    let norms = norms.collect::<Result<Vec<_>>>()?;
    assert_near(&Tensor::new(norms.as_slice(), &device())?, &entries["norms"], "norms");

    let mut parameters = start(&entries)?;
    for name in NAMES {
        assert_exact(parameters.get(name)?.tensor()?, &entries[&format!("start/{name}")]);
        assert_eq!(parameters.get(name)?.tensor()?.dtype(), DType::F32);
    }
    let mut optimizer = Optimizer::new(Sgd::new(0.01), &parameters)?;
    for step in 0..STEPS {
        let clipped = clip_by_global_norm(&gradients(&entries, step)?, 1.5)?;
        assert!(global_norm(&clipped)? <= 1.5 * (1. + 1e-6));
        parameters = optimizer.update(&parameters, &clipped)?;
    }
    for name in NAMES {
        let what = format!("clipped_sgd/step_{STEPS}/{name}");
        assert_near(parameters.get(name)?.tensor()?, &entries[&what], &what);
    }
    Ok(())
}

#[test]
fn groups() -> Result<()> {
    check("groups", |parameters| {
        let bias = AdamW::new(5e-3).with_beta1(0.8).with_weight_decay(0.);
        let optimizer = Optimizer::new(AdamW::new(2e-3).with_weight_decay(0.1), parameters)?;
        optimizer.with_group(Filter::path_contains("bias"), bias)
    })
}
