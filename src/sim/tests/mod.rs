//! The simulator against raw sockets, which see every byte, and how the connection ends.

#[cfg(test)]
mod bedrock;
mod dialects;
#[cfg(test)]
mod faults;

use super::{Sim, SimDialect};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The connection is open: the answer is whole, or nothing more comes.
    Open,
    Fin,
    Reset,
}

/// What came back.
#[derive(Debug)]
struct Seen {
    bytes: Vec<u8>,
    end: End,
}

impl Seen {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn status(&self) -> u16 {
        self.text().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn head(&self) -> String {
        self.text().split("\r\n\r\n").next().unwrap_or_default().to_owned()
    }

    /// The body without its framing, and whether HTTP says that it is whole.
    fn body(&self) -> (String, bool) {
        let text = self.text();
        let Some((head, mut rest)) = text.split_once("\r\n\r\n") else { return (String::new(), false) };
        if let Some(length) = head.split("content-length: ").nth(1) {
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            return (rest.to_owned(), rest.len() == length);
        }
        if !head.contains("transfer-encoding: chunked") {
            return (rest.to_owned(), self.end == End::Fin);
        }
        let mut body = String::new();
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return (body, after == "\r\n");
            }
            let Some(next) = after.get(size + 2..) else { break };
            body.push_str(&after[..size]);
            rest = next;
        }
        (body, false)
    }

    fn json(&self) -> Value {
        let (body, whole) = self.body();
        assert!(whole, "{self:?}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// The data of each event; an event that is cut or not JSON is `Value::Null`.
    fn events(&self) -> Vec<Value> {
        let body = self.body().0.replace("\r\n", "\n");
        if self.head().contains("content-type: application/x-ndjson") {
            return body.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
        }
        let data = |event: &str| event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
        body.split_terminator("\n\n")
            .filter_map(data)
            .map(|data| serde_json::from_str(&data).unwrap_or_default())
            .collect()
    }
}

/// A connection to a simulated provider.
struct Wire(TcpStream);

impl Wire {
    async fn connect(sim: &Sim) -> Self {
        Self(TcpStream::connect(sim.address()).await.unwrap())
    }

    async fn send(&mut self, request: &[u8]) {
        self.0.write_all(request).await.unwrap();
    }

    /// Reads until the answer is whole or the connection ends, or nothing has come for `patience`.
    async fn read(&mut self, patience: Duration) -> Seen {
        let mut bytes = Vec::new();
        loop {
            match tokio::time::timeout(patience, self.0.read_buf(&mut bytes)).await {
                Err(_) => return Seen { bytes, end: End::Open },
                Ok(Ok(0)) => return Seen { bytes, end: End::Fin },
                // A huge head is not looked at before it can be whole.
                Ok(Ok(_))
                    if bytes.len() > 1_000_000
                        && !bytes.ends_with(b"}\n")
                        && !bytes.ends_with(b"}")
                        && !bytes.ends_with(b"\r\n\r\n") => {}
                Ok(Ok(_)) => {
                    let seen = Seen { bytes, end: End::Open };
                    if seen.body().1 {
                        return seen;
                    }
                    bytes = seen.bytes;
                }
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => return Seen { bytes, end: End::Reset },
                Ok(Err(error)) => panic!("{error}"),
            }
        }
    }
}

/// So long nothing comes from a provider that says nothing more.
const SILENCE: Duration = Duration::from_millis(300);
/// So long a busy machine may take for what comes at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request on a connection of its own.
async fn ask(sim: &Sim, request: &[u8]) -> Seen {
    ask_for(sim, request, PATIENCE).await
}

/// The same, with another patience.
async fn ask_for(sim: &Sim, request: &[u8], patience: Duration) -> Seen {
    let mut wire = Wire::connect(sim).await;
    wire.send(request).await;
    wire.read(patience).await
}

/// A request with everything that the dialect wants beside this body.
fn request(dialect: SimDialect, key: &str, model: &str, stream: bool, mut body: Value) -> Vec<u8> {
    let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    let (path, headers) = match dialect {
        SimDialect::OpenAi => ("/v1/chat/completions".to_owned(), format!("authorization: Bearer {key}\r\n")),
        SimDialect::Anthropic => {
            ("/v1/messages".to_owned(), format!("x-api-key: {key}\r\nanthropic-version: 2023-06-01\r\n"))
        }
        SimDialect::Gemini => (format!("/v1beta/models/{model}:{method}"), format!("x-goog-api-key: {key}\r\n")),
        SimDialect::Cohere => ("/v2/chat".to_owned(), format!("authorization: Bearer {key}\r\n")),
        SimDialect::Ollama => ("/api/chat".to_owned(), format!("authorization: Bearer {key}\r\n")),
        SimDialect::Bedrock => {
            let operation = if stream { "converse-stream" } else { "converse" };
            (format!("/model/{model}/{operation}"), format!("authorization: Bearer {key}\r\n"))
        }
    };
    if !matches!(dialect, SimDialect::Gemini | SimDialect::Bedrock) {
        body["model"] = json!(model);
        body["stream"] = json!(stream);
    }
    http("POST", &path, &headers, &body.to_string())
}

fn http(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: sim\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A body in which the user says this.
fn saying(dialect: SimDialect, text: &str) -> Value {
    match dialect {
        SimDialect::OpenAi | SimDialect::Cohere | SimDialect::Ollama => {
            json!({ "messages": [{ "role": "user", "content": text }] })
        }
        SimDialect::Anthropic => json!({ "max_tokens": 100, "messages": [{ "role": "user", "content": text }] }),
        SimDialect::Gemini => json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] }),
        SimDialect::Bedrock => json!({ "messages": [{ "role": "user", "content": [{ "text": text }] }] }),
    }
}

/// The text in an answer or in the events of one.
fn text_in(dialect: SimDialect, values: &[Value]) -> String {
    let text = |value: &Value| match dialect {
        SimDialect::OpenAi => {
            let choice = &value["choices"][0];
            let text = choice["delta"]["content"].as_str().or_else(|| choice["message"]["content"].as_str());
            text.unwrap_or_default().to_owned()
        }
        SimDialect::Anthropic => {
            let block =
                value["content"].as_array().and_then(|blocks| blocks.iter().find_map(|block| block["text"].as_str()));
            block.or_else(|| value["delta"]["text"].as_str()).unwrap_or_default().to_owned()
        }
        SimDialect::Gemini => {
            let parts = value["candidates"][0]["content"]["parts"].as_array().cloned().unwrap_or_default();
            parts.iter().filter(|part| part["thought"] != true).filter_map(|part| part["text"].as_str()).collect()
        }
        SimDialect::Cohere => {
            let contents = value["message"]["content"].as_array().cloned().unwrap_or_default();
            let whole: String = contents.iter().filter_map(|content| content["text"].as_str()).collect();
            whole + value["delta"]["message"]["content"]["text"].as_str().unwrap_or_default()
        }
        SimDialect::Ollama => value["message"]["content"].as_str().unwrap_or_default().to_owned(),
        SimDialect::Bedrock => {
            let blocks = value["output"]["message"]["content"].as_array().cloned().unwrap_or_default();
            blocks.iter().filter_map(|block| block["text"].as_str()).collect()
        }
    };
    values.iter().map(text).collect()
}

/// The finish reason in an answer or in the events of one.
fn finish_in(dialect: SimDialect, values: &[Value]) -> Option<String> {
    let finish = |value: &Value| match dialect {
        SimDialect::OpenAi => value["choices"][0]["finish_reason"].clone(),
        SimDialect::Anthropic => value.get("stop_reason").unwrap_or(&value["delta"]["stop_reason"]).clone(),
        SimDialect::Gemini => value["candidates"][0]["finishReason"].clone(),
        SimDialect::Cohere => value.get("finish_reason").unwrap_or(&value["delta"]["finish_reason"]).clone(),
        SimDialect::Ollama => value["done_reason"].clone(),
        SimDialect::Bedrock => value["stopReason"].clone(),
    };
    let reasons = values.iter().map(finish).filter_map(|finish| finish.as_str().map(str::to_owned));
    reasons.into_iter().find(|reason| reason != "ERROR")
}

/// The message of an error in an answer or in an event of one; empty when it is none.
fn error_in(dialect: SimDialect, value: &Value) -> String {
    let message = match dialect {
        SimDialect::OpenAi | SimDialect::Anthropic | SimDialect::Gemini => &value["error"]["message"],
        SimDialect::Cohere if value["type"] == "message-end" => &value["delta"]["error"],
        SimDialect::Cohere | SimDialect::Bedrock => &value["message"],
        SimDialect::Ollama => &value["error"],
    };
    message.as_str().unwrap_or_default().to_owned()
}
