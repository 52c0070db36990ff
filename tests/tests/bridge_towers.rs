//! Random towers of wrappers over random modules: whatever is wrapped in whatever, outputs, gradients and updates are those of
//! the module alone.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use bridge_tests::device;
use candle_bridge::functional::{self, FunctionalModule, Method, Scope};
use candle_bridge::graph::{
    Flag, Rngs, StatefulModule, eval, state, train, update, value_and_grad, variables,
};
use candle_bridge::ops::{batch_statistics, moving_average, normalize};
use candle_bridge::random::{Initializer, key, normal};
use candle_bridge::vars::{
    BatchStat, CollectionFilter, Filter, Initialize, Leaf, Param, Path, PathKey, Result, State, kinds,
};
use candle_bridge::wrappers::{ToFunctional, ToStateful, lazy_init, to_functional_with};
use candle_core::{DType, Module, Tensor};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

kinds! {
    /// A learned factor: a type of its own, in a collection of its own.
    Factor(FactorKind) in "factors": Param;
    /// How often a module was called.
    Calls(CallsKind) in "calls";
}

const INPUTS: usize = 3;

/// A small module, of either kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shape {
    features: usize,
    has_factor: bool,
    normalizes: bool,
    counts: bool,
}

/// What both kinds compute.
fn arithmetic(x: &Tensor, weight: &Tensor, factor: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(weight)?.tanh()?;
    Ok(match factor {
        Some(factor) => y.broadcast_mul(factor)?,
        None => y,
    })
}

/// A functional module: the small one, or a stateful one inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Functional {
    Small(Shape),
    Of(Box<Stateful>),
}

/// What a stateful module is built from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Stateful {
    Small(Shape),
    Of(Box<Functional>),
}

impl Functional {
    fn wrapped(stateful: &Stateful) -> ToFunctional<Built, Stateful> {
        to_functional_with(stateful.clone(), |stateful: &Stateful, rngs| Built::new(stateful, rngs))
    }

    fn project(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Small(shape) => {
                let init = Initializer::lecun_normal();
                let weight = scope.param("weight", &init, (INPUTS, shape.features), x.dtype(), x.device())?;
                Ok(x.matmul(&weight)?)
            }
            Self::Of(stateful) => {
                Self::wrapped(stateful).with_device(scope, x.device(), |built| built.project(x))
            }
        }
    }

    fn small(shape: &Shape, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let (features, dtype, device) = (shape.features, x.dtype(), x.device());
        let weight =
            scope.param("weight", &Initializer::lecun_normal(), (INPUTS, features), dtype, device)?;
        let factor = match shape.has_factor {
            false => None,
            true => Some(scope.variable_of(Factor::variable_type(), "factor", || {
                Ok(Factor::leaf(Tensor::ones(features, dtype, device)?))
            })?),
        };
        let factor = factor.map(|factor| factor.get()).transpose()?;
        if shape.counts {
            let calls = scope.variable_of(Calls::variable_type(), "calls", || Ok(Calls::leaf(0)))?;
            if calls.is_mutable() && !scope.is_initializing() {
                calls.set(calls.count()? + 1)?;
            }
        }
        let y = arithmetic(x, &weight, factor.as_ref())?;
        if !shape.normalizes {
            return Ok(y);
        }
        scope.call_named("norm", &functional::BatchNorm::new().momentum(0.9), &y)
    }
}

impl FunctionalModule for Functional {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Small(shape) => Self::small(shape, scope, x),
            Self::Of(stateful) => scope.share_scope(&Self::wrapped(stateful), x),
        }
    }

    fn methods() -> Vec<(&'static str, Method<Self>)> {
        vec![("project", Self::project)]
    }
}

#[derive(StatefulModule)]
struct Small {
    weight: Param,
    factor: Option<Factor>,
    calls: Option<Calls>,
    norm: Option<Norm>,
}

/// Batch normalization as in Flax, with the flag that modes switch.
#[derive(StatefulModule)]
struct Norm {
    mean: BatchStat,
    var: BatchStat,
    scale: Param,
    bias: Param,
    use_running_average: Flag,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let statistics = match self.use_running_average.get() {
            true => (self.mean.value()?, self.var.value()?),
            false => {
                let batch = batch_statistics(x, 0)?;
                for (running, batch) in [(&self.mean, &batch.0), (&self.var, &batch.1)] {
                    running.set(moving_average(&running.value()?, &batch.detach(), 0.9)?)?;
                }
                batch
            }
        };
        let (scale, bias) = (self.scale.value()?, self.bias.value()?);
        Ok(normalize(x, &statistics.0, &statistics.1, Some(&scale), Some(&bias), 1e-5)?)
    }
}

/// A stateful module that was built.
#[derive(StatefulModule)]
enum Built {
    Small(Small),
    Of(Box<ToStateful<Functional>>),
}

impl Built {
    fn new(stateful: &Stateful, rngs: &Rngs) -> Result<Self> {
        let shape = match stateful {
            Stateful::Of(functional) => {
                return Ok(Self::Of(Box::new(ToStateful::new((**functional).clone(), rngs)?)));
            }
            Stateful::Small(shape) => shape,
        };
        let features = shape.features;
        let ones = |size: usize| rngs.full(1., size, DType::F32);
        let norm = || -> Result<Norm> {
            Ok(Norm {
                mean: BatchStat::new(rngs.full(0., features, DType::F32)?),
                var: BatchStat::new(ones(features)?),
                scale: Param::new(ones(features)?),
                bias: Param::new(rngs.full(0., features, DType::F32)?),
                use_running_average: Flag::new(false),
            })
        };
        Ok(Self::Small(Small {
            weight: rngs.param(&Initializer::lecun_normal(), (INPUTS, features))?,
            factor: if shape.has_factor { Some(Factor::new(ones(features)?)) } else { None },
            calls: shape.counts.then(|| Calls::new(0)),
            norm: if shape.normalizes { Some(norm()?) } else { None },
        }))
    }

    fn project(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Small(small) => Ok(x.matmul(&small.weight.value()?)?),
            Self::Of(wrapped) => wrapped.with(|functional, scope| functional.project(scope, x)),
        }
    }
}

impl Module for Built {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Of(wrapped) => Ok(wrapped.options().mutable(mutable()).call(x)?),
            Self::Small(small) => {
                if let Some(calls) = &small.calls {
                    calls.next_count()?;
                }
                let factor = small.factor.as_ref().map(|factor| factor.value()).transpose()?;
                let y = arithmetic(x, &small.weight.value()?, factor.as_ref())?;
                Ok(match &small.norm {
                    Some(norm) => norm.forward(&y)?,
                    None => y,
                })
            }
        }
    }
}

fn mutable() -> CollectionFilter {
    ["batch_stats", "calls"].into()
}

/// What a step gives: the output in evaluation, that of another method, and in training output, gradients and what changed.
#[derive(Debug, PartialEq)]
struct Step {
    evaluated: Vec<f32>,
    projected: Vec<f32>,
    trained: Vec<f32>,
    gradients: Vec<(String, Vec<f32>)>,
    changed: Vec<(String, Vec<f32>)>,
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn loss(y: &Tensor) -> Result<Tensor> {
    Ok((y.sqr()? + y)?.mean_all()?)
}

/// A path without the steps into an enum's variants.
fn plain(path: &Path) -> Path {
    path.keys().iter().filter(|key| matches!(key, PathKey::Name(_))).cloned().collect()
}

/// Leaves with numbers, without what belongs to wrappers.
fn listed<'a>(leaves: impl Iterator<Item = (Path, &'a Leaf)>) -> Vec<(String, Vec<f32>)> {
    let own = |path: &Path| {
        !path.keys().iter().any(|key| matches!(key, PathKey::Name(name) if name.starts_with('<')))
    };
    leaves
        .filter(|(path, _)| own(path))
        .map(|(path, leaf)| {
            let values = match leaf.value.count() {
                Ok(count) => vec![count as f32],
                Err(_) => numbers(leaf.tensor().unwrap()),
            };
            (format!("{}:{}", leaf.kind.name(), plain(&path)), values)
        })
        .collect()
}

/// A state with the leaves of `values` in it, each of which has its place.
fn with_values(state: &State, values: &State) -> State {
    let mut met = 0;
    let with_values = state.map(|path, leaf| {
        Ok(match values.tree().get(&plain(path)) {
            Some(value) => {
                met += 1;
                assert_eq!(value.kind, leaf.kind, "{path}");
                value.clone()
            }
            None => leaf.clone(),
        })
    });
    assert_eq!(met, values.len(), "{state}");
    with_values.unwrap()
}

fn functional_step(model: &Functional, values: &State, x: &Tensor) -> Result<Step> {
    let initial = model.eval().init(key(7), x)?;
    let variables = with_values(&initial.to_state()?, values).to_variables();
    let mut trained = None;
    let (_, updates, gradients) =
        functional::value_and_grad_with(&variables, Filter::of::<Param>(), |variables| {
            let (y, updates) = model.train().apply_mut(variables, functional::Keys::none(), mutable(), x)?;
            trained = Some(numbers(&y));
            Ok((loss(&y)?, updates))
        })?;
    let changed = updates.to_state()?;
    let projected = model.bind(&variables, functional::Keys::none(), false).call_method("project", x)?;
    Ok(Step {
        evaluated: numbers(&model.eval().apply_mut(&variables, functional::Keys::none(), mutable(), x)?.0),
        projected: numbers(&projected),
        trained: trained.unwrap(),
        gradients: listed(gradients.to_state()?.iter()),
        changed: listed(changed.iter()),
    })
}

fn stateful_step(stateful: &Stateful, values: &State, x: &Tensor) -> Result<Step> {
    let built = Built::new(stateful, &Rngs::new(7).with_device(&device()))?;
    eval(&built)?;
    lazy_init(&built, |built| Ok(built.forward(x)?))?;
    let values = with_values(&state(&built)?, values);
    update(&built, &values)?;
    let evaluated = numbers(&built.forward(x)?);
    let projected = numbers(&built.project(x)?);
    update(&built, &values)?;
    train(&built)?;
    let mut trained = None;
    let before = variables(&built)?;
    let (_, gradients) = value_and_grad(&built, Filter::of::<Param>(), |built| {
        let y = built.forward(x)?;
        trained = Some(numbers(&y));
        loss(&y)
    })?;
    // A call keeps the variables.
    let after = variables(&built)?;
    assert!(before.iter().zip(&after).all(|((_, before), (_, after))| before.is_same(after)));
    let collections = mutable();
    let changed =
        state(&built)?.filter(Filter::new(move |_, leaf| collections.contains(leaf.kind.collection())));
    Ok(Step {
        evaluated,
        projected,
        trained: trained.unwrap(),
        gradients: listed(gradients.iter()),
        changed: listed(changed.iter()),
    })
}

/// A tower of so many wrappers on the module, the outermost being functional.
fn functional_tower(shape: &Shape, height: usize) -> Functional {
    match height {
        0 => Functional::Small(shape.clone()),
        _ => Functional::Of(Box::new(stateful_tower(shape, height - 1))),
    }
}

fn stateful_tower(shape: &Shape, height: usize) -> Stateful {
    match height {
        0 => Stateful::Small(shape.clone()),
        _ => Stateful::Of(Box::new(functional_tower(shape, height - 1))),
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1..5usize, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(features, has_factor, normalizes, counts)| Shape { features, has_factor, normalizes, counts },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tower_of_wrappers_computes_what_the_module_computes(
        shape in shapes(),
        height in 1..5usize,
        seed in 0..1000i64,
    ) {
        let x = normal(key(seed), (6, INPUTS), DType::F32, &device()).unwrap();
        let alone = Functional::Small(shape.clone());
        let made = alone.eval().init(key(seed + 1), &x).unwrap().to_state().unwrap();
        // Not what an initializer gives, so that everything takes part.
        let values = made.map(|path, leaf| match leaf.value.count() {
            Ok(_) => Ok(leaf.clone()),
            Err(_) => {
                let form = leaf.value.tensor_form().unwrap().dims();
                let place = made.iter().position(|(other, _)| other == *path).unwrap() as u32;
                let noise = Initializer::uniform(1.).value(key(seed).fold_in(place), &form.into(), DType::F32, &device())?;
                Ok(leaf.with_value((noise.tensor()? + 0.5)?))
            }
        }).unwrap();
        let expected = functional_step(&alone, &values, &x).unwrap();
        prop_assert!(!expected.gradients.is_empty());
        let functional = functional_step(&functional_tower(&shape, height), &values, &x).unwrap();
        prop_assert_eq!(&functional, &expected);
        let stateful = stateful_step(&stateful_tower(&shape, height - 1), &values, &x).unwrap();
        prop_assert_eq!(&stateful, &expected);
    }
}
