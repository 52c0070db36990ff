//! Layers one after the other: typed by a tuple, in a list, and of any types.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use bridge_graph::{
    Capture, Field, Flag, Mode, ModuleFilter, Program, Registry, Rngs, Sow, StatefulModule, clone, eval,
    graphdef, merge, observe, set_mode, split, state, tabulate, train, update, value_and_grad, view,
};
use bridge_stateful::{
    Activation, BatchNorm, BatchNormConfig, Dropout, Layer, Linear, LinearConfig, Sequential,
};
use bridge_vars::{Error, Filter, Intermediate, Param, State};
use candle_core::{DType, Device, Module, Tensor};

fn rngs() -> Rngs {
    Rngs::new(0)
}

fn x() -> Tensor {
    Tensor::new(
        &[[[1f32, -2., 3., -4., 5.]], [[0.5, 0., -1., 2., 1.]], [[-3., 1., 1., 1., 2.]]],
        &Device::Cpu,
    )
    .unwrap()
}

fn linear(inputs: usize, outputs: usize, rngs: &Rngs) -> Linear {
    Linear::new(inputs, outputs, rngs).unwrap()
}

fn paths(state: &State) -> Vec<String> {
    state.iter().map(|(path, _)| path.to_string()).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

type Mlp = Sequential<(Linear, Activation, Linear)>;
type Dynamic = Sequential<Vec<Box<dyn Layer>>>;

fn typed() -> Mlp {
    let rngs = rngs();
    Sequential::new((linear(5, 4, &rngs), Activation::Relu, linear(4, 2, &rngs)))
}

fn dynamic() -> Dynamic {
    let rngs = rngs();
    Sequential::dynamic().with(linear(5, 4, &rngs)).with(Activation::Relu).with(linear(4, 2, &rngs))
}

const PATHS: [&str; 4] = ["layers.0.bias", "layers.0.kernel", "layers.2.bias", "layers.2.kernel"];

#[test]
fn gives_what_its_layers_give_one_after_the_other() {
    let model = typed();
    let y = model.forward(&x()).unwrap();
    assert_eq!(y.dims(), [3, 1, 2]);
    let (first, activation, second) = &model.layers;
    let by_hand = second.forward(&activation.forward(&first.forward(&x()).unwrap()).unwrap()).unwrap();
    assert_eq!(values(&y), values(&by_hand));
    // Without activations, and with ones everywhere.
    let ones =
        LinearConfig { kernel_init: bridge_random::Initializer::Ones.into(), ..LinearConfig::default() };
    let ones = |inputs, outputs| Linear::with_config(inputs, outputs, &ones, &rngs()).unwrap();
    let y = Sequential::new(vec![ones(5, 4), ones(4, 2)]).forward(&x()).unwrap();
    assert_eq!(values(&y), [12., 12., 10., 10., 8., 8.]);
}

#[test]
fn a_tuple_a_list_and_layers_of_any_types_are_alike() {
    let (typed, dynamic) = (typed(), dynamic());
    assert_eq!(values(&typed.forward(&x()).unwrap()), values(&dynamic.forward(&x()).unwrap()));
    assert!(state(&typed).unwrap().identical(&state(&dynamic).unwrap()).unwrap());
    let linears = |rngs: &Rngs| [linear(5, 4, rngs), linear(4, 2, rngs)];
    let array = Sequential::new(linears(&rngs()));
    let list = Sequential::new(Vec::from(linears(&rngs())));
    let [first, second] = linears(&rngs());
    let tuple = Sequential::new((first, second));
    let expected = values(&tuple.forward(&x()).unwrap());
    assert_eq!(
        [values(&array.forward(&x()).unwrap()), values(&list.forward(&x()).unwrap())],
        [expected.clone(), expected]
    );
    assert!(state(&array).unwrap().identical(&state(&tuple).unwrap()).unwrap());
}

#[test]
fn paths_count_every_layer() {
    assert_eq!(paths(&state(&typed()).unwrap()), PATHS);
    assert_eq!(paths(&state(&dynamic()).unwrap()), PATHS);
    let nested = Sequential::new((typed(), Sequential::new(vec![dynamic()])));
    let inner = PATHS.map(|path| format!("layers.1.layers.0.{path}"));
    assert_eq!(paths(&state(&nested).unwrap())[4..], inner);
}

#[test]
fn without_layers_the_input_comes_back() {
    let x = x();
    let none: Sequential<Vec<Linear>> = Sequential::default();
    assert_eq!(none.forward(&x).unwrap().id(), x.id());
    assert_eq!(Sequential::dynamic().forward(&x).unwrap().id(), x.id());
    assert_eq!(Sequential::new([(); 0].map(|()| typed())).forward(&x).unwrap().id(), x.id());
    assert!(state(&none).unwrap().is_empty());
}

#[test]
fn one_layer_and_twelve() {
    let rngs = rngs();
    let one = Sequential::new((linear(5, 1, &rngs),));
    assert_eq!(one.forward(&x()).unwrap().dims(), [3, 1, 1]);
    let l = || linear(5, 5, &rngs);
    let twelve = Sequential::new((l(), l(), l(), l(), l(), l(), l(), l(), l(), l(), l(), Activation::Tanh));
    assert_eq!(twelve.forward(&x()).unwrap().dims(), [3, 1, 5]);
    assert_eq!(state(&twelve).unwrap().len(), 22);
}

/// Splits, merges, clones and takes a state over.
#[track_caller]
fn check<M: Field + Module>(model: &M, other: &M) {
    let y = values(&model.forward(&x()).unwrap());
    let (graphdef, taken) = split(model).unwrap();
    for copy in [merge(&graphdef, &taken).unwrap(), clone(model).unwrap(), view(model, Mode::Train).unwrap()]
    {
        assert_eq!(values(&copy.forward(&x()).unwrap()), y);
        assert_eq!(bridge_graph::graphdef(&copy).unwrap(), graphdef);
    }
    assert_ne!(values(&other.forward(&x()).unwrap()), y);
    update(other, &taken).unwrap();
    assert_eq!(values(&other.forward(&x()).unwrap()), y);
}

#[test]
fn is_split_merged_cloned_viewed_and_updated() {
    let other = Rngs::new(1);
    check(&typed(), &Sequential::new((linear(5, 4, &other), Activation::Relu, linear(4, 2, &other))));
    let layers = Sequential::dynamic().with(linear(5, 4, &other)).with(Activation::Relu);
    check(&dynamic(), &layers.with(linear(4, 2, &other)));
}

#[test]
fn activations_are_part_of_the_description() {
    let of = |activation: Activation| graphdef(&Sequential::new((activation,))).unwrap();
    assert_eq!(of(Activation::Relu), of(Activation::Relu));
    assert_ne!(of(Activation::Relu), of(Activation::Gelu));
    let text = of(Activation::Silu).to_string();
    assert!(text.contains("0: Activation::Silu"), "{text}");
}

#[test]
fn leaves_are_mapped_in_place() {
    let doubled = bridge_graph::map(&typed(), |_, leaf| Ok(leaf.with_value((leaf.tensor()? * 2.)?))).unwrap();
    let kernel = |model: &Mlp| values(&model.layers.0.kernel.value().unwrap());
    assert_eq!(kernel(&doubled), kernel(&typed()).iter().map(|value| value * 2.).collect::<Vec<_>>());
}

#[test]
fn modes_reach_every_layer() {
    let build = || {
        let rngs = rngs();
        let layers = Sequential::dynamic().with(linear(5, 4, &rngs)).with(BatchNorm::new(4, &rngs).unwrap());
        layers.with(Dropout::new(0.5, &rngs).unwrap())
    };
    let model = build();
    let training = graphdef(&model).unwrap();
    eval(&model).unwrap();
    let y = values(&model.forward(&x()).unwrap());
    assert_eq!(values(&model.forward(&x()).unwrap()), y);
    train(&model).unwrap();
    assert_eq!(graphdef(&model).unwrap(), training);
    let other = build();
    set_mode(&other, ModuleFilter::of::<Dropout>(), Mode::Eval).unwrap();
    let before = state(&other).unwrap();
    other.forward(&x()).unwrap();
    let after = state(&other).unwrap();
    // The batch norm still trains, and the dropout drew nothing.
    assert!(!after.subtree("layers.1").unwrap().identical(&before.subtree("layers.1").unwrap()).unwrap());
    assert!(after.subtree("layers.2").unwrap().identical(&before.subtree("layers.2").unwrap()).unwrap());
}

#[test]
fn outputs_of_nested_layers_are_captured() {
    let model = Sequential::new((dynamic(), typed_head()));
    let (y, captured) = Capture::of::<Intermediate>()
        .outputs::<Intermediate>()
        .run(&model, |model| model.forward(&x()))
        .unwrap();
    let expected = [
        "__call__.0",
        "layers.0.__call__.0",
        "layers.0.layers.0.__call__.0",
        "layers.0.layers.1.__call__.0",
        "layers.0.layers.2.__call__.0",
        "layers.1.__call__.0",
    ];
    assert_eq!(paths(&captured), expected);
    let shape = |path: &str| captured.get(path).unwrap().tensor().unwrap().dims().to_vec();
    assert_eq!(
        expected.map(shape),
        [vec![3, 1, 1], vec![3, 1, 2], vec![3, 1, 4], vec![3, 1, 4], vec![3, 1, 2], vec![3, 1, 1]]
    );
    assert_eq!(captured.get("__call__.0").unwrap().tensor().unwrap().id(), y.id());
}

fn typed_head() -> Linear {
    linear(2, 1, &rngs())
}

#[test]
fn outputs_of_every_layer_are_captured_through_candle_too() {
    let rngs = rngs();
    let model = Sequential::new((
        BatchNorm::new(5, &rngs).unwrap(),
        Dropout::new(0.5, &rngs).unwrap(),
        linear(5, 1, &rngs),
    ));
    let (_, captured) = Capture::of::<Intermediate>()
        .outputs::<Intermediate>()
        .run(&model, |model| {
            let x = x().apply(&model.layers.0)?.apply(&model.layers.1)?;
            Ok(x.apply(&model.layers.2)?)
        })
        .unwrap();
    assert_eq!(paths(&captured), ["layers.0.__call__.0", "layers.1.__call__.0", "layers.2.__call__.0"]);
}

#[test]
fn gradients_go_through_every_layer() {
    let model = dynamic();
    let (_, gradients) =
        value_and_grad(&model, Filter::of::<Param>(), |model| Ok(model.forward(&x())?.sqr()?.mean_all()?))
            .unwrap();
    assert_eq!(paths(&gradients), PATHS);
}

#[test]
fn a_layer_that_does_not_fit_is_its_own_error() {
    let rngs = rngs();
    let model = Sequential::new((linear(5, 4, &rngs), linear(3, 2, &rngs)));
    let text = "linear: `x` must have shape [..., 3], because `kernel` has shape [3, 2], found [3, 1, 4]";
    assert_eq!(model.forward(&x()).unwrap_err().to_string(), text);
    let through = Error::from(Module::forward(&model, &x()).unwrap_err());
    assert!(matches!(through.downcast_ref(), Some(bridge_ops::Error::Shape { .. })), "{through}");
}

/// A module of a user's own.
#[derive(StatefulModule)]
struct Scale {
    factor: Param,
    verbose: Flag,
}

impl Module for Scale {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        observe(self, x, || {
            let y = x.broadcast_mul(&self.factor.value()?)?;
            self.sow::<Intermediate>("scaled", &y)?;
            Ok(y)
        })
    }
}

fn scale() -> Scale {
    Scale { factor: Param::new(Tensor::new(3f32, &Device::Cpu).unwrap()), verbose: Flag::new(false) }
}

#[test]
fn any_module_of_candles_that_is_stateful_is_a_layer() {
    let mut model = Sequential::dynamic();
    model.push(scale());
    model.push(Sequential::new((scale(), scale())));
    let (y, captured) = Capture::of::<Intermediate>().run(&model, |model| model.forward(&x())).unwrap();
    assert_eq!(values(&y)[..2], [27., -54.]);
    assert_eq!(
        paths(&captured),
        ["layers.0.scaled.0", "layers.1.layers.0.scaled.0", "layers.1.layers.1.scaled.0"]
    );
}

#[test]
fn has_a_table() {
    let model = dynamic();
    let summary = tabulate(&model, |model| model.forward(&x())).unwrap();
    let rows: Vec<_> = summary
        .rows()
        .iter()
        .map(|row| (row.path.to_string(), row.module.as_str(), row.outputs.clone()))
        .collect();
    let shape = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows,
        [
            ("".into(), "Sequential", shape("f32[3, 1, 2]")),
            ("layers.0".into(), "Linear", shape("f32[3, 1, 4]")),
            ("layers.1".into(), "Activation", shape("f32[3, 1, 4]")),
            ("layers.2".into(), "Linear", shape("f32[3, 1, 2]")),
        ]
    );
    assert_eq!(summary.total().elements, 5 * 4 + 4 + 4 * 2 + 2);
}

#[test]
fn is_rebuilt_from_a_file_by_a_registry() {
    let model = dynamic();
    let (graphdef, taken) = split(&model).unwrap();
    let program = Program::decode(&graphdef.program().encode().unwrap(), &Device::Cpu).unwrap();
    let read = bridge_graph::GraphDef::<Dynamic>::from_program(std::sync::Arc::new(program));
    let text = merge(&read, &taken).map(|_| ()).unwrap_err().to_string();
    assert!(text.starts_with("at `layers.0`: no module type `Linear` is registered"), "{text}");
    let registry = <dyn Layer>::register::<Activation>(<dyn Layer>::register::<Linear>(Registry::new()));
    let rebuilt = registry.merge(&read, &taken).unwrap();
    assert_eq!(values(&rebuilt.forward(&x()).unwrap()), values(&model.forward(&x()).unwrap()));
    // Of known types, no registry is needed.
    let (graphdef, taken) = split(&typed()).unwrap();
    let program = Program::decode(&graphdef.program().encode().unwrap(), &Device::Cpu).unwrap();
    let read = bridge_graph::GraphDef::<Mlp>::from_program(std::sync::Arc::new(program));
    assert_eq!(
        values(&merge(&read, &taken).unwrap().forward(&x()).unwrap()),
        values(&model.forward(&x()).unwrap())
    );
}

#[test]
fn layers_keep_their_dtypes() {
    let rngs = Rngs::new(0).with_dtype(DType::F64);
    let config = BatchNormConfig { use_bias: false, ..BatchNormConfig::default() };
    let norm = BatchNorm::with_config(4, &config, &rngs).unwrap();
    let model = Sequential::new((linear(5, 4, &rngs), norm, Activation::Gelu));
    assert_eq!(model.forward(&x().to_dtype(DType::F64).unwrap()).unwrap().dtype(), DType::F64);
}
