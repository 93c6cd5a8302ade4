//! The body that each provider's format gets of one request: texts, a call and its result, a function, a bound.

use super::*;
use crate::dialect::chat::ModelTraits;

fn request() -> Value {
    json!({
        "model": "m", "stream": true,
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "generation_config": {"max_output_tokens": 9, "temperature": 0.5},
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}}]}],
        "contents": [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "c1", "name": "f", "response": {"result": "r"}}}]},
        ],
    })
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"a": {"type": "integer"}}})
}

#[track_caller]
fn renders(dialect: Dialect, expected: &Value) {
    let request = Client::Gemini.parse(request().to_string().as_bytes()).unwrap();
    let traits = ModelTraits { model: "x".into(), quirks: Quirks::MAX_TOKENS, ..ModelTraits::default() };
    let rendered = dialect.render(&request, &traits).unwrap();
    assert_eq!(&serde_json::from_slice::<Value>(&rendered.body).unwrap(), expected);
    assert!(rendered.dropped.is_empty(), "{:?}", rendered.dropped);
}

#[test]
fn openai_chat() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
    let expected = json!({
        "model": "x", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 9, "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "r"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema()}}],
    });
    renders(Dialect::OpenAiChat, &expected);
}

#[test]
fn anthropic_messages() {
    let result = json!({"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "r"}]});
    let expected = json!({
        "model": "x", "stream": true, "max_tokens": 9, "temperature": 0.5, "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [result]}],
        "tools": [{"name": "f", "input_schema": schema()}],
    });
    renders(Dialect::AnthropicMessages, &expected);
}

#[test]
fn gemini() {
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": request()["contents"],
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema()}]}],
        "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5},
    });
    renders(Dialect::Gemini, &expected);
}

#[test]
fn cohere() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
    let expected = json!({
        "model": "x", "stream": true, "max_tokens": 9, "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"},
            {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "r"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema()}}],
    });
    renders(Dialect::Cohere, &expected);
}

#[test]
fn ollama() {
    let call = json!({"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}});
    let expected = json!({
        "model": "x", "stream": true, "options": {"num_predict": 9, "temperature": 0.5},
        "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_name": "f", "tool_call_id": "c1", "content": "r"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema()}}],
    });
    renders(Dialect::Ollama, &expected);
}

#[test]
fn bedrock_converse() {
    let expected = json!({
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": "q"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "r"}]}}]}],
        "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema()}}}]},
        "inferenceConfig": {"maxTokens": 9, "temperature": 0.5},
    });
    renders(Dialect::BedrockConverse, &expected);
}
