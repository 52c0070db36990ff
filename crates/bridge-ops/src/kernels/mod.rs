//! Kernels for the CPU: what the operators run where there is one, in place of compositions of candle's operators.

use candle_core::Tensor;
use std::sync::OnceLock;

pub(crate) mod activation;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod element;
pub(crate) mod elementwise;
pub(crate) mod embedding;
pub(crate) mod function;
pub(crate) mod gradients;
pub(crate) mod lanes;
pub(crate) mod linear;
pub(crate) mod math;
pub(crate) mod math_double;
pub(crate) mod optimizer;
pub(crate) mod pairs;
pub(crate) mod parallel;
pub(crate) mod product;
pub(crate) mod row_norm;
pub(crate) mod rows;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod spans;
pub(crate) mod storage;

/// Whether kernels run for a tensor: those for the CPU, unless candle is asked to keep the graph of a gradient, which
/// kernels do not have.
pub(crate) fn run_for(x: &Tensor) -> bool {
    static KEEPS_GRAPH: OnceLock<bool> = OnceLock::new();
    let keeps_graph = || {
        let value = std::env::var("CANDLE_GRAD_DO_NOT_DETACH");
        value.is_ok_and(|value| !value.is_empty() && value != "0")
    };
    x.device().is_cpu() && !*KEEPS_GRAPH.get_or_init(keeps_graph)
}
