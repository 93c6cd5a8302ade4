//! What an answer has to know of its request: the members that a response object repeats, and the client's names of its tools.

use super::tools::Toolbox;
use crate::dialect::openai_chat::write;
use serde_json::{Map, Value, json};

/// The members that a response object repeats, each with what OpenAI says where the client said nothing.
const REPEATED: [(&str, Default); 19] = [
    ("instructions", Default::Null),
    ("max_output_tokens", Default::Null),
    ("max_tool_calls", Default::Null),
    ("metadata", Default::Object),
    ("parallel_tool_calls", Default::True),
    ("previous_response_id", Default::Null),
    ("prompt_cache_key", Default::Null),
    ("safety_identifier", Default::Null),
    ("service_tier", Default::Word("default")),
    ("store", Default::True),
    ("temperature", Default::Null),
    ("tool_choice", Default::Word("auto")),
    ("tools", Default::List),
    ("top_logprobs", Default::Null),
    ("top_p", Default::Null),
    ("truncation", Default::Word("disabled")),
    ("user", Default::Null),
    ("reasoning", Default::Reasoning),
    ("text", Default::Text),
];

#[derive(Clone, Copy)]
enum Default {
    Null,
    True,
    Object,
    List,
    Word(&'static str),
    Reasoning,
    Text,
}

impl Default {
    fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::True => Value::Bool(true),
            Self::Object => json!({}),
            Self::List => json!([]),
            Self::Word(word) => word.into(),
            Self::Reasoning => json!({"effort": null, "summary": null}),
            Self::Text => json!({"format": {"type": "text"}}),
        }
    }
}

/// What an answer has to know of its request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The repeated members as JSON, with commas between them and none at the ends.
    pub echo: Vec<u8>,
    /// The client's tools.
    pub toolbox: Toolbox,
}

impl Asked {
    /// What of a request's members is repeated. `previous` is the id of the response that the request goes on from, where the gateway
    /// has put that one's items into the request.
    pub fn new(members: &Map<String, Value>, previous: Option<&str>, toolbox: Toolbox) -> Self {
        let mut echo = Vec::new();
        for (name, default) in REPEATED {
            if !echo.is_empty() {
                echo.push(b',');
            }
            write::string(name, &mut echo);
            echo.push(b':');
            let given = members.get(name).filter(|value| !value.is_null());
            match (name, previous, given) {
                ("previous_response_id", Some(id), _) => write::string(id, &mut echo),
                // `auto` is no tier that an answer can have.
                ("service_tier", _, Some(Value::String(tier))) if tier == "auto" => {
                    write::value(&default.value(), &mut echo);
                }
                ("text" | "reasoning", _, Some(Value::Object(given))) => {
                    let mut whole = default.value();
                    if let Value::Object(whole) = &mut whole {
                        whole.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
                    }
                    write::value(&whole, &mut echo);
                }
                (.., Some(given)) => write::value(given, &mut echo),
                (.., None) => write::value(&default.value(), &mut echo),
            }
        }
        Self { echo, toolbox }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(members: Value, previous: Option<&str>) -> Value {
        let Value::Object(members) = members else { panic!("an object") };
        let asked = Asked::new(&members, previous, Toolbox::default());
        serde_json::from_slice(&[b"{", &asked.echo[..], b"}"].concat()).unwrap()
    }

    #[test]
    fn repeats_what_was_asked_for_and_openais_defaults() {
        let told = echo(
            json!({"instructions": "be brief", "tools": [{"type": "function", "name": "f"}], "text": {"verbosity": "low"},
                   "store": false, "input": "x", "temperature": null, "service_tier": "auto"}),
            Some("resp_1"),
        );
        assert_eq!(told["instructions"], "be brief");
        assert_eq!(told["tools"][0]["name"], "f");
        assert_eq!(told["text"], json!({"format": {"type": "text"}, "verbosity": "low"}));
        assert_eq!((&told["store"], &told["parallel_tool_calls"]), (&json!(false), &json!(true)));
        assert_eq!((&told["previous_response_id"], &told["service_tier"]), (&json!("resp_1"), &json!("default")));
        assert_eq!((&told["tool_choice"], &told["metadata"]), (&json!("auto"), &json!({})));
        assert!(told.get("input").is_none());
    }
}
