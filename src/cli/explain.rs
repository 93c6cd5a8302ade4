//! `orbyt explain ID`: why a request went where it went, asked of the running gateway's console.

use super::args::ExplainArgs;
use super::audit::shown;
use crate::config::{Env, Source};
use crate::domain::decision::{Candidate, Refusal};
use crate::routing::plan;
use crate::telemetry::recent::{Attempt, Explanation};
use reqwest::redirect::Policy;
use std::fmt::Write;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long the console may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The explanation of a request as text, or as the console's JSON.
///
/// # Errors
/// A text for whoever asks: no token, no gateway there, no such request.
pub fn explain(args: &ExplainArgs) -> Result<String, String> {
    let source = Source::of_process(args.config.clone()).map_err(|problem| problem.to_string())?;
    let env = source.variables();
    let token = env.get("ORBYT_ADMIN_TOKEN");
    let token = token.ok_or("error: this needs the administrator's token: set ORBYT_ADMIN_TOKEN")?;
    let console = match &args.console {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => console_url(&source, &env)?,
    };
    let json = fetch(&console, &args.id, token)?;
    if args.json {
        return Ok(json + "\n");
    }
    let explanation = serde_json::from_str(&json)
        .map_err(|error| format!("error: {console} does not answer as this version does: {error}"))?;
    Ok(text(&explanation))
}

/// Where the console listens by the configuration.
pub(super) fn console_url(source: &Source, env: &Env) -> Result<String, String> {
    if let Some(first) = env.get("ORBYT_CONSOLE_LISTEN").and_then(|list| list.split(',').next()) {
        let first = first.trim();
        let at = if first.contains(':') { first.to_owned() } else { format!("127.0.0.1:{first}") };
        return Ok(format!("http://{at}"));
    }
    let loaded = crate::config::load(source).map_err(|refused| {
        let lines: Vec<_> = refused.errors.iter().map(|problem| format!("error: {problem}")).collect();
        lines.join("\n")
    })?;
    let address = loaded.snapshot.console.listen.first().copied();
    Ok(address.map_or("http://127.0.0.1:4000".to_owned(), |address| format!("http://{address}")))
}

fn fetch(console: &str, id: &str, token: &str) -> Result<String, String> {
    let unreachable = |error: reqwest::Error| {
        format!(
            "error: {console} cannot be asked ({}): is the gateway running? --console names another",
            error.without_url()
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("error: {error}"))?;
    runtime.block_on(async {
        // No proxy of the environment gets to see the administrator's token.
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(Policy::none()).no_proxy().build();
        let http = http.map_err(unreachable)?;
        let url = format!("{console}/api/v1/requests/{}/explain", id.trim());
        let answer = http.get(url).bearer_auth(token).send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(body);
        }
        let detail = serde_json::from_str::<serde_json::Value>(&body).ok();
        let detail = detail.and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()));
        Err(format!("error: {}", detail.unwrap_or_else(|| format!("{console} answers {status}"))))
    })
}

/// The explanation for people.
pub fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write_head(&mut text, explanation);
    let _ = write_table(&mut text, explanation);
    let _ = write_end(&mut text, explanation);
    text
}

fn write_head(text: &mut String, explanation: &Explanation) -> std::fmt::Result {
    let Explanation { request_id, requested_model, status, ended, decision, .. } = explanation;
    let nanos = i128::from(explanation.arrived_unix_ms) * 1_000_000;
    let arrived = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().and_then(|time| time.format(&Rfc3339).ok());
    writeln!(text, "request   {request_id}, {}", arrived.unwrap_or_default())?;
    writeln!(text, "asked for {}", shown(requested_model.as_deref().unwrap_or("-")))?;
    writeln!(text, "ended     {ended}, status {status}")?;
    let rules = &decision.rules;
    write!(text, "strategy  {}, seed {}", rules.strategy.name(), rules.seed)?;
    if rules.affinity.is_some() {
        let idle = if rules.strategy.is_steady() { " (the strategy keeps sessions together by itself)" } else { "" };
        write!(text, ", sticky{idle}")?;
    }
    if rules.across_models {
        text.push_str(", across models");
    }
    if let Some(limit) = rules.limit {
        write!(text, ", at most {limit}")?;
    }
    let (input, output) = (decision.input_tokens, decision.output_tokens);
    writeln!(text, "\nestimate  {input} tokens in, {output} out\n")
}

fn write_table(text: &mut String, explanation: &Explanation) -> std::fmt::Result {
    let decision = &explanation.decision;
    let header =
        ["#", "target", "leg", "by", "price", "first output", "tokens/s", "success", "breaker", "room", "outcome"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let planned = decision
        .order
        .iter()
        .enumerate()
        .filter_map(|(at, place)| Some(((at + 1).to_string(), decision.candidates.get(usize::from(*place))?)));
    let rest = (0u16..).zip(&decision.candidates).filter(|(place, _)| !decision.order.contains(place));
    let is_cut = |candidate: &&Candidate| candidate.refusal == Some(Refusal::BeyondAuto);
    let (cut, rest): (Vec<&Candidate>, Vec<_>) = rest.map(|(_, candidate)| candidate).partition(is_cut);
    for (number, candidate) in planned.chain(rest.into_iter().map(|candidate| ("-".to_owned(), candidate))) {
        rows.push(row(explanation, number, candidate).iter().map(|cell| shown(cell)).collect());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    let is_planned = |attempt: &Attempt| {
        decision.candidates.iter().any(|one| one.provider == attempt.provider && one.model == attempt.model)
    };
    for attempt in explanation.attempts.iter().filter(|attempt| !is_planned(attempt)) {
        let Attempt { provider, model, .. } = attempt;
        let line = format!(
            "+  {provider}/{model}, the catalog's successor of a model that its maker no longer has: {}",
            told(attempt)
        );
        writeln!(text, "{}", shown(&line))?;
    }
    if !cut.is_empty() {
        let subject =
            if cut.len() == 1 { "-  1 target comes".to_owned() } else { format!("-  {} targets come", cut.len()) };
        writeln!(text, "{subject} after the most that auto tries")?;
    }
    if decision.omitted > 0 {
        writeln!(text, "… and {} more that were refused", decision.omitted)?;
    }
    Ok(())
}

fn row(explanation: &Explanation, number: String, candidate: &Candidate) -> Vec<String> {
    let facts = &candidate.facts;
    let unknown = || "-".to_owned();
    let breaker = serde_json::to_value(facts.breaker).ok().and_then(|name| Some(name.as_str()?.to_owned()));
    vec![
        number,
        format!("{}/{}", candidate.provider, candidate.model),
        candidate.leg.to_string(),
        plan::merit(&explanation.decision.rules, candidate),
        facts.price().map_or_else(unknown, |price| format!("${}", price.to_dollars())),
        facts.first_output_us.map_or_else(unknown, |us| format!("{:.1} ms", f64::from(us) / 1e3)),
        facts.rate_milli.map_or_else(unknown, |rate| format!("{:.1}", f64::from(rate) / 1e3)),
        if facts.tried { format!("{:.1} %", f64::from(facts.success_ppm) / 1e4) } else { "untried".to_owned() },
        breaker.unwrap_or_default(),
        format!("{} %", facts.room_percent),
        outcome(explanation, candidate),
    ]
}

/// Why a target was tried, and how that went, or why not.
fn outcome(explanation: &Explanation, candidate: &Candidate) -> String {
    if let Some(refusal) = candidate.refusal {
        return format!("not tried: {refusal}");
    }
    let of_target = |attempt: &&Attempt| attempt.provider == candidate.provider && attempt.model == candidate.model;
    let told: Vec<String> = explanation.attempts.iter().filter(of_target).map(told).collect();
    match told.is_empty() {
        false => told.join("; then "),
        true if explanation.attempts.iter().any(|attempt| attempt.verdict == "ok") => {
            "not tried: another target served".to_owned()
        }
        true => "not tried: the request ended before".to_owned(),
    }
}

fn told(attempt: &Attempt) -> String {
    let why = attempt.reason.as_deref().unwrap_or("ok");
    if attempt.is_skipped() {
        return format!("passed over: {why}");
    }
    let took = attempt.took_us as f64 / 1e3;
    let status = attempt.status.map(|status| format!("{status} ")).unwrap_or_default();
    match attempt.verdict.as_str() {
        "ok" => format!("served with {} in {took:.1} ms", attempt.key_name),
        "overtaken" => format!("hedged with {}: cancelled after {took:.1} ms, overtaken by another", attempt.key_name),
        verdict => format!("{status}{why} with {} after {took:.1} ms: {verdict}", attempt.key_name),
    }
}

fn write_end(text: &mut String, explanation: &Explanation) -> std::fmt::Result {
    let said = if plan::repeats(&explanation.decision) {
        "The order was computed again from this record alone, and is the same."
    } else {
        "The order computed again from this record is another one: it was made by another version, or its names are redacted."
    };
    writeln!(text, "\n{said}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::{Breaker, Facts, Refusal, Rules};
    use crate::domain::{Decision, Strategy};

    fn candidate(provider: &str, price: u64, refusal: Option<Refusal>) -> Candidate {
        let facts = Facts { price_picos: Some(price), ..Facts::UNKNOWN };
        Candidate { provider: provider.into(), model: "m".into(), leg: 0, refusal, facts }
    }

    fn attempt(provider: &str, status: u16, reason: Option<&str>, verdict: &str) -> Attempt {
        Attempt {
            provider: provider.into(),
            model: "m".into(),
            key_name: "k_01".into(),
            started_us: 0,
            took_us: 1500,
            status: Some(status),
            reason: reason.map(str::to_owned),
            verdict: verdict.to_owned(),
        }
    }

    fn explanation() -> Explanation {
        let dear = candidate("dear", 2_000_000, None);
        let mut open = candidate("open", 1, None);
        open.facts = Facts { breaker: Breaker::Open, ..open.facts };
        let blind = candidate("blind", 3, Some(Refusal::NoVision));
        let cut = |provider: &str| candidate(provider, 4, Some(Refusal::BeyondAuto));
        let slow = candidate("slow", 3_000_000, None);
        let decision = Decision {
            rules: Rules { strategy: Strategy::Cheap, seed: 7, ..Rules::default() },
            candidates: vec![dear, open, blind, cut("a"), cut("b"), slow],
            order: vec![1, 0, 5],
            omitted: 4,
            ..Decision::default()
        };
        Explanation {
            request_id: "req_000000000000000000000001".to_owned(),
            arrived_unix_ms: 0,
            requested_model: Some("any".into()),
            status: 200,
            ended: "complete".to_owned(),
            attempts: vec![
                attempt("open", 0, Some("breaker_open"), "skipped"),
                attempt("dear", 404, Some("model_not_found"), "next_model"),
                attempt("slow", 200, None, "overtaken"),
                attempt("heir", 200, None, "ok"),
            ],
            decision,
        }
    }

    #[test]
    fn every_target_has_its_reason() {
        let text = text(&explanation());
        let line = |begins: &str| {
            text.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("{begins}: {text}"))
        };
        assert!(line("request").ends_with("req_000000000000000000000001, 1970-01-01T00:00:00Z"), "{text}");
        assert!(line("1  open/m").ends_with("passed over: breaker_open"), "{text}");
        assert!(line("2  dear/m").ends_with("404 model_not_found with k_01 after 1.5 ms: next_model"), "{text}");
        assert!(line("2  dear/m").contains("$0.000002"), "{text}");
        assert!(
            line("3  slow/m").ends_with("hedged with k_01: cancelled after 1.5 ms, overtaken by another"),
            "{text}"
        );
        assert!(
            text.contains("\n-  2 targets come after the most that auto tries\n") && !text.contains("a/m"),
            "{text}"
        );
        assert!(line("-  blind/m").ends_with("not tried: does not take pictures"), "{text}");
        assert!(line("+  heir/m").contains("served with k_01"), "{text}");
        assert!(text.contains("… and 4 more that were refused") && text.ends_with("and is the same.\n"), "{text}");
    }

    #[test]
    fn a_terminal_is_told_nothing_by_a_client() {
        let mut explanation = explanation();
        explanation.requested_model = Some("x\u{1b}]0;owned\u{7}\n1  forged".into());
        explanation.decision.candidates[0].model = "m\u{9b}2J".into();
        explanation.attempts[3].model = "m\u{1b}[2J".into();
        let text = text(&explanation);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(
            text.contains(r"asked for x\u{1b}]0;owned\u{7}\n1  forged") && text.contains(r"dear/m\u{9b}2J"),
            "{text}"
        );
    }

    #[test]
    fn a_record_that_does_not_repeat_says_so() {
        let mut explanation = explanation();
        explanation.decision.order.reverse();
        assert!(text(&explanation).contains("is another one"));
    }
}
