use crate::support::{assert_close, check_gradient, device, message, to_vec, values};
use crate::twin::{check_any_number_of_threads, check_fewer_instructions, check_twin, with_gradients};
use bridge_ops::{Error, collect_gradients, composition, embedding};
use candle_core::{DType, Device, Tensor, Var};

fn indices(indices: &[u32]) -> Tensor {
    Tensor::new(indices, &device()).unwrap()
}

#[test]
fn values_of_any_layout_and_index_dtype() {
    let table = values((5, 3), 1);
    let rows: Vec<Vec<f64>> = table.to_vec2().unwrap();
    let expected: Vec<f64> = [4, 0, 4, 2].iter().flat_map(|&row: &usize| rows[row].clone()).collect();
    let four = indices(&[4, 0, 4, 2]);
    let transposed = table.t().unwrap().contiguous().unwrap().t().unwrap();
    let narrowed = Tensor::cat(&[&values((5, 2), 2), &table], 1).unwrap().narrow(1, 2, 3).unwrap();
    let lower = Tensor::cat(&[&values((2, 3), 3), &table], 0).unwrap().narrow(0, 2, 5).unwrap();
    for table in [&table, &transposed, &narrowed, &lower] {
        for dtype in [DType::U8, DType::U32, DType::I32, DType::I64] {
            let found = embedding(table, &four.to_dtype(dtype).unwrap()).unwrap();
            assert_eq!(found.dims(), [4, 3]);
            assert_close(&found, &expected, 0.0);
        }
    }
    for dims in [vec![2, 2], vec![1, 4, 1]] {
        let found = embedding(&table, &four.reshape(dims.as_slice()).unwrap()).unwrap();
        assert_eq!(found.dims(), [dims.as_slice(), &[3]].concat());
        assert_close(&found, &expected, 0.0);
    }
    let turned = indices(&[4, 4, 0, 2]).reshape((2, 2)).unwrap().t().unwrap();
    assert_close(&embedding(&table, &turned).unwrap(), &expected, 0.0);
    let scalar = embedding(&table, &indices(&[2]).reshape(()).unwrap()).unwrap();
    assert_eq!(scalar.dims(), [3]);
    assert_close(&scalar, &rows[2], 0.0);
    assert_eq!(embedding(&table, &indices(&[])).unwrap().dims(), [0, 3]);
    assert_eq!(embedding(&values((5, 0), 1), &four).unwrap().dims(), [4, 0]);
    let broadcast = values(3, 1).broadcast_as((5, 3)).unwrap();
    assert_close(&embedding(&broadcast, &four).unwrap(), &to_vec(&values(3, 1)).repeat(4), 0.0);
}

#[test]
fn gradients_are_right() {
    let four = indices(&[4, 0, 4, 2]);
    check_gradient(|inputs| embedding(&inputs[0], &four), &[values((5, 3), 1)]);
    check_gradient(|inputs| embedding(&inputs[0].t()?, &four), &[values((3, 5), 2)]);
    check_gradient(|inputs| Ok(embedding(&inputs[0], &four)?.t()?), &[values((5, 3), 3)]);
    check_gradient(|inputs| embedding(&inputs[0].broadcast_as((5, 3))?, &four), &[values(3, 4)]);
    // Of a table that is used twice.
    check_gradient(
        |inputs| Ok((embedding(&inputs[0], &four)? * embedding(&inputs[0], &indices(&[1, 2, 4, 4]))?)?),
        &[values((5, 3), 5)],
    );
}

/// Rows that are looked up 1000 times, whose gradient bf16 could not sum.
#[test]
fn half_precision_accumulates_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        let table = Var::ones((2, 3), dtype, &device()).unwrap();
        let gradients =
            embedding(&table, &indices(&[1; 1000])).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(&table).unwrap();
        assert_eq!(gradient.dtype(), dtype);
        assert_close(gradient, &[0.0, 0.0, 0.0, 1000.0, 1000.0, 1000.0], 0.0);
    }
}

/// Memory that was used before holds what it held, and a second use of the table adds to the first.
#[test]
fn gradients_are_put_aside() {
    let table = Var::from_tensor(&values((5, 3), 1).to_dtype(DType::F32).unwrap()).unwrap();
    let (four, two) = (indices(&[4, 0, 4, 2]), indices(&[1, 4]));
    let loss = || {
        let first = embedding(&table, &four).unwrap().sum_all().unwrap();
        (first + embedding(&table, &two).unwrap().sum_all().unwrap()).unwrap()
    };
    let expected = to_vec(loss().backward().unwrap().get(&table).unwrap());
    for _ in 0..3 {
        let loss = loss();
        let (store, mut collected) = collect_gradients(&[table.as_tensor()], || loss.backward()).unwrap();
        if device().is_cpu() {
            assert!(store.get(&table).is_none());
            let collected = collected.remove(0).unwrap();
            assert_eq!(to_vec(&collected.gradient), expected);
            collected.home.give_back(&collected.gradient);
        }
    }
}

/// Indices of `count` lookups in `rows` rows, the last of them among them.
fn some_indices(count: usize, rows: usize) -> Tensor {
    let index = |place: usize| ((place * place * 7 + rows - 1) % rows) as i64;
    Tensor::from_iter((0..count).map(index), &device()).unwrap()
}

fn wide(tensor: &Tensor) -> Tensor {
    match tensor.dtype() {
        DType::F64 => tensor.clone(),
        _ => tensor.to_dtype(DType::F32).unwrap(),
    }
}

#[test]
fn the_kernel_agrees_with_the_composition() {
    for (rows, features, count) in
        [(1, 1, 1), (5, 3, 4), (3, 17, 40), (4, 513, 7), (300, 64, 900), (7, 5000, 20)]
    {
        let some = some_indices(count, rows);
        check_twin(
            |inputs| embedding(&inputs[0], &some),
            // candle sums the gradient in the dtype of the table.
            |inputs| Ok(composition::embedding(&wide(&inputs[0]), &some)?.to_dtype(inputs[0].dtype())?),
            &[(rows, features).into()],
            8.0,
        );
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    check_any_number_of_threads("embedding::any_number_of_threads_gives_the_same_bits", || {
        let some = some_indices(5000, 70);
        let table = values((70, 33), 1).to_dtype(DType::F32).unwrap();
        let (rows, mut results) = with_gradients(|inputs| embedding(&inputs[0], &some), &[table]);
        results.push(rows);
        results
    });
}

#[test]
fn fewer_instructions_give_the_same() {
    the_kernel_agrees_with_the_composition();
    check_fewer_instructions("embedding::fewer_instructions_give_the_same");
}

#[test]
fn indices_out_of_range_are_errors() {
    let table = values((5, 3), 1).to_device(&Device::Cpu).unwrap();
    let out_of_range = |indices: Tensor| match embedding(&table, &indices) {
        Err(Error::IndexOutOfRange { index, position, rows, .. }) => (index, position, rows),
        other => panic!("expected an index out of range, found {other:?}"),
    };
    let cpu = &Device::Cpu;
    assert_eq!(out_of_range(Tensor::new(&[0u32, 5], cpu).unwrap()), (5, 1, 5));
    assert_eq!(out_of_range(Tensor::new(&[u32::MAX, 0], cpu).unwrap()), (i64::from(u32::MAX), 0, 5));
    assert_eq!(out_of_range(Tensor::new(&[[0i64, 1], [2, -1]], cpu).unwrap()), (-1, 3, 5));
    assert_eq!(out_of_range(Tensor::new(&[255u8], cpu).unwrap()), (255, 0, 5));
    assert_eq!(
        message(embedding(&table, &Tensor::new(&[0i64, 7], cpu).unwrap())),
        "embedding: index 7 at flat position 1 is out of range: the table has 5 rows, so indices go from 0 to 4"
    );
}

#[test]
fn wrong_arguments_are_errors() {
    let some = indices(&[0]);
    for dims in [vec![], vec![3], vec![2, 3, 4]] {
        assert!(matches!(embedding(&values(dims, 1), &some), Err(Error::Shape { argument: "table", .. })));
    }
    let result = embedding(&values((2, 3), 1), &values(2, 1));
    assert!(matches!(result, Err(Error::DType { argument: "indices", .. })));
    let result = embedding(&values((2, 3), 1).to_dtype(DType::U32).unwrap(), &some);
    assert!(matches!(result, Err(Error::DType { argument: "table", .. })));
}
