//! Turns an answer and a fault into what happens on the connection, byte by byte.
//!
//! ```text
//! streamed:  head · prelude … · output … · finish … · terminator · last chunk
//! unary:     head ·             half      · half
//!                 ^             ^         ^           ^
//!                 faults cut, stop, reset or spoil it at one of these places
//! ```

use super::answer::{Answer, Question};
use super::fault::SimFault;
use super::http::{Framing, LAST_CHUNK, chunk, head};
use super::wire::{Complaint, Frame, Part, Reply, SimDialect};
use std::time::Duration;

/// One thing that happens on a connection. After the last one the connection is kept for the next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// These bytes are sent, in a packet of their own.
    Write(Vec<u8>),
    /// Nothing is sent for so long.
    Pause(Duration),
    /// Nothing is ever sent again; the connection stays open until the client leaves.
    Silence,
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed (FIN).
    Close,
    /// The listener is closed until [`super::Sim::resume`].
    StopListening,
}

/// So long after the output comes the fault that ends it, so that the client has surely seen the one before the other.
const SETTLE: Duration = Duration::from_millis(150);
/// The pause between two pieces of a slow answer.
const SLOW: Duration = Duration::from_millis(50);

/// What a fault does that needs no answer: errors by status, and connections that break before one. `None` for the rest.
pub(super) fn without_answer(
    fault: SimFault,
    dialect: SimDialect,
    model: &str,
    key: &str,
    number: u64,
) -> Option<Vec<Act>> {
    let complaint = match fault {
        SimFault::RateLimited => Complaint::RateLimited { retry_after_s: None },
        SimFault::RateLimitedRetryAfter => Complaint::RateLimited { retry_after_s: Some(1) },
        SimFault::Quota => Complaint::Quota,
        SimFault::PaymentRequired => Complaint::PaymentRequired,
        SimFault::BadKey => Complaint::BadKey { shown: masked(key) },
        SimFault::EchoKey => Complaint::BadKey { shown: key.to_owned() },
        SimFault::Forbidden => Complaint::Forbidden,
        SimFault::NotFound => Complaint::ModelNotFound { model: model.to_owned() },
        SimFault::BadRequest => Complaint::bad("The request is not what this model takes."),
        SimFault::ContextLength => Complaint::ContextLength,
        SimFault::ServerError => Complaint::ServerError,
        SimFault::BadGateway => Complaint::BadGateway,
        SimFault::Unavailable => Complaint::Unavailable,
        SimFault::Overloaded => Complaint::Overloaded,
        SimFault::Refused => return Some(vec![Act::StopListening, Act::Reset]),
        SimFault::ResetBeforeHead => return Some(vec![Act::Reset]),
        SimFault::Timeout => return Some(vec![Act::Silence]),
        _ => return None,
    };
    Some(reply(dialect, &dialect.complain(&complaint), number))
}

/// A key as a provider shows it in a message: its ends.
pub(super) fn masked(key: &str) -> String {
    let ends = |from: usize, to: usize| key.get(from..to).unwrap_or_default();
    if key.len() < 12 { "***".to_owned() } else { format!("{}***{}", ends(0, 3), ends(key.len() - 4, key.len())) }
}

/// A reply with its length, without any fault.
pub(super) fn reply(dialect: SimDialect, reply: &Reply, number: u64) -> Vec<Act> {
    let mut bytes = reply_head(dialect, reply, Framing::Length(reply.body.len()), number);
    bytes.extend_from_slice(&reply.body);
    vec![Act::Write(bytes)]
}

fn reply_head(dialect: SimDialect, reply: &Reply, framing: Framing, number: u64) -> Vec<u8> {
    // What a step says of a header stands in place of what is usual.
    let mut headers = dialect.usual_headers(number);
    headers.retain(|(name, _)| !reply.headers.iter().any(|(own, _)| own == name));
    headers.extend(reply.headers.iter().cloned());
    head(reply.status, reply.content_type, &headers, framing)
}

/// An answer with a fault that begins with a success. `pause` stands before each piece; slow answers have one of their own.
pub(super) fn with_answer(
    fault: SimFault,
    dialect: SimDialect,
    question: &Question,
    answer: &Answer,
    pause: Duration,
) -> Vec<Act> {
    let pause = if fault == SimFault::Slow { pause.max(SLOW) } else { pause };
    let acts = match fault {
        SimFault::Html => return reply(dialect, &Reply::html(200, "Welcome"), answer.number),
        _ if question.stream => streamed(fault, dialect, question, answer),
        _ => {
            let whole = if fault == SimFault::RoleOnly { dialect.hollow(answer) } else { dialect.unary(answer) };
            with_reply(fault, dialect, whole, answer.number)
        }
    };
    if pause.is_zero() { acts } else { acts.into_iter().flat_map(|act| [Act::Pause(pause), act]).collect() }
}

/// An answer that is not streamed, with a fault that begins with a success.
pub(super) fn with_reply(fault: SimFault, dialect: SimDialect, whole: Reply, number: u64) -> Vec<Act> {
    let whole = match fault {
        SimFault::Html => Reply::html(200, "Welcome"),
        SimFault::ErrorFirst | SimFault::ErrorAfterPrelude | SimFault::ErrorAfterTokens => {
            Reply { status: 200, ..dialect.complain(&Complaint::ServerError) }
        }
        _ => whole,
    };
    let half = whole.body[..whole.body.len() / 2].to_vec();
    let body = match fault {
        SimFault::Empty => Vec::new(),
        SimFault::CutJson => half.clone(),
        SimFault::MalformedFirst | SimFault::MalformedEvent => {
            let end = whole.body.iter().rposition(|&byte| byte == b'}').unwrap_or_default();
            [&whole.body[..end], b"<<not json>>}"].concat()
        }
        SimFault::Crlf => crlf(&whole.body),
        _ => whole.body.clone(),
    };
    let framing = if fault == SimFault::NoTerminator { Framing::Close } else { Framing::Length(body.len()) };
    let mut first = reply_head(dialect, &whole, framing, number);
    if fault == SimFault::HugeHead {
        first = with_huge_head(first);
    }
    let head = Act::Write(first.clone());
    match fault {
        SimFault::ResetAfterHead => vec![head, Act::Pause(SETTLE), Act::Reset],
        SimFault::Stall => vec![head, Act::Silence],
        SimFault::StallAfterTokens => vec![head, Act::Write(half), Act::Silence],
        SimFault::CutAfterTokens => vec![head, Act::Write(half), Act::Pause(SETTLE), Act::Reset],
        SimFault::CloseAfterTokens | SimFault::FinAfterTokens => vec![head, Act::Write(half), Act::Close],
        SimFault::NoTerminator => vec![head, Act::Write(body), Act::Close],
        SimFault::Bytewise => std::iter::once(head).chain(body.iter().map(|byte| Act::Write(vec![*byte]))).collect(),
        SimFault::Slow => {
            let (one, two) = body.split_at(body.len() / 2);
            vec![head, Act::Write(one.to_vec()), Act::Write(two.to_vec())]
        }
        _ => {
            first.extend_from_slice(&body);
            vec![Act::Write(first)]
        }
    }
}

fn streamed(fault: SimFault, dialect: SimDialect, question: &Question, answer: &Answer) -> Vec<Act> {
    let mut frames = dialect.frames(answer, question);
    let half = half_of(&frames);
    let ending = spoil(fault, dialect, &mut frames);
    let line_end = if fault == SimFault::Crlf { "\r\n" } else { dialect.line_end() };
    let sent = |frame: &Frame| dialect.frame_bytes(frame, line_end);
    let mut events = if question.as_array { as_array(&frames) } else { frames.iter().map(sent).collect() };
    if fault == SimFault::CutJson
        && let Some(last) = events.last_mut()
    {
        last.truncate(last.len() / 2);
    }
    let mut first =
        head(200, dialect.stream_type(question.as_array), &dialect.usual_headers(answer.number), Framing::Chunked);
    if fault == SimFault::HugeHead {
        first = with_huge_head(first);
    }
    let mut acts = vec![Act::Write(first)];
    if fault == SimFault::Bytewise {
        acts.extend(events.concat().iter().map(|byte| Act::Write(chunk(&[*byte]))));
    } else {
        for (index, event) in events.iter().enumerate() {
            if index == half && fault.comes_after_tokens() {
                acts.push(Act::Pause(SETTLE));
            }
            acts.push(Act::Write(chunk(event)));
        }
    }
    if events.len() <= half && fault.comes_after_tokens() {
        acts.push(Act::Pause(SETTLE));
    }
    acts.extend(ending);
    acts
}

/// How many frames are there when half the output is: at least one piece of it.
fn half_of(frames: &[Frame]) -> usize {
    let count = |part: Part| frames.iter().filter(|frame| frame.part == part).count();
    (count(Part::Prelude) + (count(Part::Output) / 2).max(1)).min(frames.len())
}

/// Does to the frames of a stream what the fault does, and says how the connection goes on after them.
fn spoil(fault: SimFault, dialect: SimDialect, frames: &mut Vec<Frame>) -> Vec<Act> {
    let clean = vec![Act::Write(LAST_CHUNK.to_vec())];
    let prelude = frames.iter().filter(|frame| frame.part == Part::Prelude).count();
    let half = half_of(frames);
    let event = frames.get(half).and_then(|frame| frame.event);
    let broken = Frame { part: Part::Output, event, data: "{\"choices\": <<not json>>".to_owned() };
    match fault {
        SimFault::Empty | SimFault::ErrorFirst | SimFault::ResetAfterHead => frames.clear(),
        SimFault::RoleOnly | SimFault::Stall | SimFault::ErrorAfterPrelude => frames.truncate(prelude),
        SimFault::CutJson => frames.truncate(prelude + 1),
        SimFault::StallAfterTokens
        | SimFault::CutAfterTokens
        | SimFault::CloseAfterTokens
        | SimFault::FinAfterTokens
        | SimFault::ErrorAfterTokens => frames.truncate(half),
        SimFault::MalformedFirst => frames[prelude] = broken,
        SimFault::MalformedEvent => frames.insert(half, broken),
        SimFault::NoTerminator => frames.retain(|frame| frame.part != Part::Terminator),
        _ => {}
    }
    match fault {
        SimFault::ErrorFirst | SimFault::ErrorAfterPrelude | SimFault::ErrorAfterTokens => {
            frames.push(dialect.error_frame());
            clean
        }
        SimFault::ResetAfterHead => vec![Act::Pause(SETTLE), Act::Reset],
        SimFault::CutAfterTokens => vec![Act::Reset],
        SimFault::FinAfterTokens => vec![Act::Close],
        SimFault::Stall | SimFault::StallAfterTokens => vec![Act::Silence],
        _ => clean,
    }
}

/// The events of a stream as the items of one JSON array.
fn as_array(frames: &[Frame]) -> Vec<Vec<u8>> {
    let mut events = vec![b"[".to_vec()];
    for (index, frame) in frames.iter().enumerate() {
        events.push(format!("{}{}\r\n", if index > 0 { ",\r\n" } else { "" }, frame.data).into_bytes());
    }
    events.push(b"]".to_vec());
    events
}

fn with_huge_head(mut head: Vec<u8>) -> Vec<u8> {
    head.truncate(head.len() - 2);
    for index in 0..256 {
        head.extend_from_slice(format!("x-huge-{index}: {}\r\n", "x".repeat(8 * 1024)).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// JSON whose line ends are CR LF; line ends within its strings are escaped and stay.
fn crlf(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for &byte in body {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out.extend_from_slice(b"\r\n");
    out
}
