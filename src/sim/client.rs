//! A plain HTTP/1.1 client that says how an answer ended: what the demo and the tests look at the gateway with.
//!
//! It keeps what other clients smooth over: whether the end was HTTP's own, or the connection broke before it.

use serde_json::Value;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// The way HTTP asks for.
    Clean,
    /// The connection was closed or reset before that.
    Cut,
}

/// A whole answer, or as much as came of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// How it ended.
    pub end: BodyEnd,
    /// From the request to the head.
    pub head_after: Duration,
    /// From the request to the end.
    pub took: Duration,
}

/// An answer that is still coming. The connection is closed when it is dropped.
pub struct Exchange {
    stream: TcpStream,
    buffer: Vec<u8>,
    framing: Framing,
    started: Instant,
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    head_after: Duration,
}

/// What is left of a body.
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
    Over(BodyEnd),
}

/// Sends a request on a connection of its own and reads the head of the answer.
///
/// # Errors
/// No connection, no head, or a head that is not HTTP/1.
pub async fn open(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Exchange> {
    let started = Instant::now();
    let rest = url.strip_prefix("http://").ok_or_else(|| invalid("the URL does not begin with http://"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let mut head = format!("{method} {} HTTP/1.1\r\nhost: {host}\r\n", if path.is_empty() { "/" } else { path });
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    // A server may answer before it has read everything: then the answer counts, not the failed write.
    let sent = stream.write_all(&request).await;
    let mut buffer = Vec::new();
    let head_end = loop {
        if let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let (status, headers) = parse_head(&buffer[..head_end])?;
    buffer.drain(..head_end + 4);
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let framing = if status == 204 || method == "HEAD" {
        Framing::Over(BodyEnd::Clean)
    } else if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        Framing::Chunked
    } else if let Some(length) = header("content-length") {
        Framing::Length(length.parse().map_err(|_| invalid("content-length is not a number"))?)
    } else {
        Framing::UntilClose
    };
    Ok(Exchange { stream, buffer, framing, started, status, headers, head_after: started.elapsed() })
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// Those of [`open`]. A body that breaks is no error but [`BodyEnd::Cut`].
pub async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    Ok(open(method, url, headers, body).await?.finish().await)
}

fn parse_head(head: &[u8]) -> io::Result<(u16, Vec<(String, String)>)> {
    let head = std::str::from_utf8(head).map_err(|_| invalid("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status =
        first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| invalid("not a status line"))?;
    let header =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Ok((status, lines.filter_map(header).collect()))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Exchange {
    /// The next piece of the body; `None` when there is none, and [`Exchange::finish`] says why.
    pub async fn piece(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(piece) = self.take() {
                return Some(piece);
            }
            if matches!(self.framing, Framing::Over(_)) {
                return None;
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) if matches!(self.framing, Framing::UntilClose) => self.framing = Framing::Over(BodyEnd::Clean),
                Ok(0) | Err(_) => self.framing = Framing::Over(BodyEnd::Cut),
                Ok(_) => {}
            }
        }
    }

    /// Takes a piece out of what has been read.
    fn take(&mut self) -> Option<Vec<u8>> {
        match &mut self.framing {
            Framing::Over(_) => None,
            Framing::UntilClose => (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer)),
            Framing::Length(left) => {
                let size = self.buffer.len().min(*left);
                *left -= size;
                if *left == 0 {
                    self.framing = Framing::Over(BodyEnd::Clean);
                }
                (size > 0).then(|| self.buffer.drain(..size).collect())
            }
            Framing::Chunked => {
                let line = memchr::memmem::find(&self.buffer, b"\r\n")?;
                let size = std::str::from_utf8(&self.buffer[..line])
                    .ok()
                    .and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
                let Some(size) = size else {
                    self.framing = Framing::Over(BodyEnd::Cut);
                    return None;
                };
                if self.buffer.len() < line + 2 + size + 2 {
                    return None;
                }
                let piece = self.buffer[line + 2..line + 2 + size].to_vec();
                self.buffer.drain(..line + 2 + size + 2);
                if size == 0 {
                    self.framing = Framing::Over(BodyEnd::Clean);
                    return None;
                }
                Some(piece)
            }
        }
    }

    /// Reads what is left.
    pub async fn finish(mut self) -> Answer {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await {
            body.extend_from_slice(&piece);
        }
        let end = if let Framing::Over(end) = self.framing { end } else { BodyEnd::Cut };
        let took = self.started.elapsed();
        Answer { status: self.status, headers: self.headers, body, end, head_after: self.head_after, took }
    }
}

impl Answer {
    /// The first value of a header, whose name is given in lower case; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether it is a stream of events.
    pub fn is_stream(&self) -> bool {
        self.header("content-type").starts_with("text/event-stream")
    }

    /// The JSON of each event of a stream; for any other answer its body alone.
    pub fn events(&self) -> Vec<Value> {
        if !self.is_stream() {
            return vec![self.json()];
        }
        let text = self.body_text();
        text.lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .filter_map(|data| serde_json::from_str(data).ok())
            .collect()
    }

    /// Whether a stream says that it is complete.
    pub fn is_done(&self) -> bool {
        self.body_text().lines().any(|line| line == "data: [DONE]")
    }

    /// The text of the first choice, in OpenAI's dialect.
    pub fn text(&self) -> String {
        let events = self.events();
        let text = |event: &Value| {
            let choice = &event["choices"][0];
            choice["delta"]["content"]
                .as_str()
                .or_else(|| choice["message"]["content"].as_str())
                .or_else(|| choice["text"].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        events.iter().map(text).collect()
    }

    /// The finish reasons of the first choice, in OpenAI's dialect: a good answer has one.
    pub fn finish_reasons(&self) -> Vec<String> {
        let reason = |event: &Value| event["choices"][0]["finish_reason"].as_str().map(str::to_owned);
        self.events().iter().filter_map(reason).collect()
    }

    /// The error that it carries, as its body or as an event.
    pub fn error(&self) -> Option<Value> {
        self.events().into_iter().find_map(|event| event.get("error").filter(|error| !error.is_null()).cloned())
    }

    /// Whether it looks complete to a client: a clean end, a finish reason, no error, and a stream's `[DONE]`.
    pub fn looks_complete(&self) -> bool {
        let told = !self.is_stream() || self.is_done();
        self.end == BodyEnd::Clean && self.error().is_none() && self.finish_reasons().len() == 1 && told
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sim, SimDialect, SimFault};
    use super::*;

    async fn ask(sim: &Sim, fault: SimFault, stream: bool) -> Answer {
        let model = format!("sim-{}", fault.name());
        let body = serde_json::json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": "one two three" }] });
        let headers = [("authorization", "Bearer k"), ("content-type", "application/json")];
        let url = format!("{}/chat/completions", sim.base_url());
        send("POST", &url, &headers, body.to_string().as_bytes()).await.unwrap()
    }

    #[tokio::test]
    async fn tells_a_whole_answer_from_a_broken_one() {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        for (fault, stream, complete, end) in [
            (SimFault::Ok, false, true, BodyEnd::Clean),
            (SimFault::Ok, true, true, BodyEnd::Clean),
            (SimFault::NoTerminator, false, true, BodyEnd::Clean),
            (SimFault::NoTerminator, true, false, BodyEnd::Clean),
            (SimFault::CutAfterTokens, true, false, BodyEnd::Cut),
            (SimFault::CutAfterTokens, false, false, BodyEnd::Cut),
            (SimFault::FinAfterTokens, true, false, BodyEnd::Cut),
            (SimFault::CloseAfterTokens, true, false, BodyEnd::Clean),
            (SimFault::ErrorAfterTokens, true, false, BodyEnd::Clean),
            (SimFault::Bytewise, true, true, BodyEnd::Clean),
        ] {
            let answer = ask(&sim, fault, stream).await;
            assert_eq!((answer.looks_complete(), answer.end), (complete, end), "{fault:?} {stream}");
            assert_eq!(answer.text() == "one two three", fault.is_complete_answer(), "{fault:?} {stream}");
        }
    }
}
