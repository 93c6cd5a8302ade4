//! Items of every kind, and those that cannot be said elsewhere.

use super::*;
use crate::dialect::chat::FORMAT_ANTHROPIC;
use serde_json::json;

fn read(input: Value) -> Conversation {
    let mut conversation = Conversation::default();
    conversation.add_input(Some(input)).unwrap();
    conversation
}

fn wrong(input: Value) -> Fault {
    Conversation::default().add_input(Some(input)).unwrap_err()
}

fn texts(message: &Message) -> Vec<&str> {
    let text = |part: &Part| match &part.kind {
        PartKind::Text(text) => Some(text.clone().leak() as &str),
        _ => None,
    };
    message.parts.iter().filter_map(text).collect()
}

#[test]
fn a_text_is_the_users() {
    let conversation = read(json!("hello"));
    assert_eq!(conversation.messages.len(), 1);
    assert_eq!((conversation.messages[0].role, texts(&conversation.messages[0])), (Role::User, vec!["hello"]));
}

#[test]
fn the_items_of_a_turn_are_one_message_and_results_are_their_own() {
    let signed = ReasoningDetail {
        kind: ReasoningKind::Text { text: "why".into(), signature: Some("sig".into()) },
        id: None,
        format: Some(FORMAT_ANTHROPIC.into()),
        index: 0,
    };
    let conversation = read(json!([
        {"role": "developer", "content": "rules"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "do"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "why"}],
         "encrypted_content": seal::seal(&signed)},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "content": [{"type": "output_text", "text": "first", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"a\":1}"},
        {"type": "function_call", "call_id": "call_2", "name": "g", "namespace": "ns", "arguments": ""},
        {"type": "custom_tool_call", "call_id": "call_3", "name": "patch", "input": "a \"b\""},
        {"type": "function_call_output", "call_id": "call_1", "output": "one"},
        {"type": "function_call_output", "call_id": "call_2", "output": [
            {"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
        {"type": "custom_tool_call_output", "call_id": "call_3", "output": "three"},
        {"role": "assistant", "content": "done", "phase": "final_answer"},
    ]));
    let roles: Vec<Role> = conversation.messages.iter().map(|message| message.role).collect();
    let expected = [Role::Developer, Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::Tool, Role::Assistant];
    assert_eq!(roles, expected);
    let turn = &conversation.messages[2];
    assert_eq!(turn.reasoning, [signed]);
    assert_eq!(texts(turn), ["first"]);
    let calls: Vec<(&str, &str, &str)> =
        turn.tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str(), call.arguments.as_str())).collect();
    assert_eq!(
        calls,
        [("call_1", "f", "{\"a\":1}"), ("call_2", "ns__g", "{}"), ("call_3", "patch", "{\"input\":\"a \\\"b\\\"\"}")]
    );
    assert_eq!(conversation.messages[4].tool_call_id.as_deref(), Some("call_2"));
    assert!(matches!(conversation.messages[4].parts[1].kind, PartKind::Image { .. }));
}

#[test]
fn media_of_every_kind() {
    let conversation = read(json!([{"role": "user", "content": [
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        {"type": "input_file", "filename": "a.csv", "file_data": "YQ=="},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_file", "file_id": "file-2"},
        {"type": "input_audio", "input_audio": {"data": "UklGR", "format": "wav"}},
    ]}]));
    let inline = |media_type: &str, data: &str| Media::Inline { media_type: media_type.into(), data: data.into() };
    let kinds: Vec<PartKind> = conversation.messages[0].parts.iter().map(|part| part.kind.clone()).collect();
    let url = |text: &str| Media::Url(text.to_owned());
    assert_eq!(
        kinds,
        [
            PartKind::Image { source: url("https://example.com/a.png"), detail: Some("low".into()) },
            PartKind::Image { source: Media::FileId("file-1".into()), detail: None },
            PartKind::File { source: inline("application/pdf", "JVBERg=="), filename: Some("a.pdf".into()) },
            PartKind::File { source: inline("text/csv", "YQ=="), filename: Some("a.csv".into()) },
            PartKind::File { source: url("https://example.com/a.pdf"), filename: None },
            PartKind::File { source: Media::FileId("file-2".into()), filename: None },
            PartKind::Audio { source: inline("audio/wav", "UklGR") },
        ]
    );
}

#[test]
fn reasoning_of_other_origins_is_kept_by_its_form() {
    let details = |item: Value| read(json!([item])).messages[0].reasoning.clone();
    let own = details(json!({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "a"},
        {"type": "summary_text", "text": "b"}], "encrypted_content": "gAAAA"}));
    assert_eq!(own[0].kind, ReasoningKind::Summary("a\n\nb".into()));
    assert_eq!(own[1].kind, ReasoningKind::Encrypted("gAAAA".into()));
    assert_eq!((own[1].format.as_deref(), own[1].index), (Some(seal::FORMAT_OPENAI), 1));
    let plain = details(json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}],
        "content": [{"type": "reasoning_text", "text": "t"}], "encrypted_content": null}));
    assert_eq!(plain.len(), 1);
    assert_eq!(plain[0].kind, ReasoningKind::Text { text: "t".into(), signature: None });
}

#[test]
fn tools_that_come_as_items_are_tools() {
    let found = json!({"type": "function", "name": "rate", "parameters": {"type": "object"}, "defer_loading": true});
    let conversation = read(json!([
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "more"}]},
        {"type": "tool_search_call", "execution": "client", "call_id": "c", "arguments": {"queries": ["x"]}},
        {"type": "tool_search_output", "execution": "client", "call_id": "c", "tools": [found]},
    ]));
    let names: Vec<&str> = conversation.toolbox.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["more", "rate"]);
    assert_eq!(conversation.messages[0].tool_calls[0].arguments, "{\"queries\":[\"x\"]}");
    assert!(texts(&conversation.messages[1])[0].contains("rate"));
}

#[test]
fn what_openais_own_tools_did_is_left_out_and_named_and_the_conversation_goes_on() {
    for kind in BUILT_IN {
        let conversation = read(json!([
            {"role": "user", "content": "x"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]},
            {"type": kind, "id": "1", "call_id": "c", "status": "completed", "action": {"type": "search", "query": "q"}},
            {"type": kind, "id": "2", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "data:,"}},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "found"}]},
            {"role": "user", "content": "and now?"},
        ]));
        assert_eq!(conversation.lost, [format!("input.{kind}")]);
        let roles: Vec<Role> = conversation.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User], "{kind}");
        assert_eq!((conversation.messages[1].reasoning.len(), texts(&conversation.messages[1])), (1, vec!["found"]));
    }
}

#[test]
fn what_cannot_be_said_elsewhere_is_named() {
    let user = json!({"role": "user", "content": "x"});
    for kind in ["compaction", "nonsense"] {
        let fault = wrong(json!([user, {"type": kind, "id": "x"}]));
        assert_eq!(fault.param.as_deref(), Some("input[1].type"), "{kind}");
        assert!(fault.message.contains(kind));
    }
    for (input, param) in [
        (json!([{"type": "item_reference", "id": "x"}]), "input[0]"),
        (json!([{"type": "web_search_call", "id": "x"}]), "input"),
        (json!([]), "input"),
        (json!(3), "input"),
        (json!(["x"]), "input[0]"),
        (json!([{"role": "robot", "content": "x"}]), "input[0].role"),
        (json!([{"role": "user"}]), "input[0].content"),
        (json!([{"role": "user", "content": [{"type": "input_video"}]}]), "input[0].content[0].type"),
        (json!([{"role": "user", "content": [{"type": "input_image"}]}]), "input[0].content[0]"),
        (json!([{"type": "function_call", "name": "f", "arguments": "{}"}]), "input[0].call_id"),
        (json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": 3}]), "input[0].arguments"),
        (json!([{"type": "function_call_output", "call_id": "c", "output": 3}]), "input[0].output"),
        (json!([{"type": "additional_tools", "tools": [{"type": "mcp"}]}]), "input[0].tools[0].type"),
    ] {
        assert_eq!(wrong(input.clone()).param.as_deref(), Some(param), "{input}");
    }
    assert_eq!(Conversation::default().add_input(None).unwrap_err().param.as_deref(), Some("input"));
}
