//! Reproducible choices among equals, from random bits that come with each event.

/// A stream of numbers from one seed (splitmix64; Steele, Lea, Flood 2014).
#[derive(Debug, Clone, Copy)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Seeds the stream.
    pub fn new(bits: u64) -> Self {
        Self(bits)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `count`; 0 for a count of 0.
    pub fn below(&mut self, count: usize) -> usize {
        // The high half of the product is uniform up to 2^-64 · count (Lemire 2019, without the
        // rejection).
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }
}
