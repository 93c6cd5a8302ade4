//! The fault matrix: every client's format × every provider's × every fault × streamed and not.
//!
//! Before the commit the client gets the fallback's answer and nothing else; after it an error in its own format, never a clean end. The
//! calls that arrive at each provider are counted, because a retry too many costs money and one too few an answer. All cells of a client
//! run at once over one gateway: a word in each request tells its calls from the others'.

mod format;

use crate::gateway::Gateway;
use format::Format;
use futures::StreamExt;
use orbyt::sim::client::Answer;
use orbyt::sim::{Call, Sim, SimDialect, SimFault};

/// How many requests are under way at once.
const AT_ONCE: usize = 24;
/// One retry, no breaker: each cell of the matrix stands for itself. The clocks are long, for a busy machine.
const CONFIG: &str = r#"
[timeouts]
connect = "20s"
first_output = "30s"
idle = "30s"
total = "90s"

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

/// Whether a provider falls silent; then it has short clocks. Those who wait for them wait together.
fn is_silent(fault: SimFault) -> bool {
    matches!(fault, SimFault::Timeout | SimFault::Stall | SimFault::StallAfterTokens)
}

const SHORT_CLOCKS: &str = "timeouts = { first_output = \"3s\", idle = \"3s\" }\n";

/// Which of the simulated providers of a format plays a fault. One that resets a connection which has served before would get a try more.
fn house(fault: SimFault) -> usize {
    match fault {
        SimFault::Refused => 1,
        SimFault::ResetBeforeHead => 2,
        _ => 0,
    }
}

/// How often a cell is played again whose fault came too early.
const ROUNDS: usize = 5;

/// What the providers saw of a question.
#[derive(Clone, Copy)]
struct Seen<'a> {
    /// The provider that fails.
    provider: &'a str,
    mark: &'a str,
    /// Calls that it had.
    made: usize,
    /// Calls that the others had.
    spared: usize,
}

/// One cell of the matrix, and with nobody to stand in.
struct Cell {
    format: Format,
    /// The provider that fails, by its usual name.
    id: &'static str,
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
            for (column, (id, dialect)) in format.providers().into_iter().enumerate() {
                for (stream, expected) in [(true, streamed), (false, whole)] {
                    let spare = Some(format.spares()[(row + column) % 2].0);
                    let cell = Self { format, id, dialect, fault, stream, expected, spare };
                    if !cell.can_be() {
                        continue;
                    }
                    if expected == Fallback(2) {
                        cells.push(Self { spare: None, ..cell });
                    }
                    cells.push(cell);
                }
            }
        }
        cells
    }

    /// There are no arrays that are not streams, and whoever asks Mistral under another name asks another provider.
    fn can_be(&self) -> bool {
        (self.stream || self.format != Format::GeminiArray) && (self.id != "mistral" || !self.has_own_provider())
    }

    fn has_own_provider(&self) -> bool {
        wears_out(self.fault) || is_silent(self.fault) || house(self.fault) > 0
    }

    /// The provider that fails, by the name that it has in this cell.
    fn provider(&self) -> String {
        let id = self.id;
        let stream = if self.stream { "streamed" } else { "whole" };
        if self.has_own_provider() { format!("{id}-{}-{stream}", self.fault.name()) } else { id.to_owned() }
    }

    fn name(&self) -> String {
        let (fault, spare) = (self.fault.name(), self.spare.unwrap_or("nobody"));
        format!("{:?} × {} × {fault} × {} × {spare}", self.format, self.id, self.stream)
    }

    /// The word by which its calls are told from the others'.
    fn mark(&self, round: usize) -> String {
        format!("<{}#{round}>", self.name().replace(' ', ""))
    }

    /// Plays the cell; what is wrong, if anything.
    async fn play(&self, stage: &Stage) -> Result<(), String> {
        for round in 0.. {
            let (provider, mark) = (self.provider(), self.mark(round));
            let model = format!("{provider}/sim-{}", self.fault.name());
            let fallback = self.spare.map(|spare| format!("{spare}/sim-ok"));
            let answer = self.format.ask(&stage.gateway, &model, &mark, self.stream, fallback.as_deref()).await;
            let calls = |sim: &Sim| sim.calls().iter().filter(|call| has(call, &mark)).count();
            let of_dialect = stage.failing[house(self.fault)].iter().filter(|sim| sim.dialect() == self.dialect);
            let made = of_dialect.map(calls).sum();
            // On a busy machine the gateway may read the first words and the fault behind them at once, and then the answer never
            // began: another question is asked.
            if self.expected == Broken && made > 1 && round < ROUNDS {
                continue;
            }
            let spared = stage.spares.iter().map(calls).sum();
            let seen = Seen { provider: &provider, mark: &mark, made, spared };
            return self.wrong(&answer, &seen).map_err(|wrong| {
                format!("{}: {wrong}\n{} {:?}\n{}", self.name(), answer.status, answer.headers, answer.body_text())
            });
        }
        Ok(())
    }

    fn wrong(&self, answer: &Answer, seen: &Seen<'_>) -> Result<(), String> {
        let Seen { provider, mark, made, spared } = *seen;
        let is = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        is(answer.header("x-request-id").starts_with("req_"), "no id of the request")?;
        let calls = |wanted: (usize, usize)| {
            is((made, spared) == wanted, &format!("{made} calls, and {spared} at the spare, for {wanted:?}"))
        };
        match (self.expected, self.spare) {
            (Refused(status), _) => {
                calls((1, 0))?;
                is(answer.status == status && self.format.is_error(answer), "not that error")?;
                return is(answer.body_text().contains("not what this model takes"), "not the provider's message");
            }
            (Fallback(wanted), None) => {
                calls((wanted, 0))?;
                is(answer.status >= 400 && self.format.is_error(answer), "not an error of the client's format")?;
                is(self.format.tells_attempts(&answer.json()), "it does not say what was tried")?;
                let comes_back = [429, 503].contains(&answer.status);
                return is(!comes_back || !answer.header("retry-after").is_empty(), "no Retry-After");
            }
            (Fallback(wanted), Some(_)) => calls((wanted, 1))?,
            (Served | Broken, _) => calls((1, 0))?,
        }
        let (told, words) = (self.format.read(answer), self.format.words(mark));
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
            let beginning = words.split_inclusive(' ').take(3).collect::<String>();
            is(told.text == beginning, "not the beginning of the answer")?;
            is(told.error.is_some_and(|error| error["message"].is_string()), "no error")?;
            return is(!told.complete && told.finish.is_null() && !answer.is_done(), "it looks complete");
        }
        is(told.text == words && told.complete && told.error.is_none(), "not the whole answer")?;
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
    spares: [Sim; 2],
}

impl Stage {
    async fn set(format: Format, cells: &[Cell]) -> Self {
        let start = |dialect: &SimDialect| Sim::start(*dialect).unwrap();
        let failing = [(); 3].map(|()| SimDialect::ALL.iter().map(start).collect::<Vec<_>>());
        let spares = format.spares().map(|(id, dialect)| (id, start(&dialect)));
        let builder = Gateway::builder().config(CONFIG);
        let mut builder = spares.iter().fold(builder, |builder, (id, sim)| builder.provider(id, sim));
        let mut known = Vec::new();
        for cell in cells {
            let (id, house) = (cell.provider(), house(cell.fault));
            if !known.contains(&id) {
                let sim = failing[house].iter().find(|sim| sim.dialect() == cell.dialect).unwrap();
                if cell.fault == SimFault::Refused {
                    sim.refuse();
                }
                // What the catalog says of a provider it says of nobody else.
                let is_other = cell.id == "together" && cell.has_own_provider();
                let quirks = if is_other { "quirks = [\"completions\"]\n" } else { "" };
                let clocks = if is_silent(cell.fault) { SHORT_CLOCKS } else { "" };
                builder = builder.provider_that(&id, sim, &[quirks, clocks].concat());
                known.push(id);
            }
        }
        Self { gateway: builder.start().await, failing, spares: spares.map(|(_, sim)| sim) }
    }
}

async fn play(format: Format) {
    let cells = Cell::all(format);
    let stage = Stage::set(format, &cells).await;
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

#[tokio::test]
async fn clients_of_completions() {
    play(Format::Completions).await;
}

#[tokio::test]
async fn clients_of_gemini() {
    play(Format::Gemini).await;
}

#[tokio::test]
async fn clients_of_gemini_that_want_an_array() {
    play(Format::GeminiArray).await;
}
