//! Takes down what a client is answered, piece by piece, for the cache.

use bytes::Bytes;

/// A copy of an answer in the making.
#[derive(Debug)]
pub(super) struct Recorder {
    body: Vec<u8>,
    ends: Vec<usize>,
    /// The most that is kept; an answer beyond it is forgotten.
    most: usize,
    over: bool,
}

impl Recorder {
    /// One for answers of up to so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { body: Vec::new(), ends: Vec::new(), most, over: false }
    }

    /// Takes the next piece down.
    pub(super) fn take_down(&mut self, piece: &[u8]) {
        self.over |= piece.len() > self.most - self.body.len();
        if self.over {
            (self.body, self.ends) = (Vec::new(), Vec::new());
        } else if !piece.is_empty() {
            self.body.extend_from_slice(piece);
            self.ends.push(self.body.len());
        }
    }

    /// The whole answer and where its pieces ended; `None` when it was too large.
    pub(super) fn finish(mut self) -> Option<(Bytes, Vec<usize>)> {
        self.body.shrink_to_fit();
        self.ends.shrink_to_fit();
        (!self.over).then(|| (self.body.into(), self.ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_pieces_up_to_its_bound_and_nothing_of_a_larger_answer() {
        let mut recorder = Recorder::new(5);
        [&b"ab"[..], b"", b"cde"].iter().for_each(|piece| recorder.take_down(piece));
        assert_eq!(recorder.finish(), Some((Bytes::from_static(b"abcde"), vec![2, 5])));
        let mut recorder = Recorder::new(5);
        [&b"ab"[..], b"cdef", b"g"].iter().for_each(|piece| recorder.take_down(piece));
        assert_eq!(recorder.finish(), None);
    }
}
