//! The greatest of many.

use std::cmp::Ordering;

/// The indices of the `count` greatest, the greatest first; of equal ones, the first. None of them is NaN.
pub(crate) fn top<T: Copy + PartialOrd>(values: &[T], count: usize) -> Vec<u32> {
    let by_value = |left: &u32, right: &u32| {
        let (left_value, right_value) = (values[*left as usize], values[*right as usize]);
        right_value.partial_cmp(&left_value).unwrap_or(Ordering::Equal).then(left.cmp(right))
    };
    let mut order: Vec<u32> = (0u32..).take(values.len()).collect();
    if (1..order.len()).contains(&count) {
        order.select_nth_unstable_by(count - 1, by_value);
    }
    order.truncate(count);
    order.sort_unstable_by(by_value);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_come_first_and_of_equal_ones_the_first() {
        let values = [1., 5., 3., 5., f32::NEG_INFINITY, 0.];
        assert_eq!(top(&values, 6), [1, 3, 2, 0, 5, 4]);
        for count in 0..6 {
            assert_eq!(top(&values, count), top(&values, 6)[..count]);
        }
    }
}
