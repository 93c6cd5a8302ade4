//! A provider that costs next to nothing: literal bytes, no parsing beyond the length of a request.

use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How many events a stream has.
pub const EVENTS: usize = 68;
/// The pause between two events. It keeps every proxy below saturation, so that each event is a read and a write of its own
/// everywhere and CPU a stream can be compared.
const PACE: Duration = Duration::from_millis(2);
/// The pause in a stream whose request says `slow`: many of them stand open at once, for the memory that one takes.
const SLOW: Duration = Duration::from_secs(1);
/// Events up to the first text, in either format.
const PRELUDE: usize = 4;

/// What it answers, made once.
struct Answers {
    openai: Vec<u8>,
    anthropic: Vec<u8>,
    openai_events: Vec<Vec<u8>>,
    anthropic_events: Vec<Vec<u8>>,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let answers = Arc::new(Answers::new());
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            // A client that leaves in the middle is part of the measurement, not a failure.
            let _ = converse(client, &answers).await;
        });
    }
}

async fn converse(mut client: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        let end = loop {
            if let Some(end) = request_end(&buffer) {
                break end;
            }
            if client.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let request = &buffer[..end];
        let anthropic = contains(&request[..64.min(end)], b"/v1/messages");
        if contains(request, b"\"stream\":true") {
            let pace = if contains(request, b"slow") { SLOW } else { PACE };
            let events = if anthropic { &answers.anthropic_events } else { &answers.openai_events };
            stream(&mut client, events, pace).await?;
        } else {
            client.write_all(if anthropic { &answers.anthropic } else { &answers.openai }).await?;
        }
        buffer.drain(..end);
    }
}

async fn stream(client: &mut TcpStream, events: &[Vec<u8>], pace: Duration) -> std::io::Result<()> {
    client
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    for (place, event) in events.iter().enumerate() {
        client.write_all(event).await?;
        // A slow stream begins at once, so that it is open as soon as it is asked for.
        if pace == PACE || place >= PRELUDE {
            tokio::time::sleep(pace).await;
        }
    }
    client.write_all(b"0\r\n\r\n").await
}

/// Where the first request in the buffer ends, when it is all there.
fn request_end(buffer: &[u8]) -> Option<usize> {
    let head = find(buffer, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let end = head + length.unwrap_or(0);
    (buffer.len() >= end).then_some(end)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    find(haystack, needle).is_some()
}

impl Answers {
    fn new() -> Self {
        let text = "Words that fill an answer of a thousand bytes. ".repeat(14);
        let openai = format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1763640000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":40,"completion_tokens":126,"total_tokens":166,"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}},"system_fingerprint":"fp_bench"}}"#
        );
        let anthropic = format!(
            r#"{{"id":"msg_bench","type":"message","role":"assistant","model":"bench","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":40,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":126}}}}"#
        );
        Self {
            openai: whole(&openai),
            anthropic: whole(&anthropic),
            openai_events: openai_events().iter().map(|event| chunk(event)).collect(),
            anthropic_events: anthropic_events().iter().map(|event| chunk(event)).collect(),
        }
    }
}

fn whole(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// A role, 64 pieces of text, the finish, the usage, and `[DONE]`.
fn openai_events() -> Vec<String> {
    let event = |delta: &str, finish: &str| {
        format!(
            r#"data: {{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1763640000,"model":"bench","system_fingerprint":"fp_bench","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}],"usage":null}}"#
        ) + "\n\n"
    };
    let mut events = vec![event(r#"{"role":"assistant","content":""}"#, "null")];
    events.extend((0..EVENTS - 4).map(|_| event(r#"{"content":" token"}"#, "null")));
    events.push(event("{}", "\"stop\""));
    events.push(
        concat!(
            r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1763640000,"model":"bench","choices":[],"#,
            r#""usage":{"prompt_tokens":40,"completion_tokens":64,"total_tokens":104}}"#,
            "\n\n"
        )
        .to_owned(),
    );
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// `message_start`, a block begun, 62 pieces of text, a ping, and the three events that end it.
fn anthropic_events() -> Vec<String> {
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
    let start = r#"{"type":"message_start","message":{"id":"msg_bench","type":"message","role":"assistant","model":"bench","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":40,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}"#;
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let piece = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}"#;
    let finish = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":62}}"#;
    let mut events =
        vec![event("message_start", start), event("content_block_start", begin), event("ping", r#"{"type":"ping"}"#)];
    events.extend((0..EVENTS - 6).map(|_| event("content_block_delta", piece)));
    events.push(event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#));
    events.push(event("message_delta", finish));
    events.push(event("message_stop", r#"{"type":"message_stop"}"#));
    events
}
