//! Variables of one kind of module as those of the other, without any wrapper.

use bridge_functional::{Dense, FunctionalModule};
use bridge_graph::{Rngs, graphdef, merge, split, state, update};
use bridge_random::{Initializer, key};
use bridge_stateful::Linear;
use bridge_vars::{
    BatchStat, Cache, Filter, Intermediate, Leaf, LoraParam, Metadata, Param, Path, Perturbation, RngKey,
    RngState, Sharding, State, Tree, Variable, VariableType, Variables, VarsError, with_partitioning,
};
use bridge_wrappers::{ToStateful, to_functional};
use candle_core::Tensor;

use crate::modules::{
    MUTABLE, Recall, Recaller, assert_error, assert_same, device, input, keys, paths, variable_paths,
};

fn param(value: f32) -> Leaf {
    Param::leaf(Tensor::new(value, &device()).unwrap())
}

#[test]
fn functional_variables_become_a_stateful_modules_state() {
    let dense = Dense::new(4);
    let variables = dense.init(key(0), &input()).unwrap();
    let linear = Linear::new(3, 4, &Rngs::new(9)).unwrap();
    update(&linear, &variables.to_state().unwrap()).unwrap();
    assert_same(&linear.forward(&input()).unwrap(), &dense.apply(&variables, &input()).unwrap());
    let merged = merge(&graphdef(&linear).unwrap(), &variables.to_state().unwrap()).unwrap();
    assert_same(&merged.forward(&input()).unwrap(), &linear.forward(&input()).unwrap());
}

#[test]
fn a_stateful_modules_state_becomes_functional_variables() {
    let linear = Linear::new(3, 4, &Rngs::new(0)).unwrap();
    let variables = state(&linear).unwrap().to_variables();
    assert_eq!(variable_paths(&variables), ["params.bias", "params.kernel"]);
    assert_same(&Dense::new(4).apply(&variables, &input()).unwrap(), &linear.forward(&input()).unwrap());
}

#[test]
fn to_a_state_and_back_nothing_is_lost() {
    let variables = Recall { rate: 0.5 }.train().init(keys(0), &input()).unwrap();
    let state = variables.to_state().unwrap();
    assert_eq!(
        paths(&state),
        ["calls", "last", "norm.bias", "norm.mean", "norm.scale", "norm.var", "weight"]
    );
    assert!(state.to_variables().identical(&variables).unwrap());
    let kind = |path: &str| state.get(path).unwrap().kind;
    assert_eq!((kind("weight"), kind("norm.mean")), (Param::variable_type(), BatchStat::variable_type()));
    assert_eq!(kind("calls"), VariableType::from_collection("memory"));

    let unwrapped = Recaller::new(0.5, &Rngs::from_streams(keys(0))).unwrap();
    let (graphdef, state) = split(&unwrapped).unwrap();
    let back = state.to_variables().to_state().unwrap();
    assert!(back.identical(&state).unwrap());
    let merged = merge(&graphdef, &back).unwrap();
    assert_same(&merged.forward(&input()).unwrap(), &unwrapped.forward(&input()).unwrap());
}

#[test]
fn a_wrapper_has_the_variables_that_the_conversions_give() {
    let model =
        ToStateful::new(Recall { rate: 0. }, key(0)).unwrap().mutable(MUTABLE).lazy_init(&input()).unwrap();
    let own = state(&model).unwrap().filter(!Filter::of::<RngState>());
    assert!(own.to_variables().identical(&model.variables().unwrap()).unwrap());
    assert!(model.variables().unwrap().to_state().unwrap().identical(&own).unwrap());
    // What a functional training made goes on in the wrapper.
    let trained = Recall { rate: 0. }.train().init(key(7), &input()).unwrap();
    let streams = state(&model).unwrap().filter(Filter::of::<RngState>());
    let weight = model.variable("weight").unwrap();
    update(&model, &State::merge([trained.to_state().unwrap(), streams]).unwrap()).unwrap();
    assert!(model.variables().unwrap().identical(&trained).unwrap());
    assert!(weight.is_same(&model.variable("weight").unwrap()));

    let wrapped = to_functional(|rngs| Recaller::new(0., rngs));
    let variables = wrapped.train().init(keys(0), &input()).unwrap();
    let unwrapped = Recaller::new(0., &Rngs::from_streams(keys(5))).unwrap();
    let of_variables = variables.filter_collections(|name| name != "nnx").to_state().unwrap();
    update(&unwrapped, &of_variables).unwrap();
    assert!(state(&unwrapped).unwrap().identical(&of_variables).unwrap());
}

#[test]
fn one_path_in_two_collections_has_no_state() {
    let mut variables = Variables::default();
    variables.insert(&Path::from("norm.mean"), param(1.)).unwrap();
    variables.insert(&Path::from("norm.mean"), BatchStat::leaf(2)).unwrap();
    assert_error::<_, VarsError>(
        variables.to_state(),
        "`norm.mean` is there twice, as `BatchStat` and as `Param`: rename one, or keep them apart by a filter",
    );
    let params = variables.filter_collections(|name| name == "params");
    assert_eq!(paths(&params.to_state().unwrap()), ["norm.mean"]);
}

#[test]
fn a_part_of_the_variables_goes_over_by_its_path() {
    let variables = Recall { rate: 0. }.train().init(keys(0), &input()).unwrap();
    let norm = variables.subtree("norm").unwrap();
    let expected = ["batch_stats.mean", "batch_stats.var", "params.bias", "params.scale"];
    assert_eq!(variable_paths(&norm), expected);
    let stateful = bridge_stateful::BatchNorm::new(4, &Rngs::new(0)).unwrap();
    update(&stateful, &norm.to_state().unwrap()).unwrap();
    assert!(state(&stateful).unwrap().to_variables().identical(&norm).unwrap());
    let error = variables.subtree("nrm").unwrap_err().to_string();
    assert!(error.starts_with("nothing at `nrm`, did you mean `norm`"), "{error}");
}

#[test]
fn collections_and_types_are_one_to_one() {
    let pairs = [
        ("params", Param::variable_type()),
        ("batch_stats", BatchStat::variable_type()),
        ("cache", Cache::variable_type()),
        ("intermediates", Intermediate::variable_type()),
        ("perturbations", Perturbation::variable_type()),
        ("RngKey", RngKey::variable_type()),
        ("LoRAParam", LoraParam::variable_type()),
    ];
    for (collection, kind) in pairs {
        assert_eq!(VariableType::from_collection(collection), kind);
        assert_eq!(kind.collection(), collection);
    }
    let unknown = VariableType::from_collection("marginalia");
    assert_eq!((unknown.name(), unknown.collection(), unknown.depth()), ("marginalia", "marginalia", 0));
    let mut variables = Variables::default();
    variables.insert(&"a".into(), Leaf::new(unknown, 1)).unwrap();
    assert_eq!(variables.to_state().unwrap().get("a").unwrap().kind, unknown);
}

#[test]
fn the_most_derived_type_decides_the_collection() {
    let mut kinds = [
        Param::variable_type(),
        RngKey::variable_type(),
        LoraParam::variable_type(),
        RngState::variable_type(),
    ];
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.depth()));
    let depths: Vec<usize> = kinds.iter().map(|kind| kind.depth()).collect();
    assert_eq!(depths, [1, 1, 0, 0]);
    let leaf = LoraParam::leaf(1);
    assert!(leaf.kind.is(Param::variable_type()));
    let state = State::unflatten([("a".into(), leaf), ("b".into(), Param::leaf(2))]).unwrap();
    assert_eq!(variable_paths(&state.to_variables()), ["LoRAParam.a", "params.b"]);
    assert_eq!(state.filter(Filter::of::<Param>()).len(), 2);
    assert_eq!(state.filter(Filter::of::<LoraParam>()).len(), 1);
}

#[test]
fn a_leaf_says_by_itself_what_a_box_says_in_flax() {
    let plain = Dense::new(4).init(key(0), &input()).unwrap();
    assert!(plain.get("params", "kernel").unwrap().metadata.is_empty());
    let init = with_partitioning(Initializer::lecun_normal(), ["", "model"]);
    let boxed = Dense::new(4).kernel_init(init).init(key(0), &input()).unwrap();
    let kernel = boxed.get("params", "kernel").unwrap();
    assert!(!kernel.metadata.is_empty());
    let variable = Variable::from(kernel.clone());
    assert_eq!(variable.metadata().sharding().unwrap().unwrap(), Sharding::new(["", "model"]));
    assert!(variable.leaf().unwrap().identical(kernel).unwrap());
    // A call takes either, with the same numbers.
    let dense = Dense::new(4);
    assert_same(&dense.apply(&boxed, &input()).unwrap(), &dense.apply(&plain, &input()).unwrap());
    let unboxed = boxed.map(|_, leaf| Ok(Leaf { metadata: Metadata::default(), ..leaf.clone() })).unwrap();
    assert!(unboxed.identical(&plain).unwrap());
}

#[test]
fn numbers_in_paths_stay_numbers() {
    let mut variables = Variables::default();
    for index in 0..12 {
        variables.insert(&Path::from("layers").join(index).join("w"), param(index as f32)).unwrap();
    }
    let text = serde_json::to_string(&variables).unwrap();
    let read: Variables = serde_json::from_str(&text).unwrap();
    assert!(read.identical(&variables).unwrap());
    let state = read.to_state().unwrap();
    assert_eq!(paths(&state)[2..4], ["layers.2.w", "layers.3.w"]);
    assert_eq!(paths(&state)[11], "layers.11.w");
    assert!(matches!(state.tree(), Tree::Node(_)));
}
