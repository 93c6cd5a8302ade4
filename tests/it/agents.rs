//! Coding agents: twenty requests of one loop, as the Codex CLI sends them to `/v1/responses` and Claude Code to `/v1/messages`, over every
//! provider's format.
//!
//! What an agent pays for is the beginning of its conversation: each request begins, to the provider, with the bytes of the one before. And
//! what a model thought comes back to it signed as it was; the simulated providers refuse a signature that is not theirs.

use crate::gateway::{Gateway, KEY};
use crate::messages::Message;
use crate::responses::response;
use orbyt::sim::client::Answer;
use orbyt::sim::{Call, Sim, SimDialect};
use serde_json::{Value, json};

/// How many requests a loop has.
const STEPS: usize = 20;
/// After so many the model answers, and its user asks for more.
const ANSWER_AT: usize = 11;

/// A provider, a model of it that thinks, and how the thoughts of a turn look in its requests.
const UPSTREAMS: [(&str, SimDialect, &str, &str); 7] = [
    ("openai", SimDialect::OpenAi, "o4-mini", r#""encrypted_content":"c2lt"#),
    // Nobody knows of it that it has `/responses`; thoughts have no place in chat completions.
    ("compatible", SimDialect::OpenAi, "sim-ok", ""),
    ("anthropic", SimDialect::Anthropic, "claude-sonnet-4-5", r#""signature":"c2lt"#),
    ("google", SimDialect::Gemini, "gemini-2.5-flash", r#""thoughtSignature":"c2lt"#),
    ("cohere", SimDialect::Cohere, "command-a-plus-05-2026", r#""thinking":"The user says"#),
    ("ollama", SimDialect::Ollama, "qwen3", r#""thinking":"The user says"#),
    ("bedrock", SimDialect::Bedrock, "us.anthropic.claude-sonnet-4-20250514-v1:0", r#""signature":"c2lt"#),
];

/// The tools of an agent; two of them are called at once.
const TOOLS: [&str; 16] = [
    "Read", "Bash", "Edit", "Write", "Glob", "Grep", "Task", "Fetch", "Search", "Plan", "Ask", "Todo", "Skill", "Kill",
    "List", "Done",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Agent {
    Codex,
    ClaudeCode,
}

impl Agent {
    fn first_request(self, model: &str) -> Value {
        let schema = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"],
                            "additionalProperties": false});
        match self {
            Self::Codex => {
                let tool = |name| json!({"type": "function", "name": name, "parameters": schema, "strict": false});
                json!({
                    "model": model, "instructions": "You are a coding agent.", "stream": true, "store": false,
                    "tools": TOOLS.map(tool), "tool_choice": "auto", "parallel_tool_calls": true,
                    "reasoning": {"effort": "high", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
                    "prompt_cache_key": "k", "max_output_tokens": 20_000,
                    "input": [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
                              {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Read, then Bash."}]}],
                })
            }
            Self::ClaudeCode => {
                let mut tools =
                    TOOLS.map(|name| json!({"name": name, "description": "Does it.", "input_schema": schema}));
                let mark = json!({"type": "ephemeral"});
                tools[TOOLS.len() - 1]["cache_control"] = mark.clone();
                json!({
                    "model": model, "max_tokens": 8000, "stream": true, "tools": tools,
                    "thinking": {"type": "enabled", "budget_tokens": 2000}, "metadata": {"user_id": "user_1_session_2"},
                    "system": [{"type": "text", "text": "You are Claude Code.", "cache_control": mark},
                               {"type": "text", "text": "Rules.", "cache_control": mark}],
                    "messages": [{"role": "user", "content": [{"type": "text", "text": "Read, then Bash.", "cache_control": mark}]}],
                })
            }
        }
    }

    fn history(self, request: &mut Value) -> &mut Vec<Value> {
        let name = if self == Self::Codex { "input" } else { "messages" };
        request[name].as_array_mut().unwrap()
    }

    async fn ask(self, gateway: &Gateway, request: &Value) -> Answer {
        let key = format!("Bearer {KEY}");
        match self {
            Self::Codex => gateway.ask("/v1/responses", &[("authorization", &key)], request).await,
            Self::ClaudeCode => gateway.messages("/v1/messages?beta=true", request).await,
        }
    }

    /// What the model said, as it goes back, and the ids of the calls in it.
    fn read(self, answer: &Answer) -> (Vec<Value>, Vec<Value>) {
        if self == Self::ClaudeCode {
            let message = Message::of(answer);
            assert!(message.complete, "{}", answer.body_text());
            let calls = message.calls().iter().map(|call| call["id"].clone()).collect();
            return (vec![json!({"role": "assistant", "content": message.value["content"]})], calls);
        }
        let items = response(answer)["output"].as_array().unwrap().clone();
        let calls = items.iter().filter(|item| item["type"] == "function_call").map(|item| item["call_id"].clone());
        let calls = calls.collect();
        (items, calls)
    }

    fn results(self, calls: &[Value], text: &str) -> Vec<Value> {
        match self {
            Self::Codex => {
                let result = |call| json!({"type": "function_call_output", "call_id": call, "output": text});
                calls.iter().map(result).collect()
            }
            Self::ClaudeCode => {
                let result = |call| json!({"type": "tool_result", "tool_use_id": call, "content": [{"type": "text", "text": text}]});
                vec![json!({"role": "user", "content": calls.iter().map(result).collect::<Vec<_>>()})]
            }
        }
    }
}

async fn play(agent: Agent) {
    let sims = UPSTREAMS.map(|(_, dialect, ..)| Sim::start(dialect).unwrap());
    let mut builder = Gateway::builder();
    for ((id, ..), sim) in UPSTREAMS.iter().zip(&sims) {
        builder = builder.provider(id, sim);
    }
    let gateway = builder.start().await;
    for ((id, _, model, thought), sim) in UPSTREAMS.iter().zip(&sims) {
        let mut request = agent.first_request(&format!("{id}/{model}"));
        for step in 1..=STEPS {
            let answer = agent.ask(&gateway, &request).await;
            assert_eq!(answer.status, 200, "{agent:?} at {id}, step {step}: {}", answer.body_text());
            let (said, calls) = agent.read(&answer);
            let ends = step == ANSWER_AT;
            assert_eq!(calls.len(), if ends { 0 } else { 2 }, "{agent:?} at {id}, step {step}: {said:?}");
            let next = if step + 1 == ANSWER_AT { "that is all" } else { "next: Read, next: Bash" };
            let results = match ends {
                true => vec![json!({"role": "user", "content": "Now Read and Bash again."})],
                false => agent.results(&calls, &format!("result {step}; {next}")),
            };
            let history = agent.history(&mut request);
            history.extend(said);
            history.extend(results);
        }
        let calls: Vec<Call> = sim.calls().into_iter().filter(Call::is_generation).collect();
        assert_eq!(calls.len(), STEPS, "{agent:?} at {id}");
        let bodies: Vec<_> = calls.iter().map(|call| String::from_utf8(call.body.clone()).unwrap()).collect();
        for (one, other) in bodies.iter().zip(&bodies[1..]) {
            let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            let (end, more) = (&one[same..], &other[same..]);
            assert!(end.starts_with(']') && more.starts_with(','), "{agent:?} at {id}: {end:.60} / {more:.60}");
        }
        // Chat completions take no thoughts back.
        let keeps = !thought.is_empty() && (*id != "openai" || agent == Agent::Codex);
        let last = &bodies[STEPS - 1];
        // Gemini signs the call and the end of the text.
        assert!(
            !keeps || last.matches(thought).count() >= STEPS - 1,
            "{agent:?} at {id}: {} in {}",
            last.matches(thought).count(),
            &last[last.len() - 1500..]
        );
    }
}

#[tokio::test]
async fn codex_goes_on_for_twenty_steps_at_every_provider() {
    play(Agent::Codex).await;
}

#[tokio::test]
async fn claude_code_goes_on_for_twenty_steps_at_every_provider() {
    play(Agent::ClaudeCode).await;
}
