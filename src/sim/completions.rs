//! OpenAI's text completions (legacy), and those that fill in the middle: Mistral's, which answer in the form of chats, and DeepSeek's.
//! Source: the API references of `POST /completions`, `/fim/completions` and `/beta/completions`, and recordings of real exchanges.
//!
//! Of several prompts the first is repeated, once for each of their choices. A prompt of tokens is repeated as their numbers.

use super::answer::{Answer, Question};
use super::http::Request;
use super::openai::{finish_reason, usage};
use super::wire::{Complaint, Frame, Part, Reply, items, object};
use serde_json::{Value, json};

/// Where they are, without `/v1`.
pub(super) const PATHS: [&str; 3] = ["/completions", FIM, "/beta/completions"];
/// The path of Mistral's.
const FIM: &str = "/fim/completions";

const CREATED: u64 = 1_763_640_000;

pub(super) fn read(request: &Request) -> Result<Question, Complaint> {
    let Some(body) = object(request) else {
        return Err(Complaint::bad("We could not parse the JSON body of your request."));
    };
    let Some(model) = body["model"].as_str().filter(|model| !model.is_empty()) else {
        return Err(Complaint::bad("you must provide a model parameter"));
    };
    let foreign = ["extra", "models", "provider", "fallbacks", "messages", "max_completion_tokens", "tools"];
    if let Some(name) = foreign.into_iter().find(|name| body.get(name).is_some()) {
        return Err(Complaint::bad_field(name, format!("Unrecognized request argument supplied: {name}")));
    }
    let stream = body["stream"] == true;
    if !stream && !body["stream_options"].is_null() {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Complaint::bad_field("stream_options", message));
    }
    let (text, prompts) = prompt(&body["prompt"])?;
    let choices = body["n"].as_u64().unwrap_or(1) as usize;
    if body["best_of"].as_u64().is_some_and(|count| (count as usize) < choices) {
        return Err(Complaint::bad_field(
            "best_of",
            "You requested that the server return more choices than it will generate.",
        ));
    }
    let fills_in = request.path.ends_with(FIM);
    Ok(Question {
        model: model.to_owned(),
        texts: !fills_in,
        stream,
        include_usage: fills_in || body["stream_options"]["include_usage"] == true,
        last_text: if body["echo"] == true { format!("{text} {text}") } else { text },
        max_tokens: body["max_tokens"].as_u64().map(|max| max as usize),
        stop: match &body["stop"] {
            Value::String(stop) => vec![stop.clone()],
            stops => items(stops).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        },
        choices: choices * prompts,
        prompt_bytes: request.body.len(),
        ..Question::default()
    })
}

/// The text of the first prompt, and how many there are.
fn prompt(prompt: &Value) -> Result<(String, usize), Complaint> {
    let tokens = |list: &[Value]| list.iter().map(Value::to_string).collect::<Vec<_>>().join(" ");
    match (prompt, items(prompt)) {
        (Value::String(text), _) => Ok((text.clone(), 1)),
        (_, list @ [Value::String(first), ..]) => Ok((first.clone(), list.len())),
        (_, list @ [Value::Array(first), ..]) => Ok((tokens(first), list.len())),
        (_, list @ [Value::Number(_), ..]) => Ok((tokens(list), 1)),
        _ => Err(Complaint::bad_field("prompt", "'$.prompt' is invalid.")),
    }
}

fn completion(answer: &Answer, choices: Vec<Value>) -> Value {
    json!({
        "id": format!("cmpl-sim{}", answer.number), "object": "text_completion", "created": CREATED,
        "model": answer.model, "choices": choices
    })
}

fn choice(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({ "text": text, "index": index, "logprobs": null, "finish_reason": finish })
}

pub(super) fn unary(answer: &Answer) -> Reply {
    let choices = answer.choices.iter().enumerate();
    let choices = choices.map(|(index, one)| choice(index, &one.text.concat(), Some(finish_reason(&one.finish))));
    let mut whole = completion(answer, choices.collect());
    whole["usage"] = usage(answer);
    Reply::pretty(200, &whole)
}

pub(super) fn hollow(answer: &Answer) -> Reply {
    Reply::pretty(200, &completion(answer, vec![choice(0, "", None)]))
}

pub(super) fn frames(answer: &Answer, include_usage: bool) -> Vec<Frame> {
    let chunk = |part: Part, choices: Vec<Value>, usage: Option<Value>| {
        let mut chunk = completion(answer, choices);
        if include_usage {
            chunk["usage"] = usage.unwrap_or_default();
        }
        Frame { part, event: None, data: chunk.to_string() }
    };
    let mut frames = vec![chunk(Part::Prelude, vec![choice(0, "", None)], None)];
    for (index, one) in answer.choices.iter().enumerate() {
        frames.extend(one.text.iter().map(|piece| chunk(Part::Output, vec![choice(index, piece, None)], None)));
    }
    for (index, one) in answer.choices.iter().enumerate() {
        frames.push(chunk(Part::Finish, vec![choice(index, "", Some(finish_reason(&one.finish)))], None));
    }
    if include_usage {
        frames.push(chunk(Part::Finish, Vec::new(), Some(usage(answer))));
    }
    frames.push(Frame { part: Part::Terminator, event: None, data: "[DONE]".to_owned() });
    frames
}
