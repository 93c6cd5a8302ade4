//! What a provider's error says, apart from its format, and what kind of fault that is.
//!
//! Each format's `error.rs` reads its own body into an [`ErrorBody`]; the vocabulary that tells a used-up quota from a passing rate
//! limit is here, once for all, because providers copy each other's words.

use crate::domain::{Fault, FaultKind};
use std::time::Duration;

/// A provider's error, read from its format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// Its message; empty when the body could not be read.
    pub message: String,
    /// `error.code` (`context_length_exceeded`), or Gemini's reason.
    pub code: Option<String>,
    /// `error.type` (`invalid_request_error`), or Gemini's status word.
    pub error_type: Option<String>,
    /// The parameter to blame.
    pub param: Option<String>,
    /// The HTTP status that the error itself names or that its type implies: all there is when it comes inside a 200 stream.
    pub status: Option<u16>,
    /// The wait that the body asks for, in milliseconds (Gemini's `RetryInfo`).
    pub retry_after_ms: Option<u64>,
}

/// The longest wait that is believed: a day.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

fn clamped_wait(millis: u64) -> Duration {
    Duration::from_millis(millis).min(MAX_WAIT)
}

impl ErrorBody {
    /// The fault that it means, with the HTTP status of the answer; without one the status inside the body counts.
    pub fn into_fault(self, status: Option<u16>) -> Fault {
        let status = status.filter(|status| *status >= 400).or(self.status);
        let kind = kind(status, &self);
        Fault {
            kind,
            status,
            message: if self.message.is_empty() { "the provider gave no message".into() } else { self.message.into() },
            code: self.code,
            error_type: self.error_type,
            param: self.param,
            retry_after: self.retry_after_ms.map(clamped_wait),
        }
    }
}

/// The kind of fault behind a status and the words that came with it. Without any status (an error inside a stream that
/// names none) the words are all there is.
///
/// ```text
///   code, else type ── in CODES ──> that kind          (precise words hold with any status)
///   message         ── in PHRASES, where the status lets the phrase mean that ──> that kind
///   status          ──> its usual kind
/// ```
fn kind(status: Option<u16>, body: &ErrorBody) -> FaultKind {
    let message = body.message.to_ascii_lowercase();
    let words = [body.code.as_deref(), body.error_type.as_deref()];
    let coded = words.into_iter().flatten().find_map(|word| of_code(&word.to_ascii_lowercase(), status, body));
    coded.or_else(|| of_message(status, &message, body)).unwrap_or_else(|| of_status(status, &message))
}

/// Codes and types that mean one thing wherever they appear, in lower case, words apart. Sources: the error pages of OpenAI, Anthropic,
/// Google, Azure, Mistral, Groq, Cohere, DeepSeek, xAI, OpenRouter, Hugging Face, Moonshot and llama.cpp, and recordings of them.
const CODES: &[(FaultKind, &str)] = &[
    (
        FaultKind::QuotaExhausted,
        "insufficient_quota billing_error billing_hard_limit_reached billing_not_active credit_limit_exceeded \
         exceeded_current_quota_error insufficient_balance insufficient_credits insufficient_funds payment_required \
         quota_exceeded spend_limit_exceeded servicequotaexceededexception",
    ),
    (
        FaultKind::RateLimited,
        "rate_limit_exceeded rate_limit_error rate_limit_reached ratelimitreached rate_limited \
         request_limit_exceeded service_tier_capacity_exceeded throttlingexception too_many_requests",
    ),
    (
        FaultKind::ContextLength,
        "context_length_exceeded context_window_exceeded exceed_context_size_error model_max_prompt_tokens_exceeded \
         request_too_large too_many_tokens",
    ),
    (
        FaultKind::ContentFilter,
        "content_filter content_filter_error content_policy_violation content_policy_violation_error cyber_policy \
         data_inspection_failed image_content_policy_violation invalid_prompt moderation_blocked prohibited_content \
         responsibleaipolicyviolation safety",
    ),
    (
        FaultKind::ModelNotFound,
        "invalid_model model_decommissioned model_not_available model_not_found model_not_supported \
         model_terms_required deploymentnotfound resourcenotfoundexception unknown_model",
    ),
    (
        FaultKind::BadCredentials,
        "account_deactivated api_key_expired api_key_invalid authentication_error credentials_missing \
         expiredtokenexception incompletesignatureexception invalidsignatureexception missingauthenticationtoken \
         unrecognizedclientexception invalid_api_key invalid_authentication_error missing_api_key",
    ),
    (
        FaultKind::Overloaded,
        "capacity_exceeded engine_overloaded engine_overloaded_error model_overloaded modelnotreadyexception overloaded_error \
         server_overloaded serviceunavailableexception",
    ),
    // The model failed inside the provider, whatever class of status that has.
    (
        FaultKind::ServerError,
        "internalserverexception modelerrorexception modelstreamerrorexception modeltimeoutexception",
    ),
    // The model's own answer was unusable: another try may not be.
    (FaultKind::Malformed, "invalid_tool_generation json_validate_failed tool_use_failed"),
];

fn of_code(code: &str, status: Option<u16>, body: &ErrorBody) -> Option<FaultKind> {
    // One field is too long. Only when that is the conversation can another model help.
    if code == "string_above_max_length" {
        let conversation =
            body.param.as_deref().is_some_and(|at| at.starts_with("messages") || at.starts_with("input"));
        return conversation.then_some(FaultKind::ContextLength);
    }
    // Google's quota ids: a day's quota is gone until tomorrow, a minute's is not.
    if status == Some(429) && code.contains("perday") {
        return Some(FaultKind::QuotaExhausted);
    }
    CODES.iter().find(|(_, codes)| codes.split(' ').any(|known| known == code)).map(|(kind, _)| *kind)
}

/// Where a phrase is believed: a message may quote the client, and servers in trouble say many things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// With any 4xx but 429.
    Refusal,
    /// With any 4xx.
    AnyRefusal,
    /// With a 429 or a 5xx.
    Trouble,
}

/// Phrases in messages, in lower case, with bars between them, the more telling ones first.
const PHRASES: &[(FaultKind, Where, &str)] = &[
    (
        FaultKind::QuotaExhausted,
        Where::AnyRefusal,
        "account is not active|account is suspended|account suspended|api calls / month|api usage limits|\
         billing hard limit|\
         credit balance is too low|credit limit exceeded|included credits|insufficient balance|insufficient credit|\
         insufficient funds|insufficient quota|key limit exceeded|not enough credits|out of credits|\
         payment required|requires more credits|spending limit|usage limit, please upgrade|used all available credits",
    ),
    (FaultKind::Overloaded, Where::Trouble, "overloaded|at capacity|capacity exceeded|insufficient capacity"),
    (
        FaultKind::ContextLength,
        Where::Refusal,
        "available context size|context length exceeded|context window|exceed context limit|exceeds the context|\
         exceeds the maximum number of tokens|input is too long|input tokens exceed|max context length|\
         maximum context length|maximum prompt length|prompt is too long|prompt too long|reduce the length of the|\
         request exceeds the maximum size|tokens + `max_new_tokens` must be|too large for model|\
         too many input tokens|too many tokens",
    ),
    (FaultKind::ContextLength, Where::Trouble, "is too large to process. increase the physical batch size"),
    (
        FaultKind::ContentFilter,
        Where::Refusal,
        "blocked by content filtering|content exists risk|content management policy|content violates|\
         flagged as potentially violating|flagged by moderation|input was flagged|requires moderation|safety_check|\
         safety system|violates usage guidelines",
    ),
    (
        FaultKind::BadCredentials,
        Where::Refusal,
        "api key expired|api key is invalid|api key not found|api key not valid|incorrect api key|invalid api key|\
         invalid x-api-key|organization has been disabled",
    ),
    (
        FaultKind::ModelNotFound,
        Where::Refusal,
        "invalid model|is not a valid model|is not found for api version|model identifier is invalid|\
         model not found|no endpoints found|no such model|\
         on-demand throughput|unknown model",
    ),
];

fn of_message(status: Option<u16>, message: &str, body: &ErrorBody) -> Option<FaultKind> {
    let refusal = status.is_none_or(|status| (400..500).contains(&status));
    let believed = |place: Where| match place {
        Where::Trouble => status.is_none_or(|status| status == 429 || status >= 500),
        Where::AnyRefusal => refusal,
        Where::Refusal => refusal && status != Some(429),
    };
    for (kind, place, phrases) in PHRASES {
        if believed(*place) && phrases.split('|').any(|phrase| message.contains(phrase)) {
            return Some(*kind);
        }
    }
    // Who says this without a wait means the plan's quota; who names a wait (Google says it of every limit) means a rate.
    if refusal && message.contains("exceeded your current quota") {
        let passing = body.retry_after_ms.is_some() || message.contains("per minute") || message.contains("perminute");
        let none_at_all = message.contains("limit: 0,") || message.ends_with("limit: 0");
        return Some(if passing && !none_at_all { FaultKind::RateLimited } else { FaultKind::QuotaExhausted });
    }
    if status.is_none() && (message.contains("rate limit") || message.contains("too many requests")) {
        return Some(FaultKind::RateLimited);
    }
    let about_model = body.param.as_deref() == Some("model")
        || ["the model", "model ", "model:", "the requested model"].iter().any(|start| message.starts_with(start));
    let gone = [
        "does not exist",
        "not found",
        "was removed",
        "has been deprecated",
        "decommissioned",
        "no longer available",
        "not available",
        "not have access",
        "is not supported. supported models",
    ];
    (refusal && status != Some(429) && about_model && gone.iter().any(|phrase| message.contains(phrase)))
        .then_some(FaultKind::ModelNotFound)
}

/// What a status means when the words say nothing.
fn of_status(status: Option<u16>, message: &str) -> FaultKind {
    match status {
        Some(403) if message.contains("model") => FaultKind::ModelNotFound,
        Some(401 | 403) => FaultKind::BadCredentials,
        Some(402) => FaultKind::QuotaExhausted,
        // A path that the provider does not know (a wrong base URL) looks the same to the client as a model it does not know.
        Some(404 | 405) => FaultKind::ModelNotFound,
        // 499 is Google's CANCELLED.
        Some(408 | 425 | 499) => FaultKind::ServerError,
        Some(413) => FaultKind::ContextLength,
        Some(429) => FaultKind::RateLimited,
        // 498 is Groq's "flex tier capacity exceeded".
        Some(498 | 529) => FaultKind::Overloaded,
        Some(400..=499) => FaultKind::BadRequest,
        _ => FaultKind::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FaultKind as K;

    fn fault(status: impl Into<Option<u16>>, code: &str, error_type: &str, message: &str) -> FaultKind {
        let word = |word: &str| Some(word.to_owned()).filter(|word| !word.is_empty());
        let body = ErrorBody {
            message: message.to_owned(),
            code: word(code),
            error_type: word(error_type),
            ..ErrorBody::default()
        };
        body.into_fault(status.into()).kind
    }

    #[track_caller]
    fn all(expected: FaultKind, cases: &[(u16, &str, &str, &str)]) {
        for (status, code, error_type, message) in cases {
            assert_eq!(
                fault(*status, code, error_type, message),
                expected,
                "{status} {code:?} {error_type:?} {message:?}"
            );
        }
    }

    #[test]
    fn a_used_up_quota_is_no_rate_limit() {
        all(
            K::QuotaExhausted,
            &[
                (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, check your plan."),
                (429, "billing_not_active", "billing_not_active", "Your account is not active."),
                (400, "billing_hard_limit_reached", "", "Billing hard limit has been reached"),
                (400, "", "invalid_request_error", "Your credit balance is too low to access the API."),
                (400, "", "invalid_request_error", "You have reached your specified API usage limits."),
                (402, "", "billing_error", "There is a problem with your payment method."),
                (402, "", "", "Insufficient Balance"),
                (402, "", "", ""),
                (403, "", "", "Your team has used all available credits or reached its monthly spending limit."),
                (403, "", "", "Key limit exceeded (total limit)"),
                (402, "402", "", "This request requires more credits, or fewer max_tokens."),
                (412, "", "", "Account suspended, please pay your invoices"),
                (401, "", "insufficient_quota", "You exceeded your current quota"),
                (
                    429,
                    "",
                    "RESOURCE_EXHAUSTED",
                    "You exceeded your current quota, please check your plan and billing details.",
                ),
                (
                    429,
                    "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                    "RESOURCE_EXHAUSTED",
                    "You exceeded your current quota.",
                ),
                (
                    429,
                    "",
                    "RESOURCE_EXHAUSTED",
                    "You exceeded your current quota. Quota exceeded for metric: x, limit: 0, model: y",
                ),
            ],
        );
    }

    #[test]
    fn a_rate_limit_passes() {
        all(
            K::RateLimited,
            &[
                (429, "", "", ""),
                (429, "rate_limit_exceeded", "requests", "Rate limit reached on requests per min (RPM): Limit 3."),
                (
                    429,
                    "rate_limit_exceeded",
                    "tokens",
                    "Request too large: Limit 30000, Requested 90000. Please reduce the length of the prompt.",
                ),
                (413, "rate_limit_exceeded", "tokens", "Request too large on tokens per minute (TPM)."),
                (429, "", "rate_limit_error", "Too many input tokens per minute, see billing."),
                (429, "", "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
                (429, "RateLimitReached", "", "Your requests have exceeded rate limit."),
                (429, "3505", "service_tier_capacity_exceeded", "Service tier capacity exceeded for this model."),
                (429, "429", "", "Provider returned error: temporarily rate-limited upstream"),
                (429, "GenerateContentInputTokensPerModelPerMinute", "RESOURCE_EXHAUSTED", "Quota exceeded."),
            ],
        );
    }

    #[test]
    fn googles_quota_message_means_a_rate_when_it_names_a_wait() {
        let body = |retry_after_ms, message: &str| ErrorBody {
            message: message.to_owned(),
            error_type: Some("RESOURCE_EXHAUSTED".to_owned()),
            retry_after_ms,
            ..ErrorBody::default()
        };
        let said =
            "You exceeded your current quota, please check your plan. Quota exceeded for metric: tokens, limit: 1000";
        let fault = body(Some(48_000), said).into_fault(Some(429));
        assert_eq!((fault.kind, fault.retry_after), (K::RateLimited, Some(std::time::Duration::from_secs(48))));
        assert_eq!(body(None, said).into_fault(Some(429)).kind, K::QuotaExhausted);
        let none_at_all = "You exceeded your current quota. Quota exceeded for metric: tokens, limit: 0";
        assert_eq!(body(Some(48_000), none_at_all).into_fault(Some(429)).kind, K::QuotaExhausted);
        assert_eq!(
            body(None, "You exceeded your current quota of 5 per minute").into_fault(Some(429)).kind,
            K::RateLimited
        );
    }

    #[test]
    fn a_prompt_that_is_too_long() {
        all(
            K::ContextLength,
            &[
                (
                    400,
                    "context_length_exceeded",
                    "invalid_request_error",
                    "This model's maximum context length is 8192 tokens.",
                ),
                (
                    400,
                    "invalid_request_error",
                    "",
                    "This model's maximum context length is 10 tokens. However, you requested 11.",
                ),
                (400, "", "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
                (400, "", "", "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000"),
                (413, "", "request_too_large", "Request exceeds the maximum size"),
                (413, "", "", "<html>too large</html>"),
                (
                    400,
                    "",
                    "INVALID_ARGUMENT",
                    "The input token count (2000) exceeds the maximum number of tokens allowed (1000).",
                ),
                (
                    400,
                    "3051",
                    "",
                    "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
                ),
                (400, "", "", "too many tokens: size limit exceeded by 5 tokens."),
                (422, "", "", "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096."),
                (
                    400,
                    "400",
                    "",
                    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
                ),
                (
                    400,
                    "400",
                    "exceed_context_size_error",
                    "the request exceeds the available context size (512 tokens)",
                ),
                (
                    500,
                    "500",
                    "server_error",
                    "input (4002 tokens) is too large to process. increase the physical batch size",
                ),
            ],
        );
        let too_long = |param: &str| ErrorBody {
            message: "Invalid value: string too long.".to_owned(),
            code: Some("string_above_max_length".to_owned()),
            param: Some(param.to_owned()),
            ..ErrorBody::default()
        };
        assert_eq!(too_long("messages[0].content").into_fault(Some(400)).kind, K::ContextLength);
        assert_eq!(too_long("user").into_fault(Some(400)).kind, K::BadRequest);
    }

    #[test]
    fn refused_for_its_content() {
        all(
            K::ContentFilter,
            &[
                (400, "content_policy_violation", "image_generation_user_error", "Your request was rejected."),
                (400, "content_filter", "", "The response was filtered"),
                (400, "ResponsibleAIPolicyViolation", "", ""),
                (400, "moderation_blocked", "", ""),
                (400, "PROHIBITED_CONTENT", "", ""),
                (400, "invalid_prompt", "", "Invalid prompt: it was flagged."),
                (400, "", "invalid_request_error", "Output blocked by content filtering policy"),
                (400, "invalid_request_error", "", "Content Exists Risk"),
                (403, "403", "", "x requires moderation on y. Your input was flagged for \"z\"."),
                (403, "", "", "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_X"),
            ],
        );
    }

    #[test]
    fn a_key_that_is_not_accepted() {
        all(
            K::BadCredentials,
            &[
                (401, "", "", ""),
                (403, "", "", ""),
                (401, "invalid_api_key", "invalid_request_error", "Incorrect API key provided: sk-…"),
                (400, "API_KEY_INVALID", "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
                (400, "", "INVALID_ARGUMENT", "API key expired. Please renew the API key."),
                (400, "", "", "Incorrect API key provided: xa…"),
                (401, "", "authentication_error", "invalid x-api-key"),
                (403, "", "permission_error", "Your API key does not have permission to use the specified resource"),
                (403, "unsupported_country_region_territory", "request_forbidden", "Country not supported"),
                (401, "account_deactivated", "", "deactivated"),
                (400, "", "invalid_request_error", "This organization has been disabled."),
            ],
        );
    }

    #[test]
    fn a_model_that_is_not_there_for_this_key() {
        all(
            K::ModelNotFound,
            &[
                (
                    404,
                    "model_not_found",
                    "invalid_request_error",
                    "The model `x` does not exist or you do not have access to it.",
                ),
                (400, "model_not_found", "", "The requested model 'x' does not exist."),
                (404, "", "not_found_error", "model: x"),
                (
                    404,
                    "",
                    "NOT_FOUND",
                    "models/x is not found for API version v1beta, or is not supported for generateContent.",
                ),
                (400, "1500", "invalid_model", "Invalid model: x"),
                (400, "invalid-argument", "", "Model not found: x"),
                (400, "400", "", "x is not a valid model ID"),
                (404, "404", "", "No endpoints found for x."),
                (400, "model_decommissioned", "", "The model `x` has been decommissioned"),
                (400, "", "invalid_request_error", "The model `x` has been deprecated"),
                (
                    400,
                    "model_not_supported",
                    "",
                    "The requested model 'x' is not supported by any provider you have enabled.",
                ),
                (404, "", "", "model 'x' was removed on September 15, 2025."),
                (403, "", "invalid_request_error", "You are not allowed to sample from this model"),
                (403, "model_not_found", "", "Project `p` does not have access to model `x`"),
                (404, "", "", ""),
                (405, "", "", ""),
            ],
        );
    }

    #[test]
    fn a_provider_with_too_much_to_do() {
        all(
            K::Overloaded,
            &[
                (529, "", "overloaded_error", "Overloaded"),
                (529, "", "", ""),
                (500, "", "overloaded_error", "Overloaded"),
                (503, "", "UNAVAILABLE", "The model is overloaded. Please try again later."),
                (429, "", "server_error", "The engine is currently overloaded, please try again later"),
                (498, "", "", "Flex tier capacity exceeded"),
            ],
        );
        all(
            K::ServerError,
            &[(500, "", "api_error", "Internal server error"), (502, "", "", ""), (503, "", "", ""), (504, "", "", "")],
        );
        all(K::ServerError, &[(408, "", "", ""), (500, "", "", "the model does not exist"), (599, "", "", "")]);
    }

    #[test]
    fn a_request_that_is_wrong_stays_wrong() {
        all(
            K::BadRequest,
            &[
                (400, "", "", ""),
                (422, "", "", "Unprocessable"),
                (
                    400,
                    "unsupported_parameter",
                    "",
                    "Unsupported parameter: 'max_tokens' is not supported with this model.",
                ),
                (400, "unsupported_value", "", "'messages[0].role' does not support 'system' with this model."),
                (
                    400,
                    "",
                    "invalid_request_error",
                    "max_tokens: 90000 > 8192, which is the maximum allowed number of output tokens for x",
                ),
                (400, "", "invalid_request_error", "messages.0: all messages must have non-empty content"),
                (400, "", "INVALID_ARGUMENT", "Please use a valid role: user, model."),
                (400, "", "invalid_request_error", "tools.0: an overloaded name"),
                (400, "invalid_image_url", "", "Error while downloading the file. Upstream status code: 404."),
                (409, "", "", "conflict"),
            ],
        );
        all(
            K::Malformed,
            &[(400, "tool_use_failed", "", "model did not call a tool"), (400, "json_validate_failed", "", "")],
        );
    }

    #[test]
    fn an_error_inside_a_stream_has_only_its_words() {
        for (code, error_type, message, expected) in [
            ("insufficient_quota", "insufficient_quota", "You exceeded your current quota", K::QuotaExhausted),
            ("", "rate_limit_error", "slow down", K::RateLimited),
            ("", "", "Rate limit reached", K::RateLimited),
            ("", "", "Insufficient credits", K::QuotaExhausted),
            ("", "overloaded_error", "Overloaded", K::Overloaded),
            ("", "api_error", "Internal server error", K::ServerError),
            ("", "", "", K::ServerError),
            ("context_length_exceeded", "", "", K::ContextLength),
        ] {
            assert_eq!(fault(None, code, error_type, message), expected, "{code:?} {error_type:?} {message:?}");
            assert_eq!(fault(200, code, error_type, message), expected, "with the stream's 200: {message:?}");
        }
        let inside = ErrorBody { status: Some(401), ..ErrorBody::default() };
        assert_eq!(inside.into_fault(Some(200)).kind, K::BadCredentials);
    }
}
