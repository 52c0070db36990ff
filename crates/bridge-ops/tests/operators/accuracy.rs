use crate::support::{device, values};
use bridge_ops::{Error, accuracy};
use candle_core::{DType, Device, Tensor};

#[test]
fn counts_rows_whose_largest_logit_is_the_label() {
    let logits =
        Tensor::new(&[[0f32, 1.0, 0.5], [3.0, 1.0, 2.0], [0.0, 0.0, -1.0], [0.0, 1.0, 2.0]], &device())
            .unwrap();
    // The first of equal logits counts.
    let labels = Tensor::new(&[1u32, 0, 0, 1], &device()).unwrap();
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        let logits = logits.to_dtype(dtype).unwrap();
        assert_eq!(accuracy(&logits, &labels).unwrap(), 0.75);
        assert_eq!(accuracy(&logits, &labels.to_dtype(DType::I64).unwrap()).unwrap(), 0.75);
        let (logits, labels) = (logits.reshape((2, 2, 3)).unwrap(), labels.reshape((2, 2)).unwrap());
        assert_eq!(accuracy(&logits, &labels).unwrap(), 0.75);
        assert_eq!(accuracy(&logits.transpose(0, 1).unwrap(), &labels.t().unwrap()).unwrap(), 0.75);
    }
    let transposed = logits.t().unwrap().contiguous().unwrap().t().unwrap();
    assert_eq!(accuracy(&transposed, &labels).unwrap(), 0.75);
    assert_eq!(
        accuracy(&values(3, 1).broadcast_as((300, 3)).unwrap(), &best(&values(3, 1), 300)).unwrap(),
        1.0
    );
}

fn best(row: &Tensor, count: usize) -> Tensor {
    row.argmax(0).unwrap().broadcast_as(count).unwrap()
}

#[test]
fn more_than_255_right_answers_are_counted() {
    let logits = Tensor::ones((1000, 2), DType::F32, &device()).unwrap();
    let labels = Tensor::zeros(1000, DType::U32, &device()).unwrap();
    assert_eq!(accuracy(&logits, &labels).unwrap(), 1.0);
}

#[test]
fn wrong_arguments_are_errors() {
    let logits = Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    let labels = |labels: &[u32]| Tensor::new(labels, &Device::Cpu).unwrap();
    assert!(matches!(
        accuracy(&logits, &labels(&[0, 3])),
        Err(Error::LabelOutOfRange { label: 3, position: 1, classes: 3, .. })
    ));
    assert!(matches!(accuracy(&logits, &labels(&[0])), Err(Error::Shape { argument: "labels", .. })));
    let empty = Tensor::ones((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(matches!(accuracy(&empty, &labels(&[])), Err(Error::Empty { .. })));
    assert!(matches!(accuracy(&labels(&[1]), &labels(&[])), Err(Error::DType { argument: "logits", .. })));
}
