//! Many tensors as one row of elements, to share out over the threads at once: a small tensor costs no fork.

use std::ops::Range;

/// Where each of several runs of elements begins, if they stand one after another.
pub(crate) struct Spans {
    /// The last is the end of all.
    starts: Vec<usize>,
}

impl Spans {
    pub(crate) fn new(lengths: impl ExactSizeIterator<Item = usize>) -> Self {
        let mut starts = Vec::with_capacity(lengths.len() + 1);
        let mut end = 0;
        starts.push(end);
        starts.extend(lengths.map(|length| {
            end += length;
            end
        }));
        Self { starts }
    }

    /// The number of elements of all runs.
    pub(crate) fn total(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The runs that a range of the row meets, with the part of each.
    pub(crate) fn within(&self, range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let first = self.starts.partition_point(|&start| start <= range.start).saturating_sub(1);
        let runs = self.starts.windows(2).enumerate().skip(first);
        let met = runs.take_while(move |(_, run)| run[0] < range.end);
        met.filter_map(move |(index, run)| {
            let part = range.start.max(run[0]) - run[0]..range.end.min(run[1]) - run[0];
            (!part.is_empty()).then_some((index, part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_all_ranges_are_the_whole_of_every_run() {
        let lengths = [3, 0, 1, 0, 0, 7, 2, 0];
        let spans = Spans::new(lengths.into_iter());
        assert_eq!(spans.total(), 13);
        for step in 1..15 {
            let mut met = lengths.map(|_| 0);
            for start in (0..spans.total()).step_by(step) {
                for (index, part) in spans.within(start..(start + step).min(spans.total())) {
                    assert_eq!(part.start, met[index]);
                    met[index] = part.end;
                }
            }
            assert_eq!(met, lengths);
        }
        assert_eq!(Spans::new([].into_iter()).within(0..0).count(), 0);
    }
}
