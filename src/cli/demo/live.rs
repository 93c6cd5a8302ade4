//! The console's live events (`GET /api/v1/live`), as the demo follows them.

use super::DemoGateway;
use crate::sim::client::{self, Exchange};
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A step in the life of a request. Fields that do not belong to the step are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LiveEvent {
    pub id: String,
    pub state: String,
    fields: Value,
}

/// A subscription.
pub(super) struct Live {
    exchange: Exchange,
    text: Vec<u8>,
    events: VecDeque<LiveEvent>,
}

impl Live {
    pub async fn connect(gateway: &DemoGateway) -> io::Result<Self> {
        let url = format!("{}/api/v1/live", gateway.console_url);
        let token = format!("Bearer {}", gateway.admin_token);
        let exchange =
            client::open("GET", &url, &[("authorization", &token), ("accept", "text/event-stream")], b"").await?;
        if exchange.status != 200 {
            return Err(io::Error::other(format!("{url} answers {}", exchange.status)));
        }
        Ok(Self { exchange, text: Vec::new(), events: VecDeque::new() })
    }

    /// The next event; `None` when the console ended the stream. Losing the race in a `select!` loses no event.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let piece = self.exchange.piece().await?;
            self.text.extend_from_slice(&piece);
            self.events.extend(take_events(&mut self.text));
        }
    }

    /// The events of one request up to its end, or as many as came within `patience`.
    pub async fn until_end_of(&mut self, id: &str, patience: Duration) -> Vec<LiveEvent> {
        let deadline = Instant::now() + patience;
        let mut events = Vec::new();
        while let Ok(Some(event)) = timeout_at(deadline, self.next()).await {
            if event.id != id {
                continue;
            }
            let is_end = event.is_end();
            events.push(event);
            if is_end {
                break;
            }
        }
        events
    }
}

/// Takes the whole events out of what has been read; comments are passed over.
fn take_events(text: &mut Vec<u8>) -> Vec<LiveEvent> {
    let Some(end) = memchr::memmem::rfind(text, b"\n\n") else { return Vec::new() };
    let whole: Vec<u8> = text.drain(..end + 2).collect();
    let whole = String::from_utf8_lossy(&whole).into_owned();
    whole.lines().filter_map(|line| line.strip_prefix("data:")).filter_map(LiveEvent::read).collect()
}

impl LiveEvent {
    fn read(data: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(data).ok()?;
        let text = |name: &str| fields[name].as_str().map(str::to_owned);
        Some(Self { id: text("id")?, state: text("state")?, fields })
    }

    /// Whether the request is over.
    pub fn is_end(&self) -> bool {
        self.state == "success" || self.state == "error"
    }

    /// Whether it is an attempt that failed.
    pub fn failed(&self) -> bool {
        self.fields["reason"].is_string()
    }

    fn text(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }

    /// The step in a few words.
    pub fn describe(&self) -> String {
        let mut words = vec![format!("{:<9}", self.state)];
        let target = [self.text("provider"), self.text("model")];
        let target: Vec<_> = target.into_iter().filter(|part| !part.is_empty()).collect();
        words.push(target.join("/"));
        if let Some(number) = self.fields["attempt"].as_u64() {
            words.push(format!("attempt {number}"));
        }
        if let Some(status) = self.fields["status"].as_u64().filter(|status| *status > 0) {
            words.push(status.to_string());
        }
        if self.failed() {
            words.push(self.text("reason").to_owned());
        }
        if !self.text("verdict").is_empty() && self.text("verdict") != "ok" {
            words.push(format!("→ {}", self.text("verdict")));
        }
        for (name, before, after) in
            [("ttft_ms", "first output after ", " ms"), ("latency_ms", "", " ms"), ("cost_usd", "$", "")]
        {
            let value = &self.fields[name];
            if let Some(number) =
                value.as_str().map(str::to_owned).or_else(|| value.as_f64().map(|number| number.to_string()))
            {
                words.push(format!("{before}{number}{after}"));
            }
        }
        if let (Some(prompt), Some(completion)) =
            (self.fields["tokens"]["prompt"].as_u64(), self.fields["tokens"]["completion"].as_u64())
        {
            words.push(format!("{prompt} + {completion} tokens"));
        }
        words.retain(|word| !word.trim().is_empty());
        words.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_whole_events_and_leaves_the_rest() {
        let mut text =
            b": hello\n\ndata: {\"id\":\"req_1\",\"state\":\"pending\"}\n\ndata: {\"id\":\"req_2\",\"sta".to_vec();
        let events = take_events(&mut text);
        assert_eq!(events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["req_1"]);
        text.extend_from_slice(b"te\":\"success\"}\n\n");
        assert!(take_events(&mut text)[0].is_end());
        assert!(text.is_empty());
    }

    #[test]
    fn says_what_happened_in_one_line() {
        let failed = r#"{"id":"req_1","state":"attempt","provider":"a","model":"m","attempt":1,"status":429,"reason":"rate_limited","verdict":"next_provider"}"#;
        assert_eq!(
            LiveEvent::read(failed).unwrap().describe(),
            "attempt    a/m  attempt 1  429  rate_limited  → next_provider"
        );
        let ended = r#"{"id":"req_1","state":"success","provider":"b","status":200,"latency_ms":12,"tokens":{"prompt":3,"completion":4}}"#;
        assert_eq!(LiveEvent::read(ended).unwrap().describe(), "success    b  200  12 ms  3 + 4 tokens");
    }
}
