//! `orbyt check`: everything that is wrong with a configuration, before it is used.

use crate::config::{self, Loaded, Problem, Snapshot, Source};
use crate::dialect::table::Dialect;
use crate::domain::ProviderKey;
use crate::store::ports::database::StoreError;
use crate::store::redis::Redis;
use crate::wiring::ask::{Asker, Unanswered};
use crate::wiring::shared;
use crate::wiring::state::{Followed, State, steps_to_take};
use std::io::{self, Write};

/// Reads the configuration and writes every error and warning, one a line, then a summary.
///
/// # Errors
/// When it cannot be written. `Ok(None)` means that there were errors.
pub fn report(source: &Source, out: &mut impl Write) -> io::Result<Option<Snapshot>> {
    match config::load(source) {
        Ok(loaded) => {
            let Some(followed) = database(&loaded.snapshot, out)? else { return Ok(None) };
            // Now that it is known which keys there are.
            let again = super::start::reload_with(source, &followed);
            let Loaded { snapshot, warnings, .. } = again.unwrap_or(loaded);
            lines(out, "warning", &warnings)?;
            let is_without = snapshot.providers.is_empty();
            if is_without {
                writeln!(out, "warning: no provider: set a key such as OPENAI_API_KEY, or add a [[provider]]")?;
            }
            let keys: usize = snapshot.providers.iter().map(|provider| provider.keys.len()).sum();
            writeln!(
                out,
                "ok: {}, {}, {}",
                count(snapshot.providers.len(), "provider"),
                count(keys, "provider key"),
                count(warnings.len() + usize::from(is_without), "warning"),
            )?;
            Ok(Some(snapshot))
        }
        Err(refused) => {
            lines(out, "error", &refused.errors)?;
            lines(out, "warning", &refused.warnings)?;
            writeln!(out, "{}, {}", count(refused.errors.len(), "error"), count(refused.warnings.len(), "warning"))?;
            Ok(None)
        }
    }
}

/// Looks at the database without changing it. Returns the keys that it holds, as far as they can be known; `None` when the gateway could not
/// start with it.
pub(super) fn database(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<Option<Followed>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let steps = steps_to_take(&snapshot.server.data_dir, &snapshot.store).await?;
        let found = match steps {
            // Nothing is left to change in it, so that it can be opened.
            Some(0) => {
                let state = State::open(&snapshot.server.data_dir, &snapshot.store).await?;
                state.open_up(&state.look().await?.contents)
            }
            _ => Default::default(),
        };
        Ok((steps, found))
    });
    let mut followed = Followed::default();
    match found {
        Ok((None | Some(0), (found, problems))) => {
            problems.iter().try_for_each(|problem| writeln!(out, "warning: {problem}"))?;
            followed = found;
        }
        Ok((Some(steps), _)) => {
            writeln!(out, "note: the next start brings the database up to date ({})", count(steps, "step"))?
        }
        // The gateway starts without it, with what it last knew.
        Err(StoreError::Unavailable(why)) => writeln!(out, "warning: {why}")?,
        Err(error) => {
            writeln!(out, "error: {error}")?;
            return Ok(None);
        }
    }
    Ok(Some(followed))
}

/// Asks every provider with each of its keys, and Redis where it is configured, and writes what they say, one line a key. Returns whether
/// all of them answered well.
///
/// # Errors
/// When it cannot be written, or no connection can be made at all.
pub fn live(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<bool> {
    let asker = Asker::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut all_well = true;
    for provider in &snapshot.providers {
        let keys: Vec<Option<&ProviderKey>> = match provider.keys.as_slice() {
            [] => vec![None],
            keys => keys.iter().map(|key| Some(&**key)).collect(),
        };
        for key in keys {
            let name = key.map_or("without a key", |key| &key.name);
            let outcome = runtime.block_on(asker.ask(provider, key));
            // Bedrock has no question that only a good key gets an answer to; that it is there is all that can be known.
            let only_there = provider.dialect == Dialect::BedrockConverse;
            if only_there && matches!(&outcome, Err(Unanswered { status: Some(..500), .. })) {
                writeln!(out, "live: {} {name}: it is there; its keys are not tried", provider.id)?;
                continue;
            }
            all_well &= outcome.is_ok();
            match outcome {
                Ok(_) => writeln!(out, "live: {} {name}: ok", provider.id)?,
                Err(error) => writeln!(out, "live: {} {name}: {}", provider.id, error.message)?,
            }
        }
    }
    if let Some(redis) = &snapshot.store.redis {
        let outcome = runtime.block_on(Redis::ask_once(shared::settings(redis)));
        all_well &= outcome.is_ok();
        match outcome {
            Ok(_) => writeln!(out, "live: redis: ok")?,
            Err(message) => writeln!(out, "live: redis: {message}")?,
        }
    }
    Ok(all_well)
}

fn lines(out: &mut impl Write, severity: &str, problems: &[Problem]) -> io::Result<()> {
    problems.iter().try_for_each(|problem| writeln!(out, "{severity}: {problem}"))
}

/// `1 error`, `2 errors`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalog;
    use std::sync::Arc;

    fn run(text: &str) -> (bool, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("orbyt.toml");
        std::fs::write(&file, text).unwrap();
        let catalog = Arc::new(Catalog::builtin().unwrap());
        let source = Source { file: Some(file), process: Vec::new(), dotenv: None, catalog };
        let mut out = Vec::new();
        let is_sound = report(&source, &mut out).unwrap().is_some();
        (is_sound, String::from_utf8(out).unwrap().replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn a_sound_file_is_summed_up_after_its_warnings() {
        let (is_sound, text) = run("[[provider]]\nid = 'openai'\n[[provider.key]]\nsecret = 'in-clear'\n");
        assert!(is_sound);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("warning: orbyt.toml:4:10: provider[0].key[0].secret: a secret in clear"),
            "{text}"
        );
        assert_eq!(lines[1..], ["ok: 1 provider, 1 provider key, 1 warning"]);
        assert!(!text.contains("in-clear"));
    }

    #[test]
    fn that_there_is_no_provider_counts_as_a_warning() {
        let (is_sound, text) = run("");
        assert!(is_sound);
        assert!(text.starts_with("warning: no provider: "), "{text}");
        assert!(text.ends_with("ok: 0 providers, 0 provider keys, 1 warning\n"), "{text}");
    }

    #[test]
    fn every_error_has_its_line() {
        let (is_sound, text) = run("[retry]\nmx = 1\n[timeouts]\nidle = 1\n");
        assert!(!is_sound);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "error: orbyt.toml:2:1: retry.mx: unknown key, did you mean \"max\"?");
        assert!(lines[1].starts_with("error: orbyt.toml:4:8: timeouts.idle: must be a duration"));
        assert_eq!(lines[2..], ["2 errors, 0 warnings"]);
    }
}
