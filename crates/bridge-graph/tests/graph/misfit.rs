//! A state that does not fit is refused whole, with everything that is wrong.

use bridge_graph::{StatefulModule, merge, split, state, update};
use bridge_vars::{BatchStat, Param, RngCount, State};
use candle_core::Tensor;

use crate::support::{assert_misfit, param, read, scalar, zeros};

#[derive(StatefulModule)]
struct Layer {
    kernel: Param,
    bias: Param,
    mean: BatchStat,
    count: RngCount,
}

fn layer() -> Layer {
    Layer {
        kernel: Param::new(zeros(&[2, 3])),
        bias: Param::new(zeros(&[3])),
        mean: BatchStat::new(zeros(&[3])),
        count: RngCount::new(0),
    }
}

fn edited(module: &Layer, edit: impl FnOnce(&mut State)) -> State {
    let mut state = state(module).unwrap();
    edit(&mut state);
    state
}

#[test]
fn merge_lists_everything_at_once() {
    let (graphdef, state) = split(&vec![layer(), layer()]).unwrap();
    let mut state = state;
    for path in ["0.bias", "0.count", "1.kernel", "1.mean"] {
        state.tree_mut().remove(&path.into()).unwrap();
    }
    let other = |shape: &[usize]| Param::leaf(zeros(shape));
    state.insert(&"0.kernel".into(), other(&[3, 2])).unwrap();
    state.insert(&"0.mean".into(), other(&[3])).unwrap();
    let half = zeros(&[3]).to_dtype(candle_core::DType::F64).unwrap();
    state.insert(&"1.bias".into(), Param::leaf(half)).unwrap();
    state.insert(&"1.count".into(), RngCount::leaf(zeros(&[1]))).unwrap();
    state.insert(&"2.kernel".into(), other(&[2, 3])).unwrap();
    state.insert(&"other".into(), other(&[1])).unwrap();
    assert_misfit(
        merge(&graphdef, &state).map(|_| ()),
        "missing `0.bias`\n  \
         missing `0.count`\n  \
         missing `1.kernel` (is `2.kernel` meant?)\n  \
         missing `1.mean`\n  \
         unexpected `2.kernel`\n  \
         unexpected `other`\n  \
         `0.kernel`: expected Param f32[2, 3], found Param f32[3, 2]\n  \
         `0.mean`: expected BatchStat f32[3], found Param f32[3]\n  \
         `1.bias`: expected Param f32[3], found Param f64[3]\n  \
         `1.count`: expected RngCount a count, found RngCount f32[1]",
    );
}

#[test]
fn merge_tells_a_leaf_from_a_group() {
    let (graphdef, state) = split(&(param(1.), vec![param(2.)])).unwrap();
    let mut swapped = State::default();
    swapped.insert(&"0.0".into(), state.get("0").unwrap().clone()).unwrap();
    swapped.insert(&"1".into(), state.get("1.0").unwrap().clone()).unwrap();
    assert_misfit(
        merge(&graphdef, &swapped).map(|_| ()),
        "missing `0` (is `0.0` meant?)\n  missing `1.0` (is `0.0` meant?)\n  unexpected `0.0`\n  unexpected `1`",
    );
}

#[test]
fn merge_checks_bare_tensors() {
    let (graphdef, _) = split(&(scalar(1.), scalar(2.))).unwrap();
    let mut state = State::default();
    state.insert(&"0".into(), bridge_graph::BareTensor::leaf(zeros(&[2]))).unwrap();
    assert_misfit(
        merge(&graphdef, &state),
        "missing `1`\n  \
         `0`: expected BareTensor f32[], found BareTensor f32[2]",
    );
}

#[test]
fn update_takes_a_part() {
    let module = layer();
    let part = edited(&module, |state| {
        state.insert(&"bias".into(), Param::leaf(zeros(&[3]).affine(1., 5.).unwrap())).unwrap();
    })
    .filter(bridge_vars::Filter::path_in(["bias"]));
    let (bias, kernel) = (module.bias.clone(), module.kernel.version());
    update(&module, &part).unwrap();
    assert_eq!(bias.value().unwrap().to_vec1::<f32>().unwrap(), [5.; 3]);
    assert_eq!(module.kernel.version(), kernel);
    update(&module, &State::default()).unwrap();
}

#[test]
fn update_changes_nothing_unless_everything_fits() {
    let module = layer();
    let before = state(&module).unwrap();
    let wrong = edited(&module, |state| {
        state.insert(&"bias".into(), Param::leaf(zeros(&[3]).affine(1., 5.).unwrap())).unwrap();
        state.insert(&"kernel".into(), Param::leaf(zeros(&[3, 2]))).unwrap();
        state.insert(&"count".into(), RngCount::leaf(zeros(&[]))).unwrap();
        state.insert(&"extra.kernel".into(), Param::leaf(zeros(&[1]))).unwrap();
        state.tree_mut().remove(&"mean".into());
        state.insert(&"mean.running".into(), BatchStat::leaf(zeros(&[3]))).unwrap();
    });
    assert_misfit(
        update(&module, &wrong),
        "unexpected `extra.kernel` (is `kernel` meant?)\n  unexpected `mean.running`\n  \
         `count`: expected RngCount a count, found RngCount f32[]\n  `kernel`: expected Param f32[2, 3], found Param f32[3, 2]",
    );
    assert!(state(&module).unwrap().identical(&before).unwrap());
}

#[test]
fn update_refuses_another_type() {
    let module = layer();
    let wrong = edited(&module, |state| {
        state.insert(&"bias".into(), BatchStat::leaf(zeros(&[3]))).unwrap();
    });
    assert_misfit(update(&module, &wrong), "`bias`: expected Param f32[3], found BatchStat f32[3]");
}

#[test]
fn any_path_of_what_is_shared_will_do() {
    let first = param(1.);
    let module = vec![first.clone(), first];
    let (graphdef, _) = split(&module).unwrap();
    let of = |paths: &[(&str, f32)]| {
        State::unflatten(paths.iter().map(|(path, value)| ((*path).into(), Param::leaf(scalar(*value)))))
            .unwrap()
    };
    update(&module, &of(&[("1", 2.)])).unwrap();
    assert_eq!(read(&module[0]), 2.);
    assert_eq!(read(&merge(&graphdef, &of(&[("1", 3.)])).unwrap()[0]), 3.);
    // The same value under both paths says one thing; two values contradict each other.
    update(&module, &of(&[("0", 4.), ("1", 4.)])).unwrap();
    for error in [
        update(&module, &of(&[("0", 5.), ("1", 6.)])).map(|_| ()),
        merge(&graphdef, &of(&[("0", 5.), ("1", 6.)])).map(|_| ()),
    ] {
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("`0` is there twice, as `Param` and as `Param`"), "{text}");
    }
    assert_eq!(read(&module[0]), 4.);
    assert_misfit(update(&module, &of(&[("2", 2.)])), "unexpected `2`");
}

#[test]
fn update_leaves_bare_tensors_alone() {
    #[derive(StatefulModule)]
    struct Table {
        factor: Param,
        table: Tensor,
    }
    let module = Table { factor: param(1.), table: scalar(2.) };
    let before = state(&module).unwrap();
    module.factor.set(scalar(3.)).unwrap();
    update(&module, &before).unwrap();
    assert_eq!(read(&module.factor), 1.);
    let other = before.map(|_, leaf| Ok(leaf.with_value(scalar(4.)))).unwrap();
    assert_misfit(
        update(&module, &other),
        "`table`: expected the module's own bare tensor, which can only be merged (make the field a variable to \
         update it), found BareTensor f32[]",
    );
    assert_eq!(read(&module.factor), 1.);
    let mut wrong = other;
    wrong.insert(&"factor".into(), Param::leaf(zeros(&[2]))).unwrap();
    let error = update(&module, &wrong).unwrap_err().to_string();
    assert!(error.contains("`table`: expected") && error.contains("`factor`: expected"), "{error}");
}

#[test]
fn update_takes_metadata_over_and_keeps_the_variable() {
    let module = param(1.);
    let handle = module.clone();
    let mut leaf = Param::leaf(scalar(2.));
    leaf.metadata.set("axis", "data");
    update(&module, &bridge_vars::Tree::Leaf(leaf).into()).unwrap();
    assert_eq!(read(&handle), 2.);
    assert_eq!(handle.metadata().get("axis").unwrap(), "data");
}
