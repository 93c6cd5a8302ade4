//! `orbyt drill`: what clients would see if providers failed. A shadow of the configuration runs in this process, with a simulated provider in
//! the place of each real one, which are never asked; faults are put in, and every answer is looked at the way a client looks at it.
//!
//! `shadow.rs` makes the shadow, `report.rs` the table.

mod report;
mod shadow;

use super::args::DrillArgs;
use crate::sim::SimFault;
use crate::sim::client::{self, Answer};
use report::{Row, table};
use serde_json::json;
use shadow::Shadow;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// What every request says; the simulated models repeat it.
const WORDS: &str = "what a client sees when a provider fails";
/// How long one request may take beside what the configuration allows it.
const MARGIN: Duration = Duration::from_secs(10);

/// A fault of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    provider: String,
    fault: SimFault,
}

impl Fault {
    /// Reads `openai:429`, or `provider=openai:429`.
    fn parse(text: &str) -> Result<Self, String> {
        let names = || SimFault::ALL.map(SimFault::name).join(", ");
        let (provider, fault) = text.strip_prefix("provider=").unwrap_or(text).rsplit_once(':').ok_or_else(|| {
            format!("--fault {text}: write PROVIDER:FAULT, such as openai:429; faults are {}", names())
        })?;
        let fault = SimFault::from_name(fault)
            .ok_or_else(|| format!("--fault {text}: there is no fault {fault:?}; there are {}", names()))?;
        Ok(Self { provider: provider.to_owned(), fault })
    }

    fn shown(&self) -> String {
        match self.fault {
            SimFault::Refused => format!("{} down", self.provider),
            fault => format!("{} {}", self.provider, fault.name()),
        }
    }
}

/// What is wrong at once, and what it is called.
struct Round {
    title: String,
    faults: Vec<Fault>,
}

/// Runs the command.
pub fn run(args: &DrillArgs) -> ExitCode {
    match drill(args, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// Whether no client has seen an error.
fn drill(args: &DrillArgs, out: &mut impl Write) -> Result<bool, String> {
    let told = |error: io::Error| error.to_string();
    let faults = args.faults.iter().map(|text| Fault::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let shadow = Shadow::of(args.config.clone())?;
    let rounds = rounds(faults, &shadow.providers())?;
    let models = if args.models.is_empty() { shadow.models()? } else { args.models.clone() };
    let (providers, asked) = (shadow.providers().join(", "), models.join(", "));
    writeln!(out, "simulated in the place of {providers}; no real provider is asked\nmodels    {asked}\n")
        .map_err(told)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(told)?;
    let mut rows = Vec::new();
    for round in &rounds {
        // Each begins with providers of which nobody knows anything, as after a long calm.
        let gateway = shadow.start(&round.faults)?;
        for model in &models {
            for number in 0..args.requests {
                let stream = number % 2 == 1;
                let asked =
                    runtime.block_on(ask(&gateway.url, &gateway.key, model, stream, shadow.patience() + MARGIN));
                Row::add(&mut rows, &round.title, model, stream, &asked);
            }
        }
        gateway.stop();
    }
    out.write_all(table(&rows).as_bytes()).map_err(told)?;
    let (failed, all) = (report::failed(&rows), report::asked(&rows));
    let verdict = if failed == 0 {
        format!("\nno client sees an error: {all} requests")
    } else {
        format!("\n{failed} of {all} requests end in an error that a client sees")
    };
    writeln!(out, "{verdict}").map_err(told)?;
    Ok(failed == 0)
}

/// The faults that were named, all at once; without any, none, and then each provider down in turn.
fn rounds(faults: Vec<Fault>, providers: &[String]) -> Result<Vec<Round>, String> {
    if let Some(fault) = faults.iter().find(|fault| !providers.contains(&fault.provider)) {
        return Err(format!("--fault: there is no provider {:?}; there are {}", fault.provider, providers.join(", ")));
    }
    if !faults.is_empty() {
        let title = faults.iter().map(Fault::shown).collect::<Vec<_>>().join(", ");
        return Ok(vec![Round { title, faults }]);
    }
    let down = providers.iter().map(|provider| {
        let fault = Fault { provider: provider.clone(), fault: SimFault::Refused };
        Round { title: fault.shown(), faults: vec![fault] }
    });
    Ok(std::iter::once(Round { title: "nothing".to_owned(), faults: Vec::new() }).chain(down).collect())
}

/// Asks once; the error is what keeps a client from having any answer.
async fn ask(url: &str, key: &str, model: &str, stream: bool, patience: Duration) -> Result<Answer, String> {
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": WORDS}]}).to_string();
    let key = format!("Bearer {key}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let url = format!("{url}/v1/chat/completions");
    match tokio::time::timeout(patience, client::send("POST", &url, &headers, body.as_bytes())).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {} s", patience.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn faults_are_read_in_both_forms_and_wrong_ones_name_what_there_is() {
        let fault = Fault { provider: "openai".to_owned(), fault: SimFault::RateLimited };
        assert_eq!(Fault::parse("openai:429"), Ok(fault.clone()));
        assert_eq!(Fault::parse("provider=openai:429"), Ok(fault.clone()));
        assert!(Fault::parse("openai").unwrap_err().contains("write PROVIDER:FAULT"));
        assert!(Fault::parse("openai:sleepy").unwrap_err().contains("there are ok, 429, "));
        let error = rounds(vec![fault], &names(&["one", "two"])).map(|_| ()).unwrap_err();
        assert!(error.contains("no provider \"openai\"; there are one, two"), "{error}");
    }

    #[test]
    fn without_faults_each_provider_is_down_in_turn() {
        let rounds = rounds(Vec::new(), &names(&["one", "two"])).unwrap();
        let titles: Vec<_> = rounds.iter().map(|round| round.title.as_str()).collect();
        assert_eq!(titles, ["nothing", "one down", "two down"]);
    }
}
