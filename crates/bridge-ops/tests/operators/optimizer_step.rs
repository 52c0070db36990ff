use bridge_ops::{Error, ParameterUpdate, UpdateFormula, update_parameters};
use candle_core::{DType, Tensor};

use crate::support::{device, message, to_vec, values};
use crate::twin::{DTYPES, check_any_number_of_threads, check_fewer_instructions};

const ADAMW: UpdateFormula = UpdateFormula::AdamW {
    step: 3,
    learning_rate: 0.02,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-6,
    weight_decay: 0.1,
};
const SGD: UpdateFormula =
    UpdateFormula::Sgd { learning_rate: 0.1, momentum: None, nesterov: false, weight_decay: 0. };

fn formulas() -> [UpdateFormula; 8] {
    let sgd = |momentum, nesterov, weight_decay| UpdateFormula::Sgd {
        learning_rate: 0.1,
        momentum,
        nesterov,
        weight_decay,
    };
    let adam = UpdateFormula::AdamW {
        step: 1,
        learning_rate: 0.02,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-6,
        weight_decay: 0.,
    };
    let momentum = Some(0.9);
    [
        ADAMW,
        adam,
        SGD,
        sgd(None, false, 0.1),
        sgd(momentum, false, 0.),
        sgd(momentum, false, 0.1),
        sgd(momentum, true, 0.),
        sgd(momentum, true, 0.1),
    ]
}

/// The formulas of the documentation, element by element, each operation rounded to f32 if `single`.
fn reference(update: &ParameterUpdate, single: bool) -> [Vec<f64>; 3] {
    let round = |value: f64| if single { f64::from(value as f32) } else { value };
    let factor = round(update.gradient_factor);
    let memory = [0, 1].map(|at| update.memory[at].as_ref().map(to_vec));
    let (parameters, gradients) = (to_vec(&update.parameter), to_vec(&update.gradient));
    let mut results = [vec![], vec![], vec![]];
    for (at, (&p, &g)) in parameters.iter().zip(&gradients).enumerate() {
        let g = round(g * factor);
        let kept = |place: usize| memory[place].as_ref().map_or(0., |values| values[at]);
        let [new, first, second] = match update.formula {
            UpdateFormula::AdamW { step, learning_rate, beta1, beta2, epsilon, weight_decay } => {
                let mean = |old: f64, beta: f64, new: f64| {
                    round(round(old * round(beta)) + round(new * round(1. - beta)))
                };
                let (mu, nu) = (mean(kept(0), beta1, g), mean(kept(1), beta2, round(g * g)));
                let correction = |beta: f64| 1. - beta.powf(f64::from(step));
                let root = round(round(nu.sqrt()) * round(1. / correction(beta2).sqrt()));
                let change = round(mu / round(root + round(epsilon)));
                let mut change = round(change * round(learning_rate / correction(beta1)));
                if weight_decay != 0. {
                    change = round(change + round(p * round(learning_rate * weight_decay)));
                }
                [round(p - change), mu, nu]
            }
            UpdateFormula::Sgd { learning_rate, momentum, nesterov, weight_decay } => {
                let d = if weight_decay == 0. { g } else { round(g + round(p * round(weight_decay))) };
                let trace = momentum.map(|momentum| round(d + round(kept(0) * round(momentum))));
                let direction = match (trace, momentum) {
                    (Some(trace), Some(momentum)) if nesterov => round(d + round(trace * round(momentum))),
                    (Some(trace), _) => trace,
                    _ => d,
                };
                [round(p - round(direction * round(learning_rate))), trace.unwrap_or(0.), 0.]
            }
            other => panic!("{other:?}"),
        };
        results[0].push(new);
        results[1].push(first);
        results[2].push(second);
    }
    results
}

fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { dtype } else { DType::F32 }
}

fn update(formula: UpdateFormula, dtype: DType, shape: &[usize], seed: u32) -> ParameterUpdate {
    let of = |seed: u32, dtype: DType| values(shape, seed).to_dtype(dtype).unwrap();
    let memory = |at: usize| {
        let values = of(seed + 2 + at as u32, wide(dtype)).sqr().unwrap();
        (at < formula.remembers()).then(|| values.force_contiguous().unwrap())
    };
    ParameterUpdate {
        formula,
        parameter: of(seed, dtype),
        gradient: of(seed + 1, dtype),
        gradient_factor: 1.,
        memory: [memory(0), memory(1)],
        updated: None,
    }
}

fn same(found: &Tensor, expected: &[f64], what: &str) {
    let found = to_vec(found);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found == expected || found.is_nan() && expected.is_nan(), "{what} {at}: {found} {expected}");
    }
}

/// Makes a step of all, and checks it.
fn check(updates: &mut [ParameterUpdate]) {
    let parameters: Vec<_> = updates.iter().map(|update| to_vec(&update.parameter)).collect();
    let expected: Vec<_> = updates
        .iter()
        .map(|update| {
            let [new, first, second] = reference(update, update.parameter.dtype() != DType::F64);
            let rounded = Tensor::new(new, &device()).unwrap().to_dtype(update.parameter.dtype()).unwrap();
            (to_vec(&rounded), [first, second])
        })
        .collect();
    update_parameters(updates).unwrap();
    for ((update, (new, memory)), before) in updates.iter().zip(&expected).zip(&parameters) {
        let what =
            format!("{:?} {:?} {:?}", update.formula, update.parameter.dtype(), update.parameter.dims());
        let updated = update.updated.as_ref().unwrap();
        assert_eq!((updated.dtype(), updated.shape()), (update.parameter.dtype(), update.parameter.shape()));
        same(updated, new, &what);
        for (found, expected) in update.memory.iter().zip(memory) {
            if let Some(found) = found {
                same(found, expected, &what);
            }
        }
        same(&update.parameter, before, &what);
    }
}

#[test]
fn all_formulas_and_dtypes_in_one_step_agree_with_the_formulas_to_the_bit() {
    if !device().is_cpu() {
        return;
    }
    let mut updates = vec![];
    for formula in formulas() {
        for (dtype, _) in DTYPES {
            for shape in [&[][..], &[0], &[1], &[7], &[3, 5], &[512], &[1025]] {
                updates.push(update(formula, dtype, shape, updates.len() as u32));
            }
        }
    }
    check(&mut updates);
    // What was made takes the next values.
    for update in &mut updates {
        std::mem::swap(&mut update.parameter, update.updated.as_mut().unwrap());
        update.gradient_factor = 0.3;
    }
    let rooms: Vec<_> = updates.iter().map(|update| update.updated.as_ref().unwrap().id()).collect();
    check(&mut updates);
    assert!(updates.iter().zip(rooms).all(|(update, room)| update.updated.as_ref().unwrap().id() == room));
    check(&mut []);
    check_fewer_instructions(
        "optimizer_step::all_formulas_and_dtypes_in_one_step_agree_with_the_formulas_to_the_bit",
    );
}

#[test]
fn large_and_small_parameters_do_not_depend_on_the_number_of_threads() {
    if !device().is_cpu() {
        return;
    }
    let updates = || {
        let shapes = [100_003, 1, 40_000, 0, 3, 70_001];
        let all = shapes.iter().zip(formulas()).enumerate();
        all.map(|(at, (&length, formula))| update(formula, DTYPES[at % 4].0, &[length], at as u32)).collect()
    };
    let mut checked: Vec<ParameterUpdate> = updates();
    check(&mut checked);
    check_any_number_of_threads(
        "optimizer_step::large_and_small_parameters_do_not_depend_on_the_number_of_threads",
        || {
            let mut updates: Vec<ParameterUpdate> = updates();
            update_parameters(&mut updates).unwrap();
            let results =
                |update: ParameterUpdate| [update.updated].into_iter().chain(update.memory).flatten();
            updates.into_iter().flat_map(results).collect()
        },
    );
}

#[test]
fn parameters_and_gradients_of_any_layout() {
    if !device().is_cpu() {
        return;
    }
    for (dtype, _) in DTYPES {
        let turned = values((5, 3), 1).to_dtype(dtype).unwrap().t().unwrap();
        let narrowed = values((3, 9), 2).to_dtype(dtype).unwrap().narrow(1, 2, 5).unwrap();
        let broadcast = values((1, 5), 3).to_dtype(dtype).unwrap().broadcast_as((3, 5)).unwrap();
        for parameter in [&turned, &narrowed, &broadcast] {
            for gradient in [&turned, &narrowed, &broadcast] {
                let mut update = update(ADAMW, dtype, &[3, 5], 4);
                (update.parameter, update.gradient) = (parameter.clone(), gradient.clone());
                check(&mut [update]);
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    if !device().is_cpu() {
        return;
    }
    for formula in formulas() {
        let mut update = update(formula, DType::F32, &[4], 0);
        update.parameter = Tensor::new(&[f32::INFINITY, 1., 2., f32::NAN], &device()).unwrap();
        update.gradient = Tensor::new(&[0.5, f32::NAN, f32::NEG_INFINITY, 1.], &device()).unwrap();
        check(&mut [update]);
    }
}

#[test]
fn refuses_what_does_not_fit_and_changes_nothing() {
    if !device().is_cpu() {
        return;
    }
    let one = |change: &dyn Fn(&mut ParameterUpdate)| {
        let mut updates = [update(ADAMW, DType::F32, &[2, 3], 0), update(ADAMW, DType::F32, &[2, 3], 9)];
        let kept: Vec<_> =
            updates[0].memory.iter().flatten().map(|tensor| (tensor.clone(), to_vec(tensor))).collect();
        change(&mut updates[1]);
        let text = message(update_parameters(&mut updates));
        for (tensor, values) in kept {
            same(&tensor, &values, &text);
        }
        assert!(updates[0].updated.is_none());
        text
    };
    let text = one(&|update| update.gradient = values(3, 0));
    assert_eq!(text, "update_parameters: `gradient` must have the shape of `parameter`, [2, 3], found [3]");
    let text = one(&|update| update.gradient = update.gradient.to_dtype(DType::F64).unwrap());
    assert!(text.contains("`gradient` must have the dtype of `parameter`, found F64"), "{text}");
    let text = one(&|update| update.memory[1] = None);
    assert_eq!(text, "update_parameters: the formula remembers 2 tensors, found 1");
    let text = one(&|update| update.formula = SGD);
    assert_eq!(text, "update_parameters: the formula remembers 0 tensors, found 2");
    let text =
        one(&|update| update.memory[0] = Some(values((3, 2), 0).to_dtype(DType::F32).unwrap().t().unwrap()));
    assert!(text.contains("contiguous"), "{text}");
    let text = one(&|update| update.memory[0] = update.memory[1].clone());
    assert!(text.contains("two tensors that are changed have one storage"), "{text}");
    let text = one(&|update| update.parameter = update.memory[1].clone().unwrap());
    assert!(!text.is_empty());
    let whole = Tensor::zeros((2, 3), DType::U32, &device()).unwrap();
    let mut updates = [update(SGD, DType::F32, &[2, 3], 0)];
    (updates[0].parameter, updates[0].gradient) = (whole.clone(), whole);
    assert!(matches!(update_parameters(&mut updates), Err(Error::DType { argument: "parameter", .. })));
}

#[test]
fn room_within_a_larger_storage_is_all_that_changes() {
    if !device().is_cpu() {
        return;
    }
    let mut update = update(ADAMW, DType::F32, &[4], 0);
    let whole = Tensor::zeros(10, DType::F32, &device()).unwrap();
    update.updated = Some(whole.narrow(0, 3, 4).unwrap());
    let mut updates = [update];
    check(&mut updates);
    let values = to_vec(&whole);
    assert!(values[..3].iter().chain(&values[7..]).all(|&value| value == 0.));
    same(&whole.narrow(0, 3, 4).unwrap(), &to_vec(updates[0].updated.as_ref().unwrap()), "the room");
}
