//! Several short examples in one row of tokens, with their boundaries kept.
//!
//! [`pack`] decides by the lengths alone which examples share a row; [`Row`] joins their tokens. Attention stays inside
//! an example and positions restart in each, so a packed example is computed as if it stood alone.

use std::collections::BTreeSet;
use std::ops::Range;

/// A row of tokens made of whole examples, one after the other, without padding.
///
/// # Shapes
/// `input_ids`, `loss_mask` and `position_ids` have one entry a token, and the segments cover them in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The token ids.
    pub input_ids: Vec<u32>,
    /// Whether a token is supervised, that is, whether it counts in the loss as a target.
    pub loss_mask: Vec<bool>,
    /// The position of each token within its example, from 0.
    pub position_ids: Vec<u32>,
    /// The runs of tokens, in the order given.
    pub segments: Vec<Segment>,
}

/// A run of tokens of a row: an example, or what a family has in common, or the rest of one of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it lies in the row.
    pub range: Range<usize>,
    /// The segment that stands before it in its example; empty for none.
    pub prefix: Range<usize>,
}

impl Row {
    /// Appends an example, the token ids and the loss mask of it; its first `prefix.len()` tokens are those of that range
    /// of the row and are not written again.
    ///
    /// # Panics
    /// When ids and mask differ in length, or it has more than `u32::MAX` tokens.
    fn push(&mut self, ids: &[u32], mask: &[bool], prefix: Range<usize>) {
        assert_eq!(ids.len(), mask.len(), "one mask entry for each token");
        let length = u32::try_from(ids.len()).expect("an example has fewer than 2^32 tokens");
        let (start, shared) = (self.input_ids.len(), prefix.len());
        self.input_ids.extend_from_slice(&ids[shared..]);
        self.loss_mask.extend_from_slice(&mask[shared..]);
        self.position_ids.extend((0..length).skip(shared));
        self.segments.push(Segment { range: start..self.input_ids.len(), prefix });
    }

    /// Appends a family, each member the token ids and the loss mask of an example: what they have in common as a segment
    /// of its own, where they have something, then a segment for each.
    ///
    /// # Panics
    /// When an example's ids and mask differ in length, or it has more than `u32::MAX` tokens.
    pub fn push_family(&mut self, shared: usize, members: &[(&[u32], &[bool])]) {
        let start = self.input_ids.len();
        if let Some((ids, mask)) = members.first().filter(|_| shared > 0) {
            self.push(&ids[..shared], &mask[..shared], 0..0);
        }
        let prefix = if shared > 0 { start..start + shared } else { 0..0 };
        for (ids, mask) in members {
            self.push(ids, mask, prefix.clone());
        }
    }

    /// Joins examples, each the token ids and the loss mask of one.
    ///
    /// # Panics
    /// As [`push_family`](Self::push_family).
    pub fn from_examples(examples: &[(&[u32], &[bool])]) -> Self {
        let mut row = Self::default();
        for example in examples {
            row.push_family(0, &[*example]);
        }
        row
    }

    /// How many tokens the row has.
    pub fn len(&self) -> usize {
        self.input_ids.len()
    }

    /// Whether the row has no token.
    pub fn is_empty(&self) -> bool {
        self.input_ids.is_empty()
    }
}

/// Groups examples of the given lengths into rows of at most `capacity` tokens; each group is a list of
/// indices into `lengths`. Deterministic, in O(n log n).
///
/// Best fit decreasing: the longest examples first, each into the row that it fills best. The number of
/// rows is at most 11/9 of the fewest possible, plus one. Rows come in the order in which they were
/// opened, longest example first: shuffle them before training.
///
/// Source: Johnson et al. 1974, <https://doi.org/10.1137/0203025>; for language models Ding et al. 2024,
/// <https://arxiv.org/abs/2404.10830>.
///
/// # Panics
/// When a length exceeds `capacity`: over-long examples are dropped or truncated before.
pub fn pack(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
    // A stable sort keeps equal lengths in the given order.
    longest_first.sort_by_key(|i| std::cmp::Reverse(lengths[*i]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // The free space of each row with the row's number, so that the first entry that is large enough is
    // the tightest row, and among equally tight ones the oldest.
    let mut free: BTreeSet<(usize, usize)> = BTreeSet::new();
    for i in longest_first {
        let length = lengths[i];
        assert!(length <= capacity, "example {i} has {length} tokens, more than a row's {capacity}");
        let (space, row) = free.range((length, 0)..).next().copied().unwrap_or_else(|| {
            rows.push(Vec::new());
            (capacity, rows.len() - 1)
        });
        free.remove(&(space, row));
        free.insert((space - length, row));
        rows[row].push(i);
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_example_goes_where_it_fills_best() {
        assert_eq!(pack(&[5, 7, 5, 2, 1], 8), [vec![1, 4], vec![0, 3], vec![2]]);
        assert_eq!(pack(&[3, 3, 3], 3), [[0], [1], [2]]);
        assert_eq!(pack(&[], 8), Vec::<Vec<usize>>::new());
        assert_eq!(pack(&[0, 0], 8), [[0, 1]]);
    }

    #[test]
    fn a_row_keeps_its_boundaries() {
        let row = Row::from_examples(&[(&[7, 8, 9], &[false, true, true]), (&[4], &[true])]);
        assert_eq!(row.input_ids, [7, 8, 9, 4]);
        assert_eq!(row.loss_mask, [false, true, true, true]);
        assert_eq!(row.position_ids, [0, 1, 2, 0]);
        let segment = |range, prefix| Segment { range, prefix };
        assert_eq!(row.segments, [segment(0..3, 0..0), segment(3..4, 0..0)]);
        assert_eq!(row.len(), 4);
        assert!(Row::from_examples(&[]).is_empty());
    }

    #[test]
    fn what_a_family_has_in_common_is_there_once() {
        let mut row = Row::from_examples(&[(&[4], &[true])]);
        row.push_family(2, &[(&[7, 8, 9, 1], &[false, false, false, true]), (&[7, 8, 5], &[false, false, true])]);
        assert_eq!(row.input_ids, [4, 7, 8, 9, 1, 5]);
        assert_eq!(row.loss_mask, [true, false, false, false, true, true]);
        assert_eq!(row.position_ids, [0, 0, 1, 2, 3, 2]);
        let ranges: Vec<_> = row.segments.iter().map(|s| (s.range.clone(), s.prefix.clone())).collect();
        assert_eq!(ranges, [(0..1, 0..0), (1..3, 0..0), (3..5, 1..3), (5..6, 1..3)]);
    }

    #[test]
    fn short_examples_fill_their_rows() {
        // Lengths like those of questions and answers: many short ones, a few long.
        let lengths: Vec<usize> = (0..2000).map(|i| 20 + (i * i * 7919) % 600).collect();
        let rows = pack(&lengths, 1024);
        let filled = lengths.iter().sum::<usize>() as f64 / (rows.len() * 1024) as f64;
        assert!(filled > 0.98, "only {filled:.3} of the tokens are used");
    }

    proptest! {
        #[test]
        fn no_example_is_lost_or_doubled_and_no_row_overflows(
            lengths in proptest::collection::vec(0_usize..=64, 0..200), extra in 0_usize..64
        ) {
            let capacity = 64 + extra;
            let rows = pack(&lengths, capacity);
            prop_assert_eq!(&rows, &pack(&lengths, capacity));
            let mut packed = rows.concat();
            packed.sort_unstable();
            prop_assert_eq!(packed, (0..lengths.len()).collect::<Vec<_>>());
            let sums: Vec<usize> = rows.iter().map(|row| row.iter().map(|i| lengths[*i]).sum()).collect();
            prop_assert!(sums.iter().all(|sum| *sum <= capacity));
            // Two rows that would fit into one are never both open.
            let mut sorted = sums;
            sorted.sort_unstable();
            prop_assert!(sorted.len() < 2 || sorted[0] + sorted[1] > capacity);
        }

        #[test]
        fn a_row_gives_each_example_back(
            examples in proptest::collection::vec(proptest::collection::vec((0_u32..100, any::<bool>()), 0..20), 0..8)
        ) {
            let parts: Vec<(Vec<u32>, Vec<bool>)> = examples.iter().map(|e| e.iter().copied().unzip()).collect();
            let borrowed: Vec<(&[u32], &[bool])> = parts.iter().map(|(i, m)| (&i[..], &m[..])).collect();
            let row = Row::from_examples(&borrowed);
            prop_assert_eq!(row.segments.len(), parts.len());
            for (Segment { range: segment, .. }, (ids, mask)) in row.segments.iter().zip(&parts) {
                prop_assert_eq!(&row.input_ids[segment.clone()], &ids[..]);
                prop_assert_eq!(&row.loss_mask[segment.clone()], &mask[..]);
                let positions: Vec<usize> = row.position_ids[segment.clone()].iter().map(|p| *p as usize).collect();
                prop_assert_eq!(positions, (0..ids.len()).collect::<Vec<_>>());
            }
            prop_assert_eq!(row.segments.last().map_or(0, |s| s.range.end), row.len());
        }
    }
}
