//! Sets of shingles as sorted lists of 32-bit hashes, and their similarity.
//!
//! The top bit of a hash tells the part of the text, so that one list holds both parts, one after the other. A part keeps
//! its [`LIMIT`] smallest hashes: all of a short text, which is then compared exactly, and a bottom-k sketch of a long
//! one (Broder 1997, section 3).

/// The hashes kept of a part.
pub(super) const LIMIT: usize = 512;

/// From here on, hashes belong to the second part.
const SECOND: u32 = 1 << 31;

/// A shingle's hash as an element of the set of a text, whose part 0 or 1 it stands in.
pub(super) fn element(hash: u64, part: usize) -> u32 {
    let high = u32::try_from(hash >> 33).expect("31 bits are left");
    if part == 0 { high } else { high | SECOND }
}

/// Leaves the smallest hashes of each part of a sorted list.
pub(super) fn shorten(elements: &mut Vec<u32>) {
    let second = elements.partition_point(|element| *element < SECOND);
    elements.truncate(elements.len().min(second + LIMIT));
    if second > LIMIT {
        elements.drain(LIMIT..second);
    }
}

/// The lists of many texts, one after the other.
#[derive(Debug, Default)]
pub(super) struct Sketches {
    elements: Vec<u32>,
    /// Where the list of each ends.
    ends: Vec<usize>,
}

impl Sketches {
    pub(super) fn push(&mut self, elements: &[u32]) {
        self.elements.extend_from_slice(elements);
        self.ends.push(self.elements.len());
    }

    pub(super) fn get(&self, set: u32) -> &[u32] {
        let set = set as usize;
        let start = if set == 0 { 0 } else { self.ends[set - 1] };
        &self.elements[start..self.ends[set]]
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.elements.as_slice()) + size_of_val(self.ends.as_slice())
    }
}

/// The similarity of two texts: that of their less similar part. Once it is below `enough`, any value below may stand for it.
pub(super) fn similarity(a: &[u32], b: &[u32], enough: f64) -> f64 {
    let split = |elements: &'_ [u32]| elements.partition_point(|element| *element < SECOND);
    let ((a, second_a), (b, second_b)) = (a.split_at(split(a)), b.split_at(split(b)));
    let second = jaccard(second_a, second_b, enough);
    if second < enough { second } else { second.min(jaccard(a, b, enough)) }
}

/// The Jaccard similarity of two sets of which the smallest hashes are known; 1 where both are empty.
fn jaccard(a: &[u32], b: &[u32], enough: f64) -> f64 {
    if a.len().max(b.len()) < LIMIT {
        // Both are whole, and cannot be more alike than their sizes are.
        let (small, large) = (a.len().min(b.len()), a.len().max(b.len()));
        if large == 0 {
            return 1.0;
        }
        let most = small as f64 / large as f64;
        if most < enough {
            return most;
        }
    }
    // Of a set that was cut, nothing is known beyond its largest hash.
    let known = |set: &[u32]| if set.len() < LIMIT { u32::MAX } else { set.last().copied().unwrap_or(u32::MAX) };
    let bound = known(a).min(known(b));
    let (mut i, mut j, mut both) = (0, 0, 0usize);
    while let (Some(&x), Some(&y)) = (a.get(i), b.get(j)) {
        if x.min(y) > bound {
            break;
        }
        both += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    let up_to = |set: &[u32]| {
        if set.len() < LIMIT && bound == u32::MAX { set.len() } else { set.partition_point(|x| *x <= bound) }
    };
    let all = up_to(a) + up_to(b) - both;
    both as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "quotients of small numbers")]
    fn short_sets_are_compared_exactly_and_parts_apart() {
        let exact = |a: &[u32], b: &[u32]| similarity(a, b, 0.0);
        assert_eq!(exact(&[1, 2, 3, 4], &[2, 3, 4, 5]), 0.6);
        assert_eq!(exact(&[1], &[2]), 0.0);
        assert_eq!(exact(&[], &[]), 1.0);
        assert_eq!(exact(&[], &[1]), 0.0);
        // The first parts are alike, the second ones only by half.
        assert_eq!(exact(&[1, 2, SECOND | 1, SECOND | 2], &[1, 2, SECOND | 1]), 0.5);
        assert_eq!(exact(&[1, 2, SECOND], &[1, 2]), 0.0);
        // Sizes alone tell that it is not enough.
        assert!(similarity(&[1, 2, 3, 4], &[1], 0.8) < 0.8);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "quotients of small numbers")]
    fn long_sets_are_estimated() {
        // Every multiple of 3 against every multiple of 2, spread evenly: one in four of those that are either.
        let spread = |step: u32| {
            let mut set: Vec<u32> =
                (0..60_000).step_by(step as usize).map(|x: u32| x.wrapping_mul(0x9E37_79B1) >> 1).collect();
            set.sort_unstable();
            shorten(&mut set);
            assert_eq!(set.len(), LIMIT);
            set
        };
        let estimate = similarity(&spread(3), &spread(2), 0.0);
        assert!((estimate - 0.25).abs() < 0.06, "{estimate}");
        assert_eq!(similarity(&spread(3), &spread(3), 0.0), 1.0);
    }

    #[test]
    fn each_part_is_shortened_for_itself() {
        let size = u32::try_from(LIMIT).unwrap();
        let mut elements: Vec<u32> = (0..2 * size).chain((0..size + 7).map(|x| SECOND | x)).collect();
        shorten(&mut elements);
        let expected: Vec<u32> = (0..size).chain((0..size).map(|x| SECOND | x)).collect();
        assert_eq!(elements, expected);
        let mut few = vec![1, SECOND | 1];
        shorten(&mut few);
        assert_eq!(few, [1, SECOND | 1]);
    }
}
