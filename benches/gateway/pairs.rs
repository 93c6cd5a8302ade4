//! A stream in every client's format from a provider of every format, against bare Pingora that passes the same provider's stream on.

use super::load;
use super::process::Process;
use super::streams::{EVENTS, Format};
use super::{
    COMMON, CONNECTIONS, KEY, Key, cost, first_answer, free_address, median, process, start_bare, start_mock,
    start_orbyt,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// No stream may cost more than so many of the bare proxy's.
const MOST: f64 = 2.5;

/// A client's format.
#[derive(Clone, Copy)]
enum Client {
    Chat,
    Responses,
    Messages,
    Gemini,
    Completions,
}

const CLIENTS: [(Client, &str); 5] = [
    (Client::Chat, "chat"),
    (Client::Responses, "responses"),
    (Client::Messages, "messages"),
    (Client::Gemini, "gemini"),
    (Client::Completions, "completions"),
];

/// The providers: `openai` has routes of its own for responses and text completions, `compatible` has not.
const PROVIDERS: [(&str, Format); 7] = [
    ("openai", Format::Chat),
    ("compatible", Format::Chat),
    ("anthropic", Format::Anthropic),
    ("google", Format::Gemini),
    ("cohere", Format::Cohere),
    ("ollama", Format::Ollama),
    ("bedrock", Format::Bedrock),
];

impl Client {
    /// A request for a stream.
    fn request(self, address: SocketAddr, model: &str) -> Vec<u8> {
        let question = "What does a request cost on its way through a gateway? ".repeat(12) + "number 00000000";
        let rules = "Answer in one paragraph.";
        let (path, body) = match self {
            Self::Chat => return load::request(address, KEY, model, true),
            Self::Responses => (
                "/v1/responses".to_owned(),
                format!(
                    r#"{{"model":"{model}","instructions":"{rules}","input":[{{"role":"user","content":"{question}"}}],"temperature":0.7,"max_output_tokens":400,"store":false,"stream":true}}"#
                ),
            ),
            Self::Messages => (
                "/v1/messages".to_owned(),
                format!(
                    r#"{{"model":"{model}","system":"{rules}","messages":[{{"role":"user","content":"{question}"}}],"temperature":0.7,"max_tokens":400,"stream":true}}"#
                ),
            ),
            Self::Gemini => (
                format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
                format!(
                    r#"{{"systemInstruction":{{"parts":[{{"text":"{rules}"}}]}},"contents":[{{"role":"user","parts":[{{"text":"{question}"}}]}}],"generationConfig":{{"temperature":0.7,"maxOutputTokens":400}}}}"#
                ),
            ),
            Self::Completions => (
                "/v1/completions".to_owned(),
                format!(
                    r#"{{"model":"{model}","prompt":"{rules} {question}","temperature":0.7,"max_tokens":400,"stream":true}}"#
                ),
            ),
        };
        load::post(address, KEY, &path, &body)
    }

    /// In which format a provider streams for it.
    fn streamed_by(self, provider: &str, format: Format) -> Format {
        match (self, provider) {
            (Self::Responses, "openai") => Format::Responses,
            (Self::Completions, "openai") => Format::Text,
            _ => format,
        }
    }
}

/// The configuration of the gateway: all providers at the mock, besides the two that the environment names.
fn config(mock: SocketAddr) -> String {
    let provider = |(id, format): (&str, Format)| {
        let (dialect, path) = match format {
            Format::Gemini => ("gemini", ""),
            Format::Cohere => ("cohere", ""),
            Format::Ollama => ("ollama", ""),
            Format::Bedrock => ("bedrock_converse", ""),
            _ => ("openai_chat", "/v1"),
        };
        // Requests to Bedrock are signed.
        let secret =
            if format == Format::Bedrock { "AKIDBENCHBENCHBENCH0:secret/of+the=bench" } else { "sk-0123456789abcdef" };
        format!(
            "[[provider]]\nid = \"{id}\"\ndialect = \"{dialect}\"\nbase_url = \"http://{mock}{path}\"\n[[provider.key]]\nsecret = \"{secret}\"\n"
        )
    };
    let named = PROVIDERS.into_iter().filter(|(id, _)| !["openai", "anthropic"].contains(id));
    named.map(provider).fold(COMMON.to_owned(), |config, more| config + &more)
}

/// Measures all pairs, and prints a table.
///
/// # Errors
/// When something cannot be measured, or a pair costs more than it may.
pub async fn measure(quick: bool) -> Result<(), String> {
    let begun = Instant::now();
    let (rounds, window) = if quick { (2, Duration::from_millis(500)) } else { (5, Duration::from_millis(1_200)) };
    let (_mock, mock) = start_mock()?;
    let (bare, bare_address) = start_bare(mock)?;
    let folder = std::env::temp_dir().join(format!("orbyt-pairs-{}", free_address()?.port()));
    let orbyt = start_orbyt(&folder, mock, &config(mock), Key::Configured)?;
    for address in [mock, bare_address, orbyt.listen] {
        first_answer(address, KEY, Instant::now()).await?;
    }
    println!("# Streams of {EVENTS} events, CPU of bare Pingora that passes the provider's stream\n");
    println!(
        "{CONNECTIONS} connections, {rounds} interleaved rounds of {window:?}; {}; median (least to most).\n",
        if process::can_pin() { "one core each" } else { "cores NOT pinned (taskset is not there)" }
    );
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); CLIENTS.len() * PROVIDERS.len()];
    let mut cpu = ratios.clone();
    for round in 0..=rounds {
        let base = bare_streams(&bare, bare_address, window).await?;
        for (place, ((client, _), (id, format))) in pairs().enumerate() {
            let request = client.request(orbyt.listen, &format!("{id}/bench"));
            let spent = cost(&orbyt.process, Some(orbyt.console), orbyt.listen, request, window).await;
            let spent = spent.map_err(|error| format!("{id}: {error}"))?.cpu;
            // The first round only warms up.
            if round > 0 {
                ratios[place].push(spent / base[client.streamed_by(id, format) as usize]);
                cpu[place].push(spent);
            }
        }
    }
    drop(orbyt);
    // What is left in the folder for temporary files harms nobody.
    let _ = std::fs::remove_dir_all(&folder);
    let worst = print(&ratios, &cpu);
    println!("\nTook {:.0} s.", begun.elapsed().as_secs_f64());
    if worst > MOST { Err(format!("a pair costs {worst:.2} of the bare proxy, more than {MOST}")) } else { Ok(()) }
}

fn pairs() -> impl Iterator<Item = ((Client, &'static str), (&'static str, Format))> {
    CLIENTS.into_iter().flat_map(|client| PROVIDERS.into_iter().map(move |provider| (client, provider)))
}

/// What a stream of each format costs the bare proxy.
async fn bare_streams(
    bare: &Process,
    address: SocketAddr,
    window: Duration,
) -> Result<[f64; Format::ALL.len()], String> {
    let mut base = [0.0; Format::ALL.len()];
    for format in Format::ALL {
        // As long as the others' requests, and asked for by a path of the provider's.
        let body = format!(r#"{{"stream":true,"text":"{}number 00000000"}}"#, "What does a request cost? ".repeat(30));
        let request = load::post(address, KEY, format.path(), &body);
        base[format as usize] = cost(bare, None, address, request, window).await?.cpu;
    }
    Ok(base)
}

/// Prints the table; returns the largest median.
fn print(ratios: &[Vec<f64>], cpu: &[Vec<f64>]) -> f64 {
    print!("| from | ");
    CLIENTS.iter().for_each(|(_, name)| print!("{name} | "));
    println!("\n|---|{}", "--:|".repeat(CLIENTS.len()));
    let mut worst = 0.0_f64;
    for (row, (id, _)) in PROVIDERS.iter().enumerate() {
        print!("| {id} | ");
        for column in 0..CLIENTS.len() {
            let place = column * PROVIDERS.len() + row;
            let (least, most) = ratios[place]
                .iter()
                .fold((f64::MAX, 0.0_f64), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
            let ratio = median(ratios[place].clone());
            worst = worst.max(ratio);
            print!("**{ratio:.2}** ({least:.2} to {most:.2}), {:.0} us | ", median(cpu[place].clone()));
        }
        println!();
    }
    worst
}
