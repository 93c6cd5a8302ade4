//! What a simulated model says: computed from the question alone, so that a test can tell whether everything arrived.
//!
//! It repeats the last text of the user, says what media it saw and what tools answered, calls the first tool that it is
//! offered (or every tool that the text names, each one twice when the text says "twice") as long as no result is there (and
//! after that the tools of which a result says `next: NAME`, as an agent goes on), and fills in a JSON schema when one is asked for. A token is a word.

use super::schema;
use serde_json::{Value, json};

/// A request, whatever its dialect.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub model: String,
    /// OpenAI: asked for as a response, not as a chat completion.
    pub responses: bool,
    /// OpenAI: asked for as a text completion, and answered as one.
    pub texts: bool,
    pub stream: bool,
    /// OpenAI: the response is made in the background.
    pub background: bool,
    /// OpenAI: the client wants a usage chunk. The others always send usage.
    pub include_usage: bool,
    /// Gemini without `alt=sse`: the stream is one JSON array.
    pub as_array: bool,
    pub last_text: String,
    /// Descriptions of the images, files and sounds in the last turn.
    pub seen: Vec<String>,
    /// Tool name (or call id) and result of a turn that answers calls.
    pub tool_results: Vec<(String, String)>,
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    pub one_call_only: bool,
    pub form: Form,
    pub reasoning: bool,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
    pub choices: usize,
    pub prompt_bytes: usize,
    /// The request marks parts for the prompt cache.
    pub caches: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub name: String,
    pub schema: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ToolChoice {
    #[default]
    Auto,
    None,
    Any,
    Named(String),
}

/// The form that the text must have.
#[derive(Clone, Debug, Default)]
pub(super) enum Form {
    #[default]
    Text,
    Json,
    Schema(Value),
}

/// An answer, whatever its dialect.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Unique within the simulator; each dialect puts its own prefix before it.
    pub number: u64,
    /// [`Question::responses`].
    pub responses: bool,
    /// [`Question::texts`].
    pub texts: bool,
    /// [`Question::background`].
    pub background: bool,
    pub model: String,
    pub reasoning: Vec<String>,
    pub choices: Vec<Choice>,
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub cache_write_tokens: usize,
    /// Without reasoning.
    pub visible_tokens: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// In pieces as they are streamed; together they are the whole text.
    pub text: Vec<String>,
    pub calls: Vec<Call>,
    pub finish: Finish,
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Without the dialect's prefix.
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    StopSequence(String),
    Length,
    ToolCalls,
}

/// The answer to a question. `number` makes its ids.
pub(super) fn answer(question: &Question, number: u64) -> Answer {
    let calls = calls(question, number);
    let choices: Vec<Choice> = (0..question.choices.max(1))
        .map(|index| {
            if !calls.is_empty() {
                return Choice { text: Vec::new(), calls: calls.clone(), finish: Finish::ToolCalls };
            }
            let mut text = text(question);
            if index > 0 && matches!(question.form, Form::Text) {
                text.push_str(&format!(" (choice {index})"));
            }
            let (text, finish) = limit(text, question);
            Choice { text, calls: Vec::new(), finish }
        })
        .collect();
    let visible_tokens = choices.iter().map(|choice| choice.text.len() + 7 * choice.calls.len()).sum();
    let reasoning = if question.reasoning {
        pieces(&format!("The user says {} words. I repeat them.", question.last_text.split_whitespace().count()))
    } else {
        Vec::new()
    };
    let prompt_tokens = 8 + question.prompt_bytes / 4;
    let (cached_tokens, cache_write_tokens) = if question.caches { (5, 2) } else { (0, 0) };
    Answer {
        number,
        responses: question.responses,
        texts: question.texts,
        background: question.background,
        model: question.model.clone(),
        reasoning,
        choices,
        prompt_tokens,
        cached_tokens,
        cache_write_tokens,
        visible_tokens,
    }
}

fn calls(question: &Question, number: u64) -> Vec<Call> {
    let goes_on = |tool: &&Tool| {
        let asked = format!("next: {}", tool.name);
        question.tool_results.iter().any(|(_, text)| text.contains(&asked))
    };
    if question.tools.is_empty()
        || (!question.tool_results.is_empty() && !question.tools.iter().any(|tool| goes_on(&tool)))
    {
        return Vec::new();
    }
    let mut chosen: Vec<&Tool> = match &question.tool_choice {
        ToolChoice::None => return Vec::new(),
        ToolChoice::Named(name) => question.tools.iter().filter(|tool| tool.name == *name).collect(),
        ToolChoice::Auto | ToolChoice::Any => {
            let is_named = |tool: &&Tool| match question.tool_results.is_empty() {
                true => question.last_text.contains(&tool.name),
                false => goes_on(tool),
            };
            let named: Vec<_> = question.tools.iter().filter(is_named).collect();
            if named.is_empty() { question.tools.iter().take(1).collect() } else { named }
        }
    };
    if question.last_text.contains("twice") {
        chosen = chosen.iter().flat_map(|tool| [*tool, *tool]).collect();
    }
    if question.one_call_only {
        chosen.truncate(1);
    }
    let call = |(index, tool): (usize, &Tool)| Call {
        id: format!("sim{number}x{index}"),
        name: tool.name.clone(),
        arguments: schema::example(&tool.schema),
    };
    chosen.into_iter().enumerate().map(call).collect()
}

fn text(question: &Question) -> String {
    match &question.form {
        Form::Json => return json!({ "answer": question.last_text }).to_string(),
        Form::Schema(schema) => return schema::example(schema).to_string(),
        Form::Text => {}
    }
    if !question.tool_results.is_empty() {
        let results: Vec<_> = question.tool_results.iter().map(|(name, text)| format!("{name} said: {text}")).collect();
        return results.join("; ");
    }
    let mut lines = Vec::new();
    if !question.last_text.is_empty() {
        lines.push(question.last_text.clone());
    }
    lines.extend(question.seen.iter().map(|seen| format!("I see {seen}.")));
    if lines.is_empty() { "Nothing was said.".to_owned() } else { lines.join("\n") }
}

/// Applies stop sequences and the token limit.
fn limit(mut text: String, question: &Question) -> (Vec<String>, Finish) {
    let mut finish = Finish::Stop;
    let first_stop =
        question.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
    if let Some((at, stop)) = first_stop.min_by_key(|(at, _)| *at) {
        finish = Finish::StopSequence(stop.clone());
        text.truncate(at);
    }
    let mut pieces = pieces(&text);
    if let Some(max) = question.max_tokens
        && pieces.len() > max.max(1)
    {
        pieces.truncate(max.max(1));
        finish = Finish::Length;
    }
    (pieces, finish)
}

/// Cuts a text after its words: at least two pieces where there are two characters, and no more than some hundreds.
fn pieces(text: &str) -> Vec<String> {
    const MOST: usize = 400;
    let words: Vec<&str> = text.split_inclusive(char::is_whitespace).collect();
    if let [word] = words.as_slice() {
        let middle = word.char_indices().nth(word.chars().count() / 2).map_or(0, |(at, _)| at);
        let (first, second) = word.split_at(middle);
        return [first, second].into_iter().filter(|part| !part.is_empty()).map(str::to_owned).collect();
    }
    let words_a_piece = words.len().div_ceil(MOST).max(1);
    words.chunks(words_a_piece).map(<[&str]>::concat).collect()
}

/// How a medium that came as base64 is described: its type and its size in bytes.
pub(super) fn describe_base64(media_type: &str, data: &str) -> String {
    let digits = data.trim_end_matches('=').len();
    format!("{media_type}, {} bytes", digits * 3 / 4)
}

/// How a medium is described that came as a URL, a `data:` one included.
pub(super) fn describe_url(url: &str) -> String {
    match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((media_type, data)) => describe_base64(media_type, data),
        None => url.to_owned(),
    }
}

/// A number that depends on every byte of a text (FNV-1a): what simulated signatures are made of. It is valid base64, which Google's
/// clients demand.
pub(super) fn fingerprint(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("c2ltOnNpZ25hdHVyZTox{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(question: &Question) -> String {
        answer(question, 1).choices[0].text.concat()
    }

    #[test]
    fn repeats_what_it_was_told_within_the_limits() {
        let mut question = Question { last_text: "one two  three\nfour".to_owned(), ..Question::default() };
        assert_eq!(said(&question), "one two  three\nfour");
        question.max_tokens = Some(2);
        assert_eq!(said(&question), "one two ");
        assert_eq!(answer(&question, 1).choices[0].finish, Finish::Length);
        question.max_tokens = None;
        question.stop = vec!["four".to_owned(), "three".to_owned()];
        assert_eq!(said(&question), "one two  ");
        assert_eq!(answer(&question, 1).choices[0].finish, Finish::StopSequence("three".to_owned()));
    }

    #[test]
    fn calls_the_tools_that_are_named_until_there_is_a_result() {
        let tool = |name: &str| Tool { name: name.to_owned(), schema: json!({}) };
        let mut question = Question { tools: vec![tool("alpha"), tool("beta")], ..Question::default() };
        let names = |question: &Question| {
            answer(question, 1).choices[0].calls.iter().map(|call| call.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&question), ["alpha"]);
        question.last_text = "beta and alpha, twice".to_owned();
        assert_eq!(names(&question), ["alpha", "alpha", "beta", "beta"]);
        question.one_call_only = true;
        assert_eq!(names(&question), ["alpha"]);
        question.tool_choice = ToolChoice::Named("beta".to_owned());
        assert_eq!(names(&question), ["beta"]);
        question.tool_results = vec![("beta".to_owned(), "42".to_owned())];
        assert_eq!(said(&question), "beta said: 42");
        (question.tool_choice, question.last_text) = (ToolChoice::Auto, "alpha".to_owned());
        question.tool_results = vec![("alpha".to_owned(), "42, next: beta".to_owned())];
        assert_eq!(names(&question), ["beta"]);
    }

    #[test]
    fn pieces_are_never_empty_and_always_the_whole_text() {
        for text in ["a", "ab", "äöü", "a b", " ", &"word ".repeat(5_000)] {
            let pieces = pieces(text);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| !piece.is_empty()) && pieces.len() <= 400, "{text:.9}");
        }
        assert_eq!(pieces("hello").len(), 2);
    }
}
