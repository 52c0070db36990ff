//! What a stateful module as a functional one can be told, and what it refuses unless it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_functional::{Call, FunctionalModule, Keys, Scope, ScopeError};
use bridge_graph::{GraphError, Policy, Rngs, StatefulModule, clone};
use bridge_random::key;
use bridge_vars::{
    BatchStat, Error, Filter, Leaf, LoraParam, Metadata, Param, Path, Result, Sharding, Tree, Variables,
    VarsError, kinds,
};
use bridge_wrappers::{ToFunctional, ToStateful, to_functional, to_functional_with};
use candle_core::{DType, Module, Tensor};

use crate::modules::{
    MUTABLE, Recaller, assert_error, assert_same, device, input, keys, paths, tensor, to_vec, variable_paths,
};

/// A parameter and a statistic, which each call doubles.
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
struct Doubling {
    weight: Param,
    seen: BatchStat,
}

impl Doubling {
    fn new() -> Result<Self> {
        Ok(Self { weight: Param::new(scalar(2.)?), seen: BatchStat::new(scalar(1.)?) })
    }
}

impl Module for Doubling {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.seen.set((self.seen.value()? * 2.)?)?;
        (x * self.weight.value()?)? + self.seen.value()?
    }
}

fn scalar(value: f32) -> Result<Tensor> {
    Ok(Tensor::new(value, &device())?)
}

fn x() -> Tensor {
    scalar(3.).unwrap()
}

fn doubling() -> ToFunctional<Doubling> {
    to_functional(|_: &Rngs| Doubling::new())
}

fn seen(variables: &Variables) -> f32 {
    to_vec(tensor(variables, "batch_stats", "seen"))[0]
}

#[test]
fn apply_does_not_construct() {
    let constructed = Arc::new(AtomicUsize::new(0));
    let counter = constructed.clone();
    let model = to_functional(move |rngs| {
        counter.fetch_add(1, Ordering::Relaxed);
        Recaller::new(0.5, rngs)
    });
    let variables = model.train().init(keys(0), &input()).unwrap();
    assert_eq!(constructed.load(Ordering::Relaxed), 1);
    model.train().apply_mut(&variables, keys(1), MUTABLE, &input()).unwrap();
    model.eval().apply(&variables, &input()).unwrap();
    assert_eq!(constructed.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_missing_is_refused_or_has_no_value() {
    let model = doubling();
    let variables = model.init(key(0), &x()).unwrap();
    let lacking = variables.filter_collections(|name| name != "params");
    assert_error::<_, GraphError>(
        model.apply_mut(&lacking, key(0), "batch_stats", &x()),
        "the state does not fit the module\n  missing `weight`\nbuild the module as it was for this state, or rename, \
         replace or drop the state's entries",
    );
    assert_error::<_, Error>(
        Err::<(), _>(Error::new(
            model
                .clone()
                .policy(Policy::Partial)
                .apply_mut(&lacking, key(0), "batch_stats", &x())
                .unwrap_err(),
        )),
        "expected a tensor, found no value: `update` it, or merge with a state that has it",
    );
    // A method that does not read it runs.
    for policy in [Policy::Partial, Policy::Subset, Policy::Warn] {
        let lenient = model.clone().policy(policy);
        let read = |scope: &Scope| lenient.with(scope, |module| module.seen.value());
        let (value, _) = Call::new().apply(&lacking, read).unwrap();
        assert_eq!(to_vec(&value), [1.]);
    }
}

#[test]
fn unknown_paths_are_refused_or_left_alone() {
    let model = doubling();
    let mut variables = model.init(key(0), &x()).unwrap();
    variables.insert(&Path::from("wait"), Param::leaf(scalar(1.).unwrap())).unwrap();
    variables.insert(&Path::from("deep.down"), Param::leaf(scalar(1.).unwrap())).unwrap();
    assert_error::<_, GraphError>(
        model.apply_mut(&variables, key(0), "batch_stats", &x()),
        "the state does not fit the module\n  unexpected `deep.down`\n  unexpected `wait`\nbuild the module as it was \
         for this state, or rename, replace or drop the state's entries",
    );
    for policy in [Policy::Partial, Policy::Warn] {
        let lenient = model.clone().policy(policy);
        let (y, updates) = lenient.apply_mut(&variables, key(0), "batch_stats", &x()).unwrap();
        assert_eq!((to_vec(&y)[0], seen(&updates)), (8., 2.));
    }
}

#[test]
fn a_value_in_another_collection_is_not_taken() {
    let model = doubling();
    let variables = model.init(key(0), &x()).unwrap();
    let mut moved = variables.clone();
    let weight = moved.remove("params", "weight").unwrap();
    let kind = bridge_vars::VariableType::from_collection("foo");
    moved.insert(&Path::from("weight"), Leaf::new(kind, weight.tensor().unwrap())).unwrap();
    assert_error::<_, GraphError>(
        model.apply_mut(&moved, key(0), "batch_stats", &x()),
        "the state does not fit the module\n  `weight`: expected Param f32[], found foo f32[]\nbuild the module as it \
         was for this state, or rename, replace or drop the state's entries",
    );
}

#[test]
fn one_path_in_two_collections_is_refused() {
    let model = doubling();
    let mut variables = model.init(key(0), &x()).unwrap();
    variables.insert(&Path::from("weight"), BatchStat::leaf(scalar(5.).unwrap())).unwrap();
    assert_error::<_, VarsError>(
        model.apply_mut(&variables, key(0), "batch_stats", &x()),
        "`weight` is there twice, as `BatchStat` and as `Param`: rename one, or keep them apart by a filter",
    );
}

#[test]
fn immutable_writes_are_refused_or_dropped_on_request() {
    let model = doubling();
    let variables = model.init(key(0), &x()).unwrap();
    assert_error::<_, ScopeError>(
        model.apply(&variables, &x()),
        "`seen` can not change: the collection `batch_stats` is not mutable in this call, mutable: none; use \
         `apply_mut` with \"batch_stats\", or `.mutable(\"batch_stats\")` where it is wrapped",
    );
    let dropping = model.clone().drop_immutable_writes();
    assert_eq!(to_vec(&dropping.apply(&variables, &x()).unwrap()), [8.]);
    let (y, updates) = dropping.apply_mut(&variables, key(0), "params", &x()).unwrap();
    assert_eq!((to_vec(&y)[0], updates.collections().collect::<Vec<_>>()), (8., vec!["params"]));
    let (_, updates) = dropping.apply_mut(&variables, key(0), "batch_stats", &x()).unwrap();
    assert_eq!((seen(&updates), seen(&variables)), (2., 1.));
}

/// Calls a child three times.
#[derive(Clone, Debug, PartialEq)]
struct Thrice(ToFunctional<Doubling>);

impl FunctionalModule for Thrice {
    type Output = Vec<Tensor>;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Vec<Tensor>> {
        let child = scope.child_named("child", self.0.clone())?;
        (0..3).map(|_| child.call(x)).collect()
    }
}

#[test]
fn calls_in_one_call_go_on_from_each_other_where_they_may_change_something() {
    let model = Thrice(doubling().drop_immutable_writes());
    let first = |ys: Vec<Tensor>| ys.iter().map(|y| to_vec(y)[0]).collect::<Vec<_>>();
    let (ys, variables) = model.init_with_output(key(0), &x()).unwrap();
    assert_eq!(to_vec(tensor(&variables, "batch_stats", "child.seen")), [1.]);
    assert_eq!(ys.len(), 3);
    let (ys, updates) = model.apply_mut(&variables, key(0), "batch_stats", &x()).unwrap();
    assert_eq!(first(ys), [8., 10., 14.]);
    assert_eq!(to_vec(tensor(&updates, "batch_stats", "child.seen")), [8.]);
    assert_eq!(first(model.apply(&variables, &x()).unwrap()), [8., 8., 8.]);
}

/// What a module of two streams draws.
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
struct Draws {
    dropout: bridge_stateful::Dropout,
}

impl Module for Draws {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.dropout.forward(x)?)
    }
}

fn ones() -> Tensor {
    Tensor::ones(64, DType::F32, &device()).unwrap()
}

#[test]
fn one_key_gives_init_and_apply_the_same_numbers() {
    let model = to_functional(|rngs| Ok(Draws { dropout: bridge_stateful::Dropout::new(0.5, rngs)? }));
    let (y, variables) = model.init_with_output(keys(0), &ones()).unwrap();
    let drawn = |seed| model.train().apply_mut(&variables, keys(seed), false, &ones()).unwrap().0;
    assert_same(&drawn(0), &y);
    assert_ne!(to_vec(&drawn(1)), to_vec(&y));
}

#[test]
fn without_random_streams_nothing_is_drawn_from_the_call() {
    let make = |rngs: &Rngs| {
        assert_eq!(rngs.iter().count(), 0);
        Ok(Draws { dropout: bridge_stateful::Dropout::new(0.5, &Rngs::new(7))? })
    };
    let model = to_functional(make).skip_rng();
    let after = |keys: Keys| {
        Call::new().keys(keys).init(|scope| {
            model.call(scope, &ones())?;
            scope.make_rng("params")
        })
    };
    let (next, variables) = after(key(0).into()).unwrap();
    let first = Call::new().keys(key(0)).init(|scope| scope.make_rng("params")).unwrap().0;
    assert_eq!(next, first);
    // The module's own stream goes on, whatever keys the call has.
    let masks = [key(1), key(2)]
        .map(|key| model.train().apply_mut(&variables, [("dropout", key)], "RngCount", &ones()).unwrap().0);
    assert_same(&masks[0], &masks[1]);
    let unwrapped = bridge_stateful::Dropout::new(0.5, &Rngs::new(7)).unwrap();
    assert_same(&masks[0], &unwrapped.forward(&ones()).unwrap());
}

#[test]
fn a_metadata_function_says_what_is_stored() {
    let note = |path: &Path, leaf: &Leaf| {
        let names = ["rows", "columns"].into_iter().take(leaf.tensor().map_or(0, Tensor::rank));
        Metadata::default().with("at", path.to_string()).with_sharding(&Sharding::new(names))
    };
    let model = to_functional(|rngs| bridge_stateful::Linear::new(3, 2, rngs)).metadata(note);
    let variables = model.init(key(0), &input()).unwrap();
    let kernel = variables.get("params", "kernel").unwrap();
    assert_eq!(kernel.metadata.get("at").unwrap(), "kernel");
    assert_eq!(kernel.partition_spec().unwrap().to_string(), "P(rows, columns)");
    assert_eq!(variables.get("params", "bias").unwrap().partition_spec().unwrap().to_string(), "P(rows)");
    // It holds for what calls store, too.
    let stored = doubling().metadata(|path, _| Metadata::default().with("at", path.to_string()));
    let variables = stored.init(key(0), &x()).unwrap();
    let (_, updates) = stored.apply_mut(&variables, key(0), "batch_stats", &x()).unwrap();
    assert_eq!(updates.get("batch_stats", "seen").unwrap().metadata.get("at").unwrap(), "seen");
    // Two with functions of different types differ.
    assert_ne!(stored, doubling());
}

#[test]
fn without_a_metadata_function_it_is_the_variables_own() {
    let plain = doubling().init(key(0), &x()).unwrap();
    assert!(plain.get("params", "weight").unwrap().metadata.is_empty());
    let noted = to_functional(|_: &Rngs| {
        let module = Doubling::new()?;
        module.weight.set_metadata(Metadata::default().with("frozen", true));
        Ok(module)
    });
    let variables = noted.init(key(0), &x()).unwrap();
    assert_eq!(variables.get("params", "weight").unwrap().metadata.get("frozen").unwrap(), true);
}

#[test]
fn metadata_at_apply_is_that_of_the_variables_that_are_given() {
    let model = doubling();
    let variables = model.init(key(0), &x()).unwrap();
    let noted = variables
        .map(|_, leaf| Ok(Leaf { metadata: Metadata::default().with("by", "hand"), ..leaf.clone() }))
        .unwrap();
    for given in [&variables, &noted] {
        let (y, updates) = model.apply_mut(given, key(0), "batch_stats", &x()).unwrap();
        assert_eq!((to_vec(&y)[0], seen(&updates)), (8., 2.));
        let kept = &given.get("batch_stats", "seen").unwrap().metadata;
        assert_eq!(&updates.get("batch_stats", "seen").unwrap().metadata, kept);
    }
}

fn linear(inputs: usize, outputs: usize) -> ToFunctional<bridge_stateful::Linear, (usize, usize)> {
    to_functional_with((inputs, outputs), |(inputs, outputs), rngs| {
        bridge_stateful::Linear::new(*inputs, *outputs, rngs)
    })
}

#[test]
fn arguments_are_seen_compared_and_kept_in_files() {
    let model = linear(3, 2);
    assert_eq!(model.arguments(), &(3, 2));
    assert_eq!(model, linear(3, 2));
    assert_ne!(model, linear(3, 4));
    let variables = model.init(key(0), &input()).unwrap();
    let same = to_functional(|rngs| bridge_stateful::Linear::new(3, 2, rngs)).init(key(0), &input()).unwrap();
    assert!(
        variables
            .filter_collections(|name| name == "params")
            .identical(&same.filter_collections(|name| name == "params"))
            .unwrap()
    );
    let text = serde_json::to_string(&model.clone().policy(Policy::Subset)).unwrap();
    assert_eq!(
        text,
        r#"{"arguments":[3,2],"options":{"policy":"subset","drop_immutable_writes":false,"skip_rng":false}}"#
    );
    let read: ToFunctional<bridge_stateful::Linear, (usize, usize)> = serde_json::from_str(&text).unwrap();
    assert_eq!(read.arguments(), &(3, 2));
    assert_same(&read.apply(&variables, &input()).unwrap(), &model.apply(&variables, &input()).unwrap());
}

#[test]
fn an_instance_is_wrapped_by_copies_of_it() {
    let instance = Recaller::new(0., &Rngs::from_streams(keys(5))).unwrap();
    instance.weight.set((instance.weight.value().unwrap() * 3.).unwrap()).unwrap();
    let weight = instance.weight.value().unwrap();
    let model = to_functional(move |_: &Rngs| clone(&instance));
    for seed in [0, 1] {
        let variables = model.train().init(keys(seed), &input()).unwrap();
        assert_same(tensor(&variables, "params", "weight"), &weight);
        assert_eq!(variables.get("recollections", "calls").unwrap().value.count().unwrap(), 0);
    }
}

/// A functional module with a named child.
#[derive(Clone, Debug, PartialEq)]
struct Named(bridge_functional::Named<ToFunctional<Recaller>>);

impl FunctionalModule for Named {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.call(&self.0, x)
    }
}

#[test]
fn it_has_the_name_that_it_is_given() {
    let model = Named(to_functional(|rngs| Recaller::new(0., rngs)).named("dot"));
    let variables = model.train().init(keys(0), &input()).unwrap();
    let below = |path: &String| path.split('.').nth(1) == Some("dot");
    assert!(variable_paths(&variables).iter().all(below));
    assert_eq!(variables.get("params", "dot.weight").unwrap().tensor().unwrap().dims(), [3, 4]);
}

#[test]
fn a_bound_module_runs_any_method_and_keeps_its_changes() {
    let model = doubling();
    let variables = model.init(key(0), &x()).unwrap();
    let bound = model.bind(&variables, key(0), "batch_stats");
    assert_eq!(to_vec(&bound.call(&x()).unwrap()), [8.]);
    let weight = bound.with(|model, scope| model.with(scope, |module| module.weight.value())).unwrap();
    assert_eq!(to_vec(&weight), [2.]);
    assert_eq!(to_vec(&bound.call(&x()).unwrap()), [10.]);
    let (unbound, after) = bound.unbind();
    assert_eq!(unbound, model);
    assert_eq!((seen(&after), seen(&variables)), (4., 1.));
    // By name there is the call alone.
    assert_error::<_, ScopeError>(
        model.bind(&variables, key(0), "batch_stats").call_method("attend", &x()),
        "`ToFunctional` has no method `attend` to call by name, found none: name it in `FunctionalModule::methods`, or \
         call it in a closure",
    );
}

kinds! {
    /// A parameter in a collection of its own.
    Scale(ScaleKind) in "scales": Param;
    /// A type of the same collection.
    Shift(ShiftKind) in "scales": Param;
}

/// Variables of types that descend from each other, and a tensor that is none.
#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct Types {
    weight: Param,
    adapter: LoraParam,
    scale: Scale,
    shift: Shift,
    table: Tensor,
    tables: Vec<Tensor>,
}

impl Module for Types {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = x.broadcast_mul(&self.weight.value()?)?.broadcast_mul(&self.adapter.value()?)?;
        let y = y.broadcast_mul(&self.scale.value()?)?.broadcast_add(&self.shift.value()?)?;
        y.broadcast_mul(&self.table)?.broadcast_mul(&self.tables[1])
    }
}

fn types() -> ToFunctional<Types> {
    to_functional(|_: &Rngs| {
        Ok(Types {
            weight: Param::new(scalar(2.)?),
            adapter: LoraParam::new(scalar(3.)?),
            scale: Scale::new(scalar(5.)?),
            shift: Shift::new(scalar(1.)?),
            table: scalar(7.)?,
            tables: vec![scalar(1.)?, scalar(11.)?],
        })
    })
}

#[test]
fn each_type_is_in_its_own_collection() {
    let variables = types().init(key(0), &x()).unwrap();
    let expected = [
        "LoRAParam.adapter",
        "nnx.<graphdef>",
        "params.weight",
        "scales.scale",
        "scales.shift",
        "tensors.table",
        "tensors.tables.0",
        "tensors.tables.1",
    ];
    assert_eq!(variable_paths(&variables), expected);
    assert_eq!(variables.get("scales", "shift").unwrap().kind, Shift::variable_type());
    // Filters see the hierarchy, collections do not.
    let params = variables.filter(Filter::of::<Param>());
    assert_eq!(variable_paths(&params), [expected[0], expected[2], expected[3], expected[4]]);
    assert_eq!(to_vec(&types().apply(&variables, &x()).unwrap()), [(3. * 30. + 1.) * 77.]);
}

#[test]
fn a_bare_tensor_is_in_the_collection_tensors_and_never_changes() {
    let model = types();
    let variables = model.init(key(0), &x()).unwrap();
    // Another one is taken as it is given.
    let mut given = variables.clone();
    let other = scalar(70.).unwrap();
    given.insert(&"table".into(), variables.get("tensors", "table").unwrap().with_value(other)).unwrap();
    assert_eq!(to_vec(&model.apply(&given, &x()).unwrap()), [91. * 770.]);
    let (_, updates) = model.apply_mut(&given, key(0), "tensors", &x()).unwrap();
    assert_eq!(variable_paths(&updates), ["tensors.table", "tensors.tables.0", "tensors.tables.1"]);
    assert_same(tensor(&updates, "tensors", "table"), tensor(&given, "tensors", "table"));
    // It can not be left out, under any policy.
    let lacking = variables.filter_collections(|name| name != "tensors");
    for policy in [Policy::Strict, Policy::Partial] {
        let error = model.clone().policy(policy).apply(&lacking, &x()).unwrap_err();
        let missing = ["table", "tables.0", "tables.1"].map(|path| format!("missing `{path}`"));
        assert!(missing.iter().all(|line| error.to_string().contains(line)), "{error}");
    }
    // A wrapper around keeps it as a variable of that collection, and gradients do not ask for it.
    let outer = ToStateful::new(model, key(0)).unwrap().lazy_init(&x()).unwrap();
    assert_eq!(outer.variable("table").unwrap().kind().collection(), "tensors");
    let (_, gradients) =
        bridge_graph::value_and_grad(&outer, Filter::of::<Param>(), |outer| outer.call(&x())).unwrap();
    assert_eq!(paths(&gradients), ["adapter", "scale", "shift", "weight"]);
}

#[test]
fn a_shared_variable_is_found_under_any_of_its_paths() {
    #[derive(StatefulModule)]
    struct Tied {
        decode: Param,
        encode: Param,
        seen: BatchStat,
    }
    impl Module for Tied {
        fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
            self.seen.set(x)?;
            (x * self.decode.value()?)? * self.encode.value()?
        }
    }
    let model = to_functional(|_: &Rngs| {
        let decode = Param::new(scalar(2.)?);
        Ok(Tied { encode: decode.clone(), decode, seen: BatchStat::new(scalar(0.)?) })
    });
    let variables = model.init(key(0), &x()).unwrap();
    let mut renamed = variables.clone();
    let decode = renamed.remove("params", "decode").unwrap();
    renamed.insert(&"encode".into(), decode).unwrap();
    let (y, updates) = model.apply_mut(&renamed, key(0), "batch_stats", &x()).unwrap();
    assert_eq!((to_vec(&y), seen(&updates)), (vec![12.], 3.));
}

#[test]
fn a_leaf_is_in_the_collection_of_its_type() {
    let mut variables = Variables::default();
    variables.insert(&"a".into(), Param::leaf(1)).unwrap();
    variables.insert(&"a".into(), BatchStat::leaf(2)).unwrap();
    assert_eq!(variable_paths(&variables), ["batch_stats.a", "params.a"]);
    // A tree that says otherwise is believed where it stands, and its type where it is merged.
    let mut tree = Tree::from(doubling().init(key(0), &x()).unwrap());
    let weight = Path::from("params.weight");
    let Some(Tree::Leaf(leaf)) = tree.remove(&weight) else { panic!("no weight") };
    tree.insert(&"foo.weight".into(), leaf).unwrap();
    let (y, _) = doubling().apply_mut(&tree.into(), key(0), "batch_stats", &x()).unwrap();
    assert_eq!(to_vec(&y), [8.]);
}
