use std::cell::RefCell;
use std::rc::Rc;

use bridge_ops::shapes_only;
use bridge_vars::{Path, Result, State, Value};

use crate::observe::{Observed, Observer, Places, watch};
use crate::{
    BareTensor, CALL, Field, GraphNode, RngStream, Rngs, StatefulModule, Summary, SummaryRow, Visit,
};
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
    let (_, rows) = rows_of(&copy, || shapes_only(|| call(&copy)))?;
    // What the call made, as modules do that are initialised lazily.
    let made = split(&copy)?.1.without(&state);
    let leaves = state.iter().chain(made.iter()).map(|(path, leaf)| (path, leaf.clone()));
    Ok(Summary::new(rows, leaves.collect::<Vec<_>>()))
}

/// What a call returns, and the rows of the modules that it calls.
#[doc(hidden)]
pub fn rows_of<M: Visit + ?Sized, T>(
    module: &M,
    call: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<SummaryRow>)> {
    let calls = Rc::new(Calls { rows: RefCell::new(modules(module)?) });
    let observer: Rc<dyn Observer> = calls.clone();
    let output = watch(Rc::new(Places::of(module)?), observer, call)?;
    Ok((output, calls.rows.take()))
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
#[doc(hidden)]
pub fn stand_ins(state: &State) -> Result<State> {
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
    fn inside(&self, path: &Path, inside: Vec<SummaryRow>) {
        let mut rows = self.rows.borrow_mut();
        let mut place =
            rows.iter().rposition(|row| row.path.starts_with(path)).map_or(rows.len(), |at| at + 1);
        for row in inside {
            let whole = path.concat(&row.path);
            let known = match row.path.is_empty() {
                true => rows.iter_mut().find(|known| known.path == whole),
                false => rows.iter_mut().find(|known| known.path == whole && known.module == row.module),
            };
            match known {
                Some(known) => {
                    if row.path.is_empty() && !known.module.contains('(') {
                        known.module = format!("{}({})", known.module, row.module);
                    }
                    known.calls += row.calls;
                    known.inputs = known.inputs.take().or(row.inputs);
                    known.outputs = known.outputs.take().or(row.outputs);
                }
                None => {
                    rows.insert(place, SummaryRow { path: whole, ..row });
                    place += 1;
                }
            }
        }
    }

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
