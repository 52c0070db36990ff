//! What is measured over many batches.

mod accuracy;
mod average;
mod error;
mod inputs;
mod metric;
mod multi_metric;
mod numbers;
mod samples;
mod welford;

pub use accuracy::Accuracy;
pub use average::Average;
pub use error::MetricError;
pub use inputs::Inputs;
pub use metric::Metric;
pub use multi_metric::MultiMetric;
pub use welford::{Statistics, Welford};
