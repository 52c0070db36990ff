use std::cell::RefCell;
use std::rc::Rc;

use bridge_ops::shapes_only;
use bridge_vars::{Path, Result, State, Value};

use crate::observe::{Observed, Observer, Places, watch};
use crate::{BareTensor, CALL, Field, GraphNode, RngStream, Rngs, StatefulModule, Summary, SummaryRow, Visit};
use crate::{iter_graph, iter_modules, merge, shapes, split};

/// A [`Summary`] of a module and a call of it.
///
/// The call runs on a copy that has no values, by shapes and dtypes alone, so the module can be only
/// [described](crate::describe()), and does not change. Modules that [observe](crate::observe()) their calls, as layers do, have
/// their inputs and outputs in the table.
///
/// ```
/// use bridge_graph::{Rngs, StatefulModule, describe, observe, tabulate};
/// use bridge_ops::stand_in;
/// use bridge_random::Initializer;
/// use bridge_vars::{Param, Result};
/// use candle_core::{DType, Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Linear { kernel: Param }
///
/// impl Linear {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         observe(self, x, || Ok(bridge_ops::linear(x, &self.kernel.value()?, None)?))
///     }
/// }
///
/// // 40 GB.
/// let size = (100_000, 100_000);
/// let model = |rngs: &Rngs| Ok(Linear { kernel: rngs.param(&Initializer::lecun_normal(), size)? });
/// let model = describe(&Rngs::new(0), model)?;
/// let x = stand_in((1, 100_000), DType::F32, &Device::Cpu)?;
/// let summary = tabulate(&model, |model| model.forward(&x))?;
/// assert_eq!(summary.rows()[0].outputs.as_deref(), Some("f32[1, 100000]"));
/// assert_eq!(summary.total().bytes, 40_000_000_000);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// What `call` returns.
#[doc(alias("nnx.tabulate", "torchinfo", "summary"))]
pub fn tabulate<M: Field, T>(module: &M, call: impl FnOnce(&M) -> Result<T>) -> Result<Summary> {
    let (graphdef, state) = split(module)?;
    let copy = merge(&graphdef, &stand_ins(&state)?)?;
    let calls = Rc::new(Calls { rows: RefCell::new(modules(&copy)?) });
    let observer: Rc<dyn Observer> = calls.clone();
    watch(Rc::new(Places::of(&copy)?), observer, || shapes_only(|| call(&copy)))?;
    Ok(Summary::new(calls.rows.take(), state.iter().map(|(path, leaf)| (path, leaf.clone()))))
}

/// A [`Summary`] of a module's structure and variables, without a call.
///
/// # Errors
/// If a variable can not be read.
pub fn tabulate_structure<M: Visit + ?Sized>(module: &M) -> Result<Summary> {
    let mut leaves = Vec::new();
    iter_graph(module, |path, node| {
        match node {
            GraphNode::Variable(variable) => leaves.push((path.clone(), variable.leaf()?)),
            GraphNode::Tensor(tensor) => leaves.push((path.clone(), BareTensor::leaf(tensor.clone()))),
            _ => {}
        }
        Ok(())
    })?;
    Ok(Summary::new(modules(module)?, leaves))
}

/// The same leaves with tensors of one element's memory.
fn stand_ins(state: &State) -> Result<State> {
    state.map(|_, leaf| match &leaf.value {
        Value::Tensor(tensor) => {
            Ok(leaf.with_value(bridge_ops::stand_in(tensor.shape(), tensor.dtype(), tensor.device())?))
        }
        Value::Described(described) => Ok(leaf.with_value(described.stand_in()?)),
        _ => Ok(leaf.clone()),
    })
}

fn modules<M: Visit + ?Sized>(module: &M) -> Result<Vec<SummaryRow>> {
    let mut rows = Vec::new();
    iter_modules(module, |path, module| {
        let any: &dyn std::any::Any = module;
        if !any.is::<Rngs>() && !any.is::<RngStream>() {
            rows.push(SummaryRow::new(path.clone(), module.type_name()));
        }
        Ok(())
    })?;
    Ok(rows)
}

struct Calls {
    rows: RefCell<Vec<SummaryRow>>,
}

impl Observer for Calls {
    fn called(&self, path: &Path, module: &dyn StatefulModule, call: &Observed<'_>) -> Result<()> {
        let (inputs, outputs) = (shapes(call.input)?, shapes(call.output.as_visit())?);
        let mut rows = self.rows.borrow_mut();
        let name = match call.method {
            CALL => module.type_name().to_owned(),
            method => format!("{}.{method}", module.type_name()),
        };
        let row = match rows.iter().position(|row| row.path == *path && row.module == name) {
            Some(row) => row,
            // Another method's row comes after the module's own.
            None => {
                let own = rows.iter().rposition(|row| row.path == *path);
                let place = own.map_or(rows.len(), |own| own + 1);
                rows.insert(place, SummaryRow::new(path.clone(), name));
                place
            }
        };
        if let Some(row) = rows.get_mut(row) {
            row.call(inputs, outputs);
        }
        Ok(())
    }
}
