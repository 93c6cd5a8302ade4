//! A question of the semantic cache as it stands in Redis: one binary record.
//!
//! ```text
//!   version  owner     scope     answer's key  until           dimensions  values
//!   1 byte   32 bytes  32 bytes  32 bytes      8 bytes, in ms  4 bytes     4 bytes each, IEEE 754
//! ```
//!
//! Numbers begin with their least significant byte.

use crate::store::ports::answers::AnswerKey;
use crate::store::ports::vectors::{Place, Vector};

/// The first byte. Another version's is not read.
const VERSION: u8 = 1;
/// What stands before the values.
const HEAD: usize = 1 + 3 * 32 + 8 + 4;
/// A question of more dimensions than any known model makes stays with the node that heard it.
const MOST_DIMENSIONS: usize = 16_384;

/// A question, and which answer it has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub(super) place: Place,
    pub(super) vector: Vector,
    pub(super) key: AnswerKey,
    /// When the answer's time is over.
    pub(super) until_unix_ms: u64,
}

impl Question {
    /// The record; `None` when it would be too large.
    pub(super) fn written(&self) -> Option<Vec<u8>> {
        let values = self.vector.values();
        let dimensions = u32::try_from(values.len()).ok().filter(|_| values.len() <= MOST_DIMENSIONS)?;
        let mut bytes = Vec::with_capacity(HEAD + 4 * values.len());
        bytes.push(VERSION);
        for digest in [&self.place.owner, &self.place.scope, &self.key] {
            bytes.extend_from_slice(digest);
        }
        bytes.extend_from_slice(&self.until_unix_ms.to_le_bytes());
        bytes.extend_from_slice(&dimensions.to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        Some(bytes)
    }

    /// `None` for anything that [`Question::written`] has not written.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (owner, rest) = rest.split_first_chunk::<32>()?;
        let (scope, rest) = rest.split_first_chunk::<32>()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let (until, rest) = rest.split_first_chunk::<8>()?;
        let (dimensions, rest) = rest.split_first_chunk::<4>()?;
        let dimensions = usize::try_from(u32::from_le_bytes(*dimensions)).ok()?;
        let (values, left_over) = rest.as_chunks::<4>();
        let is_whole = values.len() == dimensions && left_over.is_empty();
        if version != VERSION || !is_whole || dimensions > MOST_DIMENSIONS {
            return None;
        }
        Some(Self {
            place: Place { owner: *owner, scope: *scope },
            // Whoever wrote it: what is compared is finite and of the length 1.
            vector: Vector::of(values.iter().map(|value| f32::from_le_bytes(*value)).collect())?,
            key: *key,
            until_unix_ms: u64::from_le_bytes(*until),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(values: Vec<f32>) -> Question {
        let place = Place { owner: [1; 32], scope: [2; 32] };
        Question { place, vector: Vector::of(values).unwrap(), key: [3; 32], until_unix_ms: 1_700_000_000_123 }
    }

    #[test]
    fn a_question_is_read_as_it_was_written() {
        let one = question(vec![0.0, -1.0, 0.0]);
        assert_eq!(Question::read(&one.written().unwrap()), Some(one));
        let most = question(vec![1.0; MOST_DIMENSIONS]);
        let read = Question::read(&most.written().unwrap()).unwrap();
        assert!(read.vector.similarity(&most.vector).unwrap() > 0.9999);
        assert_eq!(question(vec![1.0; MOST_DIMENSIONS + 1]).written(), None);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_none() {
        let bytes = question(vec![3.0, 4.0]).written().unwrap();
        for end in 0..bytes.len() {
            assert_eq!(Question::read(&bytes[..end]), None, "cut at {end}");
        }
        for more in 1..=8 {
            assert_eq!(Question::read(&[&bytes[..], &[0; 8][..more]].concat()), None, "{more} more");
        }
    }

    #[test]
    fn what_has_no_direction_too_many_dimensions_or_another_version_is_none() {
        let written = question(vec![1.0]).written().unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = written.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            Question::read(&changed)
        };
        assert!(with(HEAD, &2.0_f32.to_le_bytes()).is_some());
        for value in [0.0, f32::NAN, f32::INFINITY] {
            assert_eq!(with(HEAD, &value.to_le_bytes()), None, "{value}");
        }
        assert_eq!(with(0, &[VERSION + 1]), None);
        assert_eq!(with(HEAD - 4, &u32::MAX.to_le_bytes()), None);
        assert_eq!(with(HEAD - 4, &[0; 4]), None);
        let mut large = written[..HEAD].to_vec();
        let dimensions = u32::try_from(MOST_DIMENSIONS + 1).unwrap();
        large[HEAD - 4..].copy_from_slice(&dimensions.to_le_bytes());
        large.extend(std::iter::repeat_n(1.0_f32.to_le_bytes(), MOST_DIMENSIONS + 1).flatten());
        assert_eq!(Question::read(&large), None);
    }

    proptest! {
        #[test]
        fn garbage_is_none_or_a_question_that_can_be_compared(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = bytes.clone();
            if let Some(values) = framed.len().checked_sub(HEAD).filter(|values| values % 4 == 0) {
                framed[0] = VERSION;
                framed[HEAD - 4..HEAD].copy_from_slice(&u32::try_from(values / 4).unwrap().to_le_bytes());
            }
            for bytes in [bytes, framed] {
                if let Some(question) = Question::read(&bytes) {
                    let own = question.vector.similarity(&question.vector).unwrap();
                    prop_assert!((own - 1.0).abs() < 1e-3, "{own}");
                }
            }
        }
    }
}
