//! Tool calls in an answer: taken note of, and repaired where a provider leaves out what OpenAI's clients need.
//!
//! OpenAI streams a call as a first delta with `index`, `id`, `type` and `name`, then deltas with `index` and pieces of `arguments`.
//! Seen instead: no index and the whole call at once (Mistral, Ollama), a blank id (Google), one index for all calls (Ollama), no
//! type (Mistral), no arguments at all (Groq, Mistral), arguments as an object.

use super::chunk::{Shape, member, text_of};
use super::edit::Edits;
use super::scan::{self, Cursor, Invalid};
use super::write;
use crate::dialect::event::{Event, Observed};
use std::ops::Range;
use std::sync::Arc;

/// The calls of one choice so far; kept only while repairing.
#[derive(Debug, Default)]
pub struct Calls(Vec<Call>);

#[derive(Debug)]
struct Call {
    /// The provider's index.
    index: Option<u64>,
    /// The provider's id; empty when it gives none.
    id: Vec<u8>,
    /// Whether any arguments have come.
    arguments: bool,
}

impl Calls {
    /// Whether no call has begun.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Repairs the calls of one answer.
pub struct Repair {
    shape: Shape,
    enabled: bool,
    /// The answer's id, of which ids are made.
    answer: Arc<str>,
    /// Calls that ended without arguments, as pairs of choice and call: a client expects `{}`.
    pub without_arguments: Vec<(u32, u32)>,
    scratch: Vec<u8>,
}

/// Where the members of a call stand.
#[derive(Default)]
struct Places {
    object: Range<usize>,
    index: Option<Range<usize>>,
    id: Option<Range<usize>>,
    kind: Option<Range<usize>>,
    function: Option<Range<usize>>,
    name: Option<Range<usize>>,
    arguments: Option<Range<usize>>,
}

impl Repair {
    /// Repairs when `enabled`; only takes note otherwise.
    pub fn new(shape: Shape, enabled: bool, answer: Arc<str>) -> Self {
        Self { shape, enabled, answer, without_arguments: Vec::new(), scratch: Vec::new() }
    }

    /// Looks at one item of `tool_calls`. `finishing` says that this very chunk ends the choice.
    pub fn call(
        &mut self,
        cursor: &mut Cursor<'_>,
        choice: u32,
        calls: &mut Calls,
        finishing: bool,
        edits: &mut Edits,
        observed: &mut Observed,
    ) -> Result<(), Invalid> {
        let json = cursor.text();
        let places = places(cursor)?;
        let at = |place: &Option<Range<usize>>| place.clone().map_or(&b""[..], |place| &json[place]);
        note(text_of(at(&places.name)), at(&places.arguments), choice, observed);
        if self.enabled && places.function.is_some() {
            self.repair(json, &places, choice, calls, finishing, edits);
        }
        Ok(())
    }

    /// The old `function_call`: a call without index and id.
    pub fn old_call(&mut self, json: &[u8], start: usize, choice: u32, observed: &mut Observed) -> Result<(), Invalid> {
        let field = |name| member(json, start, name).map_or(&b""[..], |place| &json[place]);
        note(text_of(field(b"name")), field(b"arguments"), choice, observed);
        Ok(())
    }

    /// Ends a choice: its calls that still have no arguments get `{}`.
    pub fn finish(&mut self, choice: u32, calls: &mut Calls) {
        if self.shape == Shape::Whole {
            return;
        }
        for (place, call) in (0..).zip(&mut calls.0) {
            if !std::mem::replace(&mut call.arguments, true) {
                self.without_arguments.push((choice, place));
            }
        }
    }

    fn repair(
        &mut self,
        json: &[u8],
        places: &Places,
        choice: u32,
        calls: &mut Calls,
        finishing: bool,
        edits: &mut Edits,
    ) {
        let at = |place: &Option<Range<usize>>| place.clone().map_or(&b""[..], |place| &json[place]);
        let (id, index) = (scan::inner(at(&places.id)), scan::integer(at(&places.index)));
        let is_named = !scan::inner(at(&places.name)).is_empty();
        let known = if self.shape == Shape::Whole { None } else { find(calls, index, id, is_named) };
        let slot = known.unwrap_or(calls.0.len());
        if known.is_none() {
            calls.0.push(Call { index, id: id.to_vec(), arguments: false });
        }
        let start = places.object.start + 1;
        if known.is_none() && id.is_empty() {
            let made = format!("\"{}_{choice}_{slot}\"", call_ids(&self.answer));
            set(&places.id, start, b"id", made.as_bytes(), edits);
        }
        if known.is_none() && !at(&places.kind).starts_with(b"\"f") {
            set(&places.kind, start, b"type", b"\"function\"", edits);
        }
        if self.shape == Shape::Chunk && index != Some(slot as u64) {
            set(&places.index, start, b"index", slot.to_string().as_bytes(), edits);
        }
        let call = &mut calls.0[slot];
        let arguments = at(&places.arguments);
        call.arguments |= !matches!(arguments, b"" | b"null" | b"\"\"");
        let ends = (finishing || self.shape == Shape::Whole) && !call.arguments;
        let inside = places.function.as_ref().map_or(start, |function| function.start + 1);
        match arguments {
            _ if ends => {
                call.arguments = true;
                set(&places.arguments, inside, b"arguments", b"\"{}\"", edits);
            }
            b"" | b"null" if known.is_none() => set(&places.arguments, inside, b"arguments", b"\"\"", edits),
            [b'{', ..] => {
                self.scratch.clear();
                write::string(std::str::from_utf8(arguments).unwrap_or_default(), &mut self.scratch);
                set(&places.arguments, inside, b"arguments", &self.scratch, edits);
            }
            _ => {}
        }
    }
}

/// The call that a delta goes on with; `None` when it begins a new one.
fn find(calls: &Calls, index: Option<u64>, id: &[u8], is_named: bool) -> Option<usize> {
    let calls = &calls.0;
    match index {
        Some(_) => {
            let slot = calls.iter().rposition(|call| call.index == index)?;
            // Another id and a name of its own: a new call under an old index.
            let is_other = is_named && !id.is_empty() && !calls[slot].id.is_empty() && calls[slot].id != id;
            (!is_other).then_some(slot)
        }
        None if !id.is_empty() => calls.iter().rposition(|call| call.id == id),
        None if is_named => None,
        None => calls.len().checked_sub(1),
    }
}

/// Replaces a member's value, or puts the member at the start of its object.
fn set(place: &Option<Range<usize>>, start: usize, name: &[u8], value: &[u8], edits: &mut Edits) {
    match place {
        Some(place) => edits.replace(place.clone(), &[value]),
        None => edits.insert(start, &[b"\"", name, b"\":", value, b","]),
    }
}

fn places(cursor: &mut Cursor<'_>) -> Result<Places, Invalid> {
    let json = cursor.text();
    let mut places = Places::default();
    places.object = cursor.object(|cursor, key| {
        let name = scan::inner(&json[key]);
        // A `custom` tool's call has its name and its input there.
        if matches!(name, b"function" | b"custom") && cursor.peek() == Some(b'{') {
            let is_function = name == b"function";
            let (mut called, mut arguments) = (None, None);
            let inside = cursor.object(|cursor, key| {
                let value = cursor.value()?;
                match scan::inner(&json[key]) {
                    b"name" => called = Some(value),
                    b"arguments" | b"input" => arguments = Some(value),
                    _ => {}
                }
                Ok::<(), Invalid>(())
            })?;
            // Some write both, one of them empty: the function counts.
            if is_function || places.function.is_none() {
                let says_something = called.is_some() || arguments.is_some();
                (places.name, places.arguments) = (called, arguments);
                places.function = (is_function && says_something).then_some(inside);
            }
            return Ok(());
        }
        let value = cursor.value()?;
        match name {
            b"index" => places.index = Some(value),
            b"id" => places.id = Some(value),
            b"type" => places.kind = Some(value),
            _ => {}
        }
        Ok::<(), Invalid>(())
    })?;
    Ok(places)
}

fn note(name: &str, arguments: &[u8], choice: u32, observed: &mut Observed) {
    if !name.is_empty() {
        observed.note(&Event::Call { choice, index: 0, id: "", name });
    }
    let json = if arguments.first() == Some(&b'"') { scan::inner(arguments) } else { arguments };
    if !matches!(json, b"" | b"null") {
        observed.note(&Event::Arguments { choice, index: 0, json: std::str::from_utf8(json).unwrap_or_default() });
    }
}

/// What made call ids begin with: `call_` and the random part of the answer's id.
pub fn call_ids(id: &str) -> String {
    let part: String = id.rsplit('-').next().unwrap_or(id).chars().filter(char::is_ascii_alphanumeric).collect();
    format!("call_{part}")
}
