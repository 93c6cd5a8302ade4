//! Embeddings as each provider serves them: the toy vectors of [`super::embedding`] in its own words.
//! Sources: the API references of OpenAI, Google, Cohere, Ollama and Amazon Bedrock, and recordings of real exchanges.

use super::embedding::{DIMENSIONS, embed};
use super::http::Request;
use super::wire::{Complaint, Reply, SimDialect, items, object};
use super::{bedrock, gemini};
use base64::Engine;
use serde_json::{Value, json};

/// How many texts Cohere and Google take at once.
const MOST: [(SimDialect, usize); 2] = [(SimDialect::Cohere, 96), (SimDialect::Gemini, 100)];

/// Whether a path asks for embeddings.
pub(super) fn is_asked(dialect: SimDialect, path: &str) -> bool {
    match dialect {
        SimDialect::OpenAi => path.strip_prefix("/v1").unwrap_or(path) == "/embeddings",
        SimDialect::Anthropic => false,
        SimDialect::Gemini => {
            matches!(gemini::model_and_method(path), Some((_, "embedContent" | "batchEmbedContents" | "predict")))
        }
        SimDialect::Cohere => path == "/v2/embed",
        SimDialect::Ollama => path == "/api/embed",
        SimDialect::Bedrock => matches!(bedrock::model_and_operation(path), Some((_, "invoke"))),
    }
}

/// The answer.
///
/// # Errors
/// What the provider has against the request.
pub(super) fn reply(dialect: SimDialect, request: &Request) -> Result<Reply, Complaint> {
    let body = object(request).ok_or_else(|| Complaint::bad("We could not parse the JSON body of your request."))?;
    match dialect {
        SimDialect::OpenAi => openai(&body),
        SimDialect::Gemini => google(request, &body),
        SimDialect::Cohere => cohere(&body),
        SimDialect::Ollama => ollama(&body),
        SimDialect::Bedrock => amazon(request, &body),
        SimDialect::Anthropic => Err(Complaint::NoSuchPath { path: request.path.clone() }),
    }
}

/// A vector of so many numbers, all by default.
fn vector(text: &str, dimensions: &Value) -> Vec<f32> {
    let count = dimensions.as_u64().map_or(DIMENSIONS, |count| (count as usize).min(DIMENSIONS));
    embed(text)[..count].to_vec()
}

/// A token is four bytes.
fn tokens<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    texts.into_iter().map(|text| text.len().div_ceil(4)).sum()
}

/// The texts of a list, none of them empty.
fn texts<'a>(
    dialect: SimDialect,
    list: &'a [Value],
    text: impl Fn(&'a Value) -> &'a Value,
) -> Result<Vec<&'a str>, Complaint> {
    let texts: Vec<&str> = list.iter().filter_map(|item| text(item).as_str()).collect();
    if texts.len() != list.len() || texts.is_empty() || texts.iter().any(|text| text.is_empty()) {
        return Err(Complaint::bad_field("input", "every input must be a text that is not empty"));
    }
    let most = MOST.iter().find(|(limited, _)| *limited == dialect).map_or(usize::MAX, |(_, most)| *most);
    if texts.len() > most {
        return Err(Complaint::bad(format!("at most {most} texts are taken at once")));
    }
    Ok(texts)
}

fn openai(body: &Value) -> Result<Reply, Complaint> {
    let model = body["model"].as_str().filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Complaint::bad("you must provide a model parameter"))?;
    if let Some(name) = ["extra", "models", "provider", "fallbacks"].into_iter().find(|name| body.get(name).is_some()) {
        return Err(Complaint::bad(format!("Unrecognized request argument supplied: {name}")));
    }
    let packed = match body["encoding_format"].as_str() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Complaint::bad_field("encoding_format", "must be 'float' or 'base64'")),
    };
    // Tokens are told apart from texts by being numbers.
    let told = |list: &[Value]| list.iter().map(Value::to_string).collect::<Vec<_>>().join(" ");
    let inputs: Vec<String> = match &body["input"] {
        Value::String(text) if !text.is_empty() => vec![text.clone()],
        Value::Array(list) if list.first().is_some_and(Value::is_number) => vec![told(list)],
        Value::Array(list) if list.iter().all(Value::is_array) && !list.is_empty() => {
            list.iter().map(|one| told(items(one))).collect()
        }
        list => texts(SimDialect::OpenAi, items(list), |item| item)?.into_iter().map(str::to_owned).collect(),
    };
    let one = |(index, text): (usize, &String)| {
        let numbers = vector(text, &body["dimensions"]);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let embedding =
            if packed { json!(base64::engine::general_purpose::STANDARD.encode(bytes)) } else { json!(numbers) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(one).collect();
    let tokens = tokens(inputs.iter().map(String::as_str));
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(Reply::pretty(200, &json!({ "object": "list", "data": data, "model": model, "usage": usage })))
}

fn google(request: &Request, body: &Value) -> Result<Reply, Complaint> {
    let (model, method) = gemini::model_and_method(&request.path).unwrap_or_default();
    let of = |item: &'_ Value| -> Option<(String, Value)> {
        let text = item["content"]["parts"][0]["text"].as_str()?;
        Some((text.to_owned(), json!({ "values": vector(text, &item["outputDimensionality"]) })))
    };
    let no_text = || Complaint::bad("content contains an empty Part.");
    match method {
        "embedContent" => {
            let (text, one) = of(body).ok_or_else(no_text)?;
            let usage = json!({ "promptTokenCount": tokens([text.as_str()]) });
            Ok(Reply::pretty(200, &json!({ "embedding": one, "usageMetadata": usage })))
        }
        "batchEmbedContents" => {
            let list = items(&body["requests"]);
            if list.iter().any(|item| item["model"].as_str() != Some(&format!("models/{model}"))) {
                return Err(Complaint::bad("`model` of a request must match that of the batch."));
            }
            texts(SimDialect::Gemini, list, |item| &item["content"]["parts"][0]["text"])?;
            let all: Option<Vec<(String, Value)>> = list.iter().map(of).collect();
            let (texts, vectors): (Vec<_>, Vec<_>) = all.ok_or_else(no_text)?.into_iter().unzip();
            let usage = json!({ "promptTokenCount": tokens(texts.iter().map(String::as_str)) });
            Ok(Reply::pretty(200, &json!({ "embeddings": vectors, "usageMetadata": usage })))
        }
        _ => {
            let list = items(&body["instances"]);
            if list.len() != 1 {
                return Err(Complaint::bad("this model takes one instance"));
            }
            let text = list[0]["content"].as_str().ok_or_else(no_text)?;
            let values = vector(text, &body["parameters"]["outputDimensionality"]);
            let statistics = json!({ "token_count": tokens([text]), "truncated": false });
            let one = json!({ "embeddings": { "statistics": statistics, "values": values } });
            Ok(Reply::pretty(
                200,
                &json!({ "predictions": [one], "metadata": { "billableCharacterCount": text.len() } }),
            ))
        }
    }
}

fn cohere(body: &Value) -> Result<Reply, Complaint> {
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err(Complaint::bad("invalid request: model is required."));
    }
    Ok(Reply::json(200, &cohere_answer(body)?))
}

fn cohere_answer(body: &Value) -> Result<Value, Complaint> {
    if body["input_type"].as_str().is_none() {
        return Err(Complaint::bad("invalid request: input_type is required."));
    }
    let texts = texts(SimDialect::Cohere, items(&body["texts"]), |item| item)?;
    let vectors: Vec<_> = texts.iter().map(|text| vector(text, &body["output_dimension"])).collect();
    let billed = json!({ "input_tokens": tokens(texts.iter().copied()) });
    Ok(json!({ "id": "sim", "embeddings": { "float": vectors }, "texts": texts, "meta": { "billed_units": billed },
        "response_type": "embeddings_by_type" }))
}

fn ollama(body: &Value) -> Result<Reply, Complaint> {
    let model = body["model"].as_str().ok_or_else(|| Complaint::bad("model is required"))?;
    let texts = texts(SimDialect::Ollama, items(&body["input"]), |item| item)?;
    let vectors: Vec<_> = texts.iter().map(|text| vector(text, &body["dimensions"])).collect();
    let count = tokens(texts.iter().copied());
    Ok(Reply::json(200, &json!({ "model": model, "embeddings": vectors, "prompt_eval_count": count })))
}

/// Titan's, Nova's or Cohere's format, by the name of the model.
fn amazon(request: &Request, body: &Value) -> Result<Reply, Complaint> {
    let (model, _) = bedrock::model_and_operation(&request.path).unwrap_or_default();
    let required = |name: &str| Complaint::bad(format!("required key [{name}] not found"));
    let (answer, count) = if model.contains("cohere.") {
        if body.get("model").is_some() {
            return Err(Complaint::bad("extraneous key [model] is not permitted"));
        }
        let mut answer = cohere_answer(body)?;
        let count = answer["meta"]["billed_units"]["input_tokens"].as_u64().unwrap_or_default();
        answer["meta"] = Value::Null;
        (answer, count as usize)
    } else if model.contains("nova") {
        let single = &body["singleEmbeddingParams"];
        let text = single["text"]["value"].as_str().ok_or_else(|| required("singleEmbeddingParams"))?;
        let one = json!({ "embeddingType": "TEXT", "embedding": vector(text, &single["embeddingDimension"]) });
        (json!({ "embeddings": [one] }), tokens([text]))
    } else {
        let text = body["inputText"].as_str().ok_or_else(|| required("inputText"))?;
        let count = tokens([text]);
        (json!({ "embedding": vector(text, &body["dimensions"]), "inputTextTokenCount": count }), count)
    };
    let headers = vec![("x-amzn-bedrock-input-token-count", count.to_string())];
    Ok(Reply { headers, ..Reply::json(200, &answer) })
}
