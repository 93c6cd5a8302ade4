//! Tools of a request, and how what the model calls is told back in the client's words.
//!
//! The hub knows functions only. What a client runs itself can be said as one: a custom tool (free text) becomes a function with one
//! argument `input`, a namespace's tools get its name in front, a tool search that the client runs is a function of its own. Tools that
//! OpenAI runs (web search, files, code, MCP, computers, pictures) cannot.

use crate::dialect::chat::{Tool, ToolChoice};
use crate::dialect::openai_chat::fields::{Fields, Path};
use crate::domain::Fault;
use serde_json::{Value, json};
use std::borrow::Cow;

/// What stands between a namespace and a tool's own name.
const JOINT: &str = "__";
/// The hub's name of a tool search that the client runs.
pub const SEARCH: &str = "tool_search";

/// What kind of item a call is told as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallKind {
    /// `function_call`.
    #[default]
    Function,
    /// `custom_tool_call`: its input is free text.
    Custom,
    /// `tool_search_call`, run by the client.
    Search,
}

/// A tool by the client's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    hub: String,
    kind: CallKind,
    namespace: Option<String>,
    name: String,
}

/// The client's tools: for the hub, and the way back from the hub's names.
#[derive(Clone, Debug, Default)]
pub struct Toolbox {
    /// For the provider.
    pub tools: Vec<Tool>,
    /// Those that are not plain functions.
    known: Vec<Known>,
}

impl Toolbox {
    /// Takes the tools of a list, a namespace's under its name. A tool that is there already is replaced.
    ///
    /// # Errors
    /// `BadRequest` that names the place: a wrong type, or a tool that only OpenAI can run.
    pub fn add_all(&mut self, list: Vec<Value>, path: &Path<'_>, namespace: Option<&str>) -> Result<(), Fault> {
        for (place, value) in list.into_iter().enumerate() {
            let path = path.item(place);
            let mut fields = Fields::of(value, &path)?;
            let kind = fields.required_text("type")?;
            match kind.as_str() {
                "function" => self.function(&mut fields, namespace)?,
                "custom" => self.custom(&mut fields, namespace)?,
                "namespace" if namespace.is_none() => {
                    let name = fields.required_text("name")?;
                    let inner = path.member("tools");
                    self.add_all(fields.list("tools")?.unwrap_or_default(), &inner, Some(&name))?;
                }
                "tool_search" if fields.text("execution")?.as_deref() == Some("client") => self.search(&mut fields)?,
                _ => return Err(hosted(&path.member("type"), &kind)),
            }
        }
        Ok(())
    }

    /// The kind, the namespace and the client's own name of what the hub calls `hub`.
    pub fn origin<'a>(&'a self, hub: &'a str) -> (CallKind, Option<&'a str>, &'a str) {
        match self.known.iter().find(|known| known.hub == hub) {
            Some(known) => (known.kind, known.namespace.as_deref(), &known.name),
            None => (CallKind::Function, None, hub),
        }
    }

    fn function(&mut self, fields: &mut Fields<'_>, namespace: Option<&str>) -> Result<(), Fault> {
        let name = fields.required_text("name")?;
        let parameters = fields.any("parameters");
        if parameters.as_ref().is_some_and(|schema| !schema.is_object()) {
            return Err(fields.path.member("parameters").must_be("a JSON schema"));
        }
        let tool = Tool {
            name: hub_name(namespace, &name).into_owned(),
            description: fields.text("description")?,
            parameters,
            strict: fields.boolean("strict")?,
            cache_control: fields.any("cache_control"),
        };
        self.put(tool, CallKind::Function, namespace, name);
        Ok(())
    }

    fn custom(&mut self, fields: &mut Fields<'_>, namespace: Option<&str>) -> Result<(), Fault> {
        let name = fields.required_text("name")?;
        let mut description = fields.text("description")?.unwrap_or_default();
        if let Some(format) = fields.any("format")
            && format["type"] == "grammar"
        {
            let syntax = format["syntax"].as_str().unwrap_or("lark");
            let definition = format["definition"].as_str().unwrap_or_default();
            description.push_str(&format!("\n\nThe input must match this {syntax} grammar:\n{definition}"));
        }
        let tool = Tool {
            name: hub_name(namespace, &name).into_owned(),
            description: Some(description.trim_start().to_owned()).filter(|text| !text.is_empty()),
            parameters: Some(json!({
                "type": "object",
                "properties": {"input": {"type": "string", "description": "The whole input of the tool, as plain text."}},
                "required": ["input"],
                "additionalProperties": false,
            })),
            strict: None,
            cache_control: None,
        };
        self.put(tool, CallKind::Custom, namespace, name);
        Ok(())
    }

    fn search(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        let tool = Tool {
            name: SEARCH.to_owned(),
            description: fields.text("description")?,
            parameters: fields.any("parameters").filter(Value::is_object),
            strict: None,
            cache_control: None,
        };
        self.put(tool, CallKind::Search, None, SEARCH.to_owned());
        Ok(())
    }

    fn put(&mut self, tool: Tool, kind: CallKind, namespace: Option<&str>, name: String) {
        let hub = tool.name.clone();
        self.known.retain(|known| known.hub != hub);
        if kind != CallKind::Function || hub != name {
            self.known.push(Known { hub, kind, namespace: namespace.map(str::to_owned), name });
        }
        match self.tools.iter_mut().find(|known| known.name == tool.name) {
            Some(known) => *known = tool,
            None => self.tools.push(tool),
        }
    }
}

/// The hub's name of a tool. OpenAI gives a tool that its own search has found a namespace of the same name; that one says nothing.
pub fn hub_name<'a>(namespace: Option<&str>, name: &'a str) -> Cow<'a, str> {
    match namespace {
        Some(namespace) if namespace != name => format!("{namespace}{JOINT}{name}").into(),
        _ => name.into(),
    }
}

/// The arguments of the function that stands for a custom tool.
pub fn custom_arguments(input: &str) -> String {
    json!({ "input": input }).to_string()
}

/// The input of a custom tool from its function's arguments; the arguments themselves where a model keeps to no schema.
pub fn custom_input(arguments: &str) -> Cow<'_, str> {
    let parsed: Option<Value> = serde_json::from_str(arguments).ok();
    match parsed.as_ref().and_then(|value| value["input"].as_str()) {
        Some(input) => input.to_owned().into(),
        None => arguments.into(),
    }
}

/// Reads `tool_choice`.
///
/// # Errors
/// `BadRequest` when it names a tool that only OpenAI can run, or has another form than OpenAI's.
pub fn choice(value: Value) -> Result<ToolChoice, Fault> {
    let path = Path::top("tool_choice");
    let expected = "\"auto\", \"none\", \"required\" or an object that names a tool";
    let mut fields = match value {
        Value::String(word) => {
            return match word.as_str() {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                "required" => Ok(ToolChoice::Required),
                _ => Err(path.must_be(expected)),
            };
        }
        value => Fields::of(value, &path).map_err(|_| path.must_be(expected))?,
    };
    let kind = fields.required_text("type")?;
    match kind.as_str() {
        "function" | "custom" => Ok(ToolChoice::Function(named(&mut fields)?)),
        "tool_search" => Ok(ToolChoice::Function(SEARCH.to_owned())),
        "allowed_tools" => {
            let required = match fields.text("mode")?.as_deref() {
                Some("required") => true,
                Some("auto") | None => false,
                Some(_) => return Err(path.member("mode").must_be("\"auto\" or \"required\"")),
            };
            let list = path.member("tools");
            let tools = fields.list("tools")?.ok_or_else(|| list.must_be("given"))?;
            let names = tools.into_iter().enumerate().map(|(place, value)| {
                let path = list.item(place);
                let mut tool = Fields::of(value, &path)?;
                let kind = tool.required_text("type")?;
                match kind.as_str() {
                    "function" | "custom" => named(&mut tool),
                    "tool_search" => Ok(SEARCH.to_owned()),
                    _ => Err(hosted(&path.member("type"), &kind)),
                }
            });
            Ok(ToolChoice::Allowed { names: names.collect::<Result<_, _>>()?, required })
        }
        _ => Err(hosted(&path.member("type"), &kind)),
    }
}

fn named(fields: &mut Fields<'_>) -> Result<String, Fault> {
    let namespace = fields.text("namespace")?;
    let name = fields.required_text("name")?;
    Ok(hub_name(namespace.as_deref(), &name).into_owned())
}

fn hosted(path: &Path<'_>, kind: &str) -> Fault {
    path.fault(format!(
        "{path}: a tool of type \"{kind}\" is built into OpenAI's own models; the provider of this model takes tools of type \"function\", \
         \"custom\" and \"namespace\" only"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolbox(list: Value) -> Result<Toolbox, Fault> {
        let mut toolbox = Toolbox::default();
        let Value::Array(list) = list else { panic!("a list") };
        toolbox.add_all(list, &Path::top("tools"), None).map(|()| toolbox)
    }

    #[test]
    fn tools_that_the_client_runs_become_functions_and_are_told_back_in_its_words() {
        let toolbox = toolbox(json!([
            {"type": "function", "name": "shell", "description": "d", "parameters": {"type": "object"}, "strict": false},
            {"type": "custom", "name": "apply_patch", "description": "Edit.",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
            {"type": "namespace", "name": "agents", "description": "", "tools": [
                {"type": "function", "name": "close", "parameters": {"type": "object"}}]},
            {"type": "tool_search", "execution": "client", "description": "find", "parameters": {"type": "object"}},
        ]))
        .unwrap();
        let names: Vec<&str> = toolbox.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["shell", "apply_patch", "agents__close", "tool_search"]);
        let patch = &toolbox.tools[1];
        assert_eq!(patch.description.as_deref(), Some("Edit.\n\nThe input must match this lark grammar:\nstart: x"));
        assert_eq!(patch.parameters.as_ref().unwrap()["required"], json!(["input"]));
        assert_eq!(toolbox.origin("shell"), (CallKind::Function, None, "shell"));
        assert_eq!(toolbox.origin("apply_patch"), (CallKind::Custom, None, "apply_patch"));
        assert_eq!(toolbox.origin("agents__close"), (CallKind::Function, Some("agents"), "close"));
        assert_eq!(toolbox.origin("tool_search"), (CallKind::Search, None, "tool_search"));
        assert_eq!(hub_name(Some("weather"), "weather"), "weather");
    }

    #[test]
    fn tools_that_openai_runs_are_refused_by_name() {
        for kind in [
            "web_search",
            "web_search_preview",
            "file_search",
            "code_interpreter",
            "computer_use_preview",
            "mcp",
            "image_generation",
            "local_shell",
            "shell",
            "apply_patch",
            "tool_search",
        ] {
            let list = json!([{"type": "function", "name": "f"}, {"type": kind}]);
            let fault = toolbox(list).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some("tools[1].type"), "{kind}");
            assert!(fault.message.contains(kind) && fault.message.contains("OpenAI"), "{}", fault.message);
        }
        assert_eq!(choice(json!({"type": "web_search"})).unwrap_err().param.as_deref(), Some("tool_choice.type"));
    }

    #[test]
    fn reads_every_choice() {
        assert_eq!(choice(json!("auto")), Ok(ToolChoice::Auto));
        assert_eq!(choice(json!("none")), Ok(ToolChoice::None));
        assert_eq!(choice(json!("required")), Ok(ToolChoice::Required));
        assert_eq!(choice(json!({"type": "function", "name": "f"})), Ok(ToolChoice::Function("f".into())));
        assert_eq!(choice(json!({"type": "custom", "name": "p"})), Ok(ToolChoice::Function("p".into())));
        let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [
            {"type": "function", "name": "a"}, {"type": "custom", "name": "b"}]});
        assert_eq!(choice(allowed), Ok(ToolChoice::Allowed { names: vec!["a".into(), "b".into()], required: true }));
        for wrong in [json!("any"), json!(3), json!({"name": "f"}), json!({"type": "allowed_tools", "mode": "x"})] {
            assert!(choice(wrong).is_err());
        }
    }

    #[test]
    fn free_text_survives_the_function() {
        for text in ["*** Begin Patch\n+\"a\"\\\n*** End Patch", "", "ü"] {
            assert_eq!(custom_input(&custom_arguments(text)), text);
        }
        assert_eq!(custom_input("not json"), "not json");
        assert_eq!(custom_input("{\"patch\":\"x\"}"), "{\"patch\":\"x\"}");
    }
}
