//! The fault matrix: every client's format × every provider's × every fault × streamed and not.
//!
//! Before the commit the client gets the fallback's answer and nothing else; after it an error in its own format, never a clean end. The
//! calls that arrive at each provider are counted, because a retry too many costs money and one too few an answer. All cells of a client
//! run at once over one gateway: a word in each request tells its calls from the others'.

use crate::gateway::{Gateway, KEY};
use crate::messages::Message;
use futures::StreamExt;
use orbyt::sim::client::{Answer, BodyEnd};
use orbyt::sim::{Call, Sim, SimDialect, SimFault};
use serde_json::{Value, json};

const WORDS: &str = "one two three four five six";
/// How many requests are under way at once.
const AT_ONCE: usize = 24;
/// One retry, no breaker: each cell of the matrix stands for itself. The clocks are short for a provider that is silent and long for a busy
/// machine; those who wait for them wait together.
pub(crate) const CONFIG: &str = r#"
[timeouts]
connect = "5s"
first_output = "3s"
idle = "3s"
total = "60s"

[retry]
max = 1
base = "1ms"
cap = "5ms"
budget = 1.0

[breaker]
enabled = false
"#;

/// What has to come of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// The fallback's answer; so many calls arrive at the provider that fails.
    Fallback(usize),
    /// The answer of the provider itself, whole.
    Served,
    /// The beginning of the provider's answer, then an error; no other call is made.
    Broken,
    /// An error of this status, and nobody else is asked.
    Refused(u16),
}

use Expected::{Broken, Fallback, Refused, Served};

/// A fault, what comes of it streamed, and whole. Two calls: the provider is asked once more. One: asking again would not help (its key is
/// used up for now) or would cost the client its patience (it was silent). None: it could not be reached.
const FAULTS: [(SimFault, Expected, Expected); 36] = [
    (SimFault::RateLimited, Fallback(1), Fallback(1)),
    (SimFault::RateLimitedRetryAfter, Fallback(1), Fallback(1)),
    (SimFault::Quota, Fallback(1), Fallback(1)),
    (SimFault::PaymentRequired, Fallback(1), Fallback(1)),
    (SimFault::BadKey, Fallback(1), Fallback(1)),
    (SimFault::Forbidden, Fallback(1), Fallback(1)),
    (SimFault::NotFound, Fallback(1), Fallback(1)),
    (SimFault::BadRequest, Refused(400), Refused(400)),
    (SimFault::ContextLength, Fallback(1), Fallback(1)),
    (SimFault::ServerError, Fallback(2), Fallback(2)),
    (SimFault::BadGateway, Fallback(2), Fallback(2)),
    (SimFault::Unavailable, Fallback(2), Fallback(2)),
    (SimFault::Overloaded, Fallback(2), Fallback(2)),
    (SimFault::Refused, Fallback(0), Fallback(0)),
    (SimFault::ResetBeforeHead, Fallback(2), Fallback(2)),
    (SimFault::ResetAfterHead, Fallback(2), Fallback(2)),
    (SimFault::Timeout, Fallback(1), Fallback(1)),
    (SimFault::Stall, Fallback(1), Fallback(1)),
    (SimFault::StallAfterTokens, Broken, Fallback(1)),
    (SimFault::Empty, Fallback(2), Fallback(2)),
    (SimFault::Html, Fallback(2), Fallback(2)),
    (SimFault::CutJson, Fallback(2), Fallback(2)),
    (SimFault::ErrorFirst, Fallback(2), Fallback(2)),
    (SimFault::ErrorAfterPrelude, Fallback(2), Fallback(2)),
    (SimFault::ErrorAfterTokens, Broken, Fallback(2)),
    (SimFault::RoleOnly, Fallback(2), Fallback(2)),
    (SimFault::CutAfterTokens, Broken, Fallback(2)),
    (SimFault::CloseAfterTokens, Broken, Fallback(2)),
    (SimFault::FinAfterTokens, Broken, Fallback(2)),
    (SimFault::MalformedFirst, Fallback(2), Fallback(2)),
    (SimFault::MalformedEvent, Broken, Fallback(2)),
    (SimFault::NoTerminator, Served, Served),
    (SimFault::Slow, Served, Served),
    (SimFault::Bytewise, Served, Served),
    (SimFault::Crlf, Served, Served),
    (SimFault::HugeHead, Fallback(2), Fallback(2)),
];

/// Whether a fault puts the key out of use, for other requests too: then each cell has a provider of its own.
fn wears_out(fault: SimFault) -> bool {
    fault.outlasts_its_call() || matches!(fault, SimFault::RateLimited | SimFault::RateLimitedRetryAfter)
}

/// Which of the simulated providers of a format plays a fault. One that resets a connection which has served before would get a try more.
fn house(fault: SimFault) -> usize {
    match fault {
        SimFault::Refused => 1,
        SimFault::ResetBeforeHead => 2,
        _ => 0,
    }
}

/// A client's format.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Chat,
    Messages,
    Responses,
}

/// What a client of a format makes of an answer.
struct Told {
    text: String,
    /// It has an end that says so, and no error.
    complete: bool,
    /// The error that it ends with, in the format's own form.
    error: Option<Value>,
    /// How it says that it ended.
    finish: Value,
}

impl Format {
    fn request(self, model: &str, mark: &str, stream: bool) -> Value {
        let user = json!({"role": "user", "content": WORDS});
        match self {
            Self::Chat => {
                json!({"model": model, "stream": stream, "messages": [{"role": "system", "content": mark}, user]})
            }
            Self::Messages => {
                json!({"model": model, "stream": stream, "max_tokens": 100, "system": mark, "messages": [user]})
            }
            Self::Responses => json!({"model": model, "stream": stream, "instructions": mark, "input": [user]}),
        }
    }

    async fn ask(self, gateway: &Gateway, request: &Value) -> Answer {
        let key = format!("Bearer {KEY}");
        match self {
            Self::Chat => gateway.chat(request).await,
            Self::Messages => gateway.messages("/v1/messages", request).await,
            Self::Responses => gateway.ask("/v1/responses", &[("authorization", &key)], request).await,
        }
    }

    fn read(self, answer: &Answer) -> Told {
        match self {
            Self::Chat => {
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
        }
    }

    /// How an answer ends that says all.
    fn well(self) -> &'static str {
        match self {
            Self::Chat => "stop",
            Self::Messages => "end_turn",
            Self::Responses => "completed",
        }
    }

    /// Whether a body is an error of the format.
    fn is_error(self, body: &Value) -> bool {
        let error = &body["error"];
        let is_own = if self == Self::Messages { body["type"] == "error" } else { error["code"].is_string() };
        is_own && error["message"].is_string() && error["type"].is_string()
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

/// One cell of the matrix, and with nobody to stand in.
struct Cell {
    format: Format,
    dialect: SimDialect,
    fault: SimFault,
    stream: bool,
    expected: Expected,
    spare: Option<&'static str>,
}

impl Cell {
    fn all(format: Format) -> Vec<Self> {
        let mut cells = Vec::new();
        for (row, (fault, streamed, whole)) in FAULTS.into_iter().enumerate() {
            for (column, dialect) in SimDialect::ALL.into_iter().enumerate() {
                for (stream, expected) in [(true, streamed), (false, whole)] {
                    // One that is translated for the client, and one whose bytes pass, or the other way round.
                    let spare = Some(["spare-openai", "spare-anthropic"][(row + column) % 2]);
                    let cell = Self { format, dialect, fault, stream, expected, spare };
                    if expected == Fallback(2) {
                        cells.push(Self { spare: None, ..cell });
                    }
                    cells.push(cell);
                }
            }
        }
        cells
    }

    /// The provider that fails.
    fn provider(&self) -> String {
        let id = self.dialect.provider_id();
        let stream = if self.stream { "streamed" } else { "whole" };
        if wears_out(self.fault) || house(self.fault) > 0 {
            format!("{id}-{}-{stream}", self.fault.name())
        } else {
            id.to_owned()
        }
    }

    fn name(&self) -> String {
        let (fault, spare) = (self.fault.name(), self.spare.unwrap_or("nobody"));
        format!("{:?} × {} × {fault} × {} × {spare}", self.format, self.dialect.provider_id(), self.stream)
    }

    /// Plays the cell; what is wrong, if anything.
    async fn play(&self, stage: &Stage) -> Result<(), String> {
        let (provider, mark) = (self.provider(), format!("<{}>", self.name()));
        let mut request = self.format.request(&format!("{provider}/sim-{}", self.fault.name()), &mark, self.stream);
        if let Some(spare) = self.spare {
            request["extra"] = json!({"fallback_models": [format!("{spare}/sim-ok")]});
        }
        let answer = self.format.ask(&stage.gateway, &request).await;
        let calls = |sim: &Sim| sim.calls().iter().filter(|call| has(call, &mark)).count();
        let made = stage.failing[house(self.fault)].iter().filter(|sim| sim.dialect() == self.dialect).map(calls).sum();
        let spared = stage.spares.iter().map(calls).sum();
        let wrong = self.wrong(&answer, &provider, made, spared);
        wrong.map_err(|wrong| {
            format!("{}: {wrong}\n{} {:?}\n{}", self.name(), answer.status, answer.headers, answer.body_text())
        })
    }

    fn wrong(&self, answer: &Answer, provider: &str, made: usize, spared: usize) -> Result<(), String> {
        let is = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        is(answer.header("x-request-id").starts_with("req_"), "no id of the request")?;
        let calls = |wanted: (usize, usize)| {
            is((made, spared) == wanted, &format!("{made} calls, and {spared} at the spare, for {wanted:?}"))
        };
        match (self.expected, self.spare) {
            (Refused(status), _) => {
                calls((1, 0))?;
                is(answer.status == status && self.format.is_error(&answer.json()), "not that error")?;
                return is(answer.body_text().contains("not what this model takes"), "not the provider's message");
            }
            (Fallback(wanted), None) => {
                calls((wanted, 0))?;
                is(
                    answer.status >= 400 && self.format.is_error(&answer.json()),
                    "not an error of the client's format",
                )?;
                is(answer.json()["error"]["metadata"]["attempts"].is_array(), "it does not say what was tried")?;
                let comes_back = [429, 503].contains(&answer.status);
                return is(!comes_back || !answer.header("retry-after").is_empty(), "no Retry-After");
            }
            (Fallback(wanted), Some(_)) => calls((wanted, 1))?,
            (Served | Broken, _) => calls((1, 0))?,
        }
        let told = self.format.read(answer);
        let (by, attempts) = match self.expected {
            Fallback(calls) => (self.spare.unwrap_or_default(), if calls == 0 { 3 } else { calls + 1 }),
            _ => (provider, 1),
        };
        is(answer.status == 200 && answer.header("x-provider") == by, "not the one who was to answer")?;
        is(answer.header("x-orbyt-attempts") == attempts.to_string(), &format!("not {attempts} attempts"))?;
        is(
            answer.header("x-orbyt-fallback") == (by != provider).to_string(),
            "a word too much or too little of a fallback",
        )?;
        if self.expected == Broken {
            is(told.text == "one two three ", "not the beginning of the answer")?;
            is(told.error.is_some_and(|error| error["message"].is_string()), "no error")?;
            return is(!told.complete && told.finish.is_null() && !answer.is_done(), "it looks complete");
        }
        is(told.text == WORDS && told.complete && told.error.is_none(), "not the whole answer")?;
        is(told.finish == self.format.well(), "not the end of a whole answer")?;
        let is_clean = by == provider || !answer.body_text().contains(&format!("sim-{}", self.fault.name()));
        is(is_clean, "something of the answer that failed")
    }
}

fn has(call: &Call, mark: &str) -> bool {
    memchr::memmem::find(&call.body, mark.as_bytes()).is_some()
}

/// The providers that fail, by [`house`], and two that stand in.
struct Stage {
    gateway: Gateway,
    failing: [Vec<Sim>; 3],
    spares: Vec<Sim>,
}

impl Stage {
    async fn set(cells: &[Cell]) -> Self {
        let start = |dialect: &SimDialect| Sim::start(*dialect).unwrap();
        let failing = [(); 3].map(|()| SimDialect::ALL.iter().map(start).collect::<Vec<_>>());
        let spares: Vec<Sim> = [SimDialect::OpenAi, SimDialect::Anthropic].iter().map(start).collect();
        let builder = Gateway::builder().config(CONFIG).provider("spare-openai", &spares[0]);
        let mut builder = builder.provider("spare-anthropic", &spares[1]);
        let mut known = Vec::new();
        for cell in cells {
            let (id, house) = (cell.provider(), house(cell.fault));
            if !known.contains(&id) {
                let sim = failing[house].iter().find(|sim| sim.dialect() == cell.dialect).unwrap();
                if cell.fault == SimFault::Refused {
                    sim.refuse();
                }
                builder = builder.provider(&id, sim);
                known.push(id);
            }
        }
        Self { gateway: builder.start().await, failing, spares }
    }
}

async fn play(format: Format) {
    let cells = Cell::all(format);
    let stage = Stage::set(&cells).await;
    let played = futures::stream::iter(&cells).map(|cell| cell.play(&stage)).buffer_unordered(AT_ONCE);
    let wrong: Vec<String> = played.filter_map(async |result| result.err()).collect().await;
    let first: Vec<&String> = wrong.iter().take(5).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cells:\n{}",
        wrong.len(),
        cells.len(),
        first.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n\n")
    );
}

#[tokio::test]
async fn clients_of_chat_completions() {
    play(Format::Chat).await;
}

#[tokio::test]
async fn clients_of_messages() {
    play(Format::Messages).await;
}

#[tokio::test]
async fn clients_of_responses() {
    play(Format::Responses).await;
}
