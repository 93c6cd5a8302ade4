//! The index of the semantic cache: which question that has been answered lies nearest to a new one.

use super::answers::AnswerKey;
use async_trait::async_trait;
use std::sync::Arc;

/// A direction: a text's embedding, scaled to the length 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector(Arc<[f32]>);

/// How many sums are kept side by side, so that the compiler may use the processor's wide registers: float additions are not reordered
/// unless one says so.
const LANES: usize = 16;

impl Vector {
    /// The direction of these values; `None` when they have none: all zero, or not all finite.
    pub fn of(mut values: Vec<f32>) -> Option<Self> {
        let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() || length == 0.0 {
            return None;
        }
        values.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        Some(Self(values.into()))
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// The cosine of the angle between two of them, -1 to 1; `None` when they do not have the same number of dimensions.
    pub fn similarity(&self, other: &Self) -> Option<f32> {
        if self.0.len() != other.0.len() {
            return None;
        }
        let (ours, our_rest) = self.0.as_chunks::<LANES>();
        let (theirs, their_rest) = other.0.as_chunks::<LANES>();
        let mut sums = [0.0_f32; LANES];
        for (one, other) in ours.iter().zip(theirs) {
            for lane in 0..LANES {
                sums[lane] += one[lane] * other[lane];
            }
        }
        let rest: f32 = our_rest.iter().zip(their_rest).map(|(one, other)| one * other).sum();
        Some((sums.iter().sum::<f32>() + rest).clamp(-1.0, 1.0))
    }
}

/// Where a question belongs. Only those of one place are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// A digest of who asks, of the models that may answer, and of the model that makes the vectors. What is full is shared fairly
    /// between owners.
    pub owner: [u8; 32],
    /// A digest of everything that must be the same besides, the owner included.
    pub scope: [u8; 32],
}

/// A question that is near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// By which the cache of answers finds its answer.
    pub key: AnswerKey,
    /// The cosine between the two.
    pub similarity: f32,
}

/// A bounded index of questions. One that is down finds nothing and takes nothing: nothing here fails a request.
#[async_trait]
pub trait Vectors: Send + Sync {
    /// The nearest question of a place whose time is not over, however far it is.
    async fn nearest(&self, place: &Place, vector: &Vector, now_unix_ms: u64) -> Option<Near>;

    /// Keeps a question until its answer's time is over, in the place of the one that has the same key; others may have to go for it.
    async fn put(&self, place: Place, vector: Vector, key: AnswerKey, until_unix_ms: u64, now_unix_ms: u64);

    /// Forgets a question whose answer is gone.
    async fn forget(&self, place: &Place, key: &AnswerKey);

    /// Forgets all of them, those of other nodes too; says whether that could be done.
    async fn clear(&self) -> bool;

    /// How many are kept.
    fn held(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn directions_are_compared_and_lengths_are_not() {
        let vector = |values: &[f32]| Vector::of(values.to_vec()).unwrap();
        let near = |one: &[f32], other: &[f32]| vector(one).similarity(&vector(other)).unwrap();
        assert_eq!(near(&[3.0, 4.0], &[30.0, 40.0]), 1.0);
        assert_eq!(near(&[1.0, 0.0], &[0.0, 9.0]), 0.0);
        assert_eq!(near(&[1.0, 0.0], &[-2.0, 0.0]), -1.0);
        assert_eq!(vector(&[1.0]).similarity(&vector(&[1.0, 0.0])), None);
        for none in [vec![], vec![0.0, 0.0], vec![f32::NAN], vec![f32::INFINITY, 1.0]] {
            assert_eq!(Vector::of(none), None);
        }
        // Too small and too large to be squared in 32 bits.
        assert_eq!(near(&[1e-30, 0.0], &[1e30, 0.0]), 1.0);
    }

    proptest! {
        #[test]
        fn the_similarity_is_the_cosine(pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 1..100)) {
            let (one, other): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let dot: f64 = pairs.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let length = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let expected = dot / (length(&one) * length(&other));
            if let (Some(one), Some(other)) = (Vector::of(one), Vector::of(other)) {
                prop_assert!((f64::from(one.similarity(&other).unwrap()) - expected).abs() < 1e-5);
                prop_assert_eq!(one.similarity(&other), other.similarity(&one));
            }
        }
    }
}
