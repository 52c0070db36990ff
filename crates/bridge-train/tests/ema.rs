//! Averages of parameters: their arithmetic, and what they touch.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use bridge_graph::{Shared, StatefulModule, state, update};
use bridge_train::{Checkpoint, CheckpointFile, Ema, EmaError};
use bridge_vars::{BatchStat, Error, Filter, Param, Path, State};
use candle_core::{DType, Device, Tensor};

#[derive(StatefulModule)]
struct Model {
    bias: Param,
    kernel: Param,
    mean: BatchStat,
}

fn tensor(values: &[f32], dtype: DType) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn model(dtype: DType) -> Model {
    Model {
        bias: Param::new(tensor(&[0.5], dtype)),
        kernel: Param::new(tensor(&[1., -2., 3.], dtype)),
        mean: BatchStat::new(tensor(&[7.], dtype)),
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn at(state: &State, path: &str) -> Vec<f64> {
    values(state.get(path).unwrap().tensor().unwrap())
}

fn ema_error(error: &Error) -> &EmaError {
    error.downcast_ref().unwrap_or_else(|| panic!("{error}"))
}

/// A kernel after each of four steps, and Flax 0.12.8's averages of it with a decay of 0.9.
#[expect(clippy::excessive_precision, reason = "the digits are those that were printed")]
const STEPS: [[[f32; 3]; 2]; 4] = [
    [
        [0.800000011920929, -1.1999999284744263, 1.7999999523162842],
        [0.9799999594688416, -1.9199999570846558, 2.879999876022339],
    ],
    [
        [0.6600000262260437, -0.6399999260902405, 0.9599999785423279],
        [0.9479999542236328, -1.7919999361038208, 2.687999725341797],
    ],
    [
        [0.562000036239624, -0.24799995124340057, 0.37199997901916504],
        [0.9093999862670898, -1.6375998258590698, 2.45639967918396],
    ],
    [
        [0.4934000074863434, 0.026400044560432434, -0.03960004448890686],
        [0.8677999973297119, -1.4711997509002686, 2.2067997455596924],
    ],
];

#[test]
fn agrees_with_flax_to_the_bit() {
    let model = model(DType::F32);
    let mut ema = Ema::for_module(0.9, &model, Filter::of::<Param>()).unwrap();
    for [kernel, expected] in STEPS {
        model.kernel.set(tensor(&kernel, DType::F32)).unwrap();
        ema.update(&model).unwrap();
        let state = ema.state();
        assert_eq!(state.get("kernel").unwrap().tensor().unwrap().to_vec1::<f32>().unwrap(), expected);
    }
    assert_eq!(ema.state().len(), 2);
    ema.apply_to(&model).unwrap();
    assert_eq!(model.kernel.value().unwrap().to_vec1::<f32>().unwrap(), STEPS[3][1]);
    assert_eq!(values(&model.mean.value().unwrap()), [7.]);
}

#[test]
fn keeps_dtypes_and_averages_halves_in_f32() {
    for (dtype, kept) in [
        (DType::BF16, DType::F32),
        (DType::F16, DType::F32),
        (DType::F32, DType::F32),
        (DType::F64, DType::F64),
    ] {
        let model = model(dtype);
        let mut ema = Ema::for_module(0.999, &model, Filter::of::<Param>()).unwrap();
        model.kernel.set(tensor(&[2., 2., 2.], dtype)).unwrap();
        // In bf16, each of these steps alone would round to nothing.
        for _ in 0..1000 {
            ema.update(&model).unwrap();
        }
        let state = ema.state();
        let average = state.get("kernel").unwrap().tensor().unwrap();
        assert_eq!(average.dtype(), kept);
        let left = 0.999f64.powi(1000);
        let expected = [1., -2., 3.].map(|start| 2. + (start - 2.) * left);
        assert!(values(average).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{average:?}");
        ema.apply_to(&model).unwrap();
        let applied = model.kernel.value().unwrap();
        assert_eq!(applied.dtype(), dtype);
        assert_eq!(values(&applied), values(&average.to_dtype(dtype).unwrap()));
    }
}

#[test]
fn modules_variables_and_states_stay_equal_to_the_bit() {
    let model = model(DType::F32);
    let only = || Filter::of::<Param>();
    let start = state(&model).unwrap();
    let mut stateful = Ema::for_module(0.9, &model, only()).unwrap();
    let mut plain = Ema::new(0.9, &start, only()).unwrap();
    let mut functional = Ema::for_variables(0.9, &start.to_variables(), only()).unwrap();
    for [kernel, _] in STEPS {
        model.kernel.set(tensor(&kernel, DType::F32)).unwrap();
        let now = state(&model).unwrap();
        stateful.update(&model).unwrap();
        plain.update_state(&now).unwrap();
        functional.update_variables(&now.to_variables()).unwrap();
    }
    assert!(stateful.state().identical(&plain.state()).unwrap());
    let trained = state(&model).unwrap();
    let averaged = plain.apply_to_state(&trained).unwrap();
    let variables = functional.apply_to_variables(&trained.to_variables()).unwrap();
    assert!(averaged.to_variables().identical(&variables).unwrap());
    let before = stateful.apply_to(&model).unwrap();
    assert!(state(&model).unwrap().identical(&averaged).unwrap());
    assert!(before.identical(&trained.filter(only())).unwrap());
    update(&model, &before).unwrap();
    assert!(state(&model).unwrap().identical(&trained).unwrap());
}

#[test]
fn no_snapshot_ever_changes() {
    let model = model(DType::F32);
    let mut ema = Ema::for_module(0.5, &model, Filter::of::<Param>()).unwrap();
    let zero = || model.kernel.change_in_place(|tensor| Ok(tensor.zero_set()?)).unwrap();
    let start = ema.state();
    zero();
    ema.update(&model).unwrap();
    let half = ema.state();
    assert_eq!([at(&start, "kernel"), at(&half, "kernel")], [[1., -2., 3.], [0.5, -1., 1.5]]);
    // What was put into the module is the module's to change.
    let before = ema.apply_to(&model).unwrap();
    zero();
    assert_eq!([at(&half, "kernel"), at(&ema.state(), "kernel")], [[0.5, -1., 1.5]; 2]);
    assert_eq!(at(&before, "kernel"), [0.; 3]);
    let mut other = ema.clone();
    other.update(&model).unwrap();
    assert_eq!(at(&ema.state(), "kernel"), [0.5, -1., 1.5]);
    assert_eq!(at(&other.state(), "kernel"), [0.25, -0.5, 0.75]);
    assert!(!model.kernel.value().unwrap().track_op());
}

#[derive(StatefulModule)]
struct Tied {
    first: Shared<Model>,
    second: Shared<Model>,
}

#[test]
fn a_shared_parameter_is_averaged_once() {
    let shared = Shared::new(model(DType::F32));
    let tied = Tied { first: shared.clone(), second: shared };
    let mut ema = Ema::for_module(0.5, &tied, Filter::of::<Param>()).unwrap();
    tied.second.kernel.set(tensor(&[3., 3., 3.], DType::F32)).unwrap();
    ema.update(&tied).unwrap();
    let paths: Vec<_> = ema.state().iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(paths, ["first.bias", "first.kernel"]);
    let before = ema.apply_to(&tied).unwrap();
    assert_eq!(values(&tied.second.kernel.value().unwrap()), [2., 0.5, 3.]);
    update(&tied, &before).unwrap();
    assert_eq!(values(&tied.second.kernel.value().unwrap()), [3.; 3]);
}

#[test]
fn goes_on_from_a_checkpoint_to_the_bit() {
    let model = model(DType::BF16);
    let only = || Filter::of::<Param>();
    let mut through = Ema::for_module(0.9, &model, only()).unwrap();
    model.kernel.set(tensor(&STEPS[0][0], DType::BF16)).unwrap();
    through.update(&model).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("training.safetensors");
    let checkpoint = Checkpoint::new().module("model", &model).unwrap();
    checkpoint.state("ema", &through.state()).unwrap().save(&path).unwrap();
    let file = CheckpointFile::open(&path, &Device::Cpu).unwrap();
    let other: Model = file.module("model").unwrap();
    let mut resumed = Ema::for_module(0.9, &other, only()).unwrap();
    resumed.restore(&file.state("ema").unwrap()).unwrap();
    through.update(&model).unwrap();
    resumed.update(&other).unwrap();
    assert!(resumed.state().identical(&through.state()).unwrap());
}

#[test]
fn lists_everything_that_does_not_fit_and_changes_nothing() {
    let model = model(DType::F32);
    let mut ema = Ema::for_module(0.9, &model, Filter::of::<Param>()).unwrap();
    let before = ema.state();
    let whole = state(&model).unwrap();
    let mut other = whole.clone();
    other.remove("bias").unwrap();
    other.insert(&Path::from("kernel"), Param::leaf(tensor(&[1.], DType::F32))).unwrap();
    other.insert(&Path::from("scale"), Param::leaf(tensor(&[1.], DType::F32))).unwrap();
    // Not of the filter: it may be there or not.
    other.insert(&Path::from("variance"), BatchStat::leaf(tensor(&[1.], DType::F32))).unwrap();
    let text = |paths: &[Path]| paths.iter().map(Path::to_string).collect::<Vec<_>>();
    let check = |error: Error| {
        let EmaError::Parameters(misfit) = ema_error(&error) else { panic!("{error}") };
        assert_eq!(
            (text(&misfit.missing), text(&misfit.unexpected)),
            (vec!["bias".into()], vec!["scale".into()])
        );
        assert_eq!(misfit.mismatched[0].path.to_string(), "kernel");
        assert!(error.to_string().contains("`kernel`: expected f32[3], found Param f32[1]"), "{error}");
    };
    check(ema.update_state(&other).unwrap_err());
    check(ema.apply_to_state(&other).unwrap_err());

    let halves = self::model(DType::F16);
    let as_it_was = state(&halves).unwrap();
    let error = ema.apply_to(&halves).unwrap_err();
    let EmaError::Parameters(misfit) = ema_error(&error) else { panic!("{error}") };
    assert_eq!(misfit.mismatched.len(), 2);
    assert!(ema.update(&halves).is_err());
    assert!(state(&halves).unwrap().identical(&as_it_was).unwrap());

    let error = ema.restore(&whole.filter(Filter::path_contains("kernel"))).unwrap_err();
    let EmaError::State(misfit) = ema_error(&error) else { panic!("{error}") };
    assert_eq!(text(&misfit.missing), ["bias"]);
    assert!(ema.state().identical(&before).unwrap());
}

#[test]
fn refuses_what_can_not_be_averaged() {
    let model = model(DType::F32);
    for decay in [-0.1, 1.5, f64::NAN] {
        let error = Ema::for_module(decay, &model, Filter::Everything).unwrap_err();
        assert!(matches!(ema_error(&error), EmaError::Decay(_)), "{error}");
    }
    let error = Ema::for_module(0.9, &model, Filter::Nothing).unwrap_err();
    assert!(matches!(ema_error(&error), EmaError::NoParameters), "{error}");
    let ids = State::unflatten([(Path::from("ids"), Param::leaf(tensor(&[1.], DType::U32)))]).unwrap();
    let error = Ema::new(0.9, &ids, Filter::Everything).unwrap_err();
    let EmaError::NotFloat(misfit) = ema_error(&error) else { panic!("{error}") };
    assert_eq!(misfit.mismatched[0].found, "Param u32[1]");
}

#[test]
fn a_decay_of_0_follows_and_one_of_1_stays() {
    let model = model(DType::F32);
    let mut ema = Ema::for_module(1., &model, Filter::of::<Param>()).unwrap();
    model.kernel.set(tensor(&[9., 9., 9.], DType::F32)).unwrap();
    ema.update(&model).unwrap();
    assert_eq!(at(&ema.state(), "kernel"), [1., -2., 3.]);
    ema.set_decay(0.).unwrap();
    ema.update(&model).unwrap();
    assert_eq!((at(&ema.state(), "kernel"), ema.decay()), (vec![9.; 3], 0.));
    assert!(ema.set_decay(2.).is_err());
    assert_eq!(ema.decay(), 0.);
}
