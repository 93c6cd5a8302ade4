//! A toy embedding: what a text is made of, not what it means.
//!
//! Words and the three-letter pieces of words are hashed to directions, the frequent little words counting less. Texts that share words
//! or stems lie close together, texts that say the same in other words do not. It is the same on every machine and needs no model.

/// The dimensions of a vector.
pub const DIMENSIONS: usize = 512;

/// Weight of a whole word beside the pieces of it.
const WORD: f32 = 1.5;
/// Weight of a short word, and of its pieces.
const SHORT: f32 = 0.35;

/// The vector of a text, of the length 1; case, punctuation and the order of words do not matter.
pub fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0_f32; DIMENSIONS];
    let text = text.to_lowercase();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let framed: Vec<char> = std::iter::once('<').chain(word.chars()).chain(std::iter::once('>')).collect();
        let weight = if framed.len() <= 5 { SHORT } else { 1.0 };
        add(&mut vector, word.chars(), WORD * weight);
        for piece in framed.windows(3) {
            add(&mut vector, piece.iter().copied(), weight);
        }
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length == 0.0 {
        vector[0] = 1.0;
    } else {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}

/// Adds a feature with a sign of its own, so that features that fall together cancel out as often as they add up.
fn add(vector: &mut [f32], feature: impl Iterator<Item = char>, weight: f32) {
    // FNV-1a, and a finalizer (MurmurHash3's), without which short features would fall into a few places.
    let hash = feature.fold(0xcbf2_9ce4_8422_2325_u64, |hash, c| (hash ^ u64::from(c)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let hash = hash ^ (hash >> 33);
    let place = (hash >> 32) as usize % vector.len();
    vector[place] += if hash & 1 == 0 { weight } else { -weight };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: &str, other: &str) -> f32 {
        embed(one).iter().zip(embed(other)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn shared_words_are_near_and_others_are_not() {
        assert!((near("How do I boil an egg?", "how do i BOIL an egg") - 1.0).abs() < 1e-5);
        assert!(near("How do I boil an egg?", "boiling eggs, how?") > 0.4);
        assert!(near("How do I boil an egg?", "capital of Peru") < 0.2);
        assert!((near("", "...") - 1.0).abs() < 1e-5);
    }
}
