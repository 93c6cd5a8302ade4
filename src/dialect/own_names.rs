//! What each client's format calls the members that the hub knows by the names of chat completions, so that an error and a list of what was
//! left out name what the client wrote.

use super::client::Client;

/// The member's name in the client's own request; a name that no other stands for is its own.
pub fn own_name(client: Client, name: &str) -> &str {
    let names: &[(&str, &str)] = match client {
        Client::OpenAiChat | Client::OpenAiCompletions => &[],
        Client::AnthropicMessages => &MESSAGES,
        Client::OpenAiResponses => &RESPONSES,
        Client::Gemini => &GEMINI,
    };
    names.iter().find(|(of_chat, _)| *of_chat == name).map_or(name, |(_, own)| own)
}

/// The names of several, each once.
pub fn own_names(client: Client, names: Vec<String>) -> Vec<String> {
    let mut own: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let name = own_name(client, &name);
        if !own.iter().any(|known| known == name) {
            own.push(name.to_owned());
        }
    }
    own
}

const MESSAGES: [(&str, &str); 6] = [
    ("max_completion_tokens", "max_tokens"),
    ("reasoning", "thinking"),
    ("reasoning_effort", "output_config.effort"),
    ("response_format", "output_config.format"),
    ("stop", "stop_sequences"),
    ("user", "metadata.user_id"),
];

const RESPONSES: [(&str, &str); 6] = [
    ("logprobs", "top_logprobs"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("reasoning_effort", "reasoning.effort"),
    ("response_format", "text.format"),
    ("verbosity", "text.verbosity"),
];

const GEMINI: [(&str, &str); 17] = [
    ("frequency_penalty", "generationConfig.frequencyPenalty"),
    ("logprobs", "generationConfig.responseLogprobs"),
    ("max_completion_tokens", "generationConfig.maxOutputTokens"),
    ("max_tokens", "generationConfig.maxOutputTokens"),
    ("modalities", "generationConfig.responseModalities"),
    ("n", "generationConfig.candidateCount"),
    ("presence_penalty", "generationConfig.presencePenalty"),
    ("reasoning", "generationConfig.thinkingConfig"),
    ("reasoning_effort", "generationConfig.thinkingConfig"),
    ("response_format", "generationConfig.responseSchema"),
    ("seed", "generationConfig.seed"),
    ("stop", "generationConfig.stopSequences"),
    ("temperature", "generationConfig.temperature"),
    ("tool_choice", "toolConfig"),
    ("top_k", "generationConfig.topK"),
    ("top_logprobs", "generationConfig.logprobs"),
    ("top_p", "generationConfig.topP"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_reads_the_names_that_it_wrote() {
        let name = |client| own_name(client, "reasoning_effort");
        assert_eq!(name(Client::OpenAiChat), "reasoning_effort");
        assert_eq!(name(Client::OpenAiResponses), "reasoning.effort");
        assert_eq!(name(Client::AnthropicMessages), "output_config.effort");
        assert_eq!(name(Client::Gemini), "generationConfig.thinkingConfig");
        assert_eq!(own_name(Client::Gemini, "contents[0].role"), "contents[0].role");
        let dropped = ["logprobs", "top_logprobs", "truncation"].map(str::to_owned).to_vec();
        assert_eq!(own_names(Client::OpenAiResponses, dropped), ["top_logprobs", "truncation"]);
    }
}
