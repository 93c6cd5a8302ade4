//! A provider's vectors on their way to the client: held to their end, checked, and written as the client asked for them.
//!
//! ```text
//!   Held ──end──> checked, and passed as they are or written anew
//!     │ larger than `gate.max_bytes`, and nothing is to be written anew
//!     └──> Flowing ──end──> the usage is looked for in the last bytes
//! ```

use super::openai::{self, Packed};
use super::{Answer, Encoding, Form, gemini_client};
use crate::dialect::event::{End, Observed};
use crate::domain::{Fault, FaultKind, Usage};
use memchr::memmem;
use serde_json::value::RawValue;
use std::sync::Arc;

/// What a request says about its answer.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The client's form: OpenAI's, or either of Google's.
    pub client: Form,
    /// The provider's form.
    pub form: Form,
    /// How many inputs each of the exchanges had; `None` where nobody has counted them.
    pub inputs: Vec<Option<usize>>,
    /// How the client wants its vectors; `None` takes them in whatever way they come.
    pub encoding: Option<Encoding>,
    /// What base64 of the provider's holds.
    pub packed: Packed,
    /// The model's name, where the provider gives none.
    pub model: Arc<str>,
}

/// The answer in the making: the bodies of all exchanges, one after the other.
#[derive(Debug)]
pub struct Vectors {
    expected: Expected,
    /// What is held; once it flows, the last of it.
    body: Vec<u8>,
    flows: bool,
    /// Tokens that heads told.
    told: Option<u64>,
}

/// The usage stands in so many last bytes of an answer, or at its beginning.
const TAIL: usize = 4096;

impl Vectors {
    /// The answer to a request.
    pub fn new(expected: Expected) -> Self {
        Self { expected, body: Vec::new(), flows: false, told: None }
    }

    /// Bytes that are held.
    pub fn held_bytes(&self) -> usize {
        if self.flows { 0 } else { self.body.len() }
    }

    /// Takes note of the tokens that the head of an exchange told.
    pub fn count(&mut self, tokens: u64) {
        self.told = Some(self.told.unwrap_or_default().saturating_add(tokens));
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.body.extend_from_slice(bytes);
        if self.flows {
            out.extend_from_slice(bytes);
            self.forget();
        }
    }

    /// Lets what is held pass as it comes, where nothing has to be written anew as far as its first vector tells.
    pub fn let_flow(&mut self, out: &mut Vec<u8>) -> bool {
        const KEY: &[u8] = b"\"embedding\":";
        let first = memmem::find(&self.body, KEY).and_then(|at| self.body[at + KEY.len()..].trim_ascii_start().first());
        if !self.passes() || !first.is_some_and(|byte| self.is_as_asked(*byte)) {
            return false;
        }
        out.extend_from_slice(&self.body);
        self.flows = true;
        self.forget();
        true
    }

    /// Keeps the last bytes alone.
    fn forget(&mut self) {
        if self.body.len() > 2 * TAIL {
            self.body.drain(..self.body.len() - TAIL);
        }
    }

    /// Whether the provider's bytes may be the client's.
    fn passes(&self) -> bool {
        self.expected.form == self.expected.client && self.expected.inputs.len() == 1
    }

    /// Whether a vector that begins so is written as the client asked for it.
    fn is_as_asked(&self, begin: u8) -> bool {
        match self.expected.encoding {
            None => true,
            Some(Encoding::Float) => begin == b'[',
            Some(Encoding::Base64) => begin == b'"' && self.expected.packed == Packed::Floats,
        }
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// `Truncated`, `Empty` or `Malformed` when the vectors are not all there.
    pub fn finish(&mut self, end: End, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        if end == End::Cut {
            return Err(Fault::new(FaultKind::Truncated, "the provider's answer broke off"));
        }
        if self.flows {
            (observed.usage, observed.output) = (openai::usage_in(&self.body), true);
            return Ok(());
        }
        let Expected { client, form, inputs, encoding, packed, model } = &self.expected;
        let mut answer = self.read(*form, inputs)?;
        answer.usage = answer.usage.or_else(|| {
            let told = self.told?;
            Some(Usage { prompt_tokens: told, total_tokens: told, ..Usage::default() })
        });
        (observed.usage, observed.output) = (answer.usage, true);
        let begins = |vector: &RawValue| vector.get().bytes().next().unwrap_or_default();
        if self.passes() && answer.vectors.iter().all(|vector| self.is_as_asked(begins(vector))) {
            out.extend_from_slice(&self.body);
            return Ok(());
        }
        match client {
            Form::OpenAi => openai::write(&answer, encoding.unwrap_or_default(), model, *packed, out),
            _ => gemini_client::write(&answer, *client, *packed, out),
        }
    }

    /// The vectors of all exchanges.
    fn read(&self, form: Form, inputs: &[Option<usize>]) -> Result<Answer, Fault> {
        if let [count] = inputs {
            return form.decode(&self.body, *count);
        }
        let mut bodies = serde_json::Deserializer::from_slice(&self.body).into_iter::<&RawValue>();
        let mut whole = Answer::default();
        for count in inputs {
            let body = bodies.next().and_then(Result::ok).ok_or_else(super::broken)?;
            whole.append(form.decode(body.get().as_bytes(), *count)?);
        }
        Ok(whole)
    }
}
