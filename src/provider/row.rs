//! A provider as a row of the catalog: where it is, how it is spoken to and how it is paid for.

use super::cloud::CloudKind;
use crate::dialect::openai_chat::passthrough::Quirks;
use crate::dialect::table::Dialect;
use crate::domain::decision::Parameter;
use serde::Deserialize;
use std::sync::Arc;

/// How a provider wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthScheme {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// The key alone in this header.
    Header(&'static str),
    /// Azure: the key in `api-key`; a token of Entra's (a JWT) as [`AuthScheme::Bearer`].
    Azure,
    /// Amazon: a signature over the request (SigV4), made with `ACCESS:SECRET[:SESSION]`; an API key as [`AuthScheme::Bearer`].
    Aws,
    /// Google's clouds: an access token as [`AuthScheme::Bearer`], bought with an account (JSON) or given as it is.
    Google,
    /// No key is needed; one that is given all the same is sent as [`AuthScheme::Bearer`].
    None,
}

impl AuthScheme {
    /// The header that carries a key.
    pub fn header(self) -> &'static str {
        match self {
            Self::Bearer | Self::None | Self::Aws | Self::Google => "authorization",
            Self::Azure => "api-key",
            Self::Header(name) => name,
        }
    }

    /// The scheme of a name in the data or in `[[provider]] auth`: `bearer`, `none`, a cloud's own way (`azure`, `aws`,
    /// `google`), or one of the headers that providers are known to use.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "bearer" => Self::Bearer,
            "none" => Self::None,
            "azure" => Self::Azure,
            "aws" => Self::Aws,
            "google" => Self::Google,
            "x-api-key" => Self::Header("x-api-key"),
            "x-goog-api-key" => Self::Header("x-goog-api-key"),
            "api-key" => Self::Header("api-key"),
            _ => return None,
        })
    }
}

/// A provider that the catalog knows.
#[derive(Clone, Debug)]
pub struct ProviderRow {
    /// Its id: the prefix of its models, the name in `extra.provider` and in `x-provider`.
    pub id: Arc<str>,
    /// Other ids that mean the same.
    pub aliases: Vec<String>,
    /// Its name for people.
    pub name: String,
    /// The wire format that it is spoken to in.
    pub dialect: Dialect,
    /// Where it is by default: what [`Dialect::path`] is appended to. No trailing slash.
    pub base_url: String,
    /// What is appended to a base URL from outside that ends without it, because the provider's own SDK takes it
    /// without: see [`ProviderRow::base_url_from`].
    pub base_path: String,
    /// What is taken off the end of a base URL from outside, because [`Dialect::path`] brings it.
    pub trim_path: String,
    /// The other format that it can be spoken to in, where it has one.
    pub other: Option<Side>,
    /// How it wants its key.
    pub auth: AuthScheme,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// How it deviates from OpenAI's format.
    pub quirks: Quirks,
    /// Where its text completions are, below the base URL, if it has [`Quirks::COMPLETIONS`]; `/../x` stands beside the last segment of
    /// the base URL's path.
    pub completions_path: String,
    /// Those of its models in the catalog that can be asked there; `None` means all. What the catalog does not know is taken to be.
    pub completions_models: Option<Vec<String>>,
    /// What those that it has there do not honour, of what chats have no word for. With `prompt`, it takes one text alone.
    pub completions_lacks: Vec<Parameter>,
    /// How many inputs its models make vectors of at once, where it says so; more are sent in batches. A model's own number goes before it
    /// ([`super::model::Embeds::inputs`]).
    pub embeddings_inputs: Option<usize>,
    /// The environment variables of its keys; the first that is set counts.
    pub key_env: Vec<String>,
    /// The environment variables of its base URL; the first that is set counts.
    pub base_url_env: Vec<String>,
    /// Whether it is of no use without a key.
    pub key_required: bool,
    /// Whether its models are found in its own `GET /models` list (OpenAI's form) instead of in the catalog.
    pub discovers: bool,
    /// The cloud that it is, if it is one.
    pub cloud: Option<CloudKind>,
    /// How its keys begin, where that is known.
    pub key_prefixes: Vec<String>,
    /// Its value of OpenTelemetry's `gen_ai.provider.name`.
    pub otel_name: String,
}

/// A format that a provider speaks besides the one of its row, under another path: see [`ProviderRow::spoken_to`].
#[derive(Clone, Debug)]
pub struct Side {
    /// The wire format.
    pub dialect: Dialect,
    /// As [`ProviderRow::base_url`].
    pub base_url: String,
    /// As [`ProviderRow::base_path`].
    pub base_path: String,
    /// As [`ProviderRow::trim_path`].
    pub trim_path: String,
}

impl Side {
    /// The path by which a base URL from outside shows that this side is meant.
    fn mark(&self) -> &str {
        if self.base_path.is_empty() { &self.trim_path } else { &self.base_path }
    }
}

impl ProviderRow {
    /// Whether it can be spoken to in a format.
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.dialect == dialect || self.other.as_ref().is_some_and(|other| other.dialect == dialect)
    }

    /// The row as it is spoken to: in the format that is asked for, else in the one that a base URL from outside shows by its path, else
    /// in its own.
    ///
    /// ```text
    ///   COHERE_BASE_URL=http://h                   -> cohere, http://h
    ///   COHERE_BASE_URL=http://h/compatibility/v1  -> openai_chat, http://h/compatibility/v1
    ///   OLLAMA_BASE_URL=http://h                   -> openai_chat, http://h/v1
    ///   OLLAMA_BASE_URL=http://h/api               -> ollama, http://h
    /// ```
    pub fn spoken_to(&self, dialect: Option<Dialect>, base_url: Option<&str>) -> Self {
        let mut row = self.clone();
        let Some(other) = &mut row.other else { return row };
        let shown = || base_url.is_some_and(|url| url.trim().trim_end_matches('/').ends_with(other.mark()));
        if dialect.map_or_else(shown, |dialect| dialect == other.dialect) {
            std::mem::swap(&mut row.dialect, &mut other.dialect);
            std::mem::swap(&mut row.base_url, &mut other.base_url);
            std::mem::swap(&mut row.base_path, &mut other.base_path);
            std::mem::swap(&mut row.trim_path, &mut other.trim_path);
        }
        row
    }

    /// Completes a base URL as users know it from the provider's own SDK, so that [`Dialect::path`] can follow: without a
    /// trailing slash, with [`ProviderRow::base_path`], without [`ProviderRow::trim_path`]. A URL that has no path at all
    /// gets that of the default base URL.
    ///
    /// ```text
    ///   OPENAI_BASE_URL=http://h/v1       -> http://h/v1              ANTHROPIC_BASE_URL=http://h      -> http://h
    ///   OPENAI_BASE_URL=http://h          -> http://h/v1              ANTHROPIC_BASE_URL=http://h/v1/  -> http://h
    ///   OLLAMA_BASE_URL=http://h          -> http://h/v1
    /// ```
    pub fn base_url_from(&self, given: &str) -> String {
        let mut url = given.trim().trim_end_matches('/').to_owned();
        let others = self.other.as_ref().map_or("", Side::mark);
        for path in [self.trim_path.as_str(), others].into_iter().filter(|path| !path.is_empty()) {
            if let Some(rest) = url.strip_suffix(path) {
                url.truncate(rest.trim_end_matches('/').len());
            }
        }
        if path_of(&url).is_empty() {
            url.push_str(path_of(&self.base_url));
        } else if !url.ends_with(&self.base_path) {
            url.push_str(&self.base_path);
        }
        url
    }
}

/// The path of an absolute URL, without its scheme and authority.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| &rest[at..])
}

/// A row as it stands in `data/providers.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvider {
    id: Arc<str>,
    #[serde(default)]
    aliases: Vec<String>,
    name: String,
    #[serde(default = "openai_chat")]
    dialect: String,
    base_url: String,
    #[serde(default)]
    base_path: String,
    #[serde(default)]
    trim_path: String,
    other: Option<RawSide>,
    #[serde(default = "bearer")]
    auth: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    quirks: Vec<String>,
    #[serde(default = "completions")]
    completions_path: String,
    completions_models: Option<Vec<String>>,
    #[serde(default)]
    completions_lacks: Vec<Parameter>,
    embeddings_inputs: Option<usize>,
    #[serde(default)]
    key_env: Vec<String>,
    #[serde(default)]
    base_url_env: Vec<String>,
    #[serde(default)]
    discovers: bool,
    cloud: Option<String>,
    #[serde(default)]
    key_prefixes: Vec<String>,
    otel_name: String,
}

/// [`Side`] as it stands in `data/providers.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSide {
    dialect: String,
    base_url: String,
    #[serde(default)]
    base_path: String,
    #[serde(default)]
    trim_path: String,
}

fn openai_chat() -> String {
    Dialect::OpenAiChat.name().to_owned()
}

/// OpenAI's path of text completions.
pub(crate) fn completions() -> String {
    "/completions".to_owned()
}

fn bearer() -> String {
    "bearer".to_owned()
}

impl RawProvider {
    /// Gives the row its meaning.
    ///
    /// # Errors
    /// A text that names the row and the word in it that means nothing.
    pub(super) fn compile(self) -> Result<ProviderRow, String> {
        let bad = |what: &str, word: &str| format!("provider {}: unknown {what} {word:?}", self.id);
        let auth = AuthScheme::from_name(&self.auth).ok_or_else(|| bad("auth", &self.auth))?;
        let dialect = Dialect::from_name(&self.dialect).ok_or_else(|| bad("dialect", &self.dialect))?;
        let side = |raw: RawSide| {
            let dialect = Dialect::from_name(&raw.dialect).ok_or_else(|| bad("dialect", &raw.dialect))?;
            Ok::<_, String>(Side {
                dialect,
                base_url: raw.base_url,
                base_path: raw.base_path,
                trim_path: raw.trim_path,
            })
        };
        let other = self.other.map(side).transpose()?;
        let quirks = self.quirks.iter().map(|name| Quirks::from_name(name).ok_or_else(|| bad("quirk", name)));
        let quirks = quirks.collect::<Result<Quirks, String>>()?;
        let cloud = self.cloud.as_deref().map(|name| CloudKind::from_name(name).ok_or_else(|| bad("cloud", name)));
        let cloud = cloud.transpose()?;
        Ok(ProviderRow {
            id: self.id,
            aliases: self.aliases,
            name: self.name,
            dialect,
            base_url: self.base_url,
            base_path: self.base_path,
            trim_path: self.trim_path,
            other,
            auth,
            headers: self.headers,
            quirks,
            completions_path: self.completions_path,
            completions_models: self.completions_models,
            completions_lacks: self.completions_lacks,
            embeddings_inputs: self.embeddings_inputs,
            key_env: self.key_env,
            base_url_env: self.base_url_env,
            key_required: auth != AuthScheme::None,
            discovers: self.discovers,
            cloud,
            key_prefixes: self.key_prefixes,
            otel_name: self.otel_name,
        })
    }
}
