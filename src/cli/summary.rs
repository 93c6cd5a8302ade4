//! What `orbyt serve` prints when it is up: what it found, where it is, and a first request to try.

use super::credentials::FirstStart;
use crate::config::{BaseUrl, Snapshot};
use std::fmt::Write;
use std::net::SocketAddr;

/// Where the gateway really listens: ports that were 0 are known now.
#[derive(Clone, Debug)]
pub struct Listening {
    /// HTTP.
    pub gateway: Vec<SocketAddr>,
    /// HTTPS.
    pub tls: Vec<SocketAddr>,
    /// The console.
    pub console: Vec<SocketAddr>,
    /// The console, opening with DevTools.
    pub devtools: Vec<SocketAddr>,
}

impl Listening {
    /// The addresses as they are configured.
    pub fn configured(snapshot: &Snapshot) -> Self {
        Self {
            gateway: snapshot.server.listen.clone(),
            tls: snapshot.server.tls.iter().flat_map(|tls| tls.listen.clone()).collect(),
            console: snapshot.console.listen.clone(),
            devtools: snapshot.console.devtools_listen.clone(),
        }
    }
}

/// The summary, several lines. It holds the new credentials when `first_start` is to be shown, so it goes to a terminal
/// and never to a log.
pub fn summary(snapshot: &Snapshot, listening: &Listening, first_start: &FirstStart) -> String {
    let mut text = format!("orbyt {}\n\n", env!("CARGO_PKG_VERSION"));
    addresses(&mut text, listening);
    providers(&mut text, snapshot);
    if snapshot.store.redis.is_some() {
        // Where it is may hold a password.
        text += "  store     redis, shared with other nodes\n";
    }
    credentials(&mut text, snapshot, first_start);
    if let Some(url) = first_url(listening)
        && !snapshot.providers.is_empty()
    {
        let key = match first_start {
            FirstStart::Show { key, .. } => key.reveal(),
            _ => "$ORBYT_API_KEY",
        };
        text += &curl(&url, key, snapshot.example_model().as_deref());
    }
    text
}

/// A first request, as it can be pasted into a shell.
pub fn curl(url: &str, key: &str, model: Option<&str>) -> String {
    let model = model.unwrap_or("auto");
    format!(
        "\n  curl {url}/v1/chat/completions \\\n    -H \"Authorization: Bearer {key}\" \\\n    \
         -H \"Content-Type: application/json\" \\\n    \
         -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n"
    )
}

fn addresses(text: &mut String, listening: &Listening) {
    let mut line = |name: &str, scheme: &str, addresses: &[SocketAddr], path: &str| {
        for address in addresses {
            // A string takes any amount of text.
            let _ = writeln!(text, "  {name:<9} {scheme}://{address}{path}");
        }
    };
    line("gateway", "http", &listening.gateway, "/v1");
    line("gateway", "https", &listening.tls, "/v1");
    line("console", "http", &listening.console, "");
    line("devtools", "http", &listening.devtools, "");
}

fn providers(text: &mut String, snapshot: &Snapshot) {
    if snapshot.providers.is_empty() {
        *text += &no_provider();
        return;
    }
    for (index, provider) in snapshot.providers.iter().enumerate() {
        let label = if index == 0 { "providers" } else { "" };
        let keys = match provider.keys.len() {
            0 => "no key".to_owned(),
            1 => "1 key".to_owned(),
            keys => format!("{keys} keys"),
        };
        let usual = BaseUrl::parse(&provider.row.base_url).ok();
        let elsewhere =
            if usual.as_ref() == Some(&provider.base) { String::new() } else { format!(", {}", provider.base) };
        let _ = writeln!(text, "  {label:<9} {} ({keys}{elsewhere})", provider.id);
    }
}

/// What to do when there is no provider: shown at the start and in the 503 of every request.
pub fn no_provider() -> String {
    "  providers none: set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY or another provider's key\n            \
     in the environment or in .env, or [[provider]] in a file given with -c, and start again\n"
        .to_owned()
}

fn credentials(text: &mut String, snapshot: &Snapshot, first_start: &FirstStart) {
    match first_start {
        FirstStart::Show { key, admin_token } => {
            *text += "\n  Made on this first start and shown only now: note them. The token is for the console.\n";
            let _ = writeln!(text, "  API key     {}", key.reveal());
            if let Some(token) = admin_token {
                let _ = writeln!(text, "  admin token {}", token.reveal());
            }
        }
        FirstStart::Written(path) => {
            let _ = writeln!(text, "  keys      made on this first start: see {}", path.display());
        }
        FirstStart::NotNeeded => {
            let keys = snapshot.keys.len();
            let _ = writeln!(text, "  keys      {keys} gateway key{}", if keys == 1 { "" } else { "s" });
            if snapshot.console.admin_token.is_none() {
                *text += "            no admin token: set ORBYT_ADMIN_TOKEN or run `orbyt admin reset-token`\n";
            }
        }
    }
}

/// The gateway's URL as a client on this machine would write it.
fn first_url(listening: &Listening) -> Option<String> {
    let (scheme, address) = match (listening.gateway.first(), listening.tls.first()) {
        (Some(address), _) => ("http", address),
        (None, Some(address)) => ("https", address),
        (None, None) => return None,
    };
    let host = if address.ip().is_unspecified() { "localhost".to_owned() } else { address.ip().to_string() };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("{scheme}://{host}:{}", address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};
    use crate::domain::Secret;
    use crate::provider::Catalog;
    use std::sync::Arc;

    fn snapshot(variables: &[(&str, &str)]) -> Snapshot {
        let process = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let catalog = Arc::new(Catalog::builtin().unwrap());
        load(&Source { file: None, process, dotenv: None, catalog }).unwrap().snapshot
    }

    #[test]
    fn says_what_it_found_and_shows_no_provider_key() {
        let variables = [
            ("OPENAI_API_KEY", "canary-a,canary-b"),
            ("ACME_API_KEY", "canary-c"),
            ("ACME_BASE_URL", "http://acme:1/v1"),
        ];
        let snapshot =
            snapshot(&[&variables[..], &[("ORBYT_API_KEYS", "canary-d"), ("ORBYT_LISTEN", "0.0.0.0:3001")]].concat());
        let text = summary(&snapshot, &Listening::configured(&snapshot), &FirstStart::NotNeeded);
        for line in [
            "  gateway   http://0.0.0.0:3001/v1\n",
            "  console   http://127.0.0.1:4000\n",
            "  providers openai (2 keys)\n",
            "            acme (1 key, http://acme:1/v1)\n",
            "  keys      1 gateway key\n",
            "run `orbyt admin reset-token`\n",
            "  curl http://localhost:3001/v1/chat/completions",
            "Bearer $ORBYT_API_KEY",
            "\"model\": \"openai/",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn shows_new_credentials_once_and_puts_the_key_into_the_example() {
        let snapshot = snapshot(&[("OLLAMA_BASE_URL", "http://localhost:11434")]);
        let first_start = FirstStart::Show { key: Secret::new("new-key"), admin_token: Some(Secret::new("new-token")) };
        let text = summary(&snapshot, &Listening::configured(&snapshot), &first_start);
        assert!(text.contains("API key     new-key") && text.contains("admin token new-token"));
        assert!(text.contains("Bearer new-key") && text.contains("\"model\": \"ollama/MODEL\""), "{text}");
        assert!(text.contains("  providers ollama (no key)\n"), "{text}");
    }

    #[test]
    fn without_a_provider_it_says_what_to_set() {
        let snapshot = snapshot(&[]);
        let text =
            summary(&snapshot, &Listening::configured(&snapshot), &FirstStart::Written("/data/first.txt".into()));
        assert!(text.contains("providers none: set OPENAI_API_KEY"), "{text}");
        assert!(text.contains("see /data/first.txt"));
        assert!(!text.contains("curl"));
    }
}
