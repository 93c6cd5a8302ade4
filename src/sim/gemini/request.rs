//! Reads a `generateContent` request as strictly as Google does: unknown names, roles, calls and responses in pairs,
//! signatures unchanged. Names are taken in camel and in snake case, as Google does.

use super::model_and_method;
use crate::sim::answer::{Form, Question, Tool, ToolChoice, describe_base64, fingerprint};
use crate::sim::http::Request;
use crate::sim::wire::{Complaint, items, object};
use serde_json::Value;

const FIELDS: [&str; 9] = [
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "safetySettings",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "labels",
];

const GENERATION_FIELDS: [&str; 21] = [
    "candidateCount",
    "stopSequences",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "_responseJsonSchema",
    "responseLogprobs",
    "logprobs",
    "thinkingConfig",
    "responseModalities",
    "speechConfig",
    "mediaResolution",
    "imageConfig",
    "enableEnhancedCivicAnswers",
];

/// What Google lets pass in place of a signature that never was.
const NO_SIGNATURE: [&str; 3] = [
    "skip_thought_signature_validator",
    // The same as the bytes that the field is declared to be.
    "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
    "context_engineering_is_the_way_to_go",
];

/// Whether a model refuses calls of the running turn that lost their signature, as the third generation does.
pub(super) fn wants_signatures(model: &str) -> bool {
    model.contains("gemini-3")
}

pub(in crate::sim) fn read(request: &Request) -> Result<Question, Complaint> {
    let Some((model, method)) = model_and_method(&request.path) else {
        return Err(Complaint::NoSuchPath { path: request.path.clone() });
    };
    let Some(body) = object(request) else {
        return Err(Complaint::bad("Invalid JSON payload received."));
    };
    check_names(&body, &FIELDS, "")?;
    let config = either(&body, "generationConfig", "generation_config");
    check_names(config, &GENERATION_FIELDS, " at 'generation_config'")?;
    let contents = items(&body["contents"]);
    check_contents(contents, model)?;
    let calling =
        either(either(&body, "toolConfig", "tool_config"), "functionCallingConfig", "function_calling_config");
    let names = either(calling, "allowedFunctionNames", "allowed_function_names");
    let stream = method == "streamGenerateContent";
    let stops = items(either(config, "stopSequences", "stop_sequences")).iter().filter_map(Value::as_str);
    let thinking = either(config, "thinkingConfig", "thinking_config");
    let mut question = Question {
        model: model.to_owned(),
        stream,
        as_array: stream && !request.query.split('&').any(|pair| pair == "alt=sse"),
        tools: read_tools(&body["tools"])?,
        tool_choice: match calling["mode"].as_str() {
            Some("NONE") => ToolChoice::None,
            Some("ANY") => match items(names) {
                [Value::String(name)] => ToolChoice::Named(name.clone()),
                _ => ToolChoice::Any,
            },
            _ => ToolChoice::Auto,
        },
        form: read_form(config),
        reasoning: either(thinking, "includeThoughts", "include_thoughts") == true,
        max_tokens: either(config, "maxOutputTokens", "max_output_tokens").as_u64().map(|max| max as usize),
        stop: stops.map(str::to_owned).collect(),
        choices: either(config, "candidateCount", "candidate_count").as_u64().unwrap_or(1) as usize,
        prompt_bytes: request.body.len(),
        ..Question::default()
    };
    read_last_turn(contents, &mut question);
    Ok(question)
}

fn either<'a>(value: &'a Value, camel: &str, snake: &str) -> &'a Value {
    value.get(camel).unwrap_or_else(|| &value[snake])
}

fn check_names(value: &Value, known: &[&str], place: &str) -> Result<(), Complaint> {
    for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !known.iter().any(|known| known == name || snake(known) == *name) {
            return Err(Complaint::bad(format!(
                "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."
            )));
        }
    }
    Ok(())
}

fn snake(camel: &str) -> String {
    let letter = |letter: char| {
        if letter.is_ascii_uppercase() { format!("_{}", letter.to_ascii_lowercase()) } else { letter.to_string() }
    };
    camel.chars().map(letter).collect()
}

fn parts(content: &Value) -> &[Value] {
    items(&content["parts"])
}

fn calls(content: &Value) -> impl Iterator<Item = &Value> {
    parts(content).iter().filter(|part| !either(part, "functionCall", "function_call").is_null())
}

fn responses(content: &Value) -> impl Iterator<Item = &Value> {
    parts(content)
        .iter()
        .map(|part| either(part, "functionResponse", "function_response"))
        .filter(|response| response.is_object())
}

fn check_contents(contents: &[Value], model: &str) -> Result<(), Complaint> {
    if contents.is_empty() {
        return Err(Complaint::bad("* GenerateContentRequest.contents: contents is not specified\n"));
    }
    let running_turn =
        contents.iter().rposition(|content| content["role"] != "model" && responses(content).next().is_none());
    for (index, content) in contents.iter().enumerate() {
        let role = content["role"].as_str().unwrap_or("user");
        if role != "user" && role != "model" && role != "function" {
            return Err(Complaint::bad("Please use a valid role: user, model."));
        }
        if parts(content).is_empty() {
            let message =
                format!("* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty.\n");
            return Err(Complaint::bad(message));
        }
        let wanted =
            index.checked_sub(1).and_then(|before| contents.get(before)).map_or(0, |before| calls(before).count());
        if responses(content).count() != wanted {
            let message = "Please ensure that the number of function response parts is equal to the number of function call parts \
                of the function call turn.";
            return Err(Complaint::bad(message));
        }
        for part in parts(content) {
            check_part(part)?;
        }
        let signed = |part: &Value| !either(part, "thoughtSignature", "thought_signature").is_null();
        if wants_signatures(model)
            && running_turn.is_some_and(|turn| index > turn)
            && calls(content).next().is_some_and(|call| !signed(call))
        {
            return Err(Complaint::bad(format!(
                "Function call is missing a thought_signature in functionCall parts, position {index}."
            )));
        }
    }
    if contents.last().is_some_and(|last| calls(last).next().is_some()) {
        return Err(Complaint::bad(
            "Please ensure that function call turn comes immediately before a function response turn.",
        ));
    }
    Ok(())
}

fn check_part(part: &Value) -> Result<(), Complaint> {
    let data = either(part, "inlineData", "inline_data");
    if data.is_object() {
        let text = data["data"].as_str().unwrap_or_default();
        if text.is_empty() || text.contains(':') || either(data, "mimeType", "mime_type").is_null() {
            return Err(Complaint::bad(
                "Invalid value at 'contents[0].parts[0].inline_data.data' (TYPE_BYTES), Base64 decoding failed",
            ));
        }
    }
    let call = either(part, "functionCall", "function_call");
    if call.is_object() && (call["name"].as_str().is_none() || !(call["args"].is_object() || call["args"].is_null())) {
        return Err(Complaint::bad("Invalid value at 'contents[0].parts[0].function_call'"));
    }
    // Signatures of calls are made of their name; those of text are not bound to the part that they come on.
    let signature = either(part, "thoughtSignature", "thought_signature");
    if let Some(signature) = signature.as_str() {
        let prefix = &fingerprint("")[..fingerprint("").len() - 16];
        let foreign = match call["name"].as_str() {
            Some(name) => signature != fingerprint(name),
            None => !signature.starts_with(prefix),
        };
        if foreign && !NO_SIGNATURE.contains(&signature) {
            return Err(Complaint::bad("Thought signature is not valid."));
        }
    }
    Ok(())
}

fn read_tools(tools: &Value) -> Result<Vec<Tool>, Complaint> {
    let declarations =
        items(tools).iter().flat_map(|tool| items(either(tool, "functionDeclarations", "function_declarations")));
    let read = |declaration: &Value| {
        let name = declaration["name"].as_str();
        let name = name.ok_or_else(|| Complaint::bad("* GenerateContentRequest.tools: function name is required\n"))?;
        let schema = declaration
            .get("parameters")
            .unwrap_or_else(|| either(declaration, "parametersJsonSchema", "parameters_json_schema"));
        Ok(Tool { name: name.to_owned(), schema: schema.clone() })
    };
    declarations.map(read).collect()
}

fn read_form(config: &Value) -> Form {
    if either(config, "responseMimeType", "response_mime_type") != "application/json" {
        return Form::Text;
    }
    let schemas =
        ["responseJsonSchema", "_responseJsonSchema", "responseSchema", "response_schema", "response_json_schema"];
    let schema = schemas.iter().filter_map(|name| config.get(*name)).find(|schema| schema.is_object());
    schema.map_or(Form::Json, |schema| Form::Schema(schema.clone()))
}

fn read_last_turn(contents: &[Value], question: &mut Question) {
    let Some(last) = contents.iter().rfind(|content| content["role"] != "model") else { return };
    question.last_text = parts(last).iter().filter_map(|part| part["text"].as_str()).collect();
    for part in parts(last) {
        let (data, file) = (either(part, "inlineData", "inline_data"), either(part, "fileData", "file_data"));
        if data.is_object() {
            let media_type = either(data, "mimeType", "mime_type").as_str().unwrap_or_default();
            question.seen.push(describe_base64(media_type, data["data"].as_str().unwrap_or_default()));
        } else if file.is_object() {
            question.seen.push(either(file, "fileUri", "file_uri").as_str().unwrap_or_default().to_owned());
        }
    }
    // Text after the results is a new question.
    if parts(last).last().is_some_and(|part| either(part, "functionResponse", "function_response").is_object()) {
        let said = |response: &Value| {
            let response = &response["response"];
            let inner = ["result", "output", "content"].iter().find_map(|name| response.get(*name)).unwrap_or(response);
            inner.as_str().map_or_else(|| inner.to_string(), str::to_owned)
        };
        question.tool_results = responses(last)
            .map(|response| (response["name"].as_str().unwrap_or_default().to_owned(), said(response)))
            .collect();
    }
}
