//! The JSON of answers, as far as it is read. Texts borrow from the bytes wherever they hold no escapes.
//!
//! Source: `GenerateContentResponse` in the public reference, and recorded traffic (numbers for enumerations, `content` without
//! `parts`, nulls).

pub use crate::dialect::text::Text;

use crate::dialect::openai_chat::usage::count;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// One piece of a stream, or a unary answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chunk<'a> {
    /// The choices.
    #[serde(borrow)]
    pub candidates: Option<Vec<Candidate<'a>>>,
    /// What became of the prompt.
    #[serde(borrow)]
    pub prompt_feedback: Option<PromptFeedback<'a>>,
    /// Tokens so far.
    pub usage_metadata: Option<Counts>,
    /// The model.
    #[serde(borrow)]
    pub model_version: Option<Text<'a>>,
    /// The answer's id.
    #[serde(borrow)]
    pub response_id: Option<Text<'a>>,
    /// An error instead.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// A choice.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate<'a> {
    /// Its number; absent may mean 0.
    pub index: Option<u32>,
    /// What is new of it.
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    /// Why it ended.
    #[serde(borrow)]
    pub finish_reason: Option<Word<'a>>,
    /// Web sources.
    #[serde(borrow)]
    pub grounding_metadata: Option<&'a RawValue>,
    /// Recited sources.
    #[serde(borrow)]
    pub citation_metadata: Option<&'a RawValue>,
    /// Log probabilities of the new tokens.
    #[serde(borrow)]
    pub logprobs_result: Option<LogprobsResult<'a>>,
}

/// A choice's content.
#[derive(Debug, Deserialize)]
pub struct Content<'a> {
    /// Its parts.
    #[serde(borrow)]
    pub parts: Option<Vec<CandidatePart<'a>>>,
}

/// A part of an answer. One of the fields but `thought` and `thoughtSignature` is there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CandidatePart<'a> {
    /// Text.
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    /// Whether it is a thought.
    pub thought: Option<bool>,
    /// The opaque signature, to be sent back on this very part.
    #[serde(borrow)]
    pub thought_signature: Option<Text<'a>>,
    /// A call.
    #[serde(borrow)]
    pub function_call: Option<FunctionCall<'a>>,
    /// A picture or a sound.
    #[serde(borrow)]
    pub inline_data: Option<Blob<'a>>,
    #[serde(borrow)]
    executable_code: Option<ServerTool<'a>>,
    #[serde(borrow)]
    code_execution_result: Option<ServerTool<'a>>,
    #[serde(borrow)]
    tool_call: Option<ServerTool<'a>>,
    #[serde(borrow)]
    tool_response: Option<ServerTool<'a>>,
}

impl CandidatePart<'_> {
    /// The id of the server's tool that this part is about; empty when the tool has none.
    pub fn server_tool(&self) -> Option<&str> {
        let tools = [&self.executable_code, &self.code_execution_result, &self.tool_call, &self.tool_response];
        let tool = tools.into_iter().flatten().next()?;
        Some(tool.id.as_ref().map_or("", |id| &id.0))
    }
}

/// A tool that the server runs itself.
#[derive(Debug, Deserialize)]
struct ServerTool<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
}

/// Bytes in base64.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob<'a> {
    /// Their type.
    #[serde(borrow)]
    pub mime_type: Option<Text<'a>>,
    /// Standard base64.
    #[serde(borrow)]
    pub data: Option<Text<'a>>,
}

/// A call, or a piece of one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionCall<'a> {
    /// Its id, from newer models.
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    /// The function; absent in the pieces after the first.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// All arguments.
    #[serde(borrow)]
    pub args: Option<&'a RawValue>,
    /// Some of them.
    #[serde(borrow)]
    pub partial_args: Option<Vec<PartialArg<'a>>>,
    /// Whether more pieces follow.
    pub will_continue: Option<bool>,
}

/// A value at a path of the arguments.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialArg<'a> {
    /// `$.orders[0].name`.
    #[serde(borrow)]
    pub json_path: Option<Text<'a>>,
    /// A text, or more of it.
    #[serde(borrow)]
    pub string_value: Option<Text<'a>>,
    /// A number.
    #[serde(borrow)]
    pub number_value: Option<&'a RawValue>,
    /// A truth.
    pub bool_value: Option<bool>,
}

/// Why a prompt was refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptFeedback<'a> {
    /// `SAFETY`, `PROHIBITED_CONTENT` …
    #[serde(borrow)]
    pub block_reason: Option<Word<'a>>,
    /// The same in a sentence.
    #[serde(borrow)]
    pub block_reason_message: Option<Text<'a>>,
}

/// An enumeration's value: its name, or its number where a client library wrote the JSON.
#[derive(Debug)]
pub enum Word<'a> {
    /// The name.
    Text(Cow<'a, str>),
    /// The number.
    Number(u64),
}

impl<'a> Word<'a> {
    /// The name as a finish reason (`aiplatform/v1/content.proto` numbers them); `None` for the unspecified one, which means that
    /// there is none yet.
    pub fn finish_reason(self) -> Option<Cow<'a, str>> {
        const NAMES: [&str; 11] = [
            "FINISH_REASON_UNSPECIFIED",
            "STOP",
            "MAX_TOKENS",
            "SAFETY",
            "RECITATION",
            "OTHER",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MALFORMED_FUNCTION_CALL",
            "MODEL_ARMOR",
        ];
        let name = match self {
            Self::Text(name) => name,
            Self::Number(number) => match usize::try_from(number).ok().and_then(|at| NAMES.get(at)) {
                Some(name) => Cow::Borrowed(*name),
                None => Cow::Owned(number.to_string()),
            },
        };
        (!name.is_empty() && name != NAMES[0]).then_some(name)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Word<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name or the number of an enumeration's value")
            }

            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Word::Text(Cow::Borrowed(name)))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Word::Text(Cow::Owned(name.to_owned())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Word::Number(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                u64::try_from(number).map(Word::Number).map_err(|_| E::custom("a negative enumeration value"))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Token counts. All are cumulative; those of the default value 0 may be absent.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Input, cached tokens included.
    #[serde(default, deserialize_with = "count")]
    pub prompt_token_count: Option<u64>,
    /// Input from tools that the server ran.
    #[serde(default, deserialize_with = "count")]
    pub tool_use_prompt_token_count: Option<u64>,
    /// Of the input: from a cache.
    #[serde(default, deserialize_with = "count")]
    pub cached_content_token_count: Option<u64>,
    /// Output without thoughts.
    #[serde(default, deserialize_with = "count")]
    pub candidates_token_count: Option<u64>,
    /// Thoughts.
    #[serde(default, deserialize_with = "count")]
    pub thoughts_token_count: Option<u64>,
    /// Google's total.
    #[serde(default, deserialize_with = "count")]
    pub total_token_count: Option<u64>,
    /// Of the input: sound.
    #[serde(default, rename = "promptTokensDetails", deserialize_with = "audio")]
    pub prompt_audio: Option<u64>,
    /// Of the output: sound.
    #[serde(default, rename = "candidatesTokensDetails", deserialize_with = "audio")]
    pub candidates_audio: Option<u64>,
}

impl Counts {
    /// Takes over every count that the later `other` has; `false` when it has none.
    pub fn merge(&mut self, other: &Self) -> bool {
        let pairs = [
            (&mut self.prompt_token_count, other.prompt_token_count),
            (&mut self.tool_use_prompt_token_count, other.tool_use_prompt_token_count),
            (&mut self.cached_content_token_count, other.cached_content_token_count),
            (&mut self.candidates_token_count, other.candidates_token_count),
            (&mut self.thoughts_token_count, other.thoughts_token_count),
            (&mut self.total_token_count, other.total_token_count),
            (&mut self.prompt_audio, other.prompt_audio),
            (&mut self.candidates_audio, other.candidates_audio),
        ];
        let mut any = false;
        for (mine, theirs) in pairs {
            any |= theirs.is_some();
            *mine = theirs.or(*mine);
        }
        any
    }
}

/// The count of the audio entry in a list of counts by modality.
fn audio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry<'a> {
        #[serde(borrow)]
        modality: Option<Word<'a>>,
        #[serde(default, deserialize_with = "count")]
        token_count: Option<u64>,
    }
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of token counts by modality")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(entry) = seq.next_element::<Entry<'de>>()? {
                // 4 is AUDIO in `aiplatform/v1/content.proto`.
                let audio = match &entry.modality {
                    Some(Word::Text(name)) => name == "AUDIO",
                    Some(Word::Number(number)) => *number == 4,
                    None => false,
                };
                if audio {
                    found = Some(entry.token_count.unwrap_or(0));
                }
            }
            Ok(found)
        }
    }
    deserializer.deserialize_any(Entries).map_err(D::Error::custom)
}

/// Log probabilities.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogprobsResult<'a> {
    /// Of the tokens that were chosen.
    #[serde(borrow)]
    pub chosen_candidates: Option<Vec<TokenLogprob<'a>>>,
    /// Of the likeliest tokens at each place.
    #[serde(borrow)]
    pub top_candidates: Option<Vec<TopCandidates<'a>>>,
}

/// The likeliest tokens at one place.
#[derive(Debug, Deserialize)]
pub struct TopCandidates<'a> {
    /// By falling probability.
    #[serde(borrow)]
    pub candidates: Option<Vec<TokenLogprob<'a>>>,
}

/// A token and its log probability.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenLogprob<'a> {
    /// Its text.
    #[serde(borrow)]
    pub token: Option<Text<'a>>,
    /// Natural logarithm.
    pub log_probability: Option<f64>,
}
