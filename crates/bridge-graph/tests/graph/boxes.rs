//! Boxed modules of several types in one place.

use bridge_graph::{
    GraphDef, Policy, Program, Registry, StatefulModule, dynamic, merge, replace, split, state,
};
use bridge_vars::{Param, Result, State};
use candle_core::Tensor;

use crate::support::{Scale, device, param, paths, read, scale};

dynamic!(pub(crate) trait BoxableLayer for Layer);
pub(crate) trait Layer: BoxableLayer {
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

impl Layer for Scale {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_mul(&self.factor.value()?)?)
    }
}

#[derive(StatefulModule)]
struct Shift(Param);

impl Layer for Shift {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_add(&self.0.value()?)?)
    }
}

/// A boxed layer in a boxed layer; generic types have one name.
#[derive(StatefulModule)]
struct Residual<L> {
    inner: L,
}

macro_rules! residual {
    ($($inner:ty),*) => {$(
        impl Layer for Residual<$inner> {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                Ok((x + self.inner.forward(x)?)?)
            }
        }
    )*};
}
residual!(Scale, Shift, Box<dyn Layer>);

#[derive(StatefulModule)]
struct Stack {
    layers: Vec<Box<dyn Layer>>,
    any: Box<dyn StatefulModule>,
    tied: Param,
}

fn stack() -> Stack {
    let shift = Shift(param(1.));
    let tied = shift.0.clone();
    let inner: Box<dyn Layer> = Box::new(shift);
    let layers: Vec<Box<dyn Layer>> = vec![
        Box::new(scale(2.)),
        Box::new(Residual { inner }),
        Box::new(Residual { inner: scale(3.) }),
        Box::new(Residual { inner: Shift(param(4.)) }),
    ];
    Stack { layers, any: Box::new(scale(5.)), tied }
}

fn forward(stack: &Stack) -> f32 {
    let x = crate::support::scalar(1.);
    let y = stack.layers.iter().try_fold(x, |x, layer| layer.forward(&x)).unwrap();
    y.to_scalar().unwrap()
}

#[test]
fn merges_without_a_registry_in_one_program() {
    let old = stack();
    let (graphdef, state) = split(&old).unwrap();
    assert_eq!(
        paths(&state),
        ["any.factor", "layers.0.factor", "layers.1.inner.0", "layers.2.inner.factor", "layers.3.inner.0"]
    );
    let merged = merge(&graphdef, &state).unwrap();
    assert_eq!((forward(&merged), forward(&old)), (44., 44.));
    assert_eq!(merged.any.type_name(), "Scale");
    // Sharing reaches into boxes.
    merged.tied.set(crate::support::scalar(0.)).unwrap();
    assert_eq!(forward(&merged), 36.);
    assert!(split(&merged).unwrap().0 == graphdef);
    assert_eq!(forward(&bridge_graph::clone(&old).unwrap()), 44.);
}

fn from_text(graphdef: &GraphDef<Stack>) -> GraphDef<Stack> {
    let text = graphdef.program().encode().unwrap().to_string();
    let program = Program::decode(&serde_json::from_str(&text).unwrap(), &device()).unwrap();
    GraphDef::from_program(std::sync::Arc::new(program))
}

#[test]
fn a_file_needs_a_registry() {
    let (graphdef, state) = split(&stack()).unwrap();
    let read = from_text(&graphdef);
    assert_eq!(read, graphdef);
    let text = merge(&read, &state).map(|_| ()).unwrap_err().to_string();
    assert_eq!(text, "at `any`: no module type `Scale` is registered, found none: add `.with::<Scale>()`");
    let registry = Registry::new().with::<Scale>();
    let text = registry.merge(&read, &state).map(|_| ()).unwrap_err().to_string();
    let expected = "at `layers.0`: no module type `Scale` is registered, found `Scale`: add it for the box's trait, \
                    `<dyn Trait>::register::<Scale>(registry)`";
    assert_eq!(text, expected);
    // Of the three types named Residual, each place takes the one that fits.
    let registry = <dyn Layer>::register::<Residual<Scale>>(registry);
    let registry = <dyn Layer>::register::<Residual<Box<dyn Layer>>>(registry);
    let registry = <dyn Layer>::register::<Residual<Shift>>(registry);
    let registry = <dyn Layer>::register::<Shift>(<dyn Layer>::register::<Scale>(registry));
    let merged = registry.merge(&read, &state).unwrap();
    assert_eq!(forward(&merged), 44.);
    assert!(split(&merged).unwrap().0 == graphdef);
    // What does not fit at all is still said.
    let mut wrong = state.clone();
    wrong.remove("layers.2.inner.factor").unwrap();
    let text = registry.merge(&read, &wrong).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("missing `layers.2.inner.factor`"), "{text}");
}

#[test]
fn the_type_in_the_box_is_part_of_the_description() {
    let of = |layer: Box<dyn Layer>| split(&vec![layer]).unwrap().0;
    assert_ne!(of(Box::new(Shift(param(1.)))), of(Box::new(scale(1.))));
    let diff = of(Box::new(Shift(param(1.)))).diff(&of(Box::new(scale(1.))));
    let expected = "~ `0`: boxed Shift became boxed Scale\n- `0.0`: Param f32[]\n+ `0.factor`: Param f32[]\n+ `0.power`: 2";
    assert_eq!(diff.to_string(), expected);
}

#[test]
fn another_type_can_take_the_place() {
    let old = stack();
    let new = replace(&old, |stack| &stack.layers[0], Box::new(Shift(param(1.))) as Box<dyn Layer>).unwrap();
    assert_eq!(forward(&new), 44.);
    assert_eq!(
        state(&new).unwrap().get("layers.0.0").unwrap().tensor().unwrap().to_scalar::<f32>().unwrap(),
        1.
    );
    assert_eq!(read(&new.tied), 1.);
}

#[test]
fn a_registry_merges_as_merge_does() {
    let tied = param(1.);
    let module = (Scale { factor: tied.clone(), power: 2 }, tied);
    let (graphdef, state) = split(&module).unwrap();
    // By the other path of what is tied, and in part.
    let renamed = State::unflatten([("1".into(), state.get("0.factor").unwrap().clone())]).unwrap();
    let registry = Registry::new();
    assert_eq!(read(&registry.merge(&graphdef, &renamed).unwrap().0.factor), 1.);
    let (_, report) = registry.merge_with(&graphdef, &State::default(), Policy::Partial).unwrap();
    assert_eq!(report.missing, ["0.factor".into()]);
}

#[derive(StatefulModule)]
struct Deep<const N: usize> {
    inner: Option<Box<dyn StatefulModule>>,
    value: Param,
}

/// With two types of one name at every level, every combination could be tried.
#[test]
fn a_description_that_fits_no_combination_is_refused_soon() {
    let mut deep = Deep::<0> { inner: None, value: param(1.) };
    for _ in 0..60 {
        deep = Deep { inner: Some(Box::new(deep)), value: param(1.) };
    }
    let (graphdef, state) = split(&deep).unwrap();
    let mut json = graphdef.program().encode().unwrap();
    let entries = json.as_array_mut().unwrap();
    let innermost = entries.iter().position(|entry| entry["is"] == "variable").unwrap();
    entries[innermost] = serde_json::json!({ "key": "value", "is": "bool", "value": true });
    let program = Program::decode(&json, &device()).unwrap();
    let registry = Registry::new().with::<Deep<0>>().with::<Deep<1>>();
    let error = registry.rebuild(&program, &state).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("names of their own") || error.contains("bool"), "{error}");
}
