//! What a request carried, shown: headers, bodies, and streams as pieces with their times.

use super::format;
use super::layout::scrolling;
use crate::domain::payloads::{Body, Content, Header, Payloads};
use maud::{Markup, html};
use serde_json::Value;

/// So many pieces of a stream are shown.
const MOST_PIECES: usize = 500;
/// So many bytes of a body are shown; the rest is in the API's answer.
const MOST_SHOWN: usize = 64 << 10;

/// All of it, in the order in which it went: the client's request, each provider's request and answer, the client's answer.
pub(super) fn sections(payloads: &Payloads) -> Markup {
    let request = &payloads.request;
    html! {
        section.panel {
            header { h2 { "From the client" } span.muted.small.mono { (request.method) " " (request.url) } }
            div.body { (headers(&request.headers)) (body(&request.body)) }
        }
        @for attempt in &payloads.attempts {
            section.panel {
                header {
                    h2 { "To " (attempt.provider) "/" (attempt.model) }
                    span.muted.small { "attempt " (attempt.number) ", with " (attempt.key_name) ", after " (format::micros(attempt.at_us)) }
                }
                div.body {
                    p.mono.small { (attempt.request.method) " " (attempt.request.url) }
                    (headers(&attempt.request.headers))
                    (body(&attempt.request.body))
                    @if let Some(response) = &attempt.response {
                        h3 { "Its answer: " (response.status) ", after " (format::micros(response.at_us)) }
                        (headers(&response.headers))
                        (body(&response.body))
                    } @else { p.muted { "Nothing came back." } }
                }
            }
        }
        @if let Some(response) = &payloads.response {
            section.panel {
                header { h2 { "To the client" } span.muted.small { (response.status) ", after " (format::micros(response.at_us)) } }
                div.body { (headers(&response.headers)) (body(&response.body)) }
            }
        }
    }
}

fn headers(headers: &[Header]) -> Markup {
    html! {
        details.quiet {
            summary { (headers.len()) " headers" }
            (scrolling("Headers", html! {
                table { tbody { @for header in headers { tr { th.mono scope="row" { (header.name) } td.mono { (header.value) } } } } }
            }))
        }
    }
}

fn body(body: &Body) -> Markup {
    let pieces: Vec<(u64, &str)> =
        if body.chunks.len() > 1 { body.pieces().take(MOST_PIECES).collect() } else { Vec::new() };
    html! {
        p.small.muted { (format::count(body.bytes)) " bytes" @if body.cut { ", of which the beginning was kept" } }
        @match &body.content {
            Content::Text(text) if text.is_empty() => {}
            Content::Text(text) => {
                pre.wrap.tall tabindex="0" role="region" aria-label="Body" { code { (readable(text)) } }
            }
            Content::Base64(_) => { p.muted { "No text." } }
            Content::Withheld => { p.muted { "Withheld: it may hold a key that cannot be told from the rest." } }
        }
        @if !pieces.is_empty() {
            details.quiet {
                summary { (format::count(body.chunks.len() as u64)) " pieces, with their times" }
                div.scroll.tall tabindex="0" role="region" aria-label="Pieces" {
                    table {
                        thead { tr { th.num scope="col" { "After" } th scope="col" { "Piece" } } }
                        tbody { @for (at, piece) in &pieces { tr { td.num { (format::micros(*at)) } td.mono { (piece) } } } }
                    }
                }
            }
        }
    }
}

/// JSON in lines; anything else as it is; neither longer than can be looked at.
fn readable(text: &str) -> String {
    let whole = serde_json::from_str::<Value>(text).ok().and_then(|value| serde_json::to_string_pretty(&value).ok());
    let whole = whole.unwrap_or_else(|| text.to_owned());
    match whole.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}\u{2026}", whole.get(..end).unwrap_or_default()),
        None => whole,
    }
}

/// The model that the client's body names, where the whole body was kept and is JSON.
pub(super) fn model(payloads: &Payloads) -> Option<String> {
    Some(whole(payloads)?.get("model")?.as_str()?.to_owned())
}

/// The client's body, where all of it was kept and it is a JSON object.
pub(super) fn whole(payloads: &Payloads) -> Option<serde_json::Map<String, Value>> {
    let body = &payloads.request.body;
    match serde_json::from_str(body.text().filter(|_| !body.cut)?).ok()? {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// The request as it can be pasted into a shell, with a place for the key.
pub(super) fn curl(gateway: &str, payloads: &Payloads) -> String {
    let request = &payloads.request;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut text = format!("curl {}", quoted(&format!("{gateway}{}", request.url)));
    if request.method != "POST" {
        text += &format!(" -X {}", request.method);
    }
    text += " \\\n  -H \"Authorization: Bearer $ORBYT_API_KEY\"";
    let told = ["content-type", "anthropic-version", "anthropic-beta", "x-trace-id"];
    for header in request.headers.iter().filter(|header| told.contains(&header.name.as_str())) {
        text += &format!(" \\\n  -H {}", quoted(&format!("{}: {}", header.name, header.value)));
    }
    match request.body.text() {
        Some("") => {}
        Some(body) => text += &format!(" \\\n  --data-raw {}", quoted(body)),
        None => text += " \\\n  --data-binary @body",
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RequestId;
    use crate::domain::payloads::Request;

    fn payloads(body: &str) -> Payloads {
        let content = Content::Text(body.to_owned());
        let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned() };
        Payloads {
            id: RequestId::of(0, 1),
            arrived_unix_ms: 0,
            org: String::new(),
            project: String::new(),
            key_id: String::new(),
            key_name: String::new(),
            complete: true,
            request: Request {
                method: "POST".to_owned(),
                url: "/v1/chat/completions".to_owned(),
                headers: vec![header("content-type", "application/json"), header("cookie", "[masked]")],
                body: Body { content, ..Body::default() },
            },
            response: None,
            attempts: Vec::new(),
        }
    }

    #[test]
    fn a_curl_line_survives_the_shell_and_leaves_out_what_is_nobodys_business() {
        let line = curl("http://g", &payloads(r#"{"a":"it's $HOME `id`"}"#));
        assert!(line.contains(r#"--data-raw '{"a":"it'\''s $HOME `id`"}'"#), "{line}");
        assert!(line.contains("content-type") && !line.contains("cookie"), "{line}");
    }

    #[test]
    fn what_was_carried_is_shown_as_text() {
        let shown = sections(&payloads("<script>alert(1)</script>")).into_string();
        assert!(shown.contains("&lt;script&gt;") && !shown.contains("<script"), "{shown}");
        assert_eq!(readable(r#"{"b":1,"a":2}"#), "{\n  \"b\": 1,\n  \"a\": 2\n}");
    }
}
