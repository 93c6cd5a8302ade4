//! `orbyt serve`: starts the gateway, says what it found, and serves until it is told to stop.

use super::args::ServeArgs;
use super::credentials::FirstStart;
use super::start;
use super::summary::summary;
use crate::config::Source;
use crate::wiring::listeners::Listener;
use crate::wiring::upgrade::Predecessor;
use crate::wiring::{self, Parts, Running};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the command.
pub fn run(args: ServeArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> Result<(), String> {
    let mut before = args.successor.then(Predecessor::meet).transpose()?;
    let inherited = before.as_mut().map(Predecessor::take_listeners);
    match start(&args, inherited) {
        Ok((running, data_dir, _presence)) => {
            let takes_over = before.is_some();
            if let Some(before) = before {
                before.replace(&running.listening);
            }
            running.offer_upgrades(data_dir, args.config, takes_over);
            running.tell_service_manager();
            running.until_signal();
            Ok(())
        }
        Err(message) => {
            if let Some(before) = before {
                before.failed(&message);
            }
            Err(message)
        }
    }
}

/// A gateway that runs, its data directory, and what says that it is used.
type Started = (Running, PathBuf, Option<File>);

/// Starts the gateway and says what it found.
fn start(args: &ServeArgs, inherited: Option<Vec<Listener>>) -> Result<Started, String> {
    let source = Source::of_process(args.config.clone()).map_err(|problem| problem.to_string())?;
    let on_terminal = io::stderr().is_terminal();
    let prepared = start::prepare(&source, on_terminal)?;
    let snapshot = prepared.snapshot();
    let running = wiring::start(Parts {
        snapshot: prepared.loaded.snapshot,
        state: Some((prepared.state, prepared.followed)),
        source: Some((source, prepared.loaded.files)),
        inherited,
        log_sink: Box::new(io::stdout()),
        log_to_terminal: io::stdout().is_terminal(),
    })?;
    for warning in &prepared.loaded.warnings {
        log::warn!("{warning}");
    }
    for warning in &prepared.warnings {
        log::warn!("{warning}");
    }
    if let Some(path) = &prepared.master_key {
        log::info!("the master key of the vault was made: keep a copy of {} somewhere else", path.display());
    }
    if let FirstStart::Written(path) = &prepared.first_start {
        log::info!("the first API key and the admin token are in {}", path.display());
    }
    eprintln!("{}", summary(&snapshot, &running.listening, &prepared.first_start));
    Ok((running, snapshot.server.data_dir, prepared.presence))
}
