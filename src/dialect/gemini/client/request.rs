//! A request of `generateContent` read into the hub, for providers that speak another format.
//!
//! What only Google can do is refused where the answer depends on it (tools that it runs itself, contents that it has cached), and
//! otherwise kept in [`Request::rest`] under the client's own name, so that the renderer reports it as dropped.
//!
//! Source: `GenerateContentRequest` in Google's API reference, and the types of its clients.

use super::{content, schema, tools};
use crate::dialect::chat::{Reasoning, Request, ResponseFormat};
use crate::dialect::extensions;
use crate::dialect::openai_chat::fields::{Fields, Path};
use crate::domain::{Fault, FaultKind};
use serde_json::{Map, Value};

/// Members of `generationConfig` that change what is answered so much that no other answer will do.
const MODES: [&str; 1] = ["speechConfig"];

/// Reads a request, completed by [`super::call`].
///
/// # Errors
/// `BadRequest` that names the field with the wrong type or value, or that no other provider can honour.
pub fn parse(body: &[u8]) -> Result<Request, Fault> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|broken| Fault::new(FaultKind::BadRequest, format!("the body is not JSON: {broken}")))?;
    if !value.is_object() {
        return Err(Fault::new(FaultKind::BadRequest, "the body must be a JSON object"));
    }
    let root = Path::top("");
    let mut fields = named(value, &root)?;
    let mut lost = Lost::default();
    if fields.any("cachedContent").is_some() {
        let message = "cachedContent is kept by Google: this provider cannot read it";
        return Err(Path::top("cachedContent").fault(message));
    }
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let messages = content::messages(&mut fields, &mut lost)?;
    let tool_choice = tools::choice(&mut fields, &mut lost)?;
    let mut request = Request {
        messages,
        tools: tools::tools(&mut fields, &mut lost)?,
        tool_choice,
        stream,
        include_usage: stream,
        ..Request::default()
    };
    let path = Path::top("generationConfig");
    if let Some(config) = fields.any("generationConfig") {
        generation_config(&mut named(config, &path)?, &mut request, &mut lost)?;
    }
    if request.tools.is_empty() {
        request.tool_choice = None;
    }
    fields.rest.retain(|name, value| {
        let is_ours = matches!(name.as_str(), "model" | "alt");
        !is_ours && !extensions::MEMBERS.contains(&name.as_str()) && !value.is_null()
    });
    request.rest.extend(fields.rest);
    request.rest.extend(lost.0);
    Ok(request)
}

/// The members of an object under the names of the reference, whichever of the two spellings they have.
///
/// # Errors
/// When it is no object.
pub(super) fn named<'p>(value: Value, path: &'p Path<'p>) -> Result<Fields<'p>, Fault> {
    let mut fields = Fields::of(value, path)?;
    if fields.rest.keys().any(|name| name.contains('_')) {
        let members = std::mem::take(&mut fields.rest);
        fields.rest = members.into_iter().map(|(name, value)| (camel(&name), value)).collect();
    }
    Ok(fields)
}

fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.trim_start_matches('_').chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                out.extend(letter.to_uppercase());
                upper = false;
            }
            letter => out.push(letter),
        }
    }
    out
}

/// The items of a list; one object stands for a list of itself, as Google takes it.
pub(super) fn list(fields: &mut Fields<'_>, name: &str) -> Result<Vec<Value>, Fault> {
    match fields.any(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(item @ Value::Object(_)) => Ok(vec![item]),
        Some(_) => Err(fields.path.member(name).must_be("a list")),
    }
}

/// Parts of the request that the hub has no word for, by the client's name for them.
#[derive(Default)]
pub(super) struct Lost(Map<String, Value>);

impl Lost {
    pub fn note(&mut self, name: &str) {
        self.0.entry(name).or_insert(Value::Bool(true));
    }
}

fn generation_config(config: &mut Fields<'_>, request: &mut Request, lost: &mut Lost) -> Result<(), Fault> {
    request.temperature = config.number("temperature")?;
    request.top_p = config.number("topP")?;
    // A whole number that the reference declares as one with a fraction.
    request.top_k = whole(config, "topK")?;
    request.max_tokens = whole(config, "maxOutputTokens")?;
    request.stop = config.texts("stopSequences")?;
    request.n = whole(config, "candidateCount")?;
    request.seed = config.integer("seed")?;
    request.presence_penalty = config.number("presencePenalty")?;
    request.frequency_penalty = config.number("frequencyPenalty")?;
    request.logprobs = config.boolean("responseLogprobs")?;
    request.top_logprobs = whole(config, "logprobs")?.filter(|_| request.logprobs == Some(true));
    let modalities = config.texts("responseModalities")?;
    request.modalities = modalities.iter().map(|modality| modality.to_ascii_lowercase()).collect();
    if request.modalities == ["text"] {
        request.modalities.clear();
    }
    request.response_format = format(config)?;
    request.reasoning = reasoning(config)?;
    for name in MODES {
        if config.any(name).is_some() {
            let path = config.path.member(name);
            return Err(path.fault(format!("{path} asks for what only Google's models answer")));
        }
    }
    for (name, value) in &config.rest {
        if !matches!(value, Value::Null | Value::Bool(false)) {
            lost.note(&format!("generationConfig.{name}"));
        }
    }
    Ok(())
}

/// A whole number that may be written with a fraction of zero, or as a text.
fn whole(fields: &mut Fields<'_>, name: &str) -> Result<Option<u64>, Fault> {
    let number = match fields.rest.get(name) {
        Some(Value::Number(number)) => number.as_u64().or_else(|| {
            let number = number.as_f64().filter(|number| number.fract() == 0.0 && (0.0..1e15).contains(number))?;
            Some(number as u64)
        }),
        Some(Value::String(digits)) => digits.parse().ok(),
        _ => None,
    };
    if let Some(number) = number {
        fields.rest.insert(name.to_owned(), number.into());
    }
    fields.count(name)
}

/// `responseMimeType` with one of the schemas beside it.
fn format(config: &mut Fields<'_>) -> Result<Option<ResponseFormat>, Fault> {
    let mime_type = config.text("responseMimeType")?;
    let plain = config.any("responseJsonSchema");
    let subset = config.any("responseSchema");
    if subset.as_ref().or(plain.as_ref()).is_some_and(|schema| !schema.is_object()) {
        return Err(config.path.member("responseSchema").must_be("a schema"));
    }
    let schema = plain.or_else(|| subset.map(schema::to_json_schema));
    Ok(match (mime_type.as_deref(), schema) {
        (None | Some("" | "text/plain"), None) => None,
        (Some("application/json"), None) => Some(ResponseFormat::JsonObject),
        (None | Some("" | "application/json"), Some(schema)) => Some(ResponseFormat::JsonSchema {
            name: "response".to_owned(),
            description: None,
            schema: Some(schema),
            strict: None,
        }),
        (Some(other), _) => {
            let path = config.path.member("responseMimeType");
            return Err(path.fault(format!("{path} is {other:?}: this provider gives text and JSON only")));
        }
    })
}

/// `thinkingConfig`. Thoughts are shown only where they are asked for.
fn reasoning(config: &mut Fields<'_>) -> Result<Option<Reasoning>, Fault> {
    let path = config.path.member("thinkingConfig");
    let Some(value) = config.any("thinkingConfig") else { return Ok(None) };
    let mut thinking = named(value, &path)?;
    let shown = thinking.boolean("includeThoughts")?.unwrap_or(false);
    let budget = thinking.integer("thinkingBudget")?;
    let level = thinking.text("thinkingLevel")?.map(|level| level.to_ascii_lowercase());
    let level = level.filter(|level| level != "thinking_level_unspecified");
    let exclude = !shown;
    Ok(match (budget, level) {
        (Some(0), _) => {
            Some(Reasoning { effort: Some("none".to_owned()), enabled: Some(false), ..Reasoning::default() })
        }
        (Some(tokens), _) if tokens > 0 => {
            Some(Reasoning { max_tokens: u64::try_from(tokens).ok(), exclude, ..Reasoning::default() })
        }
        (Some(-1), _) => Some(Reasoning { enabled: Some(true), exclude, ..Reasoning::default() }),
        (Some(_), _) => return Err(path.member("thinkingBudget").must_be("a number of tokens, 0 or -1")),
        (None, effort @ Some(_)) => Some(Reasoning { effort, exclude, ..Reasoning::default() }),
        (None, None) if shown => Some(Reasoning { enabled: Some(true), ..Reasoning::default() }),
        (None, None) => None,
    })
}
