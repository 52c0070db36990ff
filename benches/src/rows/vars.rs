//! Reading a variable, as each layer does in each call.

use std::hint::black_box;

use candle_bridge::vars::Param;
use candle_core::{DType, Device, Tensor};

use crate::harness::{Entry, Outcome, Row, Time};

fn read() -> Outcome<Row> {
    let tensor = Tensor::zeros((8, 8), DType::F32, &Device::Cpu)?;
    let param = Param::new(tensor.clone());
    let ours = move || {
        black_box(param.value()?);
        Ok(())
    };
    Ok(Row::new(Time::Nanoseconds, ours).against("Tensor::clone", move || {
        black_box(tensor.clone());
        Ok(())
    }))
}

pub(crate) fn rows() -> Vec<Entry> {
    vec![Entry::new("vars/read/param", read)]
}
