//! Requests: how much to think, and the thoughts of earlier answers.

use super::{body, message, question, refused, render, target};
use crate::dialect::chat::{
    FORMAT_ANTHROPIC, FORMAT_GEMINI, Message, ModelTraits, Reasoning, ReasoningDetail, ReasoningKind, Request, Role,
    Thinking, Tool, ToolCall, ToolChoice,
};
use serde_json::{Value, json};

fn budget() -> ModelTraits {
    ModelTraits {
        thinking: Thinking::Budget { min: 1024, max: 60_000, can_disable: true },
        max_output: Some(64_000),
        ..target()
    }
}

fn level() -> ModelTraits {
    ModelTraits { thinking: Thinking::Level, max_output: Some(64_000), ..target() }
}

fn effort(effort: &str) -> Request {
    Request { reasoning: Some(Reasoning { effort: Some(effort.into()), ..Reasoning::default() }), ..question() }
}

fn tokens(max_tokens: u64) -> Request {
    Request { reasoning: Some(Reasoning { max_tokens: Some(max_tokens), ..Reasoning::default() }), ..question() }
}

/// Budget, bound and what was dropped.
fn planned(request: &Request, target: &ModelTraits) -> (Option<u64>, u64, Vec<String>) {
    let rendered = render(request, target);
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    (body["thinking"]["budget_tokens"].as_u64(), body["max_tokens"].as_u64().unwrap(), rendered.dropped)
}

#[test]
fn an_effort_is_a_share_of_the_output() {
    for (word, sent) in [("minimal", 6400), ("low", 12_800), ("medium", 32_000), ("high", 51_200), ("xhigh", 60_000)] {
        assert_eq!(planned(&effort(word), &budget()), (Some(sent), 64_000, vec![]), "{word}");
    }
    let bounded = Request { max_tokens: Some(4000), ..effort("medium") };
    assert_eq!(planned(&bounded, &budget()), (Some(2000), 4000, vec![]));
}

#[test]
fn a_budget_stays_below_the_bound() {
    let raised = |max_tokens, request| planned(&Request { max_tokens: Some(max_tokens), ..request }, &budget());
    let noted = vec!["max_tokens".to_owned()];
    assert_eq!(raised(500, effort("low")), (Some(1024), 1524, noted.clone()));
    assert_eq!(raised(1024, effort("high")), (Some(1024), 2048, noted.clone()));
    assert_eq!(raised(1025, effort("high")), (Some(1024), 1025, vec![]));
    assert_eq!(raised(2000, tokens(10_000)), (Some(10_000), 12_000, noted));
    assert_eq!(planned(&tokens(100), &budget()), (Some(1024), 64_000, vec![]));
    assert_eq!(planned(&tokens(70_000), &budget()), (Some(60_000), 64_000, vec![]));
    // Nobody named a bound, so raising the default takes nothing away.
    let unknown = ModelTraits { max_output: None, ..budget() };
    assert_eq!(planned(&tokens(8000), &unknown), (Some(8000), 12_096, vec![]));
    let small = ModelTraits { max_output: Some(1500), ..budget() };
    assert_eq!(planned(&tokens(8000), &small), (Some(1499), 1500, vec![]));
    let tiny = ModelTraits { max_output: Some(1000), ..budget() };
    assert_eq!(planned(&tokens(8000), &tiny), (None, 1000, vec!["reasoning".to_owned()]));
}

#[test]
fn newer_models_take_a_word() {
    for (word, sent) in
        [("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "xhigh"), ("max", "max")]
    {
        let body = body(&effort(word), &level());
        assert_eq!(body["thinking"], json!({"type": "adaptive", "display": "summarized"}), "{word}");
        assert_eq!(body["output_config"], json!({"effort": sent}), "{word}");
    }
    let hidden = Reasoning { effort: Some("high".into()), exclude: true, ..Reasoning::default() };
    let hidden = body(&Request { reasoning: Some(hidden), ..question() }, &level());
    assert_eq!(hidden["thinking"], json!({"type": "adaptive"}));
    let bounded = render(&tokens(5000), &level());
    assert_eq!(bounded.dropped, ["reasoning.max_tokens"]);
    let bounded: Value = serde_json::from_slice(&bounded.body).unwrap();
    assert_eq!(bounded["output_config"], json!({"effort": "medium"}));
}

#[test]
fn thinking_can_be_switched_on_and_off() {
    let enabled = |enabled| Request {
        reasoning: Some(Reasoning { enabled: Some(enabled), ..Reasoning::default() }),
        ..question()
    };
    assert_eq!(body(&enabled(true), &budget())["thinking"], json!({"type": "enabled", "budget_tokens": 32_000}));
    assert_eq!(body(&enabled(true), &level())["thinking"]["type"], "adaptive");
    assert_eq!(body(&enabled(true), &level())["output_config"], Value::Null);
    for off in [enabled(false), effort("none"), tokens(0)] {
        assert_eq!(body(&off, &budget())["thinking"], Value::Null);
        assert_eq!(body(&off, &level())["thinking"], json!({"type": "disabled"}));
        assert!(render(&off, &target()).dropped.is_empty());
    }
    let hidden = Request { reasoning: Some(Reasoning { exclude: true, ..Reasoning::default() }), ..question() };
    assert_eq!(body(&hidden, &level())["thinking"], Value::Null);
}

#[test]
fn what_cannot_be_honoured_is_named() {
    assert_eq!(render(&effort("high"), &target()).dropped, ["reasoning_effort"]);
    assert_eq!(render(&tokens(3000), &target()).dropped, ["reasoning"]);
    assert_eq!(refused(&effort("extreme"), &budget()), "reasoning_effort");
    let strict = ModelTraits { require_parameters: true, ..target() };
    assert_eq!(refused(&effort("high"), &strict), "reasoning_effort");
}

#[test]
fn thinking_gives_way_to_a_forced_tool() {
    let tool = Tool { name: "f".into(), description: None, parameters: None, strict: None, cache_control: None };
    let forced = |choice| Request { tools: vec![tool.clone()], tool_choice: Some(choice), ..effort("high") };
    for choice in [ToolChoice::Required, ToolChoice::Function("f".into())] {
        let rendered = render(&forced(choice), &budget());
        assert_eq!(rendered.dropped, ["reasoning_effort"]);
    }
    assert!(render(&forced(ToolChoice::Auto), &budget()).dropped.is_empty());
    assert!(render(&forced(ToolChoice::Required), &level()).dropped.is_empty());
    let one = forced(ToolChoice::Function("f".into()));
    assert_eq!(render(&one, &level()).dropped, ["reasoning_effort"]);
    assert_eq!(body(&one, &level())["output_config"], json!({"effort": "high"}));
    assert_eq!(body(&one, &level())["thinking"], Value::Null);
}

#[test]
fn sampling_gives_way_to_thinking() {
    let sampled = Request { temperature: Some(0.2), top_p: Some(0.5), top_k: Some(3), ..effort("low") };
    let rendered = render(&sampled, &budget());
    assert_eq!(rendered.dropped, ["temperature", "top_p", "top_k"]);
    let allowed = Request { temperature: Some(1.0), top_p: Some(0.97), ..effort("low") };
    let rendered = render(&allowed, &budget());
    assert!(rendered.dropped.is_empty());
    let sent: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!((&sent["temperature"], &sent["top_p"]), (&Value::Null, &json!(0.97)));
}

fn detail(kind: ReasoningKind, format: Option<&'static str>, index: u32) -> ReasoningDetail {
    ReasoningDetail { kind, id: None, format: format.map(Into::into), index }
}

fn thought(text: &str, signature: Option<&str>) -> ReasoningKind {
    ReasoningKind::Text { text: text.into(), signature: signature.map(str::to_owned) }
}

fn call() -> ToolCall {
    ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into() }
}

/// A question, an answer with these thoughts and a call, and its result.
fn tool_loop(reasoning: Vec<ReasoningDetail>) -> Request {
    let answer = Message { reasoning, tool_calls: vec![call()], ..message(Role::Assistant, "Looking.") };
    let result = Message { tool_call_id: Some("c".into()), ..message(Role::Tool, "done") };
    Request { messages: vec![message(Role::User, "hello"), answer, result], ..effort("low") }
}

#[test]
fn signed_thoughts_go_back_byte_by_byte_and_first() {
    let ours = Some(FORMAT_ANTHROPIC);
    let body = body(
        &tool_loop(vec![
            detail(thought("a \u{1F30D}\n", Some("c2ln/+==")), ours, 0),
            detail(ReasoningKind::Encrypted("ZW5j/+==".into()), ours, 1),
            detail(thought("", Some("b25seQ==")), ours, 2),
        ]),
        &budget(),
    );
    assert_eq!(
        body["messages"][1]["content"],
        json!([
            {"type": "thinking", "thinking": "a \u{1F30D}\n", "signature": "c2ln/+=="},
            {"type": "redacted_thinking", "data": "ZW5j/+=="},
            {"type": "thinking", "thinking": "", "signature": "b25seQ=="},
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "c", "name": "f", "input": {}},
        ])
    );
    assert_eq!(body["thinking"]["type"], "enabled");
}

#[test]
fn the_pieces_of_a_stream_are_put_together() {
    let ours = Some(FORMAT_ANTHROPIC);
    let body = body(
        &tool_loop(vec![
            detail(thought("three", Some("s1")), ours, 1),
            detail(thought("one ", None), ours, 0),
            detail(thought("two", None), ours, 0),
            detail(thought("", Some("s0")), ours, 0),
        ]),
        &budget(),
    );
    assert_eq!(
        body["messages"][1]["content"].as_array().unwrap()[..2],
        [
            json!({"type": "thinking", "thinking": "one two", "signature": "s0"}),
            json!({"type": "thinking", "thinking": "three", "signature": "s1"}),
        ]
    );
}

#[test]
fn thoughts_that_nobody_vouches_for_stay_behind() {
    for reasoning in [
        vec![detail(thought("unsigned", None), Some(FORMAT_ANTHROPIC), 0)],
        vec![detail(thought("signed elsewhere", Some("s")), Some(FORMAT_GEMINI), 0)],
        vec![detail(thought("signed somewhere", Some("s")), None, 0)],
        vec![detail(ReasoningKind::Encrypted("e".into()), Some(FORMAT_GEMINI), 0)],
        vec![detail(ReasoningKind::Summary("in short".into()), Some(FORMAT_ANTHROPIC), 0)],
    ] {
        let rendered = render(&tool_loop(reasoning), &budget());
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        assert_eq!(body["messages"][1]["content"][0]["type"], "text");
        // A tool loop that began without thoughts goes on without.
        assert_eq!(body["thinking"], Value::Null);
        assert_eq!(rendered.dropped, ["reasoning_effort"]);
    }
    let ours = vec![detail(thought("a", Some("s")), Some(FORMAT_ANTHROPIC), 0)];
    assert_eq!(body(&tool_loop(ours), &target())["messages"][1]["content"][0]["type"], "text");
}

#[test]
fn only_the_running_tool_loop_counts() {
    let mut request = tool_loop(vec![]);
    request.messages.extend([message(Role::Assistant, "Found."), message(Role::User, "Thanks, and now think.")]);
    assert_eq!(body(&request, &budget())["thinking"]["type"], "enabled");
    // Later steps of a loop that began with thoughts have none.
    let mut request = tool_loop(vec![detail(thought("a", Some("s")), Some(FORMAT_ANTHROPIC), 0)]);
    let more = tool_loop(vec![]);
    request.messages.extend(more.messages.into_iter().skip(1));
    assert_eq!(body(&request, &budget())["thinking"]["type"], "enabled");
    assert_eq!(body(&tool_loop(vec![]), &level())["thinking"]["type"], "adaptive");
}
