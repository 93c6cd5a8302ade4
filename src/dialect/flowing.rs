//! A whole answer in the client's own format that grew too large to be held: it passes as it comes, and is complete when its brackets are closed.

use super::event::{End, Observed};
use super::openai_chat::scan::Balance;
use crate::domain::{Fault, FaultKind};

/// An answer on its way. Nothing in it is repaired, and its usage is not read.
pub(in crate::dialect) struct Flowing(Balance);

impl Flowing {
    /// Lets go of what was held.
    pub fn of(held: &mut Vec<u8>, observed: &mut Observed, out: &mut Vec<u8>) -> Self {
        let mut balance = Balance::default();
        balance.push(held);
        out.append(held);
        observed.output = true;
        Self(balance)
    }

    /// Passes the next bytes on.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.0.push(bytes);
        out.extend_from_slice(bytes);
    }

    /// Ends it.
    ///
    /// # Errors
    /// `Truncated` when it is not complete.
    pub fn finish(&self, end: End, observed: &mut Observed) -> Result<(), Fault> {
        if end == End::Cut || !self.0.is_closed() {
            return Err(truncated());
        }
        (observed.choices_begun, observed.choices_finished) = (1, 1);
        Ok(())
    }
}

/// The fault of an answer that is not complete.
pub(in crate::dialect) fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's answer broke off before it was complete")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_complete_when_its_brackets_are_closed() {
        let told = |pieces: [&str; 2], end| {
            let (mut observed, mut out, mut held) = (Observed::default(), Vec::new(), pieces[0].as_bytes().to_vec());
            let mut flowing = Flowing::of(&mut held, &mut observed, &mut out);
            flowing.push(pieces[1].as_bytes(), &mut out);
            assert_eq!((String::from_utf8(out).unwrap(), held.is_empty()), (pieces.concat(), true));
            flowing.finish(end, &mut observed).map(|()| observed.is_finished()).map_err(|fault| fault.kind)
        };
        assert_eq!(told(["{\"a\":\"}", "\"}"], End::Clean), Ok(true));
        assert_eq!(told(["{\"a\":\"}", "\"}"], End::Cut), Err(FaultKind::Truncated));
        assert_eq!(told(["{\"a\":", "\"}"], End::Clean), Err(FaultKind::Truncated));
    }
}
