//! The clients of the fault matrix: how each format asks, and what its client makes of an answer.

use crate::completions::complete;
use crate::gateway::{Gateway, KEY};
use crate::gemini::{self, Generated, How};
use crate::messages::Message;
use orbyt::sim::SimDialect;
use orbyt::sim::client::{Answer, BodyEnd};
use serde_json::{Value, json};

const WORDS: &str = "one two three four five six";

/// A client's format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format {
    Chat,
    Messages,
    Responses,
    Completions,
    /// Streams are events.
    Gemini,
    /// Streams are one JSON array.
    GeminiArray,
}

/// What a client of a format makes of an answer.
pub(super) struct Told {
    pub text: String,
    /// It has an end that says so, and no error.
    pub complete: bool,
    /// The error that it ends with, in the format's own form.
    pub error: Option<Value>,
    /// How it says that it ended.
    pub finish: Value,
}

impl Format {
    /// The providers that fail, one of each format at least.
    pub(super) fn providers(self) -> Vec<(&'static str, SimDialect)> {
        let all = SimDialect::ALL.into_iter().map(|dialect| (dialect.provider_id(), dialect));
        if self != Self::Completions {
            return all.collect();
        }
        // One that has the route, one whose route is another, and one that is asked in chats.
        let own =
            [("together", SimDialect::OpenAi), ("mistral", SimDialect::OpenAi), ("compatible", SimDialect::OpenAi)];
        own.into_iter().chain(all.filter(|(_, dialect)| *dialect != SimDialect::OpenAi)).collect()
    }

    /// The providers that stand in: for one the answer is translated, of the other the bytes pass.
    pub(super) fn spares(self) -> [(&'static str, SimDialect); 2] {
        match self {
            Self::Chat | Self::Messages | Self::Responses => {
                [("spare-openai", SimDialect::OpenAi), ("spare-anthropic", SimDialect::Anthropic)]
            }
            Self::Completions => [("openai", SimDialect::OpenAi), ("spare-anthropic", SimDialect::Anthropic)],
            Self::Gemini | Self::GeminiArray => {
                [("spare-openai", SimDialect::OpenAi), ("spare-google", SimDialect::Gemini)]
            }
        }
    }

    /// What a provider says when all goes well.
    pub(super) fn words(self, mark: &str) -> String {
        match self {
            // A text to be completed has no place for the mark but itself.
            Self::Completions => WORDS.replacen("one", mark, 1),
            _ => WORDS.to_owned(),
        }
    }

    /// Asks a model, with the mark somewhere in the request.
    pub(super) async fn ask(
        self,
        gateway: &Gateway,
        model: &str,
        mark: &str,
        stream: bool,
        fallback: Option<&str>,
    ) -> Answer {
        let user = json!({"role": "user", "content": WORDS});
        let mut request = match self {
            Self::Chat => json!({"messages": [{"role": "system", "content": mark}, user]}),
            Self::Messages => json!({"max_tokens": 100, "system": mark, "messages": [user]}),
            Self::Responses => json!({"instructions": mark, "input": [user]}),
            Self::Completions => json!({"prompt": self.words(mark)}),
            Self::Gemini | Self::GeminiArray => gemini::asking(WORDS),
        };
        if let Some(fallback) = fallback {
            request["extra"] = json!({"fallback_models": [fallback]});
        }
        if matches!(self, Self::Gemini | Self::GeminiArray) {
            request["systemInstruction"] = json!({"parts": [{"text": mark}]});
            let how = match (stream, self) {
                (false, _) => How::Whole,
                (true, Self::GeminiArray) => How::Array,
                (true, _) => How::Events,
            };
            return gemini::ask(gateway, how, model, &request).await;
        }
        (request["model"], request["stream"]) = (model.into(), stream.into());
        let key = format!("Bearer {KEY}");
        match self {
            Self::Messages => gateway.messages("/v1/messages", &request).await,
            Self::Responses => gateway.ask("/v1/responses", &[("authorization", &key)], &request).await,
            Self::Completions => complete(gateway, &request).await,
            _ => gateway.chat(&request).await,
        }
    }

    pub(super) fn read(self, answer: &Answer) -> Told {
        match self {
            Self::Chat | Self::Completions => {
                let finish = answer.finish_reasons().into_iter().find(|reason| reason != "error");
                let (text, error) = (answer.text(), answer.error());
                Told { text, complete: answer.looks_complete(), error, finish: finish.into() }
            }
            Self::Messages => {
                let message = Message::of(answer);
                let finish = message.value["stop_reason"].clone();
                Told { text: message.text(), complete: message.complete, finish, error: message.error }
            }
            Self::Responses => read_response(answer),
            Self::Gemini | Self::GeminiArray => {
                let generated = Generated::of(answer);
                let text = generated.text();
                Told { text, complete: generated.complete, error: generated.error, finish: generated.finish }
            }
        }
    }

    /// How an answer ends that says all.
    pub(super) fn well(self) -> &'static str {
        match self {
            Self::Chat | Self::Completions => "stop",
            Self::Messages => "end_turn",
            Self::Responses => "completed",
            Self::Gemini | Self::GeminiArray => "STOP",
        }
    }

    /// Whether an answer is an error of the format.
    pub(super) fn is_error(self, answer: &Answer) -> bool {
        let body = answer.json();
        let error = &body["error"];
        let is_own = match self {
            Self::Messages => body["type"] == "error" && error["type"].is_string(),
            Self::Gemini | Self::GeminiArray => error["code"] == answer.status && error["status"].is_string(),
            _ => error["code"].is_string() && error["type"].is_string(),
        };
        is_own && error["message"].is_string()
    }

    /// Whether an error says what was tried.
    pub(super) fn tells_attempts(self, body: &Value) -> bool {
        let error = &body["error"];
        match self {
            Self::Gemini | Self::GeminiArray => error["details"][0]["metadata"]["attempts"]
                .as_str()
                .is_some_and(|attempts| attempts.starts_with("[{\"provider\":")),
            _ => error["metadata"]["attempts"].is_array(),
        }
    }
}

fn read_response(answer: &Answer) -> Told {
    let events = answer.events();
    let of = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    let last = events.last().cloned().unwrap_or_default();
    if !answer.is_stream() {
        let complete = answer.end == BodyEnd::Clean && last["status"] == "completed";
        let parts = last["output"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|item| item["content"].as_array().into_iter().flatten());
        let text = parts.filter_map(|part| part["text"].as_str()).collect();
        return Told {
            text,
            complete,
            error: last.get("error").filter(|error| !error.is_null()).cloned(),
            finish: last["status"].clone(),
        };
    }
    let text = of("response.output_text.delta").filter_map(|event| event["delta"].as_str()).collect();
    // An error event, and the response that failed by it.
    let failed =
        of("error").next().filter(|_| last["type"] == "response.failed" && last["response"]["status"] == "failed");
    let finish = of("response.completed").next().map_or(Value::Null, |event| event["response"]["status"].clone());
    let complete = answer.end == BodyEnd::Clean && last["type"] == "response.completed" && failed.is_none();
    Told { text, complete, error: failed.map(|event| event["error"].clone()), finish }
}
