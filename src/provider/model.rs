//! A model at a provider as a row of the catalog: its name there, what it takes, what it can do and what it costs.

use super::prices::{Prices, RawPrices};
use crate::dialect::chat::{ModelTraits, StructuredOutput, Thinking};
use crate::dialect::embeddings::Form;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::work::{Endpoint, Work};
use serde::Deserialize;
use std::sync::Arc;

/// One model at one provider. The same weights at two providers are two rows.
#[derive(Clone, Debug)]
pub struct ModelRow {
    /// `provider/name`, the name by which the gateway lists it.
    pub id: Arc<str>,
    /// The provider's id.
    pub provider: Arc<str>,
    /// The name that is sent to the provider.
    pub upstream: Arc<str>,
    /// Who made it, by the id of that provider (`anthropic`, `amazon`), where it is known.
    pub maker: Option<Arc<str>>,
    /// Its name for people.
    pub name: String,
    /// When it came out, in seconds since the Unix epoch.
    pub created: Option<u64>,
    /// A sentence for listings.
    pub description: Option<String>,
    /// How many tokens it takes, as the provider counts them (input alone, or input and output).
    pub context: Option<u64>,
    /// How many tokens it can answer.
    pub max_output: Option<u64>,
    /// What it costs.
    pub prices: Prices,
    /// The row whose prices these are, where its provider's own are not known.
    pub priced_as: Option<Arc<str>>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Other names that lead here; what is sent is [`ModelRow::upstream`] all the same. A dated name that the provider tells
    /// apart is a row of its own: see [`ModelRow::snapshot_of`].
    pub aliases: Vec<String>,
    /// Ids of the models that stand in when it is down and nothing else is configured.
    pub fallbacks: Vec<String>,
    /// The group of rows that are the same weights at several providers.
    pub same_as: Option<String>,
    /// What it is to its provider.
    pub class: Class,
    /// Where it is in its life.
    pub status: Status,
    /// The id of the row that this one is a dated version of; such a row is found, but not listed.
    pub snapshot_of: Option<Arc<str>>,
    /// How it is made to think.
    pub thinking: Thinking,
    /// How it is made to answer in JSON.
    pub structured_output: StructuredOutput,
    /// Whether `temperature`, `top_p` and `top_k` are accepted.
    pub sampling: bool,
    /// Whether a document or picture may be given by address.
    pub media_urls: bool,
    /// How it is asked for vectors.
    pub embeds: Embeds,
}

/// How a model is asked for vectors, where its provider asks its models in several ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Embeds {
    /// The form that it alone has.
    pub form: Option<OwnForm>,
    /// How many inputs it takes at once, where that is not what its form allows.
    pub inputs: Option<usize>,
}

/// A form that only some models of a cloud are asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnForm {
    /// On Vertex AI: `embedContent`.
    Content,
    /// On Bedrock: Nova's.
    Nova,
}

impl OwnForm {
    /// As a form of embeddings.
    pub fn form(self) -> Form {
        match self {
            Self::Content => Form::GeminiContent,
            Self::Nova => Form::Nova,
        }
    }
}

impl ModelRow {
    /// Its name at its provider, as its id has it.
    pub fn own_name(&self) -> &str {
        self.id.split_once('/').map_or(&*self.id, |(_, name)| name)
    }

    /// What a renderer has to know about it; `require_parameters` is the request's `provider.require_parameters`.
    pub fn traits(&self, require_parameters: bool) -> ModelTraits {
        ModelTraits {
            model: self.upstream.as_ref().to_owned(),
            maker: self.maker.clone(),
            max_output: self.max_output,
            structured_output: self.structured_output,
            thinking: self.thinking,
            sampling: self.sampling,
            media_urls: self.media_urls,
            reasons: self.capabilities.reasoning,
            quirks: Quirks::NONE,
            require_parameters,
        }
    }
}

/// What a model can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Calls functions.
    pub tools: bool,
    /// Calls several at once.
    pub parallel_tools: bool,
    /// Sees pictures.
    pub vision: bool,
    /// Reads PDF files.
    pub pdf: bool,
    /// Hears.
    pub audio_input: bool,
    /// Watches.
    pub video_input: bool,
    /// Answers by a JSON schema, natively or by a forced tool call.
    pub structured_output: bool,
    /// Answers in JSON.
    pub json_mode: bool,
    /// Thinks before it answers.
    pub reasoning: bool,
    /// Answers in pieces.
    pub streaming: bool,
}

impl Capabilities {
    /// Everything: what is assumed of a model that nothing is known about, so that nothing is kept from it.
    pub const ALL: Self = Self {
        tools: true,
        parallel_tools: true,
        vision: true,
        pdf: true,
        audio_input: true,
        video_input: true,
        structured_output: true,
        json_mode: true,
        reasoning: true,
        streaming: true,
    };

    /// Reads the list of words in the data; every model streams unless the list says `no_streaming`.
    fn from_words(words: &[String]) -> Result<Self, String> {
        let mut can = Self { streaming: true, ..Self::default() };
        for word in words {
            match word.as_str() {
                "tools" => can.tools = true,
                "parallel_tools" => can.parallel_tools = true,
                "vision" => can.vision = true,
                "pdf" => can.pdf = true,
                "audio" => can.audio_input = true,
                "video" => can.video_input = true,
                "json_schema" => can.structured_output = true,
                "json_mode" => can.json_mode = true,
                "reasoning" => can.reasoning = true,
                "no_streaming" => can.streaming = false,
                _ => return Err(format!("unknown capability {word:?}")),
            }
        }
        Ok(can)
    }
}

/// What a model is to its provider. Models of one class at two providers are each other's equivalents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The strongest.
    Flagship,
    /// The one for most work.
    Balanced,
    /// The fast and cheap one.
    Small,
    /// Made to think long.
    Reasoning,
    /// Made to write programs.
    Coding,
    /// Answers from the web.
    Search,
    /// Speaks and hears.
    Audio,
    /// Makes vectors of texts.
    Embedding,
    /// Makes pictures.
    Image,
    /// Speaks.
    Speech,
    /// Writes down what it hears.
    Transcription,
    /// Says what is harmful.
    Moderation,
    /// Puts documents in order.
    Rerank,
}

impl Class {
    /// The classes in which an equivalent is looked for, the nearest first.
    pub(super) fn nearest(self) -> &'static [Self] {
        match self {
            Self::Flagship => &[Self::Flagship, Self::Reasoning, Self::Balanced, Self::Small],
            Self::Balanced => &[Self::Balanced, Self::Flagship, Self::Small, Self::Reasoning],
            Self::Small => &[Self::Small, Self::Balanced, Self::Flagship, Self::Reasoning],
            Self::Reasoning => &[Self::Reasoning, Self::Flagship, Self::Balanced, Self::Small],
            Self::Coding => &[Self::Coding, Self::Flagship, Self::Balanced, Self::Reasoning, Self::Small],
            Self::Search => &[Self::Search],
            Self::Audio => &[Self::Audio],
            // The vectors of two models have nothing to do with each other, and what else is asked of these is their own.
            Self::Embedding | Self::Image | Self::Speech | Self::Transcription | Self::Moderation | Self::Rerank => &[],
        }
    }

    /// Whether models of this class converse.
    pub fn converses(self) -> bool {
        self.does(Work::Converse)
    }

    /// Whether models of this class do what is asked for.
    pub fn does(self, work: Work) -> bool {
        match self {
            Self::Embedding => work == Work::Embed,
            Self::Image => matches!(work, Work::Relay(Endpoint::ImageGenerations | Endpoint::ImageEdits)),
            Self::Speech => work == Work::Relay(Endpoint::Speech),
            Self::Transcription => matches!(work, Work::Relay(Endpoint::Transcriptions | Endpoint::Translations)),
            Self::Moderation => work == Work::Relay(Endpoint::Moderations),
            Self::Rerank => work == Work::Relay(Endpoint::Rerank),
            Self::Audio => {
                use Endpoint::{Speech, Transcriptions, Translations};
                matches!(work, Work::Converse | Work::Relay(Speech | Transcriptions | Translations))
            }
            Self::Flagship | Self::Balanced | Self::Small | Self::Reasoning | Self::Coding | Self::Search => {
                work == Work::Converse
            }
        }
    }
}

/// Where a model is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In service.
    #[default]
    Live,
    /// In service, may change or go without notice.
    Preview,
    /// Its end is announced, or the provider has switched it off already. The name still leads to it, and its fallbacks stand in.
    Deprecated,
}

impl Status {
    /// Its name in listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Preview => "preview",
            Self::Deprecated => "deprecated",
        }
    }
}

/// How a model is asked, as it stands in a row's `ask`: what [`ModelTraits`] needs besides the name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAsk {
    thinking: Option<RawThinking>,
    structured: RawStructured,
    sampling: bool,
    media_urls: bool,
    embed: Embeds,
}

impl Default for RawAsk {
    fn default() -> Self {
        let embed = Embeds::default();
        Self { thinking: None, structured: RawStructured::Native, sampling: true, media_urls: true, embed }
    }
}

impl RawAsk {
    fn thinking(self) -> Thinking {
        match self.thinking {
            None => Thinking::None,
            Some(RawThinking::Level) => Thinking::Level,
            Some(RawThinking::Budget { min, max, can_disable }) => Thinking::Budget { min, max, can_disable },
        }
    }

    fn structured_output(self) -> StructuredOutput {
        match self.structured {
            RawStructured::Native => StructuredOutput::Native,
            RawStructured::ForcedTool => StructuredOutput::ForcedTool,
        }
    }
}

/// `"level"`, or `{ budget = { min = …, max = …, can_disable = … } }`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RawThinking {
    Level,
    Budget { min: u64, max: u64, can_disable: bool },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawStructured {
    Native,
    ForcedTool,
}

/// A row as it stands under `[[model]]` in `data/models/`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    id: Arc<str>,
    /// The name that is sent; else the id without its provider.
    upstream: Option<Arc<str>>,
    /// Who made it, where its provider only hosts it.
    maker: Option<Arc<str>>,
    name: String,
    created: Option<u64>,
    description: Option<String>,
    context: Option<u64>,
    max_output: Option<u64>,
    #[serde(default)]
    price: RawPrices,
    #[serde(default)]
    can: Vec<String>,
    #[serde(default)]
    ask: RawAsk,
    #[serde(default)]
    aliases: Vec<String>,
    /// Dated names that the provider tells apart: they are sent as they are.
    #[serde(default)]
    snapshots: Vec<Arc<str>>,
    #[serde(default)]
    fallbacks: Vec<String>,
    same_as: Option<String>,
    class: Class,
    #[serde(default)]
    status: Status,
}

impl RawModel {
    /// Gives the row its meaning: the row itself, and the names of its dated versions.
    ///
    /// # Errors
    /// A text that names the row and what in it means nothing.
    pub(super) fn compile(self) -> Result<(ModelRow, Vec<Arc<str>>), String> {
        let Some((provider, name)) = self.id.split_once('/') else {
            return Err(format!("model {}: an id is provider/name", self.id));
        };
        let row = ModelRow {
            provider: provider.into(),
            upstream: self.upstream.unwrap_or_else(|| name.into()),
            maker: self.maker,
            name: self.name,
            created: self.created,
            description: self.description,
            context: self.context,
            max_output: self.max_output,
            prices: self.price.compile().map_err(|error| format!("model {}: {error}", self.id))?,
            priced_as: None,
            capabilities: Capabilities::from_words(&self.can).map_err(|error| format!("model {}: {error}", self.id))?,
            aliases: self.aliases,
            fallbacks: self.fallbacks,
            same_as: self.same_as,
            class: self.class,
            status: self.status,
            snapshot_of: None,
            thinking: self.ask.thinking(),
            structured_output: self.ask.structured_output(),
            sampling: self.ask.sampling,
            media_urls: self.ask.media_urls,
            embeds: self.ask.embed,
            id: self.id,
        };
        Ok((row, self.snapshots))
    }
}

/// What the beginning of a name says about a model that the catalog does not have, as it stands under `[[family]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFamily {
    prefix: String,
    /// The provider that a bare name of this family means.
    owner: Option<String>,
    /// Who makes its models, where that is no provider of the catalog.
    maker: Option<Arc<str>>,
    /// What its models can do; everything, when it is not said.
    can: Option<Vec<String>>,
    #[serde(default)]
    ask: RawAsk,
}

/// A [`RawFamily`] with its words understood.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// How the names of the family begin, in lower case.
    pub(super) prefix: String,
    /// The id of the provider that a bare name of this family means.
    pub(super) owner: Option<String>,
    /// Who makes its models.
    pub(super) maker: Option<Arc<str>>,
    /// What its models can do.
    pub(super) capabilities: Capabilities,
    ask: RawAsk,
}

impl RawFamily {
    /// # Errors
    /// A text that names the family and the word in it that means nothing.
    pub(super) fn compile(self) -> Result<Family, String> {
        let capabilities = match &self.can {
            Some(words) => {
                Capabilities::from_words(words).map_err(|error| format!("family {}: {error}", self.prefix))?
            }
            None => Capabilities::ALL,
        };
        let maker = self.maker.or_else(|| self.owner.as_deref().map(Arc::from));
        Ok(Family { prefix: self.prefix.to_ascii_lowercase(), owner: self.owner, maker, capabilities, ask: self.ask })
    }
}

/// The maker in a name that is put together as Bedrock does it: `maker.model`, with the region that answers before it
/// (`us.maker.model`), perhaps at the end of an ARN.
pub(super) fn maker_in(name: &str) -> Option<&str> {
    const REGIONS: [&str; 9] = ["us", "eu", "apac", "global", "us-gov", "jp", "au", "ca", "sa"];
    let last = name.rsplit('/').next()?;
    let (first, rest) = last.split_once('.')?;
    let maker = if REGIONS.contains(&first) { rest.split_once('.')?.0 } else { first };
    let is_word = maker.len() > 1
        && maker.bytes().enumerate().all(|(at, byte)| byte.is_ascii_lowercase() || (at > 0 && byte.is_ascii_digit()));
    is_word.then_some(maker)
}

impl ModelRow {
    /// A row for a model that the catalog does not have: without prices and bounds, with what its family is known for. Without
    /// a family everything is tried, and thinking is asked for by a word, because that is how new models do it.
    pub(super) fn unknown(provider: &str, name: &str, family: Option<&Family>) -> Self {
        Self {
            id: format!("{provider}/{name}").into(),
            provider: provider.into(),
            upstream: name.into(),
            maker: family.and_then(|family| family.maker.clone()).or_else(|| maker_in(name).map(Arc::from)),
            name: name.to_owned(),
            created: None,
            description: None,
            context: None,
            max_output: None,
            prices: Prices::default(),
            priced_as: None,
            capabilities: family.map_or(Capabilities::ALL, |family| family.capabilities),
            aliases: Vec::new(),
            fallbacks: Vec::new(),
            same_as: None,
            class: Class::Balanced,
            status: Status::Live,
            snapshot_of: None,
            thinking: family.map_or(Thinking::Level, |family| family.ask.thinking()),
            structured_output: family.map_or(StructuredOutput::Native, |family| family.ask.structured_output()),
            sampling: family.is_none_or(|family| family.ask.sampling),
            media_urls: family.is_none_or(|family| family.ask.media_urls),
            embeds: family.map_or(Embeds::default(), |family| family.ask.embed),
        }
    }

    /// The same for a model that is in the catalog at another provider: what it can do is known.
    pub(super) fn unknown_like(provider: &str, name: &str, known: &Self) -> Self {
        Self {
            // A cloud's name for it says who made it; the row that knows it may be another host's.
            maker: maker_in(name)
                .map(Arc::from)
                .or_else(|| known.maker.clone())
                .or_else(|| Some(known.provider.clone())),
            context: known.context,
            max_output: known.max_output,
            capabilities: known.capabilities,
            class: known.class,
            same_as: known.same_as.clone(),
            thinking: known.thinking,
            structured_output: known.structured_output,
            sampling: known.sampling,
            media_urls: known.media_urls,
            embeds: known.embeds,
            ..Self::unknown(provider, name, None)
        }
    }

    /// The row of a dated version: the same in all but the name that is sent.
    pub(super) fn snapshot(&self, dated: Arc<str>) -> Self {
        Self {
            id: format!("{}/{dated}", self.provider).into(),
            upstream: dated,
            snapshot_of: Some(Arc::clone(&self.id)),
            aliases: Vec::new(),
            ..self.clone()
        }
    }
}
