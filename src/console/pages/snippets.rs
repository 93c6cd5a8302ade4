//! First requests that can be pasted: for the shell, and for the official OpenAI clients of Python and Node, with the address of this gateway and a
//! model of this configuration.

use super::layout::copyable;
use super::visit::Visit;
use crate::console::routes::Shared;
use maud::{Markup, html};

/// What the requests come with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct With<'a> {
    /// A key that was just made; by default the one in the environment.
    pub key: Option<&'a str>,
    /// The trace that they belong to.
    pub trace: Option<&'a str>,
}

/// The requests, one to be looked at at a time. `id` is unique on the page.
pub(super) fn first_requests(shared: &Shared, visit: &Visit, id: &str, with: With<'_>) -> Markup {
    let model = (shared.deps.snapshot)().example_model().unwrap_or_else(|| "auto".to_owned());
    let url = gateway(shared, visit);
    let all = [
        ("curl", "curl", curl(&url, &model, with)),
        ("python", "Python", python(&url, &model, with)),
        ("node", "Node", node(&url, &model, with)),
    ];
    html! {
        div.snippets {
            @for (at, (short, name, text)) in all.iter().enumerate() {
                @let id = format!("{id}-{short}");
                details.quiet name=(format!("{}-snippets", id)) open[at == 0] { summary { (name) } (copyable(&id, text)) }
            }
        }
    }
}

/// Where the gateway is for whoever looks at this page: the address that it listens on, or where that is any of the machine's the one by which its
/// console was reached.
pub(super) fn gateway(shared: &Shared, visit: &Visit) -> String {
    let url = shared.deps.gateway_urls.first().map_or("http://127.0.0.1:3001", |url| url.trim_end_matches('/'));
    as_reached(url, visit.host.as_deref())
}

fn as_reached(url: &str, host: Option<&str>) -> String {
    // With a port or without; an address of IPv6 has brackets.
    let name = host.map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    });
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte))
    };
    let name = name.filter(is_name).unwrap_or("127.0.0.1");
    let any = ["//0.0.0.0:", "//[::]:"].into_iter().find(|any| url.contains(any));
    any.map_or_else(|| url.to_owned(), |any| url.replacen(any, &format!("//{name}:"), 1))
}

/// As a literal of JSON, Python and JavaScript.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn curl(url: &str, model: &str, with: With<'_>) -> String {
    let key = with.key.unwrap_or("$ORBYT_API_KEY");
    let trace = with.trace.map(|trace| format!("  -H \"x-trace-id: {trace}\" \\\n")).unwrap_or_default();
    let model = quoted(model).replace('\'', r"'\''");
    format!(
        "curl {url}/v1/chat/completions \\\n  -H \"Authorization: Bearer {key}\" \\\n{trace}  -H \"Content-Type: application/json\" \\\n  \
         -d '{{\"model\": {model}, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    )
}

fn python(url: &str, model: &str, with: With<'_>) -> String {
    let (imports, key) = match with.key {
        Some(key) => ("", quoted(key)),
        None => ("import os\n\n", "os.environ[\"ORBYT_API_KEY\"]".to_owned()),
    };
    let trace = with
        .trace
        .map(|trace| format!("    extra_headers={{\"x-trace-id\": {}}},\n", quoted(trace)))
        .unwrap_or_default();
    format!(
        "# pip install openai\n{imports}from openai import OpenAI\n\nclient = OpenAI(base_url=\"{url}/v1\", api_key={key})\nanswer = \
         client.chat.completions.create(\n    model={},\n    messages=[{{\"role\": \"user\", \"content\": \"Hello\"}}],\n{trace})\n\
         print(answer.choices[0].message.content)",
        quoted(model)
    )
}

fn node(url: &str, model: &str, with: With<'_>) -> String {
    let key = with.key.map_or_else(|| "process.env.ORBYT_API_KEY".to_owned(), quoted);
    let trace = with.trace.map(|trace| format!(", {{ headers: {{ \"x-trace-id\": {} }} }}", quoted(trace)));
    format!(
        "// npm install openai\nimport OpenAI from \"openai\";\n\nconst client = new OpenAI({{ baseURL: \"{url}/v1\", apiKey: {key} }});\n\
         const answer = await client.chat.completions.create({{\n  model: {},\n  messages: [{{ role: \"user\", content: \"Hello\" }}],\n\
         }}{});\nconsole.log(answer.choices[0].message.content);",
        quoted(model),
        trace.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_listens_everywhere_is_where_its_console_was_reached() {
        let reached = |url: &str, host: &str| as_reached(url, Some(host));
        assert_eq!(reached("http://0.0.0.0:3001", "gw.example:4000"), "http://gw.example:3001");
        assert_eq!(reached("http://[::]:3001", "[2001:db8::1]:4000"), "http://[2001:db8::1]:3001");
        assert_eq!(reached("http://0.0.0.0:3001", "gw.example"), "http://gw.example:3001");
        assert_eq!(reached("http://10.0.0.1:3001", "gw.example"), "http://10.0.0.1:3001");
        assert_eq!(reached("http://0.0.0.0:3001", "a\"b $(id)"), "http://127.0.0.1:3001");
        assert_eq!(as_reached("http://0.0.0.0:3001", None), "http://127.0.0.1:3001");
    }

    #[test]
    fn a_name_with_quotes_stays_in_its_quotes() {
        let (url, with) = ("http://g", With { key: None, trace: Some("run-1") });
        let line = curl(url, "it's \"x\"", with);
        assert!(line.contains(r#"{"model": "it'\''s \"x\"", "#) && line.contains("x-trace-id: run-1"), "{line}");
        assert!(
            python(url, "\"", with).contains("model=\"\\\"\",\n")
                && node(url, "\"", with).contains("model: \"\\\"\",\n")
        );
    }
}
