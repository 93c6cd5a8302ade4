//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// `orbyt`, with nothing after it the same as `orbyt serve`.
#[derive(Debug, Parser)]
#[command(
    name = "orbyt",
    version,
    about = "A self-hosted LLM gateway: one OpenAI-compatible endpoint in front of every provider.",
    after_help = "Without a file it is configured by the environment: set OPENAI_API_KEY, ANTHROPIC_API_KEY, … and start it.",
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The arguments of `serve`, when no command is named.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the gateway (also what `orbyt` alone does)
    Serve(ServeArgs),
    /// Show what it does, with simulated providers: needs no key and no network
    Demo(DemoArgs),
    /// Check a configuration: every error with file, line and key
    Check(CheckArgs),
    /// Show why a request went where it went
    Explain(ExplainArgs),
    /// Administer a gateway
    #[command(subcommand)]
    Admin(AdminCommand),
}

/// `orbyt serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// The configuration file [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `orbyt demo`.
#[derive(Args, Clone, Debug, Default)]
pub struct DemoArgs {
    /// End after the demonstration instead of serving on
    #[arg(long)]
    pub once: bool,
}

/// `orbyt check`.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// The configuration file [default: $ORBYT_CONFIG, else the environment alone is checked]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask each provider with each of its keys too
    #[arg(long)]
    pub live: bool,
}

/// `orbyt explain`. The administrator's token is read from `ORBYT_ADMIN_TOKEN` (or `.env`), never from the command line.
#[derive(Args, Clone, Debug, Default)]
pub struct ExplainArgs {
    /// The request: its x-request-id
    #[arg(value_name = "ID")]
    pub id: String,
    /// The configuration file, which says where the console listens [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The console's address, when it is another one
    #[arg(long, value_name = "URL")]
    pub console: Option<String>,
    /// Print the console's JSON
    #[arg(long)]
    pub json: bool,
}

/// `orbyt admin`.
#[derive(Clone, Debug, Subcommand)]
pub enum AdminCommand {
    /// Make a new administrator's token and print it; the old one is void once the gateway has reloaded
    ResetToken(ResetTokenArgs),
}

/// `orbyt admin reset-token`.
#[derive(Args, Clone, Debug, Default)]
pub struct ResetTokenArgs {
    /// The configuration file, which names the data directory [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_can_be_named_with_and_without_serve() {
        let file = Some(PathBuf::from("x.toml"));
        let plain = Cli::try_parse_from(["orbyt", "-c", "x.toml"]).unwrap();
        assert!(plain.command.is_none());
        assert_eq!(plain.serve.config, file);
        let serve = Cli::try_parse_from(["orbyt", "serve", "--config", "x.toml"]).unwrap();
        assert!(matches!(serve.command, Some(Command::Serve(args)) if args.config == file));
        let check = Cli::try_parse_from(["orbyt", "check", "-c", "x.toml", "--live"]).unwrap();
        assert!(matches!(check.command, Some(Command::Check(args)) if args.config == file && args.live));
        let demo = Cli::try_parse_from(["orbyt", "demo", "--once"]).unwrap();
        assert!(matches!(demo.command, Some(Command::Demo(DemoArgs { once: true }))));
        let reset = Cli::try_parse_from(["orbyt", "admin", "reset-token"]).unwrap();
        assert!(matches!(reset.command, Some(Command::Admin(AdminCommand::ResetToken(_)))));
        let explain = Cli::try_parse_from(["orbyt", "explain", "req_1", "--json"]).unwrap();
        assert!(matches!(explain.command, Some(Command::Explain(args)) if args.id == "req_1" && args.json));
        assert!(Cli::try_parse_from(["orbyt"]).unwrap().command.is_none());
    }

    #[test]
    fn commands_of_later_versions_are_unknown() {
        for command in ["keys", "drill"] {
            assert!(Cli::try_parse_from(["orbyt", command]).is_err(), "{command}");
        }
    }
}
