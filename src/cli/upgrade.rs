//! `orbyt upgrade`: has the gateway that runs start its successor, and says what happens step by step.

use super::args::UpgradeArgs;
use crate::config::{Source, data_dir};
use crate::wiring::upgrade::{Order, Told, ask};
use std::path::Path;
use std::process::ExitCode;

/// Runs the command.
pub fn run(args: UpgradeArgs) -> ExitCode {
    match upgrade(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn upgrade(args: UpgradeArgs) -> Result<(), String> {
    let source = Source::of_process(args.config).map_err(|problem| problem.to_string())?;
    let problems = |refused: crate::config::Refused| {
        refused.errors.iter().map(|problem| format!("error: {problem}")).collect::<Vec<_>>().join("\n")
    };
    let data_dir = data_dir(&source).map_err(problems)?;
    let binary = match args.binary {
        Some(path) => path,
        None => {
            std::env::current_exe().map_err(|error| format!("where this program is cannot be found out: {error}"))?
        }
    };
    // The gateway may have been started in another folder.
    let binary = std::path::absolute(&binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    carry_out(&data_dir, &Order { binary, wait: args.wait })
}

fn carry_out(data_dir: &Path, order: &Order) -> Result<(), String> {
    let mut outcome = Err("the gateway has ended before it said what became of the upgrade: see its log".to_owned());
    let mut leaving = None;
    ask(data_dir, order, |told| match told {
        Told::Step(step) => eprintln!("{step}"),
        Told::Done { leaves, serves } => {
            eprintln!(
                "process {serves} serves; process {leaves} accepts no more connections, finishes its requests and ends"
            );
            leaving = Some(leaves);
            outcome = Ok(());
        }
        Told::Failed(why) => outcome = Err(format!("not upgraded, everything is as before: {why}")),
    })?;
    if order.wait
        && let Some(pid) = leaving
    {
        eprintln!("process {pid} has ended");
    }
    outcome
}
