//! What modules sow, perturb and give, seen by a capture, and nothing of it left behind.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;

use bridge_graph::{
    Capture, Mode, Shared, Sow, StatefulModule, clone, dynamic, observe, observe_method, split, state,
    tensors, value_and_grad, value_and_grad_with, view,
};
use bridge_vars::{Error, Filter, Intermediate, Param, Perturbation, Result, State, VarsError, kinds};
use candle_core::{DType, Tensor};
use indexmap::IndexMap;

use crate::support::{assert_error, param, paths, scalar, zeros};

kinds! {
    /// A descendant of what is captured.
    Special(SpecialKind) in "specials": Intermediate;
    /// A type of its own.
    Other(OtherKind) in "others";
}

fn number(tensor: &Tensor) -> f32 {
    tensor.to_scalar().unwrap()
}

/// Paths and values.
fn found(state: &State) -> Vec<(String, f32)> {
    state.iter().map(|(path, leaf)| (path.to_string(), number(leaf.tensor().unwrap()))).collect()
}

#[track_caller]
fn assert_found(state: &State, expected: &[(&str, f32)]) {
    let found = found(state);
    let found: Vec<_> = found.iter().map(|(path, value)| (path.as_str(), *value)).collect();
    assert_eq!(found, expected);
}

/// `x * factor`, sown as `y`.
#[derive(StatefulModule)]
struct Layer {
    factor: Param,
}

impl Layer {
    fn new(factor: f32) -> Self {
        Self { factor: param(factor) }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || {
            let y = (x * self.factor.value()?)?;
            self.sow::<Intermediate>("y", &y)?;
            Ok(y)
        })
    }
}

#[derive(StatefulModule)]
struct Chain {
    layers: Vec<Layer>,
    silent: Param,
}

impl Chain {
    fn new(factors: &[f32]) -> Self {
        Self { layers: factors.iter().map(|factor| Layer::new(*factor)).collect(), silent: param(0.) }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x)))
    }
}

fn sown() -> Capture {
    Capture::of::<Intermediate>()
}

#[test]
fn what_is_sown_stands_in_a_list_at_the_modules_path() {
    let chain = Chain::new(&[3., 3., 3.]);
    let (y, captured) = sown().run(&chain, |chain| chain.forward(&scalar(1.))).unwrap();
    assert_eq!(number(&y), 27.);
    assert_found(&captured, &[("layers.0.y.0", 3.), ("layers.1.y.0", 9.), ("layers.2.y.0", 27.)]);
    assert!(captured.iter().all(|(_, leaf)| leaf.kind == Intermediate::variable_type()));
}

#[test]
fn each_call_appends_in_order() {
    let chain = Chain::new(&[2.]);
    let (_, captured) = sown()
        .run(&chain, |chain| (1..=12).try_for_each(|x| chain.forward(&scalar(x as f32)).map(|_| ())))
        .unwrap();
    let list = captured.subtree("layers.0.y").unwrap();
    assert_eq!(
        found(&list).iter().map(|(path, _)| path.parse::<u32>().unwrap()).collect::<Vec<_>>(),
        (0..12).collect::<Vec<_>>()
    );
    assert_eq!(
        found(&list).iter().map(|(_, value)| *value).collect::<Vec<_>>(),
        (1..=12).map(|x| 2. * x as f32).collect::<Vec<_>>()
    );
}

#[test]
fn nothing_sown_is_nothing_captured() {
    let (_, captured) = sown().run(&Chain::new(&[]), |chain| chain.forward(&scalar(1.))).unwrap();
    assert!(captured.is_empty());
    let (_, captured) =
        Capture::of::<Other>().run(&Chain::new(&[1.]), |chain| chain.forward(&scalar(1.))).unwrap();
    assert!(captured.is_empty());
}

#[test]
fn outside_of_a_capture_nothing_happens() {
    let layer = Layer::new(1.);
    assert!(!layer.sow::<Intermediate>("y", &scalar(1.)).unwrap());
    let unused = || panic!("no one captures");
    assert!(
        !layer.sow_with::<Intermediate>("y", &scalar(1.), unused, |_, _| panic!("no one captures")).unwrap()
    );
    let value = scalar(1.);
    assert_eq!(layer.perturb("p", &value).unwrap().id(), value.id());
}

/// The module is what it was, and what it sows goes nowhere.
#[track_caller]
fn assert_clean(chain: &Chain, run: impl FnOnce(&Chain)) {
    let (graphdef, before) = split(chain).unwrap();
    run(chain);
    let (graphdef_after, after) = split(chain).unwrap();
    assert_eq!(graphdef_after, graphdef);
    assert!(after.identical(&before).unwrap());
    assert!(!chain.layers[0].sow::<Intermediate>("y", &scalar(1.)).unwrap());
    let (_, again) = sown().run(chain, |chain| chain.forward(&scalar(1.))).unwrap();
    assert_eq!(paths(&again), ["layers.0.y.0"]);
}

fn everything() -> Capture {
    sown().and::<Perturbation>().outputs::<Other>()
}

#[test]
fn the_model_stays_clean() {
    assert_clean(&Chain::new(&[2.]), |chain| {
        everything().run(chain, |chain| chain.forward(&scalar(1.))).unwrap();
    });
}

#[test]
fn the_model_stays_clean_if_the_call_fails() {
    assert_clean(&Chain::new(&[2.]), |chain| {
        let failed: Result<((), State)> = everything().run(chain, |chain| {
            chain.forward(&scalar(1.))?;
            Err(VarsError::ValueKind { expected: "a test", found: "a failure" }.into())
        });
        assert_error::<_, VarsError>(failed, "expected a test, found a failure");
    });
}

#[test]
fn the_model_stays_clean_if_the_call_panics() {
    assert_clean(&Chain::new(&[2.]), |chain| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            everything().run(chain, |chain| -> Result<()> {
                chain.forward(&scalar(1.))?;
                panic!("on purpose")
            })
        }));
        assert!(panicked.is_err());
    });
}

/// Sows under three types, and says which were captured.
#[derive(StatefulModule)]
struct Types {
    value: Param,
}

impl Types {
    fn forward(&self, x: &Tensor) -> Result<[bool; 4]> {
        Ok([
            self.sow::<Intermediate>("intermediate", x)?,
            self.sow::<Special>("special", x)?,
            self.sow::<Other>("other", x)?,
            self.sow_with::<Special>("sum", x, || Ok(scalar(10.)), |a, b| Ok((a + b)?))?,
        ])
    }
}

#[test]
fn a_type_is_captured_and_its_descendants_are_not() {
    let check = |capture: Capture, sown: [bool; 4], expected: &[(&str, f32)]| {
        let (found, captured) =
            capture.run(&Types { value: param(0.) }, |types| types.forward(&scalar(1.))).unwrap();
        assert_eq!(found, sown);
        assert_found(&captured, expected);
    };
    check(sown(), [true, false, false, false], &[("intermediate.0", 1.)]);
    check(Capture::of::<Special>(), [false, true, false, true], &[("special.0", 1.), ("sum", 11.)]);
    check(Capture::of::<Perturbation>(), [false; 4], &[]);
    check(
        Capture::of::<Other>().and::<Intermediate>(),
        [true, false, true, false],
        &[("intermediate.0", 1.), ("other.0", 1.)],
    );
}

#[test]
fn several_types_are_told_apart_in_the_state() {
    let capture = Capture::of::<Other>().and::<Special>();
    let (_, captured) = capture.run(&Types { value: param(0.) }, |types| types.forward(&scalar(1.))).unwrap();
    let [other, special] = captured.split([Filter::of::<Other>(), Filter::of::<Special>()]).unwrap();
    assert_eq!(
        (paths(&other), paths(&special)),
        (vec!["other.0".into()], vec!["special.0".into(), "sum".into()])
    );
}

#[test]
fn perturbations_are_not_taken_for_the_intermediates_that_they_descend_from() {
    let layer = Layer::new(1.);
    let (_, captured) = sown().run(&layer, |layer| layer.perturb("p", &scalar(1.))).unwrap();
    assert!(captured.is_empty());
}

#[test]
fn a_reduction_keeps_one_value() {
    let layer = Layer::new(1.);
    let mut begun = 0;
    let (_, captured) = sown()
        .run(&layer, |layer| {
            for x in [1., 2., 4.] {
                let init = || {
                    begun += 1;
                    Ok(scalar(100.))
                };
                assert!(layer.sow_with::<Intermediate>("sum", &scalar(x), init, |a, b| Ok((a + b)?))?);
            }
            Ok(())
        })
        .unwrap();
    assert_found(&captured, &[("sum", 107.)]);
    assert_eq!(begun, 1);
}

#[test]
fn values_of_two_forms_under_one_name_are_refused_by_their_paths() {
    let chain = Chain::new(&[1.]);
    let reduce = |layer: &Layer| {
        layer.sow_with::<Intermediate>("y", &scalar(1.), || Ok(scalar(0.)), |a, b| Ok((a + b)?))
    };
    let list = |layer: &Layer| layer.sow::<Intermediate>("y", &scalar(1.));
    let run = |first: &dyn Fn(&Layer) -> Result<bool>, second: &dyn Fn(&Layer) -> Result<bool>| {
        sown().run(&chain, |chain| {
            first(&chain.layers[0])?;
            second(&chain.layers[0])
        })
    };
    let beside = |stored: &str, other: &str| {
        format!("`{stored}` can not be stored beside `{other}`: a path is either a value or a group of them")
    };
    assert_error::<_, VarsError>(run(&reduce, &list), &beside("layers.0.y.0", "layers.0.y"));
    assert_error::<_, VarsError>(run(&list, &reduce), &beside("layers.0.y", "layers.0.y.0"));
}

#[test]
fn what_is_no_tensor_can_be_sown() {
    let layer = Layer::new(1.);
    let (_, captured) = sown()
        .run(&layer, |layer| {
            layer.sow::<Intermediate>("steps", 7u32)?;
            layer.sow::<Intermediate>("key", bridge_random::key(3))
        })
        .unwrap();
    assert_eq!(captured.get("steps.0").unwrap().value.count().unwrap(), 7);
    assert_eq!(captured.get("key.0").unwrap().value.key().unwrap(), bridge_random::key(3));
}

#[test]
fn a_capture_used_again_begins_empty() {
    let (chain, capture) = (Chain::new(&[2.]), sown());
    for _ in 0..2 {
        let (_, captured) = capture.clone().run(&chain, |chain| chain.forward(&scalar(1.))).unwrap();
        assert_found(&captured, &[("layers.0.y.0", 2.)]);
    }
}

#[test]
fn only_modules_of_the_model_are_captured() {
    let (chain, stranger) = (Chain::new(&[2.]), Chain::new(&[5.]));
    let (copy, viewed) = (clone(&chain).unwrap(), view(&chain, Mode::Eval).unwrap());
    let (_, captured) = everything()
        .run(&chain.layers, |layers| {
            for other in [&stranger, &copy, &viewed] {
                other.forward(&scalar(1.))?;
            }
            layers[0].forward(&scalar(1.))
        })
        .unwrap();
    // The model is the list, so its paths begin there.
    assert_eq!(paths(&captured), ["0.__call__.0", "0.y.0"]);
}

#[test]
fn the_innermost_capture_of_a_module_has_what_it_leaves() {
    let chain = Chain::new(&[2., 3.]);
    let ((_, inner), outer) = sown()
        .run(&chain, |chain| {
            chain.layers[0].forward(&scalar(1.))?;
            let inner = sown().run(&chain.layers[0], |layer| {
                chain.layers[1].forward(&scalar(10.))?;
                layer.forward(&scalar(100.))
            })?;
            chain.layers[0].forward(&scalar(1000.))?;
            Ok(inner)
        })
        .unwrap();
    assert_found(&inner, &[("y.0", 200.)]);
    assert_found(&outer, &[("layers.0.y.0", 2.), ("layers.0.y.1", 2000.), ("layers.1.y.0", 30.)]);
}

#[test]
fn a_capture_inside_of_one_that_fails_or_panics_ends_alone() {
    let chain = Chain::new(&[2.]);
    let (_, captured) = sown()
        .run(&chain, |chain| {
            let failed: Result<((), State)> = sown().run(chain, |chain| {
                chain.forward(&scalar(1.))?;
                Err(VarsError::ValueKind { expected: "a", found: "b" }.into())
            });
            assert!(failed.is_err());
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                sown().run(chain, |chain| -> Result<()> {
                    chain.forward(&scalar(2.))?;
                    panic!("on purpose")
                })
            }));
            assert!(panicked.is_err());
            chain.forward(&scalar(3.))
        })
        .unwrap();
    assert_found(&captured, &[("layers.0.y.0", 6.)]);
}

#[test]
fn another_thread_sees_nothing_of_a_capture() {
    let chain = Chain::new(&[2.]);
    let (_, captured) = everything()
        .run(&chain, |chain| {
            thread::scope(|scope| {
                let other = scope.spawn(|| {
                    let layer = &chain.layers[0];
                    (layer.forward(&scalar(5.)).map(|_| ()), layer.sow::<Intermediate>("y", &scalar(1.)))
                });
                let (called, sown) = other.join().unwrap();
                called.unwrap();
                assert!(!sown.unwrap());
            });
            Ok(())
        })
        .unwrap();
    assert!(captured.is_empty());
}

#[test]
fn captures_of_one_model_in_two_threads_stay_apart() {
    let (chain, both) = (Chain::new(&[2.]), Barrier::new(2));
    let run = |x: f32| {
        sown()
            .run(&chain, |chain| {
                both.wait();
                for _ in 0..50 {
                    chain.forward(&scalar(x))?;
                }
                both.wait();
                Ok(())
            })
            .unwrap()
            .1
    };
    let found = thread::scope(|scope| {
        let threads = [1., 10.].map(|x| scope.spawn(move || found(&run(x))));
        threads.map(|thread| thread.join().unwrap())
    });
    for (found, expected) in found.iter().zip([2., 20.]) {
        assert!(found.len() == 50 && found.iter().all(|(_, value)| *value == expected), "{found:?}");
    }
}

/// Perturbs what each of three layers gives.
#[derive(StatefulModule)]
struct Perturbed {
    layers: Vec<Layer>,
}

impl Perturbed {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| layer.perturb("after", &layer.forward(&x)?))
    }
}

fn perturbed() -> Perturbed {
    Perturbed { layers: [3., 3., 3.].map(Layer::new).into() }
}

#[test]
fn a_perturbation_begins_as_zeros_like_the_value() {
    let layer = Layer::new(1.);
    let value = zeros(&[2, 3]).affine(1., 7.).unwrap().to_dtype(DType::BF16).unwrap();
    let (same, made) = Capture::of::<Perturbation>().run(&layer, |layer| layer.perturb("p", &value)).unwrap();
    assert_eq!(same.id(), value.id());
    let leaf = made.get("p").unwrap();
    assert_eq!(leaf.kind, Perturbation::variable_type());
    let zeros = leaf.tensor().unwrap();
    assert_eq!((zeros.dims(), zeros.dtype()), (&[2, 3][..], DType::BF16));
    let flat = zeros.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(flat, [0.; 6]);
}

#[test]
fn the_gradient_of_a_perturbation_is_that_of_the_value() {
    let (model, x) = (perturbed(), scalar(1.));
    let (y, zeros) = Capture::of::<Perturbation>().run(&model, |model| model.forward(&x)).unwrap();
    assert_eq!(number(&y), 27.);
    let perturbations = zeros.to_variable_tree();
    let (y, sown, gradients) =
        value_and_grad_with(&perturbations, Filter::of::<Perturbation>(), |perturbations| {
            sown().init(&state(perturbations)?).run(&model, |model| model.forward(&x))
        })
        .unwrap();
    assert_eq!(number(&y), 27.);
    // 3 to the power of the layers that come after.
    assert_found(&gradients, &[("layers.0.after", 9.), ("layers.1.after", 3.), ("layers.2.after", 1.)]);
    assert_found(&sown, &[("layers.0.y.0", 3.), ("layers.1.y.0", 9.), ("layers.2.y.0", 27.)]);
    // Both fit into one state, side by side.
    assert_eq!(State::merge([gradients, sown]).unwrap().len(), 6);
}

#[test]
fn a_given_perturbation_is_added_whatever_is_captured() {
    let model = perturbed();
    let given = State::unflatten([("layers.1.after".into(), Perturbation::leaf(scalar(0.5)))]).unwrap();
    for capture in [sown(), Capture::of::<Other>(), Capture::of::<Perturbation>()] {
        let (y, _) = capture.init(&given).run(&model, |model| model.forward(&scalar(1.))).unwrap();
        assert_eq!(number(&y), (9. + 0.5) * 3.);
    }
}

#[test]
fn the_gradient_of_a_parameter_is_the_same_with_perturbations() {
    let (model, x) = (perturbed(), scalar(2.));
    let gradients = |init: Option<State>| {
        let capture = init.iter().fold(sown(), |capture, state| capture.init(state));
        let loss = |model: &Perturbed| Ok(capture.run(model, |model| model.forward(&x))?.0);
        value_and_grad(&model, Filter::of::<Param>(), loss).unwrap().1
    };
    let zeros = Capture::of::<Perturbation>().run(&model, |model| model.forward(&x)).unwrap().1;
    assert!(gradients(Some(zeros)).identical(&gradients(None)).unwrap());
}

#[test]
fn a_given_perturbation_of_another_form_is_an_error_with_its_path() {
    let model = perturbed();
    for given in [zeros(&[2]), zeros(&[1]), scalar(0.).to_dtype(DType::F64).unwrap()] {
        let given = State::unflatten([("layers.1.after".into(), Perturbation::leaf(given))]).unwrap();
        let error = sown().init(&given).run(&model, |model| model.forward(&scalar(1.))).unwrap_err();
        assert_eq!(error.path().unwrap().to_string(), "layers.1.after");
        let text = error.to_string();
        assert!(text.starts_with("at `layers.1.after`: ") && text.contains("the value is f32[]"), "{text}");
    }
}

#[test]
fn outputs_stand_in_a_list_of_calls_under_each_modules_path() {
    let chain = Chain::new(&[2., 3.]);
    let outputs = Capture::of::<Other>().outputs::<Intermediate>();
    let (_, captured) = outputs
        .run(&chain, |chain| {
            chain.forward(&scalar(1.))?;
            chain.layers[1].forward(&scalar(10.))
        })
        .unwrap();
    let expected = [
        ("__call__.0", 6.),
        ("layers.0.__call__.0", 2.),
        ("layers.1.__call__.0", 6.),
        ("layers.1.__call__.1", 30.),
    ];
    assert_found(&captured, &expected);
}

#[test]
fn outputs_and_what_is_sown_stand_side_by_side() {
    let (_, captured) =
        sown().outputs::<Intermediate>().run(&Chain::new(&[2.]), |chain| chain.forward(&scalar(1.))).unwrap();
    assert_found(&captured, &[("__call__.0", 2.), ("layers.0.__call__.0", 2.), ("layers.0.y.0", 2.)]);
}

#[test]
fn a_call_that_fails_has_no_output() {
    let layer = Layer::new(1.);
    let (_, captured) =
        sown()
            .outputs::<Other>()
            .run(&layer, |layer| {
                let failed: Result<Tensor> = observe(layer, &scalar(1.), || {
                    Err(VarsError::ValueKind { expected: "a", found: "b" }.into())
                });
                assert!(failed.is_err());
                Ok(())
            })
            .unwrap();
    assert!(captured.is_empty());
}

/// Gives a structure of tensors.
#[derive(StatefulModule)]
struct Structured {
    layer: Layer,
}

#[derive(StatefulModule)]
struct Output {
    hidden: Vec<Tensor>,
    label: String,
    logits: Tensor,
    maybe: Option<Tensor>,
    named: BTreeMap<String, (Tensor, u32)>,
}

impl Structured {
    fn forward(&self, x: &Tensor) -> Result<Output> {
        observe(self, &(x.clone(), 1u8), || {
            let y = self.layer.forward(x)?;
            Ok(Output {
                hidden: vec![x.clone(), y.clone()],
                label: "a".into(),
                logits: y.clone(),
                maybe: None,
                named: [("last".to_owned(), (y, 3))].into(),
            })
        })
    }
}

const OUTPUT: [&str; 4] = ["hidden.0", "hidden.1", "logits", "named.last.0"];

#[test]
fn an_output_of_several_tensors_keeps_its_structure() {
    let model = Structured { layer: Layer::new(2.) };
    let (output, captured) = Capture::of::<Other>()
        .outputs::<Other>()
        .run(&model, |model| {
            model.forward(&scalar(1.))?;
            model.forward(&scalar(2.))
        })
        .unwrap();
    for call in 0..2 {
        let call = captured.subtree(format!("__call__.{call}").as_str()).unwrap();
        assert_eq!(paths(&call), OUTPUT);
    }
    assert_eq!(number(captured.get("__call__.1.logits").unwrap().tensor().unwrap()), 4.);
    assert_eq!(output.label, "a");
}

#[test]
fn tensors_come_with_where_they_are() {
    let model = Structured { layer: Layer::new(2.) };
    let output = model.forward(&scalar(3.)).unwrap();
    let found = tensors(&output).unwrap();
    let found: Vec<_> = found.iter().map(|(path, tensor)| (path.to_string(), number(tensor))).collect();
    assert_eq!(found, OUTPUT.map(String::from).into_iter().zip([3., 6., 6., 6.]).collect::<Vec<_>>());
    assert_eq!(tensors(&scalar(1.)).unwrap()[0].0.to_string(), "");
    assert!(tensors(&(1u8, "text".to_owned(), None::<Tensor>)).unwrap().is_empty());
    assert_eq!(tensors(&(param(1.), Param::new(3))).unwrap().len(), 1);
}

dynamic!(trait BoxableStep for Step);
trait Step: BoxableStep {
    fn step(&self, x: &Tensor) -> Result<Tensor>;
}

impl Step for Layer {
    fn step(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }
}

#[derive(StatefulModule)]
struct Double;

impl Step for Double {
    fn step(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || Ok((x * 2.)?))
    }
}

#[derive(StatefulModule)]
struct Negate;

impl Step for Negate {
    fn step(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || Ok(x.neg()?))
    }
}

#[derive(StatefulModule)]
struct Containers {
    arrays: [Layer; 2],
    boxed: Box<Layer>,
    dynamic: Vec<Box<dyn Step>>,
    map: IndexMap<String, Layer>,
    maybe: Option<Layer>,
    shared: Shared<Layer>,
    tuple: (Layer, u8),
}

#[test]
fn modules_in_every_container_are_captured_at_their_paths() {
    let layer = || Layer::new(2.);
    let model = Containers {
        arrays: [layer(), layer()],
        boxed: Box::new(layer()),
        dynamic: vec![Box::new(layer()), Box::new(Double), Box::new(layer())],
        map: [("b".to_owned(), layer()), ("a".to_owned(), layer())].into(),
        maybe: Some(layer()),
        shared: Shared::new(layer()),
        tuple: (layer(), 1),
    };
    let (_, captured) = Capture::of::<Other>()
        .outputs::<Intermediate>()
        .run(&model, |model| {
            let x = &scalar(1.);
            let layers = model.arrays.iter().chain(model.map.values()).chain(&model.maybe);
            for layer in layers.chain([&*model.boxed, &*model.shared, &model.tuple.0]) {
                layer.forward(x)?;
            }
            model.dynamic.iter().try_for_each(|step| step.step(x).map(|_| ()))
        })
        .unwrap();
    let places = [
        "arrays.0",
        "arrays.1",
        "boxed",
        "dynamic.0",
        "dynamic.1",
        "dynamic.2",
        "map.a",
        "map.b",
        "maybe",
        "shared",
        "tuple.0",
    ];
    assert_found(
        &captured,
        &places.map(|place| format!("{place}.__call__.0")).each_ref().map(|path| (path.as_str(), 2.)),
    );
}

#[test]
fn a_shared_module_is_captured_at_its_first_path() {
    #[derive(StatefulModule)]
    struct Tied {
        output: Shared<Layer>,
        input: Shared<Layer>,
        middle: Layer,
    }
    let shared = Shared::new(Layer::new(2.));
    let model = Tied { output: shared.clone(), input: shared, middle: Layer::new(3.) };
    let (_, captured) = sown()
        .run(&model, |model| {
            let x = model.input.forward(&scalar(1.))?;
            model.output.forward(&model.middle.forward(&x)?)
        })
        .unwrap();
    assert_found(&captured, &[("input.y.0", 2.), ("input.y.1", 12.), ("middle.y.0", 6.)]);
}

/// Has the address of its first field.
#[derive(StatefulModule)]
struct Outer<T> {
    inner: T,
}

#[test]
fn a_module_is_told_from_its_first_field() {
    type Three = Outer<Outer<Outer<Layer>>>;
    let model: Three = Outer { inner: Outer { inner: Outer { inner: Layer::new(2.) } } };
    let (_, captured) = sown()
        .run(&model, |model| {
            model.sow::<Intermediate>("at", &scalar(0.))?;
            model.inner.sow::<Intermediate>("at", &scalar(1.))?;
            model.inner.inner.sow::<Intermediate>("at", &scalar(2.))?;
            model.inner.inner.inner.sow::<Intermediate>("at", &scalar(3.))
        })
        .unwrap();
    let expected =
        [("at.0", 0.), ("inner.at.0", 1.), ("inner.inner.at.0", 2.), ("inner.inner.inner.at.0", 3.)];
    assert_found(&captured, &expected);
}

#[test]
fn modules_without_a_size_are_told_apart_by_their_types() {
    let steps: Vec<Box<dyn Step>> = vec![Box::new(Negate), Box::new(Layer::new(3.)), Box::new(Double)];
    let (_, captured) = Capture::of::<Other>()
        .outputs::<Intermediate>()
        .run(&steps, |steps| steps.iter().try_fold(scalar(1.), |x, step| step.step(&x)))
        .unwrap();
    assert_found(&captured, &[("0.__call__.0", -1.), ("1.__call__.0", -3.), ("2.__call__.0", -6.)]);
    let pair = Outer { inner: (Negate, Layer::new(2.)) };
    let (_, captured) = Capture::of::<Other>()
        .outputs::<Intermediate>()
        .run(&pair, |pair| pair.inner.1.step(&pair.inner.0.step(&scalar(1.))?))
        .unwrap();
    assert_found(&captured, &[("inner.0.__call__.0", -1.), ("inner.1.__call__.0", -2.)]);
}

#[test]
fn a_module_called_twice_perturbs_twice() {
    let layer = Layer::new(3.);
    let twice = |layer: &Layer| layer.perturb("p", &layer.perturb("p", &scalar(1.))?);
    let (y, zeros) = Capture::of::<Perturbation>().run(&layer, twice).unwrap();
    assert_eq!((number(&y), paths(&zeros)), (1., vec!["p".to_owned()]));
    let perturbations = zeros.to_variable_tree();
    let (_, gradients) = value_and_grad(&perturbations, Filter::of::<Perturbation>(), |perturbations| {
        Ok(sown().init(&state(perturbations)?).run(&layer, twice)?.0)
    })
    .unwrap();
    assert_found(&gradients, &[("p", 2.)]);
}

#[test]
fn given_perturbations_are_captured_where_they_are_asked_for() {
    let layer = Layer::new(3.);
    let given = State::unflatten([("p".into(), Perturbation::leaf(scalar(0.5)))]).unwrap();
    let capture = Capture::of::<Perturbation>().init(&given);
    let (_, captured) = capture.run(&layer, |layer| layer.perturb("p", &scalar(1.))).unwrap();
    assert_found(&captured, &[("p", 0.5)]);
}

#[test]
fn what_is_sown_goes_on_from_what_was_given() {
    let layer = Layer::new(2.);
    let first = sown().run(&layer, |layer| layer.forward(&scalar(1.))).unwrap().1;
    let (_, both) = sown().init(&first).run(&layer, |layer| layer.forward(&scalar(10.))).unwrap();
    assert_found(&both, &[("y.0", 2.), ("y.1", 20.)]);
    // What was given is as it was, and of other types nothing comes back.
    assert_found(&first, &[("y.0", 2.)]);
    let (_, others) =
        Capture::of::<Other>().init(&first).run(&layer, |layer| layer.forward(&scalar(1.))).unwrap();
    assert!(others.is_empty());
    let sum = State::unflatten([("sum".into(), Intermediate::leaf(scalar(5.)))]).unwrap();
    let (_, sum) = sown()
        .init(&sum)
        .run(&layer, |layer| {
            let unused = || panic!("there is a value");
            layer.sow_with::<Intermediate>("sum", &scalar(3.), unused, |a, b| Ok((a + b)?))
        })
        .unwrap();
    assert_found(&sum, &[("sum", 8.)]);
}

#[test]
fn of_several_modules_without_a_size_and_of_one_type_none_is_seen() {
    let (double, negate, layer): (Box<dyn Step>, Box<dyn Step>, Box<dyn Step>) =
        (Box::new(Double), Box::new(Negate), Box::new(Layer::new(3.)));
    let steps = vec![double, Box::new(Double), negate, layer];
    let (y, captured) = sown()
        .outputs::<Other>()
        .run(&steps, |steps| steps.iter().try_fold(scalar(1.), |x, step| step.step(&x)))
        .unwrap();
    assert_eq!(number(&y), -12.);
    assert_found(&captured, &[("2.__call__.0", -4.), ("3.__call__.0", -12.), ("3.y.0", -12.)]);
    let list = vec![Double, Double];
    let sown = sown().run(&list, |list| list[0].sow::<Intermediate>("x", &scalar(1.))).unwrap();
    assert!(!sown.0 && sown.1.is_empty());
}

/// Has methods with names.
#[derive(StatefulModule)]
struct Methods {
    layer: Layer,
}

impl Methods {
    fn helper(&self, x: &Tensor) -> Result<Tensor> {
        observe_method(self, "helper", x, || self.layer.forward(x))
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        observe_method(self, "run", x, || {
            let y = observe(self, x, || Ok::<_, Error>((x + 1.)?))?;
            Ok((self.helper(&y)? + self.helper(x)?)?)
        })
    }
}

#[test]
fn outputs_of_methods_stand_under_their_names() {
    let model = vec![Methods { layer: Layer::new(2.) }];
    let (_, captured) = Capture::of::<Other>()
        .outputs::<Intermediate>()
        .run(&model, |model| model[0].run(&scalar(3.)))
        .unwrap();
    let expected = [
        ("0.__call__.0", 4.),
        ("0.helper.0", 8.),
        ("0.helper.1", 6.),
        ("0.layer.__call__.0", 8.),
        ("0.layer.__call__.1", 6.),
        ("0.run.0", 14.),
    ];
    assert_found(&captured, &expected);
}
