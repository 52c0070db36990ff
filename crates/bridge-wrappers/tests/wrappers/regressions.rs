//! What was wrong once.

use bridge_functional::{Call, FunctionalModule, Mode, Scope};
use bridge_graph::{Rngs, StatefulModule};
use bridge_random::key;
use bridge_vars::{Cache, Metadata, Result};
use bridge_wrappers::{ToStateful, functional, to_functional};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::modules::{MUTABLE, Recall, Recaller, input, keys};

#[test]
fn a_state_of_another_shape_fits_the_next_call() {
    #[derive(StatefulModule)]
    #[module(crate = "bridge_graph")]
    struct Longer {
        cache: Cache,
    }
    let model = functional(|_| Ok(Longer { cache: Cache::new(input()) }));
    let state = model.init(&Rngs::empty()).unwrap();
    let grow = |model: &Longer| model.cache.set(Tensor::cat(&[&model.cache.value()?, &input()], 0)?);
    let (_, next) = model.apply(&state, grow).unwrap();
    let (_, last) = model.apply(&next, grow).unwrap();
    assert_eq!(last.get("cache").unwrap().tensor().unwrap().dim(0).unwrap(), 15);
}

#[test]
fn a_metadata_function_leaves_random_streams_alone() {
    let model = to_functional(|rngs| Recaller::new(0.5, rngs)).metadata(|_, _| Metadata::default());
    let variables = model.train().init(keys(0), &input()).unwrap();
    model.train().apply_mut(&variables, keys(1), MUTABLE, &input()).unwrap();
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sows;

impl FunctionalModule for Sows {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.sow("activations", "h", x)?;
        Ok(x.clone())
    }
}

#[test]
fn lists_in_collections_of_ones_own_do_not_grow_either() {
    let model = ToStateful::new(Sows, key(0)).unwrap().mutable("activations").lazy_init(&input()).unwrap();
    for _ in 0..3 {
        model.call(&input()).unwrap();
    }
    assert_eq!(model.variables().unwrap().len(), 1);
}

#[test]
fn outputs_inside_of_a_wrapped_root_come_up() {
    let model = to_functional(|rngs| ToStateful::new(Recall { rate: 0. }, rngs));
    let variables = model.train().init(keys(0), &input()).unwrap();
    let call = Call::new().keys(keys(1)).mutable(MUTABLE).mode(Mode::Train).capture_intermediates();
    let (_, captured) = call.apply(&variables, |scope| scope.run(&model, &input())).unwrap();
    for path in ["__call__.0", "norm.__call__.0", "dropout.__call__.0"] {
        assert!(captured.get("intermediates", path).is_ok(), "{path}: {captured}");
    }
}
