//! A provider that costs next to nothing: literal bytes, no parsing beyond the length of a request.

use super::streams::Format;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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
    /// The events of each format, in chunks of HTTP.
    streams: [Vec<Vec<u8>>; Format::ALL.len()],
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
        let line = &request[..find(request, b"\r\n").unwrap_or(end)];
        let format = Format::of(line);
        if Format::always_streams(line) || contains(request, b"\"stream\":true") {
            let pace = if contains(request, b"slow") { SLOW } else { PACE };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n",
                format.media_type()
            );
            client.write_all(head.as_bytes()).await?;
            stream(&mut client, &answers.streams[format as usize], pace).await?;
        } else {
            let anthropic = format == Format::Anthropic;
            client.write_all(if anthropic { &answers.anthropic } else { &answers.openai }).await?;
        }
        buffer.drain(..end);
    }
}

async fn stream(client: &mut TcpStream, events: &[Vec<u8>], pace: Duration) -> std::io::Result<()> {
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
            streams: Format::ALL.map(|format| format.events().iter().map(|event| chunk(event)).collect()),
        }
    }
}

fn whole(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn chunk(event: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", event.len()).as_bytes(), event, b"\r\n"].concat()
}
