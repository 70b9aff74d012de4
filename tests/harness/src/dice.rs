//! Chance that a seed repeats.

use std::ops::Range;

/// Random numbers that a seed repeats (xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift
/// generators, scrambled").
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Makes dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        // From zero the generator never leaves zero, and from small neighbours it leaves slowly: spread them.
        let spread = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(if spread == 0 { 1 } else { spread })
    }

    /// Returns a number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The high bits are the good ones.
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }

    /// Returns a number in `range`, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }
}
