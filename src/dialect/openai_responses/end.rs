//! How a response ended that went on when nobody waited for it: read out of what its provider tells of it later, whole or as a stream.
//!
//! Source: the response object's `status` (`queued`, `in_progress`; `completed`, `incomplete`, `failed`, `cancelled`), which the last event of a
//! stream has too. `usage` is null until then, and may stay so.

use super::usage;
use crate::dialect::openai_chat::chunk::member;
use crate::dialect::openai_chat::scan;
use crate::dialect::sse::Parser;
use crate::domain::usage::ResponseEnd;

/// What a response object says of its end; `None` while it goes on, and for anything that is no response.
pub fn of(response: &[u8]) -> Option<ResponseEnd> {
    let text = |name: &[u8]| member(response, 0, name).map(|place| &response[place]);
    let failed = match scan::inner(text(b"status")?) {
        b"completed" | b"incomplete" | b"cancelled" => false,
        b"failed" => true,
        _ => return None,
    };
    Some(ResponseEnd { failed, usage: text(b"usage").and_then(usage::parse), output_bytes: output_bytes(response) })
}

/// About how much output a response object has, in bytes.
pub fn output_bytes(response: &[u8]) -> u64 {
    member(response, 0, b"output").map_or(0, |place| place.len().saturating_sub(2) as u64)
}

/// Watches a stream that passes.
#[derive(Debug, Default)]
pub struct Watch {
    parser: Parser,
    output_bytes: u64,
    end: Option<ResponseEnd>,
    /// It is no stream of events, and is not looked at any more.
    lost: bool,
}

impl Watch {
    /// Takes a look at the next bytes. `true` when they tell of the end.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        if self.lost || self.end.is_some() {
            return false;
        }
        let (output_bytes, end) = (&mut self.output_bytes, &mut self.end);
        let read = self.parser.push(bytes, |frame| {
            let text = |name: &[u8]| member(&frame.data, 0, name).map(|place| &frame.data[place]);
            *output_bytes += text(b"delta").map_or(0, |delta| delta.len().saturating_sub(2) as u64);
            if let Some(told) = text(b"response").and_then(of) {
                end.get_or_insert(told);
            }
            Ok(())
        });
        self.lost = read.is_err();
        self.end.is_some()
    }

    /// How the response ended, once that was told.
    pub fn end(&self) -> Option<&ResponseEnd> {
        self.end.as_ref()
    }

    /// Bytes of text, reasoning and arguments so far.
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Usage;

    const USAGE: &str = r#"{"input_tokens":3,"output_tokens":4,"total_tokens":7}"#;

    fn counted() -> Option<Usage> {
        Some(Usage { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7, ..Usage::default() })
    }

    #[test]
    fn a_response_has_ended_or_goes_on() {
        let told = |status: &str, usage: &str| {
            of(format!(r#"{{"id":"r","status":"{status}","output":[12345],"usage":{usage}}}"#).as_bytes())
        };
        let end = |failed, usage| Some(ResponseEnd { failed, usage, output_bytes: 5 });
        for status in ["completed", "incomplete", "cancelled"] {
            assert_eq!(told(status, USAGE), end(false, counted()), "{status}");
            assert_eq!(told(status, "null"), end(false, None), "{status}");
        }
        assert_eq!((told("failed", "null"), told("failed", USAGE)), (end(true, None), end(true, counted())));
        for status in ["queued", "in_progress", "", "later"] {
            assert_eq!(told(status, USAGE), None, "{status}");
        }
        for other in ["", "[]", "{", r#"{"deleted":true}"#, r#"{"status":7}"#, r#"{"object":"list","data":[]}"#] {
            assert_eq!(of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_stream_tells_of_the_end_once_however_it_is_cut() {
        let stream = format!(
            "event: response.in_progress\ndata: {{\"type\":\"response.in_progress\",\"response\":{{\"status\":\"in_progress\"}}}}\n\n\
             : ping\n\ndata: {{\"type\":\"response.output_text.delta\",\"delta\":\"abcd\"}}\n\n\
             data: {{\"type\":\"response.completed\",\"response\":{{\"status\":\"completed\",\"output\":[],\"usage\":{USAGE}}}}}\n\ndata: late\n\n"
        );
        for size in [1, 7, stream.len()] {
            let mut watch = Watch::default();
            let told = stream.as_bytes().chunks(size).filter(|piece| watch.push(piece)).count();
            assert_eq!((told, watch.output_bytes()), (1, 4), "{size}");
            assert_eq!(watch.end(), Some(&ResponseEnd { failed: false, usage: counted(), output_bytes: 0 }));
        }
        let mut watch = Watch::default();
        assert!(!watch.push(b"data: nothing\n\n") && watch.end().is_none());
    }
}
