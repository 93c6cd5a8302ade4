//! `orbyt health`: whether a gateway that runs takes requests, for probes that have neither a shell nor curl.

use super::args::HealthArgs;
use super::explain::console_url;
use crate::config::Source;
use reqwest::redirect::Policy;
use std::time::Duration;

/// How long the console may take. Probes of containers give up after a few seconds themselves.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the console says.
///
/// # Errors
/// When it says no, or nothing.
pub fn health(args: &HealthArgs) -> Result<String, String> {
    let source = Source::of_process(args.config.clone()).map_err(|problem| problem.to_string())?;
    let console = match &args.console {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => console_url(&source, &source.variables())?,
    };
    let url = format!("{console}{}", if args.live { "/livez" } else { "/readyz" });
    super::blocking(async {
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(Policy::none()).no_proxy().build();
        let unreachable = |error: reqwest::Error| format!("error: {url} does not answer: {}", error.without_url());
        let answer = client.map_err(unreachable)?.get(&url).send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.text().await.map_err(unreachable)?;
        if status.is_success() {
            Ok(format!("{}\n", body.trim()))
        } else {
            Err(format!("error: {url} answers {status}"))
        }
    })
}
