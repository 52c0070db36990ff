//! Sums of all elements up to each one.

/// How many elements XLA's compiler for the CPU adds one after the other.
const BLOCK: usize = 16;

/// The sum up to each element, itself included, in the order of addition that XLA's compiler for the CPU takes: within
/// blocks first, then the same for the blocks' sums, then each block's start onto its elements.
pub(crate) fn cumulative_sum<T: Copy + Default + std::ops::Add<Output = T>>(values: &[T]) -> Vec<T> {
    let mut sums = values.to_vec();
    for block in sums.chunks_mut(BLOCK) {
        let mut sum = T::default();
        for (place, value) in block.iter_mut().enumerate() {
            sum = if place == 0 { *value } else { sum + *value };
            *value = sum;
        }
    }
    if values.len() > BLOCK {
        let totals: Vec<T> = sums.chunks(BLOCK).filter_map(|block| block.last().copied()).collect();
        let starts = cumulative_sum(&totals);
        for (block, start) in sums.chunks_mut(BLOCK).skip(1).zip(starts) {
            for value in block {
                *value = *value + start;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    #[test]
    fn adds_in_the_order_of_xla() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/jax/permutation.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let bits = |array: &Value| -> Vec<u32> {
            array["u32"].as_array().unwrap().iter().map(|bits| bits.as_u64().unwrap() as u32).collect()
        };
        let mut checked = 0;
        for case in golden["cumsum"].as_array().unwrap() {
            let values: Vec<f32> = bits(&case["x"]).into_iter().map(f32::from_bits).collect();
            let sums: Vec<u32> = cumulative_sum(&values).into_iter().map(f32::to_bits).collect();
            assert_eq!(sums, bits(&case["y"]), "{} values", values.len());
            checked += sums.len();
        }
        assert_eq!(checked, 366);
    }
}
