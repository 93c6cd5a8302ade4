//! What providers do besides conversing and embedding: pictures, speech, transcripts, moderation, reranking.
//! Sources: OpenAI's API reference of images, audio and moderations, Cohere's of rerank, and recordings of real exchanges.
//!
//! Each answer tells what arrived: a picture's bytes are its prompt, speech is the text itself, a transcript names the file.

use super::http::Request;
use super::wire::{Complaint, Reply, SimDialect, items, object};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Picture,
    EditedPicture,
    Speech,
    Transcript,
    Translation,
    Moderation,
    Ranking,
}

/// What a path asks for; `None` for something else.
pub(super) fn asked(dialect: SimDialect, path: &str) -> Option<Work> {
    match (dialect, path.strip_prefix("/v1").unwrap_or(path)) {
        (SimDialect::OpenAi, "/images/generations") => Some(Work::Picture),
        (SimDialect::OpenAi, "/images/edits") => Some(Work::EditedPicture),
        (SimDialect::OpenAi, "/audio/speech") => Some(Work::Speech),
        (SimDialect::OpenAi, "/audio/transcriptions") => Some(Work::Transcript),
        (SimDialect::OpenAi, "/audio/translations") => Some(Work::Translation),
        (SimDialect::OpenAi, "/moderations") => Some(Work::Moderation),
        (SimDialect::OpenAi, "/rerank") | (SimDialect::Cohere, "/v2/rerank") => Some(Work::Ranking),
        _ => None,
    }
}

/// The answer.
///
/// # Errors
/// What the provider has against the request.
pub(super) fn reply(work: Work, request: &Request) -> Result<Reply, Complaint> {
    let body = fields(request)?;
    if let Some(name) = ["extra", "models", "provider", "fallbacks"].into_iter().find(|name| body.get(name).is_some()) {
        return Err(Complaint::bad(format!("Unrecognized request argument supplied: {name}")));
    }
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err(Complaint::bad("you must provide a model parameter"));
    }
    match work {
        Work::Picture => Ok(picture(&body, required(&body, "prompt")?)),
        Work::EditedPicture => {
            let seen = required(&body, "image").or_else(|_| required(&body, "images"))?;
            Ok(picture(&body, &format!("{} of {seen}", required(&body, "prompt")?)))
        }
        Work::Speech => Ok(speech(&body, required(&body, "input")?)),
        Work::Transcript | Work::Translation => Ok(transcript(work, &body, required(&body, "file")?)),
        Work::Moderation => Ok(moderation(&body)),
        Work::Ranking => ranking(&body, required(&body, "query")?),
    }
}

/// The model that a form names; `None` when it is none.
pub(super) fn model(request: &Request) -> Option<String> {
    fields(request).ok()?["model"].as_str().map(str::to_owned)
}

/// The members of a JSON body, or the parts of a form: texts, and of a file its name and size.
fn fields(request: &Request) -> Result<Value, Complaint> {
    let content_type = request.header("content-type").unwrap_or_default();
    let Some(boundary) = content_type.strip_prefix("multipart/form-data; boundary=") else {
        return object(request).ok_or_else(|| Complaint::bad("We could not parse the JSON body of your request."));
    };
    let broken = || Complaint::bad("Could not parse multipart form");
    let dashes = format!("--{}", boundary.trim_matches('"')).into_bytes();
    let mut fields = json!({});
    let mut rest = request.body.strip_prefix(&dashes[..]).ok_or_else(broken)?;
    let between = [b"\r\n", &dashes[..]].concat();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = memchr::memmem::find(part, &between).ok_or_else(broken)?;
        let head_end = memchr::memmem::find(part, b"\r\n\r\n").filter(|at| *at < end).ok_or_else(broken)?;
        let head = String::from_utf8_lossy(&part[..head_end]).into_owned();
        let value = |key: &str| Some(head.split_once(&format!("{key}=\""))?.1.split_once('"')?.0.to_owned());
        let content = &part[head_end + 4..end];
        let name = value("; name").ok_or_else(broken)?;
        fields[name.trim_end_matches("[]")] = match value("; filename") {
            Some(file) => json!(format!("{file} ({} bytes)", content.len())),
            None => json!(String::from_utf8_lossy(content)),
        };
        rest = &part[end + between.len()..];
    }
    if rest.starts_with(b"--") { Ok(fields) } else { Err(broken()) }
}

fn required<'a>(body: &'a Value, name: &str) -> Result<&'a str, Complaint> {
    let text = match &body[name] {
        Value::Array(items) => items.first().map_or(Some(""), |_| Some("several")).unwrap_or_default(),
        other => other.as_str().unwrap_or_default(),
    };
    let missing = || Complaint::bad_field(name, format!("Missing required parameter: '{name}'."));
    if text.is_empty() { Err(missing()) } else { Ok(text) }
}

fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

fn is_true(value: &Value) -> bool {
    *value == true || *value == "true"
}

fn events(list: &[Value]) -> Reply {
    let event = |one: &Value| format!("event: {}\ndata: {one}\n\n", one["type"].as_str().unwrap_or_default());
    let body: String = list.iter().map(event).collect();
    Reply {
        status: 200,
        content_type: "text/event-stream; charset=utf-8",
        headers: Vec::new(),
        body: body.into_bytes(),
    }
}

fn picture(body: &Value, shown: &str) -> Reply {
    let usage = json!({ "input_tokens": tokens(shown), "output_tokens": 272, "total_tokens": tokens(shown) + 272,
        "input_tokens_details": { "text_tokens": tokens(shown), "image_tokens": 0 } });
    let picture = STANDARD.encode(shown);
    if is_true(&body["stream"]) {
        return events(&[
            json!({ "type": "image_generation.partial_image", "b64_json": picture, "partial_image_index": 0 }),
            json!({ "type": "image_generation.completed", "b64_json": picture, "usage": usage }),
        ]);
    }
    let count = body["n"].as_u64().unwrap_or(1) as usize;
    let data = vec![json!({ "b64_json": picture }); count];
    Reply::pretty(200, &json!({ "created": 1_763_640_000, "data": data, "usage": usage }))
}

fn speech(body: &Value, text: &str) -> Reply {
    if body["stream_format"] == "sse" {
        let usage = json!({ "input_tokens": tokens(text), "output_tokens": 50, "total_tokens": tokens(text) + 50 });
        return events(&[
            json!({ "type": "speech.audio.delta", "audio": STANDARD.encode(text) }),
            json!({ "type": "speech.audio.done", "usage": usage }),
        ]);
    }
    let content_type = match body["response_format"].as_str() {
        Some("wav") => "audio/wav",
        Some("pcm") => "audio/pcm",
        _ => "audio/mpeg",
    };
    // Sound is no text, and two of its bytes never are.
    let body = [&[0xFF, 0xF3], text.as_bytes()].concat();
    Reply { status: 200, content_type, headers: Vec::new(), body }
}

fn transcript(work: Work, body: &Value, file: &str) -> Reply {
    let said = if work == Work::Translation { "English of" } else { "Text of" };
    let text = format!("{said} {file}");
    let usage = json!({ "type": "tokens", "input_tokens": 20, "output_tokens": tokens(&text), "total_tokens": 20 + tokens(&text),
        "input_token_details": { "audio_tokens": 18, "text_tokens": 2 } });
    if is_true(&body["stream"]) {
        return events(&[
            json!({ "type": "transcript.text.delta", "delta": text }),
            json!({ "type": "transcript.text.done", "text": text, "usage": usage }),
        ]);
    }
    match body["response_format"].as_str() {
        Some("text" | "srt" | "vtt") => Reply {
            status: 200,
            content_type: "text/plain; charset=utf-8",
            headers: Vec::new(),
            body: format!("{text}\n").into_bytes(),
        },
        // Of models that are paid by the second.
        Some("verbose_json") => Reply::json(
            200,
            &json!({ "task": "transcribe", "language": "english", "duration": 8.47, "text": text, "segments": [] }),
        ),
        _ => Reply::json(200, &json!({ "text": text, "usage": usage })),
    }
}

fn moderation(body: &Value) -> Reply {
    let inputs: Vec<&Value> = match &body["input"] {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    };
    let one = |input: &Value| {
        let flagged = input.to_string().contains("bad");
        json!({ "flagged": flagged, "categories": { "harassment": flagged }, "category_scores": { "harassment": 0.5 } })
    };
    let results: Vec<Value> = inputs.into_iter().map(one).collect();
    Reply::pretty(200, &json!({ "id": "modr-sim", "model": body["model"], "results": results }))
}

/// The documents that share the most words with the question come first.
fn ranking(body: &Value, query: &str) -> Result<Reply, Complaint> {
    let documents = items(&body["documents"]);
    if documents.is_empty() {
        return Err(Complaint::bad("documents must not be empty"));
    }
    let score = |document: &Value| {
        let text = document.as_str().unwrap_or_default();
        query.split_whitespace().filter(|word| text.contains(*word)).count()
    };
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(score(&documents[*at])));
    // Voyage's form is told by its own members.
    let of_voyage = body.get("top_k").is_some() || body.get("truncation").is_some();
    let most = body[if of_voyage { "top_k" } else { "top_n" }].as_u64().map_or(usize::MAX, |most| most as usize);
    let results: Vec<Value> = order
        .into_iter()
        .take(most)
        .map(|at| {
            let mut rank = json!({ "index": at, "relevance_score": score(&documents[at]) as f64 / 10.0 });
            if body["return_documents"] == true {
                let document = &documents[at];
                rank["document"] = if of_voyage { document.clone() } else { json!({ "text": document }) };
            }
            rank
        })
        .collect();
    let read = documents.iter().map(|one| tokens(&one.to_string())).sum::<usize>();
    let usage = json!({ "total_tokens": read });
    if of_voyage {
        return Ok(Reply::json(
            200,
            &json!({ "object": "list", "data": results, "model": body["model"], "usage": usage }),
        ));
    }
    Ok(Reply::json(200, &json!({ "id": "sim", "model": body["model"], "results": results, "usage": usage })))
}
