//! Chance that can be repeated: draws from a seed, and hashes that stay the same from version to version and from node to node.

/// Draws from a seed (SplitMix64: small, fast, and the same for ever).
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The draws of this seed, from the first one.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A whole number below `bound`, which is not 0, each as likely as the next.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // The high half of the product: its bias is below 2⁻³² for any bound that occurs.
        let wide = u128::from(finish(self.0)) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or_default()
    }
}

/// Spreads the bits of a number over all of it.
pub fn mix(number: u64) -> u64 {
    finish(number.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

fn finish(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The hash of a text (FNV-1a). Not for secrets, and not against anybody who wants collisions: those only share a target.
pub fn text_hash(text: &str) -> u64 {
    bytes_hash(text.as_bytes())
}

/// As [`text_hash`], of bytes.
pub fn bytes_hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same() {
        let draw = |seed| {
            let mut draws = Draws::new(seed);
            [draws.below(1000), draws.below(1000), draws.below(1000)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        // Records of older versions must repeat too.
        assert_eq!(Draws::new(0).below(u64::MAX), 0xe220_a839_7b1d_cdae);
        assert_eq!(text_hash("a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn draws_are_even() {
        let (mut draws, mut count) = (Draws::new(1), [0u32; 5]);
        for _ in 0..50_000 {
            count[usize::try_from(draws.below(5)).unwrap()] += 1;
        }
        assert!(count.iter().all(|n| n.abs_diff(10_000) < 400), "{count:?}");
    }
}
