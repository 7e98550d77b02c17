//! Choices that follow from a key and a value, or a name: HMAC-SHA-256 as a stream of numbers.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Kind;

/// A stream of numbers that is the same for the same key, kind and value.
pub(crate) struct Draw {
    mac: Hmac<Sha256>,
    block: [u8; 32],
    /// How many blocks were made, and how much of the last one is used.
    blocks: u64,
    used: usize,
}

impl Draw {
    pub(super) fn new(key: &[u8], kind: Kind, value: &str) -> Self {
        Self::named(key, kind.name(), value)
    }

    /// The stream of a key for one purpose and one name.
    pub(crate) fn named(key: &[u8], purpose: &str, name: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(name.as_bytes());
        mac.update(&[0]);
        Self { mac, block: [0; 32], blocks: 0, used: 32 }
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if self.used == 32 {
            let mut mac = self.mac.clone();
            mac.update(&self.blocks.to_le_bytes());
            self.block = mac.finalize().into_bytes().into();
            self.blocks += 1;
            self.used = 0;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.block[self.used..self.used + 8]);
        self.used += 8;
        let number = u64::from_le_bytes(bytes) % bound as u64;
        usize::try_from(number).expect("below a usize")
    }

    /// A number of at least 0 and below 1, in steps of 2⁻⁵³.
    pub(crate) fn share(&mut self) -> f64 {
        const STEPS: usize = 1 << 53;
        self.below(STEPS) as f64 / STEPS as f64
    }

    /// A digit of `least` to 9.
    pub(crate) fn digit(&mut self, least: u8) -> u8 {
        least + u8::try_from(self.below(10 - usize::from(least))).expect("below ten")
    }

    /// One of the bytes.
    pub(crate) fn one_of(&mut self, bytes: &[u8]) -> u8 {
        bytes[self.below(bytes.len())]
    }
}
