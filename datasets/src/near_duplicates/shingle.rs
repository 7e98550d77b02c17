//! From a text to the hashes of its shingles.
//!
//! Words are runs of letters and digits in lower case; punctuation, white space and typographic apostrophes all only
//! set them apart, and accents stay. A shingle's hash is a polynomial of its words' (or characters') hashes modulo 2⁶⁴,
//! so that each follows from the one before, and is mixed once more so that all of its bits are even.

use super::Shingle;

/// 2⁶⁴ divided by the golden ratio: odd, with bits spread evenly.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

/// Cuts texts into shingles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shingler {
    shingle: Shingle,
    size: usize,
    seed: u64,
    /// `BASE` to the power of `size`: the weight of a word that leaves the shingle.
    leaving: u64,
}

impl Shingler {
    pub(super) fn new(shingle: Shingle, size: usize, seed: u64) -> Self {
        let leaving = (0..size).fold(1u64, |power, _| power.wrapping_mul(BASE));
        Self { shingle, size, seed: mix(seed ^ BASE), leaving }
    }

    /// Gives the hash of each shingle; a text that is shorter than one gives the hash of all that it has.
    pub(super) fn shingles(&self, text: &str, mut each: impl FnMut(u64)) {
        let mut window = [0u64; 16];
        let (mut count, mut at, mut hash) = (0usize, 0usize, 0u64);
        let mut token = |token: u64| {
            let left = std::mem::replace(&mut window[at], token);
            at = if at + 1 == self.size { 0 } else { at + 1 };
            // Before the window is full, what leaves it is 0.
            hash = hash.wrapping_mul(BASE).wrapping_add(token).wrapping_sub(left.wrapping_mul(self.leaving));
            count += 1;
            if count >= self.size {
                each(mix(hash ^ self.seed));
            }
        };
        match self.shingle {
            Shingle::Words => words(text, &mut token),
            Shingle::Characters => characters(text, &mut token),
        }
        if (1..self.size).contains(&count) {
            each(mix(hash ^ self.seed));
        }
    }
}

/// The hashes of the words, none of which is 0.
fn words(text: &str, token: &mut impl FnMut(u64)) {
    let mut word = 0;
    for character in text.chars() {
        let mut push =
            |lower: char| word = (word ^ u64::from(u32::from(lower)) ^ BASE).wrapping_mul(BASE).rotate_left(29);
        if character.is_ascii() {
            if character.is_ascii_alphanumeric() {
                push(character.to_ascii_lowercase());
                continue;
            }
        } else if character.is_alphanumeric() {
            character.to_lowercase().for_each(push);
            continue;
        }
        if word != 0 {
            token(mix(word));
            word = 0;
        }
    }
    if word != 0 {
        token(mix(word));
    }
}

/// The characters of the words, with one space between two words.
fn characters(text: &str, token: &mut impl FnMut(u64)) {
    let (mut any, mut space) = (false, false);
    for character in text.chars() {
        if !character.is_alphanumeric() {
            space = any;
            continue;
        }
        if std::mem::take(&mut space) {
            token(mix(u64::from(u32::from(' '))));
        }
        any = true;
        for lower in character.to_lowercase() {
            token(mix(u64::from(u32::from(lower))));
        }
    }
}

/// Spreads the bits of a number over all bits: the finalizer of `SplitMix64`.
///
/// Source: Steele, Lea and Flood 2014, <https://doi.org/10.1145/2714064.2660195>, with the constants of Stafford's mix 13.
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
