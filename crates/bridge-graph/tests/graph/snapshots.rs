//! A state never changes because a model did.

use bridge_graph::{merge, split, state, update, value_and_grad};
use bridge_vars::{Filter, Param, RngCount, State};

use crate::support::{param, read, scalar, scale};

fn values(state: &State) -> Vec<f32> {
    state.iter().map(|(_, leaf)| leaf.tensor().unwrap().to_scalar().unwrap()).collect()
}

#[test]
fn training_between_taking_and_reading() {
    let model = vec![scale(1.), scale(2.)];
    let (graphdef, before) = split(&model).unwrap();
    let again = state(&model).unwrap();
    for step in 1..4 {
        let (_, gradients) = value_and_grad(&model, Filter::of::<Param>(), |model| {
            Ok((model[0].factor.value()?.sqr()? + model[1].factor.value()?)?)
        })
        .unwrap();
        for (path, gradient) in gradients.iter() {
            let index = usize::from(path.keys()[0] != 0.into());
            let factor = &model[index].factor;
            factor.set((factor.value().unwrap() - gradient.tensor().unwrap()).unwrap()).unwrap();
        }
        assert_eq!(read(&model[1].factor), 2. - step as f32);
    }
    assert_eq!((values(&before), values(&again)), (vec![1., 2.], vec![1., 2.]));
    // A model merged from it goes its own way as well.
    let merged = merge(&graphdef, &before).unwrap();
    merged[0].factor.set(scalar(5.)).unwrap();
    update(&merged, &state(&model).unwrap()).unwrap();
    assert_eq!(values(&before), [1., 2.]);
    assert_eq!(read(&merged[1].factor), -1.);
}

#[test]
fn host_values() {
    let count = RngCount::new(3);
    let before = state(&count).unwrap();
    count.next_count().unwrap();
    assert_eq!(before.get("").unwrap().value.count().unwrap(), 3);
}

#[test]
fn a_snapshot_inside_a_differentiated_call_outlives_it() {
    let model = scale(3.);
    let mut inside = State::default();
    value_and_grad(&model, Filter::of::<Param>(), |model| {
        inside = state(model)?;
        Ok(model.factor.value()?.sqr()?)
    })
    .unwrap();
    model.factor.set(scalar(4.)).unwrap();
    assert_eq!(values(&inside), [3.]);
}

#[test]
fn one_state_serves_many_models() {
    let (graphdef, state) = split(&vec![param(1.)]).unwrap();
    let models = [0., 1., 2.].map(|value| {
        let model = merge(&graphdef, &state).unwrap();
        model[0].set(scalar(value)).unwrap();
        model
    });
    assert_eq!(models.map(|model| read(&model[0])), [0., 1., 2.]);
    assert_eq!(values(&state), [1.]);
}
