use bridge_graph::Misfit;
use bridge_vars::Error;
use candle_core::{DType, Shape};

use crate::fit::lines;

/// What can go wrong in a metric.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// An input has a shape that the metric does not accept.
    #[error("{metric}: `{input}` must have {expected}, found {found:?}")]
    Shape {
        /// The metric.
        metric: &'static str,
        /// What the input is to the metric.
        input: &'static str,
        /// The shape that it should have, in words.
        expected: String,
        /// The shape that it has.
        found: Shape,
    },
    /// An input has a dtype that the metric does not accept.
    #[error("{metric}: `{input}` must have {expected}, found {found:?}; convert it with `to_dtype`")]
    DType {
        /// The metric.
        metric: &'static str,
        /// What the input is to the metric.
        input: &'static str,
        /// The dtypes that are accepted, in words.
        expected: &'static str,
        /// The dtype that it has.
        found: DType,
    },
    /// A label that counts names a class that the logits do not have.
    #[error(
        "accuracy: label {label} at flat position {position} is out of range: the logits have {classes} classes; \
         mask what is no example"
    )]
    LabelOutOfRange {
        /// The label.
        label: i64,
        /// Where it is in the flattened labels.
        position: usize,
        /// The number of classes.
        classes: usize,
    },
    /// A mask holds something that is no weight.
    #[error(
        "{metric}: the mask must hold finite numbers from 0, found {found} at flat position {position} of the \
         mask in the values' shape"
    )]
    Weight {
        /// The metric.
        metric: &'static str,
        /// What the mask holds.
        found: f64,
        /// Where, once the mask has the shape of the values.
        position: usize,
    },
    /// The names of what was given are not those that the metrics read.
    #[error("the inputs are not those of the metrics{}", names(.missing, .unexpected, .repeated))]
    Inputs {
        /// Names that a metric reads and that were not given.
        missing: Vec<String>,
        /// Names that were given and that no metric reads.
        unexpected: Vec<String>,
        /// Names that were given more than once.
        repeated: Vec<String>,
    },
    /// There is no metric of a name.
    #[error("there is no metric `{name}`; there are: {}", .metrics.join(", "))]
    NoSuchMetric {
        /// The name.
        name: String,
        /// The names of the metrics that there are.
        metrics: Vec<String>,
    },
    /// A metric is of another type than the one asked for.
    #[error("the metric `{name}` is not of type {expected}: {found}")]
    OtherMetric {
        /// The name.
        name: String,
        /// The type that was asked for.
        expected: &'static str,
        /// The metric that is there.
        found: String,
    },
    /// A state to go on from is not one of such a metric.
    #[error("the state does not fit the metric: was it made with the same metrics?{}", lines(.0))]
    State(Misfit),
}

impl From<MetricError> for Error {
    fn from(error: MetricError) -> Self {
        Error::new(error)
    }
}

fn names(missing: &[String], unexpected: &[String], repeated: &[String]) -> String {
    let lines = |what: &'static str, names: &[String]| {
        names.iter().map(|name| format!("\n  {what} `{name}`")).collect::<String>()
    };
    lines("missing", missing) + &lines("read by no metric:", unexpected) + &lines("given twice:", repeated)
}
