//! Whole answers: written from the hub's events as one response object.

use super::stream::StreamEncoder;
use crate::dialect::event::Event;
use crate::dialect::table::Setup;

/// Puts the events of one answer together and writes it as a `response`: what the last event of its stream would hold.
pub struct UnaryEncoder(StreamEncoder);

impl UnaryEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        Self(StreamEncoder::new(setup))
    }

    /// Takes one event.
    pub fn add(&mut self, event: &Event<'_>) {
        self.0.take(event, None);
    }

    /// Writes the answer.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.0.write_whole(out);
    }

    /// Writes the answer once more.
    pub fn write_whole(&self, out: &mut Vec<u8>) {
        self.0.write_whole(out);
    }
}
