//! What a request asks of a model: to converse, to embed, or one of the things that only its provider's own format can say.
//!
//! Conversations are translated, embeddings too; what is asked at an [`Endpoint`] is relayed: the model's name is exchanged, the bytes
//! stay, and the answer passes as it comes.
//!
//! Source of the endpoints: OpenAI's API reference, and Cohere's of `rerank`, whose form Jina, Voyage and others share.

use super::table::Dialect;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Work {
    /// The next turn of a conversation.
    #[default]
    Converse,
    /// Vectors.
    Embed,
    /// Whatever the endpoint is for.
    Relay(Endpoint),
}

/// A route whose requests and answers pass as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Pictures of a text.
    ImageGenerations,
    /// Pictures of pictures.
    ImageEdits,
    /// A text as speech.
    Speech,
    /// Speech as a text.
    Transcriptions,
    /// Speech as an English text.
    Translations,
    /// Whether a text or picture is harmful.
    Moderations,
    /// Documents in the order of what they have to do with a question.
    Rerank,
}

impl Work {
    /// Its route, as it stands in the log. The formats in which clients converse have routes of their own.
    pub fn route(self) -> Option<&'static str> {
        match self {
            Self::Converse => None,
            Self::Embed => Some("POST /v1/embeddings"),
            Self::Relay(endpoint) => Some(endpoint.route()),
        }
    }

    /// For messages: what a model that cannot do it does not do.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Converse => "converse",
            Self::Embed => "make embeddings",
            Self::Relay(Endpoint::ImageGenerations | Endpoint::ImageEdits) => "make pictures",
            Self::Relay(Endpoint::Speech) => "speak",
            Self::Relay(Endpoint::Transcriptions | Endpoint::Translations) => "transcribe",
            Self::Relay(Endpoint::Moderations) => "moderate",
            Self::Relay(Endpoint::Rerank) => "rerank",
        }
    }

    /// Whether the same request has the same answer, so that one may be kept for the next.
    pub fn is_repeatable(self) -> bool {
        matches!(self, Self::Converse | Self::Embed)
    }
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
        Self::Moderations,
        Self::Rerank,
    ];

    /// Its path below `/v1`, at the gateway and below the base URL of a provider of OpenAI's format.
    pub fn path(self) -> &'static str {
        self.route().strip_prefix("POST /v1").unwrap_or_default()
    }

    /// The endpoint of a path below `/v1`.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    /// Its path below the base URL of a provider; `None` where the provider has nothing like it.
    pub fn path_at(self, dialect: Dialect) -> Option<&'static str> {
        match (self, dialect) {
            (_, Dialect::OpenAiChat) => Some(self.path()),
            (Self::Rerank, Dialect::Cohere) => Some("/v2/rerank"),
            _ => None,
        }
    }

    fn route(self) -> &'static str {
        match self {
            Self::ImageGenerations => "POST /v1/images/generations",
            Self::ImageEdits => "POST /v1/images/edits",
            Self::Speech => "POST /v1/audio/speech",
            Self::Transcriptions => "POST /v1/audio/transcriptions",
            Self::Translations => "POST /v1/audio/translations",
            Self::Moderations => "POST /v1/moderations",
            Self::Rerank => "POST /v1/rerank",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_found_by_its_path() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::of_path(endpoint.path()), Some(endpoint));
            assert_eq!(endpoint.path_at(Dialect::OpenAiChat), Some(endpoint.path()));
            assert_eq!(endpoint.path_at(Dialect::Gemini), None);
        }
        assert_eq!(Endpoint::of_path("/images"), None);
        assert_eq!(Endpoint::of_path(""), None);
    }
}
