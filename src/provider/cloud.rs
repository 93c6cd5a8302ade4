//! The clouds that host other makers' models: where in a cloud a model is asked, in which format, and what that changes of the body.
//!
//! | cloud | path | format |
//! |---|---|---|
//! | `azure` | `/openai/v1/chat/completions`, or `/openai/deployments/{d}/chat/completions?api-version=…` | OpenAI's |
//! | | `/openai/v1/responses`, or `/openai/responses?api-version=…` | OpenAI's Responses |
//! | `bedrock` | `/model/{m}/converse[-stream]` | Converse |
//! | `vertex` | `/v1/projects/{p}/locations/{l}/publishers/google/models/{m}:generateContent` | Gemini's |
//! | | `…/publishers/anthropic/models/{m}:rawPredict`, `:streamRawPredict` | Anthropic's, without `model` |
//! | | `…/endpoints/openapi/chat/completions`, for a model that is named with its maker (`maker/model`) | OpenAI's |
//!
//! Sources: the API references of Azure OpenAI, Amazon Bedrock and Vertex AI.

use super::model::ModelRow;
use crate::dialect::openai_chat::edit::{Cutter, Edits};
use crate::dialect::openai_chat::scan::{Cursor, Invalid};
use crate::dialect::table::Dialect;
use std::borrow::Cow;
use std::sync::Arc;

/// The clouds, by the ids of their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloudKind {
    /// Microsoft's.
    Azure,
    /// Amazon's.
    Bedrock,
    /// Google's.
    Vertex,
}

impl CloudKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Azure, Self::Bedrock, Self::Vertex];

    /// Its name, which is the id of its row as well.
    pub fn name(self) -> &'static str {
        match self {
            Self::Azure => "azure",
            Self::Bedrock => "bedrock",
            Self::Vertex => "vertex",
        }
    }

    /// The cloud of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cloud| cloud.name() == name)
    }
}

/// A place in a cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// A resource of Azure's, with the version of its API; without one, or with a word instead of a date, the versionless paths.
    Azure {
        /// `2024-10-21`, or `preview`.
        api_version: Option<Arc<str>>,
    },
    /// A region of Amazon's, which signatures name.
    Bedrock {
        /// `us-east-1`.
        region: Arc<str>,
    },
    /// A project of Google's in a place.
    Vertex {
        /// The project's id.
        project: Arc<str>,
        /// `us-central1`, or `global`.
        location: Arc<str>,
    },
}

/// What Anthropic's format needs on Vertex in the place of its version header.
const VERTEX_ANTHROPIC: &[u8] = b"\"anthropic_version\":\"vertex-2023-10-16\"";

impl Cloud {
    /// The host of a region or location, scheme included; `None` for Azure, where every resource has its own.
    pub fn base_url(&self) -> Option<String> {
        Some(match self {
            Self::Azure { .. } => return None,
            Self::Bedrock { region } if region.starts_with("cn-") => {
                format!("https://bedrock-runtime.{region}.amazonaws.com.cn")
            }
            Self::Bedrock { region } => format!("https://bedrock-runtime.{region}.amazonaws.com"),
            Self::Vertex { location, .. } => match &**location {
                "global" => "https://aiplatform.googleapis.com".to_owned(),
                "us" | "eu" => format!("https://aiplatform.{location}.rep.googleapis.com"),
                region => format!("https://{region}-aiplatform.googleapis.com"),
            },
        })
    }

    /// The format that a model is asked in. `own` is the provider's.
    pub fn dialect(&self, own: Dialect, model: &ModelRow) -> Dialect {
        let Self::Vertex { .. } = self else { return own };
        match publisher(model) {
            (Some("google") | None, _) => own,
            (Some("anthropic"), _) => Dialect::AnthropicMessages,
            (Some(_), true) => Dialect::OpenAiChat,
            (Some(_), false) => own,
        }
    }

    /// The path of a request below the base URL, query included.
    pub fn path(&self, dialect: Dialect, model: &ModelRow, stream: bool) -> String {
        let upstream = &*model.upstream;
        match self {
            Self::Bedrock { .. } => dialect.path(upstream, stream),
            Self::Azure { api_version: Some(version) } if is_dated(version) => {
                format!("/openai/deployments/{}/chat/completions?api-version={version}", escaped(upstream))
            }
            Self::Azure { api_version: Some(version) } if **version != *"v1" => {
                format!("/openai/v1/chat/completions?api-version={version}")
            }
            Self::Azure { .. } => "/openai/v1/chat/completions".to_owned(),
            Self::Vertex { project, location } => {
                let place = format!("/v1/projects/{}/locations/{}", escaped(project), escaped(location));
                let name = escaped(publisher_and_name(upstream).1);
                match dialect {
                    Dialect::OpenAiChat => format!("{place}/endpoints/openapi/chat/completions"),
                    Dialect::AnthropicMessages => {
                        let method = if stream { "streamRawPredict" } else { "rawPredict" };
                        format!("{place}/publishers/anthropic/models/{name}:{method}")
                    }
                    _ => {
                        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
                        // A tuned model is asked at the endpoint that it is deployed to, which has a number.
                        let tuned = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
                        let kind = if tuned { "endpoints" } else { "publishers/google/models" };
                        format!("{place}/{kind}/{name}:{method}")
                    }
                }
            }
        }
    }

    /// The path of OpenAI's Responses where it is not beside the chat completions: dated versions of Azure's have them at no deployment.
    pub fn responses_path(&self) -> Option<String> {
        match self {
            Self::Azure { api_version: Some(version) } if is_dated(version) => {
                Some(format!("/openai/responses?api-version={version}"))
            }
            _ => None,
        }
    }

    /// The body as the cloud takes it: for Anthropic's models on Vertex the path names the model and the body the version.
    pub fn body(&self, dialect: Dialect, body: Vec<u8>) -> Vec<u8> {
        match (self, dialect) {
            (Self::Vertex { .. }, Dialect::AnthropicMessages) => on_vertex(&body).unwrap_or(body),
            _ => body,
        }
    }
}

/// Takes `model` out of an object and puts the version in; `None` for what is no object.
fn on_vertex(body: &[u8]) -> Option<Vec<u8>> {
    let (mut edits, mut cutter, mut others) = (Edits::default(), Cutter::default(), 0);
    let mut cursor = Cursor::new(body, 0);
    let start = body.iter().position(|byte| *byte == b'{')? + 1;
    let read = cursor.object::<Invalid>(|cursor, key| {
        let value = cursor.value()?;
        if matches!(&body[key.clone()], b"\"model\"" | b"\"anthropic_version\"") {
            edits.replace(cutter.cut(body, key.start..value.end), &[]);
        } else {
            cutter.keep(value.end);
            others += 1;
        }
        Ok(())
    });
    read.ok()?;
    edits.insert(start, &[VERTEX_ANTHROPIC, if others > 0 { b"," } else { b"" }]);
    let mut out = Vec::new();
    edits.apply(body, &mut out);
    Some(out)
}

/// Whether a version of Azure's API is a date and not a word: those have the paths of deployments.
fn is_dated(version: &str) -> bool {
    version.starts_with(|c: char| c.is_ascii_digit())
}

/// Who publishes a model on Vertex, and whether its name says so.
fn publisher(model: &ModelRow) -> (Option<&str>, bool) {
    match publisher_and_name(&model.upstream) {
        (Some(publisher), _) => (Some(publisher), true),
        (None, _) => (model.maker.as_deref(), false),
    }
}

/// The parts of `maker/model`, also at the end of `publishers/maker/models/model`.
fn publisher_and_name(upstream: &str) -> (Option<&str>, &str) {
    let short = upstream.strip_prefix("publishers/").unwrap_or(upstream);
    match short.split_once('/') {
        Some((maker, name)) => (Some(maker), name.strip_prefix("models/").unwrap_or(name)),
        None => (None, short),
    }
}

/// A segment of a path, so that a name can name nothing but itself.
fn escaped(segment: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@');
    if segment.bytes().all(plain) && !matches!(segment, "." | "..") {
        return Cow::Borrowed(segment);
    }
    let escape =
        |byte: u8| if plain(byte) && byte != b'.' { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    Cow::Owned(segment.bytes().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalog;

    fn model(provider: &str, name: &str) -> ModelRow {
        Catalog::builtin().unwrap().unknown_model_at(provider, name)
    }

    fn asked(cloud: &Cloud, own: Dialect, name: &str, stream: bool) -> (Dialect, String) {
        let model = model("vertex", name);
        let dialect = cloud.dialect(own, &model);
        (dialect, cloud.path(dialect, &model, stream))
    }

    #[test]
    fn vertex_has_a_path_for_each_maker() {
        let cloud = Cloud::Vertex { project: "p".into(), location: "us-east5".into() };
        let place = "/v1/projects/p/locations/us-east5";
        for (name, stream, dialect, path) in [
            ("gemini-2.5-flash", false, Dialect::Gemini, "/publishers/google/models/gemini-2.5-flash:generateContent"),
            (
                "google/gemini-2.5-flash",
                true,
                Dialect::Gemini,
                "/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            ),
            ("1234567", false, Dialect::Gemini, "/endpoints/1234567:generateContent"),
            (
                "claude-sonnet-4-5@20250929",
                false,
                Dialect::AnthropicMessages,
                "/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict",
            ),
            (
                "publishers/anthropic/models/claude-x",
                true,
                Dialect::AnthropicMessages,
                "/publishers/anthropic/models/claude-x:streamRawPredict",
            ),
            ("meta/llama-9-maas", true, Dialect::OpenAiChat, "/endpoints/openapi/chat/completions"),
            ("../x", false, Dialect::OpenAiChat, "/endpoints/openapi/chat/completions"),
            ("a?b", false, Dialect::Gemini, "/publishers/google/models/a%3Fb:generateContent"),
        ] {
            assert_eq!(asked(&cloud, Dialect::Gemini, name, stream), (dialect, format!("{place}{path}")), "{name}");
        }
    }

    #[test]
    fn azure_has_two_kinds_of_paths() {
        let path = |version: Option<&str>| {
            let cloud = Cloud::Azure { api_version: version.map(Arc::from) };
            asked(&cloud, Dialect::OpenAiChat, "my gpt", false).1
        };
        assert_eq!(path(None), "/openai/v1/chat/completions");
        assert_eq!(path(Some("v1")), "/openai/v1/chat/completions");
        assert_eq!(path(Some("preview")), "/openai/v1/chat/completions?api-version=preview");
        assert_eq!(path(Some("2024-10-21")), "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21");
        let responses = |version: &str| Cloud::Azure { api_version: Some(version.into()) }.responses_path();
        assert_eq!(
            responses("2025-03-01-preview").as_deref(),
            Some("/openai/responses?api-version=2025-03-01-preview")
        );
        assert_eq!(responses("preview"), None);
    }

    #[test]
    fn each_place_has_its_host() {
        let vertex = |location: &str| Cloud::Vertex { project: "p".into(), location: location.into() }.base_url();
        assert_eq!(vertex("global").as_deref(), Some("https://aiplatform.googleapis.com"));
        assert_eq!(vertex("eu").as_deref(), Some("https://aiplatform.eu.rep.googleapis.com"));
        assert_eq!(vertex("europe-west1").as_deref(), Some("https://europe-west1-aiplatform.googleapis.com"));
        let bedrock = |region: &str| Cloud::Bedrock { region: region.into() }.base_url();
        assert_eq!(bedrock("eu-west-3").as_deref(), Some("https://bedrock-runtime.eu-west-3.amazonaws.com"));
        assert_eq!(bedrock("cn-north-1").as_deref(), Some("https://bedrock-runtime.cn-north-1.amazonaws.com.cn"));
        assert_eq!(Cloud::Azure { api_version: None }.base_url(), None);
    }

    #[test]
    fn on_vertex_the_body_names_the_version_and_not_the_model() {
        let cloud = Cloud::Vertex { project: "p".into(), location: "global".into() };
        for (body, expected) in [
            (
                r#"{"model":"m","max_tokens":5,"messages":[{"model":1}]}"#,
                r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":5,"messages":[{"model":1}]}"#,
            ),
            (r#"{"max_tokens":5,"model":"m"}"#, r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":5}"#),
            (r#"{"model":"m"}"#, r#"{"anthropic_version":"vertex-2023-10-16"}"#),
        ] {
            let got = cloud.body(Dialect::AnthropicMessages, body.as_bytes().to_vec());
            assert_eq!(String::from_utf8(got).unwrap(), expected);
            assert_eq!(cloud.body(Dialect::Gemini, body.as_bytes().to_vec()), body.as_bytes());
        }
    }
}
