//! Models that are described, not made: what they are, and the ways to their values.

use bridge_graph::{
    Capture, Flag, GraphError, Mode, RngStream, Rngs, Shared, StatefulModule, clone, describe, eval,
    graphdef, is_described, materialize, merge, restart_streams, split, state, update, value_and_grad,
    variables, view,
};
use bridge_random::{Initializer, key};
use bridge_vars::{
    BatchStat, Described, Filter, Initialize, Intermediate, Metadata, Param, Result, State, Value, VarsError,
    with_metadata, with_partitioning,
};
use candle_core::{DType, Device, Tensor};

use crate::support::{assert_error, assert_misfit, paths, read, scalar, zeros};

#[derive(StatefulModule)]
struct Layer {
    kernel: Param,
    bias: Option<Param>,
    mean: BatchStat,
    noise: RngStream,
    evaluating: Flag,
}

#[derive(StatefulModule)]
struct Model {
    layers: Vec<Layer>,
    tied: Param,
    step: Param,
}

const UNMADE: &str = "expected a tensor, found a tensor that was described and is not made yet: \
                      `materialize` it, or load its value";

fn layer(rngs: &Rngs, init: &impl Initialize, size: usize) -> Result<Layer> {
    Ok(Layer {
        kernel: rngs.param(init, (size, size))?,
        bias: Some(rngs.param(&Initializer::Zeros, size)?),
        mean: BatchStat::new(rngs.full(0.5, size, DType::F32)?),
        noise: rngs.stream("noise")?.fork()?,
        evaluating: Flag::new(false),
    })
}

fn construct(rngs: &Rngs) -> Result<Model> {
    let layers = vec![
        layer(rngs, &with_partitioning(Initializer::lecun_normal(), ["", "model"]), 4)?,
        layer(rngs, &Initializer::normal(0.02), 3)?,
    ];
    let tied = layers[1].kernel.clone();
    // One value is there already.
    Ok(Model { layers, tied, step: Param::new(7) })
}

fn rngs() -> Rngs {
    Rngs::new(0).with_stream("params", 1).with_stream("noise", 2)
}

fn counts(rngs: &Rngs) -> Vec<u32> {
    rngs.iter().map(|(_, stream)| stream.count().count().unwrap()).collect()
}

fn described() -> Model {
    describe(&rngs(), construct).unwrap()
}

/// Materialized, a described module is the one that is constructed, and as much was drawn.
#[track_caller]
fn check<M: bridge_graph::Field>(make: impl Fn() -> Rngs, construct: impl Fn(&Rngs) -> Result<M>) {
    let (given, other) = (make(), make());
    let described = describe(&given, &construct).unwrap();
    let eager = construct(&other).unwrap();
    assert_eq!(counts(&given), counts(&other));
    assert!(!given.is_describing() && is_described(&described).unwrap() && !is_described(&eager).unwrap());
    let (graphdef, expected) = split(&eager).unwrap();
    assert_eq!(bridge_graph::graphdef(&described).unwrap(), graphdef);
    let snapshot = state(&described).unwrap();
    materialize(&described).unwrap();
    assert!(!is_described(&described).unwrap());
    assert!(state(&described).unwrap().identical(&expected).unwrap());
    // The snapshot is still described, and becomes the same.
    assert!(snapshot.materialize().unwrap().identical(&expected).unwrap());
    assert_eq!(counts(&given), counts(&other));
}

#[test]
fn what_is_made_later_is_what_would_have_been_made() {
    check(rngs, construct);
    check(|| Rngs::new(5), |rngs| layer(rngs, &Initializer::orthogonal(), 3));
    check(|| rngs().with_dtype(DType::F64), construct);
    check(|| rngs().with_dtype(DType::BF16), |rngs| layer(rngs, &Initializer::glorot_uniform(), 8));
}

#[test]
fn of_a_forked_or_split_stream_too() {
    check(rngs, |rngs| Ok((construct(&rngs.fork()?)?, rngs.param(&Initializer::normal(1.), 2)?)));
    check(rngs, |rngs| {
        rngs.split(3)?
            .lanes()?
            .iter()
            .map(|lane| lane.param(&Initializer::normal(1.), 2))
            .collect::<Result<Vec<_>>>()
    });
}

#[test]
fn the_description_knows_whether_it_describes() {
    let seen = describe(&rngs(), |rngs| {
        Ok([rngs.is_describing(), rngs.fork()?.is_describing(), rngs.split(2)?.is_describing()])
    });
    assert_eq!(seen.unwrap(), [true; 3]);
    assert!(!rngs().is_describing());
}

#[test]
fn a_model_larger_than_any_memory_is_described() {
    const SIZE: usize = 1 << 20;
    let init = Initializer::lecun_normal();
    let model = describe(&Rngs::new(0), |rngs| layer(rngs, &init, SIZE)).unwrap();
    let (graphdef, state) = split(&model).unwrap();
    let kernel = &state.get("kernel").unwrap().value;
    assert_eq!(kernel.tensor_form().unwrap().to_string(), "f32[1048576, 1048576]");
    let copies =
        [merge(&graphdef, &state).unwrap(), clone(&model).unwrap(), view(&model, Mode::Eval).unwrap()];
    for copy in copies {
        assert!(is_described(&copy).unwrap());
        assert_eq!(bridge_graph::graphdef(&copy).unwrap(), graphdef);
    }
    assert!(state.to_string().contains("f32[1048576, 1048576] not made yet"), "{state}");
    assert!(graphdef.to_string().contains("kernel: Param f32[1048576, 1048576]"), "{graphdef}");
    assert_eq!(bridge_graph::shapes(&model.kernel).unwrap(), "f32[1048576, 1048576]");
}

#[test]
fn what_is_not_made_can_not_be_read() {
    let model = described();
    let kernel = &model.layers[0].kernel;
    assert_error::<_, VarsError>(kernel.value(), UNMADE);
    assert_error::<_, VarsError>(kernel.raw_value(), UNMADE);
    assert_error::<_, VarsError>(kernel.track().map(|_| ()), UNMADE);
    assert_error::<_, VarsError>(kernel.change_in_place(|_| Ok(())), UNMADE);
    let leaf = kernel.leaf().unwrap();
    assert_error::<_, VarsError>(leaf.tensor(), UNMADE);
    assert!(leaf.tracked().is_err());
    // Streams and what was given are there.
    assert_eq!(model.step.count().unwrap(), 7);
    assert!(model.layers[0].noise.draw().is_ok());
}

#[test]
fn a_constructor_that_reads_a_value_can_not_be_described() {
    let reads = |rngs: &Rngs| {
        let kernel = rngs.param(&Initializer::normal(1.), 2)?;
        Ok(Param::new(kernel.value()?.sqr()?))
    };
    assert!(reads(&rngs()).is_ok());
    assert_error::<_, VarsError>(describe(&rngs(), reads), UNMADE);
}

#[test]
fn no_gradient_is_taken_of_what_is_not_made() {
    let model = described();
    let wrt = Filter::path_starts_with("layers");
    let result = value_and_grad(&model, wrt & Filter::of::<Param>(), |_| Ok(scalar(1.)));
    let text = result.unwrap_err().to_string();
    assert!(text.contains(UNMADE), "{text}");
    materialize(&model).unwrap();
    let loss = |model: &Model| Ok(model.tied.value()?.sqr()?.sum_all()?);
    assert_eq!(value_and_grad(&model, Filter::path("layers.1.kernel"), loss).unwrap().1.len(), 1);
}

#[test]
fn values_come_from_a_state() {
    let (model, eager) = (described(), construct(&Rngs::new(9)).unwrap());
    let whole = state(&eager).unwrap();
    update(&model, &whole).unwrap();
    assert!(!is_described(&model).unwrap());
    assert!(state(&model).unwrap().identical(&whole).unwrap());
    assert!(model.tied.is_same(&model.layers[1].kernel));
    // Either description takes either state.
    let merged = merge(&graphdef(&described()).unwrap(), &whole).unwrap();
    assert!(state(&merged).unwrap().identical(&whole).unwrap());
    let unmade = merge(&graphdef(&eager).unwrap(), &state(&described()).unwrap()).unwrap();
    assert!(is_described(&unmade).unwrap());
    materialize(&unmade).unwrap();
    assert!(state(&unmade).unwrap().identical(&state(&construct(&rngs()).unwrap()).unwrap()).unwrap());
}

#[test]
fn values_come_in_part_and_the_rest_is_made() {
    let model = described();
    let part = State::unflatten([("layers.0.kernel".into(), Param::leaf(zeros(&[4, 4])))]).unwrap();
    update(&model, &part).unwrap();
    assert!(is_described(&model).unwrap());
    assert_eq!(model.layers[0].kernel.value().unwrap().to_vec2::<f32>().unwrap(), [[0.; 4]; 4]);
    materialize(&model).unwrap();
    let eager = construct(&rngs()).unwrap();
    let rest = |model: &Model| state(model).unwrap().filter(!Filter::path("layers.0.kernel"));
    assert!(rest(&model).identical(&rest(&eager)).unwrap());
    assert_eq!(model.layers[0].kernel.value().unwrap().to_vec2::<f32>().unwrap(), [[0.; 4]; 4]);
}

#[test]
fn values_of_another_form_are_refused_and_nothing_is_made() {
    let model = described();
    let wrong = State::unflatten([
        ("layers.0.bias".into(), Param::leaf(zeros(&[3]))),
        ("layers.0.kernel".into(), Param::leaf(zeros(&[4, 4]).to_dtype(DType::F64).unwrap())),
        ("layers.0.mean".into(), Param::leaf(zeros(&[4]))),
        ("layers.1.bias".into(), Param::leaf(zeros(&[3]))),
    ])
    .unwrap();
    let list = "`layers.0.bias`: expected Param f32[4], not made yet, found Param f32[3]\n  \
                `layers.0.kernel`: expected Param f32[4, 4], not made yet, found Param f64[4, 4]\n  \
                `layers.0.mean`: expected BatchStat f32[4], not made yet, found Param f32[4]";
    assert_misfit(update(&model, &wrong), list);
    assert!(variables(&model).unwrap().iter().all(|(path, variable)| {
        let made = !matches!(variable.leaf().unwrap().value, Value::Described(_));
        made == (path.to_string() == "step" || path.to_string().contains("noise"))
    }));
}

#[test]
fn what_is_shared_is_made_once() {
    #[derive(StatefulModule)]
    struct Tied {
        first: Shared<Layer>,
        second: Shared<Layer>,
    }
    let init = Initializer::normal(1.);
    let tied = describe(&rngs(), |rngs| {
        let first = Shared::new(layer(rngs, &init, 2)?);
        Ok(Tied { second: first.clone(), first })
    })
    .unwrap();
    let copy = clone(&tied).unwrap();
    materialize(&tied).unwrap();
    assert!(tied.second.kernel.value().is_ok());
    // A copy has variables of its own.
    assert!(is_described(&copy).unwrap());
    materialize(&copy).unwrap();
    assert!(state(&copy).unwrap().identical(&state(&tied).unwrap()).unwrap());
    assert!(copy.first.is_same(&copy.second));
}

#[test]
fn making_the_values_of_a_view_makes_those_of_the_model() {
    let model = described();
    let viewed = view(&model, Mode::Eval).unwrap();
    materialize(&viewed).unwrap();
    assert!(!is_described(&model).unwrap());
}

#[test]
fn materializing_twice_or_what_is_made_changes_nothing() {
    let model = construct(&rngs()).unwrap();
    let versions = |model: &Model| -> Vec<u64> {
        variables(model).unwrap().iter().map(|(_, variable)| variable.version()).collect()
    };
    let before = versions(&model);
    materialize(&model).unwrap();
    assert_eq!(versions(&model), before);
    let model = described();
    materialize(&model).unwrap();
    let once = versions(&model);
    materialize(&model).unwrap();
    assert_eq!(versions(&model), once);
}

#[test]
fn a_value_that_no_one_can_make_is_an_error_with_its_path() {
    let unknown = || Described::new((2, 3), DType::F32, &Device::Cpu);
    let model = vec![
        Param::new(unknown().made_by(|| Ok(Tensor::ones((2, 3), DType::F32, &Device::Cpu)?))),
        Param::new(unknown()),
    ];
    let text = "at `1`: f32[2, 3] is not made yet, and how to make it is not known: load its value, or \
                describe it with random keys";
    assert_error::<_, VarsError>(materialize(&model), text);
    assert!(model[0].value().is_ok() && is_described(&model).unwrap());
    update(&model, &State::unflatten([("1".into(), Param::leaf(zeros(&[2, 3])))]).unwrap()).unwrap();
    materialize(&model).unwrap();
    let failing = Param::new(unknown().made_by(|| Err(GraphError::LossNotScalar { shape: vec![2] }.into())));
    assert_error::<_, GraphError>(
        materialize(&vec![(failing,)]),
        "at `0.0`: a loss must be one number, found shape [2]: take its mean or sum",
    );
}

#[test]
fn metadata_is_there_before_the_value() {
    let model = described();
    let spec =
        |state: &State| state.partition_specs().unwrap().get(&"layers.0.kernel".into()).unwrap().to_string();
    assert_eq!(spec(&state(&model).unwrap()), "P(None, model)");
    materialize(&model).unwrap();
    assert_eq!(spec(&state(&model).unwrap()), "P(None, model)");
}

#[test]
fn modes_and_streams_of_a_described_model_are_its_own() {
    let model = described();
    eval(&model).unwrap();
    assert!(!model.layers[0].evaluating.get());
    bridge_graph::set_flags(&model, &["evaluating"], true).unwrap();
    assert!(model.layers[1].evaluating.get());
    restart_streams(&model, &[("noise".into(), key(5))], false).unwrap();
    assert!(is_described(&model).unwrap());
}

#[test]
fn a_described_model_can_be_captured_where_it_reads_nothing() {
    use bridge_graph::Sow;
    let model = described();
    let (_, captured) = Capture::of::<Intermediate>()
        .run(&model, |model| model.layers[1].sow::<Intermediate>("x", &scalar(1.)))
        .unwrap();
    assert_eq!(paths(&captured), ["layers.1.x.0"]);
}

#[test]
fn constants_take_no_key() {
    let rngs = rngs();
    let full = |rngs: &Rngs| Ok(BatchStat::new(rngs.full(3., (), DType::F64)?));
    let mean = describe(&rngs, full).unwrap();
    assert_eq!(counts(&rngs), [0; 3]);
    materialize(&mean).unwrap();
    assert_eq!(mean.value().unwrap().to_scalar::<f64>().unwrap(), 3.);
    assert_eq!(full(&rngs).unwrap().value().unwrap().to_scalar::<f64>().unwrap(), 3.);
}

#[test]
fn hooks_of_a_first_value_run_once_it_is_made() {
    use bridge_vars::Hooks;
    let double = Hooks::new("describing.double").on_create(|_, value| Ok((value.tensor()? * 2.)?.into()));
    let init = with_metadata(Initializer::Ones, Metadata::default().with_hooks(double));
    let eager = rngs().param(&init, ()).unwrap();
    assert_eq!(read(&eager), 2.);
    let described = describe(&rngs(), |rngs| rngs.param(&init, ())).unwrap();
    materialize(&described).unwrap();
    assert_eq!(read(&described), 2.);
}

#[test]
fn streams_that_a_described_model_keeps_make_values_once_it_is_made() {
    #[derive(StatefulModule)]
    struct Keeps {
        rngs: Rngs,
        kernel: Param,
    }
    let construct =
        |rngs: &Rngs| Ok(Keeps { rngs: rngs.fork()?, kernel: rngs.param(&Initializer::Ones, 2)? });
    let model = describe(&rngs(), construct).unwrap();
    materialize(&model).unwrap();
    assert!(model.kernel.value().is_ok());
    assert!(model.rngs.param(&Initializer::Ones, 2).unwrap().value().is_ok());
}

#[test]
fn a_value_that_is_made_is_not_given_up_for_one_that_is_not() {
    let eager = construct(&Rngs::new(9)).unwrap();
    let before = state(&eager).unwrap();
    let unmade = state(&described()).unwrap().filter(Filter::path("layers.0.kernel"));
    assert_misfit(
        update(&eager, &unmade),
        "`layers.0.kernel`: expected Param f32[4, 4], found Param f32[4, 4], not made yet",
    );
    assert!(state(&eager).unwrap().identical(&before).unwrap());
    // In the place of one that is not made either, it is taken.
    let other = described();
    update(&other, &unmade).unwrap();
    assert!(is_described(&other).unwrap());
}
