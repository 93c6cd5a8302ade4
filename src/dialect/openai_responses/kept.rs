//! A response that is kept, as it is told again: whole it is as it was, here are its events and the items that it was made of.
//!
//! Source: OpenAI's API reference of Responses (`GET /responses/{id}` with `stream`, `GET /responses/{id}/input_items`).

use super::retold;
use crate::domain::{Fault, FaultKind};
use serde_json::{Map, Value, json};

/// How many items a page has where the client does not say, and at most.
const USUAL_PAGE: usize = 20;
const LARGEST_PAGE: usize = 100;

/// The events of a response behind the one of number `after`. Its texts come in one piece each, so the numbers are not those of the stream
/// that it first was: whatever `after` says, the last event is told, because it has the whole answer.
///
/// # Errors
/// `Internal` when it is none.
pub fn stream(response: &[u8], after: Option<u64>) -> Result<Vec<u8>, Fault> {
    let value = read(response)?;
    let (mut events, mut sequence) = (Vec::new(), 0);
    retold::write_items(&value, &mut sequence, &mut events);
    let mut out = match after {
        None => events,
        Some(after) => behind(&events, after).to_vec(),
    };
    sequence = sequence.max(after.map_or(0, |after| after.saturating_add(1)));
    retold::write_last(&value, response, &mut sequence, &mut out);
    Ok(out)
}

/// The events behind the one of number `after`; they are numbered from 0 and end with an empty line each.
fn behind(events: &[u8], after: u64) -> &[u8] {
    let mut ends = memchr::memmem::find_iter(events, b"\n\n").map(|at| at + 2);
    let skipped = usize::try_from(after).ok().and_then(|after| ends.nth(after));
    &events[skipped.unwrap_or(events.len())..]
}

/// Which of the items a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many, from 1 to 100.
    pub limit: Option<u64>,
    /// Behind the one of this id.
    pub after: Option<String>,
    /// The oldest first, not the newest.
    pub ascending: bool,
}

/// A page of the items that a response was made of. `items` are those of its whole conversation, its own output last, with commas between them.
///
/// # Errors
/// `BadRequest` that names what is wrong with the page, `Internal` when the response is none.
pub fn input_items(response: &[u8], items: &[u8], page: &Page) -> Result<Vec<u8>, Fault> {
    let size = match page.limit {
        None => USUAL_PAGE,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=LARGEST_PAGE).contains(limit))
            .ok_or_else(|| Fault::bad_request("limit", "limit must be a number from 1 to 100"))?,
    };
    let response = read(response)?;
    let Value::Array(mut items) = read(&[b"[", items, b"]"].concat())? else { return Err(broken()) };
    let own = response["output"].as_array().map_or(0, Vec::len);
    items.truncate(items.len().saturating_sub(own));
    let stem = response["id"].as_str().and_then(|id| id.rsplit('_').next()).unwrap_or_default();
    let mut items: Vec<Value> = items.into_iter().enumerate().map(|(place, item)| told(item, stem, place)).collect();
    if !page.ascending {
        items.reverse();
    }
    let start = match &page.after {
        None => 0,
        Some(id) => {
            let place = items.iter().position(|item| item["id"] == **id);
            place.ok_or_else(|| Fault::bad_request("after", "after names no item of this response"))? + 1
        }
    };
    let has_more = items.len() - start > size;
    let shown: Vec<Value> = items.into_iter().skip(start).take(size).collect();
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    let list = json!({
        "object": "list",
        "first_id": id(shown.first()),
        "last_id": id(shown.last()),
        "has_more": has_more,
        "data": shown,
    });
    Ok(list.to_string().into_bytes())
}

/// An item as a list of items has it: with an id, and a message with its type and its parts.
fn told(item: Value, stem: &str, place: usize) -> Value {
    let Value::Object(mut item) = item else { return item };
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message").to_owned();
    item.insert("type".to_owned(), kind.as_str().into());
    let has_id = item.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
    if !has_id {
        let prefix = match kind.as_str() {
            "message" => "msg",
            "function_call" => "fc",
            "function_call_output" => "fco",
            "custom_tool_call" => "ctc",
            "custom_tool_call_output" => "ctco",
            "reasoning" => "rs",
            _ => "item",
        };
        item.insert("id".to_owned(), format!("{prefix}_{stem}in{place:02x}").into());
    }
    if kind == "message" {
        parts(&mut item);
    }
    if matches!(&*kind, "message" | "function_call" | "function_call_output") {
        item.entry("status").or_insert("completed".into());
    }
    Value::Object(item)
}

/// A message whose content is a text says it as a part.
fn parts(message: &mut Map<String, Value>) {
    let kind = if message.get("role").is_some_and(|role| role == "assistant") { "output_text" } else { "input_text" };
    if let Some(content @ Value::String(_)) = message.get_mut("content") {
        let text = content.take();
        *content = match kind {
            "output_text" => json!([{"type": kind, "text": text, "annotations": []}]),
            _ => json!([{"type": kind, "text": text}]),
        };
    }
}

fn read(json: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(json).map_err(|_| broken())
}

fn broken() -> Fault {
    Fault::new(FaultKind::Internal, "a response was kept that cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::sse::{Frame, Parser};

    fn response() -> Vec<u8> {
        json!({
            "id": "resp_ab", "object": "response", "status": "completed", "created_at": 1, "model": "m", "error": null,
            "incomplete_details": null, "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            "output": [
                {"id": "rs_orbyt_ab00", "type": "reasoning", "summary": [{"type": "summary_text", "text": "why\nnot"}]},
                {"id": "msg_ab01", "type": "message", "status": "completed", "role": "assistant", "content": [
                    {"type": "output_text", "text": "a\n\nb", "annotations": [], "logprobs": []}]},
                {"id": "fc_ab02", "type": "function_call", "status": "completed", "arguments": "{}", "call_id": "c", "name": "f"},
            ],
        })
        .to_string()
        .into_bytes()
    }

    fn events(stream: &[u8]) -> Vec<Value> {
        let mut events = Vec::new();
        let mut parser = Parser::new();
        let mut take = |frame: &Frame<'_>| {
            let event: Value = serde_json::from_slice(&frame.data).unwrap();
            assert_eq!(event["type"].as_str().unwrap().as_bytes(), frame.event);
            events.push(event);
            Ok(())
        };
        parser.push(stream, |frame| take(&frame)).unwrap();
        parser.finish(|frame| take(&frame)).unwrap();
        events
    }

    #[test]
    fn a_response_is_told_as_the_events_that_lead_to_it() {
        let all = events(&stream(&response(), None).unwrap());
        let numbers: Vec<u64> = all.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..all.len() as u64).collect::<Vec<_>>());
        let whole: Value = serde_json::from_slice(&response()).unwrap();
        assert_eq!(all[0]["type"], "response.created");
        let last = all.last().unwrap();
        assert_eq!((&last["type"], &last["response"]), (&json!("response.completed"), &whole));
        let done: Vec<&Value> = all
            .iter()
            .filter(|event| event["type"] == "response.output_item.done")
            .map(|event| &event["item"])
            .collect();
        assert_eq!(done, whole["output"].as_array().unwrap().iter().collect::<Vec<_>>());
        for after in 0..all.len() as u64 - 1 {
            let rest = events(&stream(&response(), Some(after)).unwrap());
            assert_eq!(rest, all[after as usize + 1..], "{after}");
        }
        for after in [all.len() as u64 - 1, all.len() as u64, 5000, u64::MAX] {
            let rest = events(&stream(&response(), Some(after)).unwrap());
            assert_eq!((rest.len(), &rest[0]["response"]), (1, &whole), "{after}");
            assert!(rest[0]["sequence_number"].as_u64() >= Some(after), "{after}");
        }
        assert_eq!(stream(b"[", None).unwrap_err().kind, FaultKind::Internal);
    }

    #[test]
    fn the_items_of_its_input_come_in_pages() {
        let output: Value = serde_json::from_slice::<Value>(&response()).unwrap()["output"].clone();
        let mut items: Vec<Value> = (0..25).map(|at| json!({"role": "user", "content": format!("q{at}")})).collect();
        items[1] = json!({"type": "message", "role": "assistant", "content": "own"});
        items[2] = json!({"type": "function_call_output", "call_id": "c", "output": "x", "id": "given"});
        items.extend(output.as_array().unwrap().clone());
        let whole = Value::Array(items).to_string();
        let inner = &whole.as_bytes()[1..whole.len() - 1];
        let list =
            |page: &Page| -> Value { serde_json::from_slice(&input_items(&response(), inner, page).unwrap()).unwrap() };
        let newest = list(&Page::default());
        assert_eq!((newest["data"].as_array().unwrap().len(), &newest["has_more"]), (20, &json!(true)));
        assert_eq!(newest["data"][0]["content"], json!([{"type": "input_text", "text": "q24"}]));
        assert_eq!((&newest["first_id"], &newest["last_id"]), (&json!("msg_abin18"), &json!("msg_abin05")));
        let last = newest["last_id"].as_str().map(str::to_owned);
        let rest = list(&Page { after: last, ..Page::default() });
        assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (5, &json!(false)));
        let oldest = list(&Page { ascending: true, limit: Some(3), after: None });
        assert_eq!(
            (&oldest["data"][1]["content"][0]["type"], &oldest["data"][2]["id"]),
            (&json!("output_text"), &json!("given"))
        );
        assert_eq!(
            (&oldest["data"][0]["type"], &oldest["data"][0]["status"]),
            (&json!("message"), &json!("completed"))
        );
        for (page, param) in [
            (Page { limit: Some(0), ..Page::default() }, "limit"),
            (Page { limit: Some(101), ..Page::default() }, "limit"),
            (Page { after: Some("none".into()), ..Page::default() }, "after"),
        ] {
            assert_eq!(input_items(&response(), inner, &page).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
