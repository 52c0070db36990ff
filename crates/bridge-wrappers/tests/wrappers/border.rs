//! What goes over the border between the two kinds of module, one wrapper deep and several.

use bridge_functional::{Dense, Dropout, FunctionalModule, Scope};
use bridge_graph::{Rngs, Shared, StatefulModule, WeakShared, eval, split_rngs, state, train};
use bridge_random::{Initializer, key};
use bridge_vars::{
    BatchStat, Cache, Filter, Hooks, Leaf, Metadata, Param, Result, Sharding, Value, Variable, Variables,
    kinds, with_logical_partitioning, with_metadata, with_partitioning,
};
use bridge_wrappers::{ToFunctional, ToStateful, functional, lazy_init, rngs_from_scope, to_functional};
use candle_core::{DType, Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::{
    Around, MUTABLE, Outer, Recall, Recaller, assert_same, device, input, keys, tensor, to_vec,
    variable_paths,
};
use crate::nesting::Around as AroundRecaller;

fn scalar(value: f32) -> Result<Tensor> {
    Ok(Tensor::new(value, &device())?)
}

/// A functional module inside of a stateful one inside of a functional one.
fn in_functional<F: FunctionalModule<Output = Tensor> + bridge_graph::Static>(
    module: F,
) -> Around<ToFunctional<Outer<ToStateful<F>>>> {
    Around(to_functional(move |rngs| Ok(Outer { inner: ToStateful::new(module.clone(), rngs)? })))
}

/// A stateful module inside of a functional one inside of a stateful one.
fn in_stateful<M: bridge_graph::Field + Module>(
    make: impl Fn(&Rngs) -> Result<M> + Send + Sync + 'static,
) -> Outer<ToStateful<Around<ToFunctional<M>>>> {
    let inner = ToStateful::new(Around(to_functional(make)), &Rngs::from_streams(keys(0))).unwrap();
    Outer { inner: inner.mutable(MUTABLE) }
}

fn ready<M: Module + bridge_graph::Visit>(model: M, x: &Tensor) -> M {
    lazy_init(&model, |model| Ok(model.forward(x)?)).unwrap();
    model
}

#[test]
fn dropout_reaches_through_two_wrappers_and_stops_in_evaluation() {
    let x = Tensor::ones(64, DType::F32, &device()).unwrap();
    let model = in_functional(Dropout::new(0.5));
    let variables = model.train().init(keys(0), &x).unwrap();
    let drop = |seed| model.train().apply_mut(&variables, keys(seed), false, &x).unwrap().0;
    assert_same(&drop(1), &drop(1));
    assert_ne!(to_vec(&drop(1)), to_vec(&drop(2)));
    assert!(to_vec(&drop(1)).iter().all(|y| [0., 2.].contains(y)));
    assert_same(&model.eval().apply(&variables, &x).unwrap(), &x);

    let model = ready(in_stateful(|rngs| bridge_stateful::Dropout::new(0.5, rngs)), &x);
    let masks = [(); 3].map(|()| to_vec(&model.forward(&x).unwrap()));
    assert!(masks[0] != masks[1] && masks[0] != masks[2] && masks[1] != masks[2]);
    assert!(masks.iter().flatten().all(|y| [0., 2.].contains(y)));
    eval(&model).unwrap();
    assert_same(&model.forward(&x).unwrap(), &x);
    train(&model).unwrap();
    assert_ne!(to_vec(&model.forward(&x).unwrap()), to_vec(&x));
}

fn calls(leaf: &Leaf) -> u32 {
    leaf.value.count().unwrap()
}

#[test]
fn statistics_and_memory_change_two_wrappers_down() {
    let (model, x) = (in_functional(Recall { rate: 0. }), input());
    let mut variables = model.train().init(keys(0), &x).unwrap();
    let weight = tensor(&variables, "params", "inner.inner.weight").clone();
    let y = x.matmul(&weight).unwrap();
    let mut expected = vec![0f32; 4];
    for call in 1..4 {
        let (_, updates) = model.train().apply_mut(&variables, keys(call), MUTABLE, &x).unwrap();
        variables = variables.updated(&updates).unwrap();
        let mean = to_vec(&y.mean(0).unwrap());
        expected.iter_mut().zip(mean).for_each(|(old, new)| *old = 0.99 * *old + 0.01 * new);
        let found = to_vec(tensor(&variables, "batch_stats", "inner.inner.norm.mean"));
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
        assert_eq!(i64::from(calls(variables.get("memory", "inner.inner.calls").unwrap())), call);
    }
    let model = ready(in_stateful(|rngs| Recaller::new(0., rngs)), &x);
    let [mean, counted] = ["inner.norm.mean", "inner.calls"].map(|path| model.inner.variable(path).unwrap());
    for call in 1..4 {
        model.forward(&x).unwrap();
        assert_eq!(counted.count().unwrap(), call);
        assert!(to_vec(&mean.value().unwrap()).iter().any(|mean| *mean != 0.));
    }
    assert!(mean.is_same(&model.inner.variable("inner.norm.mean").unwrap()));
}

#[test]
fn a_mode_reaches_through_wrappers_and_goes_no_further_than_its_call() {
    let (model, x) = (AroundRecaller::new(0.5), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    let quiet = model.eval().apply(&variables, &x).unwrap();
    model.train().apply_mut(&variables, keys(1), MUTABLE, &x).unwrap();
    assert_same(&model.eval().apply(&variables, &x).unwrap(), &quiet);
    // What a call in training stores is a module that has no mode of that call.
    let (_, updates) = model.eval().apply_mut(&variables, keys(1), true, &x).unwrap();
    let nnx = |variables: &Variables| variables.filter_collections(|name| name == "nnx");
    assert!(nnx(&updates).identical(&nnx(&variables)).unwrap());
}

/// Keeps the last input, in a collection that models of language use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FunctionalCache;

impl FunctionalModule for FunctionalCache {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let cache = scope.variable("cache", "last", || Ok(x.zeros_like()?))?;
        let before = cache.get()?;
        if !scope.is_initializing() {
            cache.set(x)?;
        }
        Ok(before)
    }
}

#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
struct StatefulCache {
    last: Cache,
}

impl Module for StatefulCache {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let before = self.last.value()?;
        self.last.set(x)?;
        Ok(before)
    }
}

#[test]
fn caches_change_two_wrappers_down() {
    let x = [1., 2., 3.].map(|value| scalar(value).unwrap());
    let model = in_functional(FunctionalCache);
    let mut variables = model.init(key(0), &x[0]).unwrap();
    let mut given = Vec::new();
    for x in &x {
        let (y, updates) = model.apply_mut(&variables, key(0), "cache", x).unwrap();
        assert_eq!(variable_paths(&updates), ["cache.inner.inner.last"]);
        variables = variables.updated(&updates).unwrap();
        given.push(to_vec(&y)[0]);
    }
    assert_eq!(given, [0., 1., 2.]);

    let inner = Around(to_functional(|_: &Rngs| Ok(StatefulCache { last: Cache::new(scalar(0.)?) })));
    let wrapped = ToStateful::new(inner, key(0)).unwrap().mutable("cache");
    let model = ready(Outer { inner: wrapped }, &x[0]);
    assert_eq!(x.map(|x| to_vec(&model.forward(&x).unwrap())[0]), [0., 1., 2.]);
}

/// One wrapped module in two places, and a variable of it in a third.
#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct Sharing {
    first: Shared<ToStateful<Dense>>,
    second: Shared<ToStateful<Dense>>,
    kernel: Option<Variable>,
}

impl Sharing {
    fn new(rngs: &Rngs) -> Result<Self> {
        let dense = Dense::new(3).without_bias().kernel_init(Initializer::Constant(2.));
        let first = Shared::new(ToStateful::new(dense, rngs)?.lazy_init(&input())?);
        let kernel = Some(first.variable("kernel")?);
        Ok(Self { second: first.clone(), first, kernel })
    }
}

impl Module for Sharing {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        assert!(self.first.is_same(&self.second));
        let kernel = self.kernel.as_ref().unwrap();
        assert!(kernel.is_same(&self.first.variable("kernel")?));
        self.second.call(&x.matmul(&kernel.value()?)?).map_err(Into::into)
    }
}

#[test]
fn what_is_shared_is_shared_on_the_other_side_too() {
    let (model, x) = (Around(to_functional(Sharing::new)), input());
    let variables = model.init(key(0), &x).unwrap();
    let params = variables.filter_collections(|name| name == "params");
    assert_eq!(variable_paths(&params), ["params.inner.first.kernel"]);
    let y = model.apply(&variables, &x).unwrap();
    let (_, gradients) = bridge_functional::value_and_grad(&variables, Filter::of::<Param>(), |variables| {
        Ok(model.apply(variables, &x)?.sum_all()?)
    })
    .unwrap();
    assert_eq!(gradients.len(), 1);
    // Two wrappers down it is still one.
    let outer = ToStateful::new(model, key(0)).unwrap().lazy_init(&x).unwrap();
    assert_same(&outer.call(&x).unwrap(), &y);
    let kernels = outer.variables().unwrap().filter_collections(|name| name == "params");
    assert_eq!(variable_paths(&kernels), ["params.inner.first.kernel"]);
    let kernel = outer.variable("inner.first.kernel").unwrap();
    kernel.set((kernel.value().unwrap() * 2.).unwrap()).unwrap();
    assert_same(&outer.call(&x).unwrap(), &(y * 4.).unwrap());
}

/// A part that knows what it is in.
#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct Circle {
    factor: Param,
    back: WeakShared<Circle>,
}

#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct Holder(Shared<Circle>);

impl Module for Holder {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        assert!(self.0.back.upgrade().unwrap().is_same(&self.0));
        x * self.0.factor.value()?
    }
}

#[test]
fn a_cycle_goes_over_the_border() {
    let model = to_functional(|_: &Rngs| {
        let factor = Param::new(scalar(2.)?);
        Ok(Holder(Shared::new_cyclic(|back| Circle { factor, back: back.clone() })))
    });
    let x = scalar(3.).unwrap();
    let variables = model.init(key(0), &x).unwrap();
    assert_eq!(variable_paths(&variables), ["nnx.<graphdef>", "params.0.factor"]);
    assert_eq!(to_vec(&model.apply(&variables, &x).unwrap()), [6.]);
}

kinds! {
    /// A type of one's own.
    Trace(TraceKind) in "traces";
}

#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
struct Traced {
    trace: Trace,
}

impl Module for Traced {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.trace.set((self.trace.value()? + x)?)?;
        Ok(self.trace.value()?)
    }
}

#[test]
fn types_of_ones_own_go_through_two_wrappers() {
    let inner = Around(to_functional(|_: &Rngs| Ok(Traced { trace: Trace::new(scalar(0.)?) })));
    let model = ToStateful::new(inner, key(0)).unwrap().mutable("traces");
    let model = model.lazy_init(&scalar(1.).unwrap()).unwrap();
    assert_eq!(model.variable("inner.trace").unwrap().kind(), Trace::variable_type());
    assert_eq!([1., 2.].map(|x| to_vec(&model.call(&scalar(x).unwrap()).unwrap())[0]), [1., 3.]);
    let (_, variables) = to_functional(move |_: &Rngs| bridge_graph::clone(&model))
        .init_with_output(key(0), &scalar(1.).unwrap())
        .unwrap();
    assert_eq!(variables.get("traces", "inner.trace").unwrap().kind, Trace::variable_type());
}

fn partitioned() -> Dense {
    let rules = [("embed", ""), ("mlp", "model")];
    Dense::new(4)
        .kernel_init(with_logical_partitioning(Initializer::lecun_normal(), ["embed", "mlp"], rules))
        .bias_init(with_partitioning(
            with_metadata(Initializer::Zeros, Metadata::default().with("note", "kept").with_hooks(hooks())),
            ["mlp"],
        ))
}

fn hooks() -> Hooks {
    Hooks::new("border_shift").on_get(|_, value| Ok(Value::from((value.tensor()? + 1.)?)))
}

#[test]
fn metadata_goes_through_wrappers_and_comes_back_the_same() {
    let (dense, x) = (partitioned(), input());
    let expected = dense.init(key(0).fold_in(0), &x).unwrap();
    let sharding = expected.get("params", "kernel").unwrap().metadata.sharding().unwrap().unwrap();
    assert_eq!(sharding, Sharding::new(["embed", "mlp"]).with_rule("embed", "").with_rule("mlp", "model"));
    // To a variable and back.
    let model = ToStateful::new(dense.clone(), key(0)).unwrap().lazy_init(&x).unwrap();
    let kernel = model.variable("kernel").unwrap();
    assert_eq!(kernel.metadata().sharding().unwrap().unwrap(), sharding);
    assert_eq!(model.variable("bias").unwrap().metadata().get("note").unwrap(), "kept");
    assert!(model.variables().unwrap().identical(&expected).unwrap());
    let seen = model.with(|_, scope| Ok(scope.get("params", "kernel"))).unwrap().unwrap();
    assert_eq!(seen.metadata.sharding().unwrap().unwrap(), sharding);
    // Through two wrappers and back.
    let deep = in_functional(dense);
    let variables = deep.init(key(0), &x).unwrap();
    let part = variables.subtree("inner.inner").unwrap().filter_collections(|name| name == "params");
    let same = |(path, leaf): (bridge_vars::Path, &Leaf)| {
        let found = part.iter().find(|(other, _)| *other == path).unwrap().1;
        assert_eq!(found.metadata, leaf.metadata, "{path}");
    };
    expected.iter().for_each(same);
    let specs = variables.partition_specs().unwrap();
    assert_eq!(specs.get(&"params.inner.inner.kernel".into()).unwrap().to_string(), "P(None, model)");
    let outer = ToStateful::new(deep, key(0)).unwrap().lazy_init(&x).unwrap();
    assert_eq!(
        outer.variable("inner.inner.kernel").unwrap().metadata().sharding().unwrap().unwrap(),
        sharding
    );
    // A call that changes the value keeps what is said about it.
    let set = |_: &Around<_>, scope: &Scope| {
        let kernel = scope.subtree(&"params".into()).unwrap();
        let leaf = kernel.get(&"inner.inner.kernel".into()).unwrap();
        scope.put(&"inner.inner.kernel".into(), leaf.with_value((leaf.tensor()? * 2.)?))
    };
    outer.options().mutable("params").with(set).unwrap();
    assert_eq!(
        outer.variable("inner.inner.kernel").unwrap().metadata().sharding().unwrap().unwrap(),
        sharding
    );
}

#[test]
fn axes_that_come_and_go_are_known_on_the_other_side() {
    let model = ToStateful::new(partitioned(), key(0)).unwrap().lazy_init(&input()).unwrap();
    let kernel = model.variable("kernel").unwrap();
    kernel.add_axis(0, Some("layers")).unwrap();
    let spec = |model: &ToStateful<Dense>| {
        let variables = model.variables().unwrap();
        let names = variables.get("params", "kernel").unwrap().metadata.sharding().unwrap().unwrap().names;
        names.into_iter().map(|name| name.unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(spec(&model), ["layers", "embed", "mlp"]);
    kernel.remove_axis(0, Some("layers")).unwrap();
    assert_eq!(spec(&model), ["embed", "mlp"]);
}

#[test]
fn streams_for_a_stateful_module_are_one_key_of_each_stream_of_the_call() {
    let call = bridge_functional::Call::new().keys(keys(0));
    let (drawn, _) = call
        .clone()
        .apply(&Variables::default(), |scope| {
            let rngs = rngs_from_scope(scope)?;
            assert_eq!(rngs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["params", "dropout"]);
            Ok([rngs.draw("params")?, rngs.draw("dropout")?, scope.make_rng("params")?])
        })
        .unwrap();
    let made = |stream| {
        let make = |scope: &Scope| Ok([scope.make_rng(stream)?, scope.make_rng(stream)?]);
        call.clone().apply(&Variables::default(), make).unwrap().0
    };
    let (params, dropout) = (made("params"), made("dropout"));
    assert_eq!(drawn, [params[0].fold_in(0), dropout[0].fold_in(0), params[1]]);
}

#[test]
fn split_streams_are_refused_until_they_are_whole_again() {
    let x = Tensor::ones(64, DType::F32, &device()).unwrap();
    let model = ToStateful::new(Dropout::new(0.5), &Rngs::from_streams(keys(0))).unwrap();
    let backup = split_rngs(&model, 2, Filter::tag("dropout")).unwrap();
    crate::modules::assert_error::<_, bridge_graph::GraphError>(
        model.call(&x),
        "the random stream `dropout` holds a batch of keys of shape [2]: draw from one of its lanes, `stream.lanes()?`, \
         or restore what it was split from",
    );
    backup.restore();
    let mask = model.call(&x).unwrap();
    assert!(to_vec(&mask).iter().all(|y| [0., 2.].contains(y)));
}

#[test]
fn a_stateful_class_runs_functionally_and_its_original_stays_as_it_was() {
    let original = Recaller::new(0., &Rngs::from_streams(keys(0))).unwrap();
    let before = state(&original).unwrap();
    let source = bridge_graph::clone(&original).unwrap();
    let api = functional(move |_| bridge_graph::clone(&source));
    let first = api.init(&Rngs::empty()).unwrap();
    let (_, second) = api.apply(&first, |model| model.forward(&input())).unwrap();
    assert_eq!(second.get("calls").unwrap().value.count().unwrap(), 1);
    assert!(state(&original).unwrap().identical(&before).unwrap());
}

#[test]
fn variables_that_a_functional_module_does_not_know_come_back_as_they_are() {
    let mut variables = Dense::new(2).init(key(0), &input()).unwrap();
    variables.insert(&"unknown.part".into(), Param::leaf(scalar(1.).unwrap())).unwrap();
    variables.insert(&"unknown".into(), BatchStat::leaf(scalar(2.).unwrap())).unwrap();
    let (_, updates) = Dense::new(2).apply_mut(&variables, key(0), true, &input()).unwrap();
    assert!(updates.identical(&variables).unwrap());
}
