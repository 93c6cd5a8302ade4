//! The command line: one file a command.

pub mod admin;
pub mod args;
pub mod check;
pub mod credentials;
pub mod demo;
pub mod explain;
pub mod serve;
pub mod start;
pub mod summary;

use crate::config::Source;
use args::{AdminCommand, CheckArgs, Cli, Command, ExplainArgs, ResetTokenArgs};
use std::io::{self, Write};
use std::process::ExitCode;

/// Does what the command line asks for. Errors are printed; the exit code says whether there were any.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check(args),
        Command::Explain(args) => explain(&args),
        Command::Admin(AdminCommand::ResetToken(args)) => reset_token(args),
    }
}

fn check(args: CheckArgs) -> ExitCode {
    let source = match Source::of_process(args.config) {
        Ok(source) => source,
        Err(problem) => return failed(&problem.to_string()),
    };
    match check::report(&source, &mut io::stdout().lock()) {
        Ok(Some(snapshot)) if args.live => match check::live(&snapshot, &mut io::stdout().lock()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => failed(&error.to_string()),
        },
        Ok(Some(_)) => ExitCode::SUCCESS,
        Ok(None) => ExitCode::FAILURE,
        Err(error) => failed(&error.to_string()),
    }
}

fn explain(args: &ExplainArgs) -> ExitCode {
    match explain::explain(args).map(|text| write!(io::stdout(), "{text}")) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failed(&error.to_string()),
        Err(message) => failed(&message),
    }
}

fn reset_token(args: ResetTokenArgs) -> ExitCode {
    let source = match Source::of_process(args.config) {
        Ok(source) => source,
        Err(problem) => return failed(&problem.to_string()),
    };
    match admin::reset_token(&source) {
        Ok(reset) => {
            eprintln!("The new admin token, shown only now (its hash is in {}):", reset.kept_in.display());
            if reset.is_overruled {
                eprintln!("note: the configuration names an admin token, which goes before this one");
            }
            match writeln!(io::stdout(), "{}", reset.token.reveal()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error.to_string()),
            }
        }
        Err(message) => failed(&message),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}
