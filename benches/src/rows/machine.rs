//! What the machine and candle do without us: a yardstick for every other row.

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};

use crate::harness::{Entry, Row, Time};

pub(crate) fn rows() -> Vec<Entry> {
    vec![Entry::new("machine/matmul_512", || {
        let left = Tensor::ones((512, 512), DType::F32, &Device::Cpu)?;
        let right = left.copy()?;
        Ok(Row::new(Time::Milliseconds, move || {
            black_box(left.matmul(&right)?);
            Ok(())
        }))
    })]
}
