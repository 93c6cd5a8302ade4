//! The command line.

mod money;
mod tenants;

pub use money::*;
pub use tenants::*;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::num::NonZeroU64;
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

impl Cli {
    /// Reads the command line. A configuration file may also be named before the command that it is for.
    pub fn of_process() -> Self {
        Self::parse_from(file_behind(std::env::args_os().collect()))
    }
}

/// Puts `-c FILE` that stands before a command behind it, where each command has it.
fn file_behind(mut words: Vec<OsString>) -> Vec<OsString> {
    let is = |word: &OsString, text: &str| word.as_os_str() == text;
    let count = match words.get(1) {
        Some(word) if is(word, "-c") || is(word, "--config") => 2,
        Some(word) if word.to_str().is_some_and(|text| text.starts_with("--config=")) => 1,
        _ => return words,
    };
    let is_command = |word: &OsString| word.to_str().is_some_and(|text| !text.starts_with('-'));
    if words.get(1 + count).is_some_and(is_command) {
        let file: Vec<OsString> = words.drain(1..=count).collect();
        words.extend(file);
    }
    words
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the gateway (also what `orbyt` alone does)
    Serve(ServeArgs),
    /// Show what it does, with simulated providers: needs no key and no network
    Demo(DemoArgs),
    /// Replace the gateway that runs by this program, without refusing a request or cutting a stream
    Upgrade(UpgradeArgs),
    /// Show what clients would see if providers failed: with simulated ones in the place of yours
    Drill(DrillArgs),
    /// Copy the embedded database into a file, while the gateway runs
    Backup(BackupArgs),
    /// Put a backup into the place of the embedded database
    Restore(RestoreArgs),
    /// Check a configuration: every error with file, line and key
    Check(CheckArgs),
    /// Show why a request went where it went
    Explain(ExplainArgs),
    /// Administer a gateway
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Make, list, revoke and rotate the keys that clients use
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Keep keys of providers encrypted in the database
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Make and list organisations
    #[command(subcommand)]
    Orgs(OrgsCommand),
    /// Make and list projects
    #[command(subcommand)]
    Projects(ProjectsCommand),
    /// Say who may look after an organisation
    #[command(subcommand)]
    Users(UsersCommand),
    /// Say what may be spent
    #[command(subcommand)]
    Budgets(BudgetsCommand),
    /// Keep book of what organisations pay in advance
    #[command(subcommand)]
    Credits(CreditsCommand),
    /// Take over prices of models
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// See what finished requests are in the ledger
    #[command(subcommand)]
    Requests(RequestsCommand),
    /// See who changed what, and check that the log of it is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Ask a gateway that runs whether it takes requests; the exit code says it
    Health(HealthArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

/// `orbyt serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// The configuration file [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take over from the process at the other end of standard input, which `orbyt upgrade` has told to start this one
    #[arg(long, hide = true)]
    pub successor: bool,
}

/// `orbyt backup`.
#[derive(Args, Clone, Debug, Default)]
pub struct BackupArgs {
    /// The file to be made
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Put the vault's master key beside it, into FILE.master.key
    #[arg(long)]
    pub with_master_key: bool,
    /// The configuration file, which names the data directory [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `orbyt restore`.
#[derive(Args, Clone, Debug, Default)]
pub struct RestoreArgs {
    /// A file that `orbyt backup` has made; a master key beside it is restored too
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The configuration file, which names the data directory [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `orbyt drill`.
#[derive(Args, Clone, Debug, Default)]
pub struct DrillArgs {
    /// The configuration file [default: $ORBYT_CONFIG, else the environment alone]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A fault, such as openai:429; may be given several times, all at once [default: each provider down in turn]
    #[arg(long = "fault", value_name = "PROVIDER:FAULT")]
    pub faults: Vec<String>,
    /// Requests for each model and each fault, every other one streamed
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub requests: u32,
    /// The model to ask for; may be given several times [default: the names of [[model]], else an example]
    #[arg(long = "model", value_name = "MODEL")]
    pub models: Vec<String>,
}

/// `orbyt upgrade`.
#[derive(Args, Clone, Debug, Default)]
pub struct UpgradeArgs {
    /// The configuration file, which names the data directory [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The program to go on with [default: this one]
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Wait until the process before has finished its requests and has ended
    #[arg(long)]
    pub wait: bool,
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

/// `orbyt health`. For probes of containers, which have no shell and no curl.
#[derive(Args, Clone, Debug, Default)]
pub struct HealthArgs {
    /// The configuration file, which says where the console listens [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The console's address, when it is another one
    #[arg(long, value_name = "URL")]
    pub console: Option<String>,
    /// Only whether the process runs: also while it ends
    #[arg(long)]
    pub live: bool,
}

/// `orbyt completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Completed,
}

/// The shells that have completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Completed {
    /// Bash, with its package bash-completion.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}

/// `orbyt man`.
#[derive(Args, Clone, Debug, Default)]
pub struct ManArgs {
    /// Write it and a page for each command into this folder instead
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
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

/// Where the configuration is, for commands that need no more of it than where the state is.
#[derive(Args, Clone, Debug, Default)]
pub struct StateArgs {
    /// The configuration file, which names the database [default: $ORBYT_CONFIG, else none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `orbyt keys`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once
    Create(Box<CreateKeyArgs>),
    /// List the keys
    List(ListKeysArgs),
    /// Make a key void for good, from the next request on
    Revoke(OneKeyArgs),
    /// Give a key a new secret; the old one goes on for a while
    Rotate(RotateKeyArgs),
    /// Do not accept a key for now
    Disable(OneKeyArgs),
    /// Accept a disabled key again
    Enable(OneKeyArgs),
}

/// `orbyt keys create`.
#[derive(Args, Clone, Debug, Default)]
pub struct CreateKeyArgs {
    /// Its name, by which limits and the log know it
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The models that it may use: `openai/*`, or a name at any provider [default: all]
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    pub models: Vec<String>,
    /// The providers that it may use [default: all]
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    pub providers: Vec<String>,
    /// The paths that it may use, such as /v1/chat/* [default: all]
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    pub routes: Vec<String>,
    /// The addresses or networks that it may be used from [default: all]
    #[arg(long, value_name = "NET,…", value_delimiter = ',')]
    pub addresses: Vec<String>,
    /// When it ends: after a while (30d) or on a date (2027-01-31) [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// The person who answers for it
    #[arg(long, value_name = "WHO")]
    pub owner: Option<String>,
    /// What it is used for
    #[arg(long, value_name = "LABEL")]
    pub workflow: Option<String>,
    /// Requests a minute [default: as the configuration's rules say, here and below]
    #[arg(long, value_name = "N")]
    pub rpm: Option<NonZeroU64>,
    /// Requests a day
    #[arg(long, value_name = "N")]
    pub rpd: Option<NonZeroU64>,
    /// Tokens a minute, of input and output
    #[arg(long, value_name = "N")]
    pub tpm: Option<NonZeroU64>,
    /// Tokens a day
    #[arg(long, value_name = "N")]
    pub tpd: Option<NonZeroU64>,
    /// Requests at once
    #[arg(long, value_name = "N")]
    pub concurrency: Option<NonZeroU64>,
    /// What may be spent with it in dollars: 5/day, 50/month, or 100 in all
    #[arg(long, value_name = "AMOUNT[/SPAN],…", value_delimiter = ',')]
    pub budget: Vec<String>,
    /// Anything else to be remembered; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub metadata: Vec<String>,
    /// Keep nothing that its requests carry, in memory or in the database
    #[arg(long)]
    pub no_store: bool,
    /// Its project, by name or id [default: default]
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt keys list`.
#[derive(Args, Clone, Debug, Default)]
pub struct ListKeysArgs {
    /// Revoked keys too
    #[arg(long)]
    pub all: bool,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt keys revoke` and its like.
#[derive(Args, Clone, Debug, Default)]
pub struct OneKeyArgs {
    /// The key, by name or id
    #[arg(value_name = "NAME|ID")]
    pub key: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt keys rotate`.
#[derive(Args, Clone, Debug, Default)]
pub struct RotateKeyArgs {
    /// Which one.
    #[command(flatten)]
    pub one: OneKeyArgs,
    /// How long the old secret is still accepted
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub overlap: String,
}

/// `orbyt vault`.
#[derive(Clone, Debug, Subcommand)]
pub enum VaultCommand {
    /// Put a provider's key, read from standard input, into the vault
    Add(AddVaultArgs),
    /// List the keys, none of them in clear
    List(StateArgs),
    /// Take a key out of the vault
    Remove(RemoveVaultArgs),
    /// Seal everything anew with another master key, while the gateway runs
    Rotate(StateArgs),
}

/// `orbyt vault add`.
#[derive(Args, Clone, Debug, Default)]
pub struct AddVaultArgs {
    /// The provider's id, such as openai
    #[arg(value_name = "PROVIDER")]
    pub provider: String,
    /// The key's name in logs and metrics [default: PROVIDER_vault]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// For the requests of this organisation alone, by name or id [default: for all]
    #[arg(long, value_name = "ORG", conflicts_with = "project")]
    pub org: Option<String>,
    /// For the requests of this project alone, by name or id [default: for all]
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt vault remove`.
#[derive(Args, Clone, Debug, Default)]
pub struct RemoveVaultArgs {
    /// The key, by name or id
    #[arg(value_name = "NAME|ID")]
    pub key: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt requests`.
#[derive(Clone, Debug, Subcommand)]
pub enum RequestsCommand {
    /// Show the latest requests, the newest first
    List(Box<ListRequestsArgs>),
    /// Show everything about a request, as JSON
    Show(ShowRequestArgs),
}

/// `orbyt requests list`.
#[derive(Args, Clone, Debug, Default)]
pub struct ListRequestsArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// Not older than this, such as 30m, 12h or 7d
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// Of this key, by name or id
    #[arg(long, value_name = "NAME|ID")]
    pub key: Option<String>,
    /// Of this project, by id
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
    /// Of this end user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// For this model, as it was asked for or as it served
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Served or last tried by this provider
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// Of this trace
    #[arg(long, value_name = "ID")]
    pub trace: Option<String>,
    /// Of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// That ended so: complete, error, broken, client_gone or shutdown
    #[arg(long, value_name = "HOW")]
    pub ended: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt requests show`.
#[derive(Args, Clone, Debug, Default)]
pub struct ShowRequestArgs {
    /// The request: its x-request-id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Show what it carried instead, as far as telemetry.payloads has it kept
    #[arg(long)]
    pub payloads: bool,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt audit`.
#[derive(Clone, Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the latest entries
    List(ListAuditArgs),
    /// Check that every entry is as it was written, and none is missing
    Verify(VerifyAuditArgs),
}

/// `orbyt audit list`.
#[derive(Args, Clone, Debug, Default)]
pub struct ListAuditArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt audit verify`.
#[derive(Args, Clone, Debug, Default)]
pub struct VerifyAuditArgs {
    /// The hash of an entry that has to be there, as an earlier run printed it: tells whether the end was cut off
    #[arg(long, value_name = "HASH")]
    pub head: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
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
    fn a_file_may_be_named_before_the_command() {
        let read = |words: &[&str]| Cli::try_parse_from(file_behind(words.iter().map(OsString::from).collect()));
        let file = Some(PathBuf::from("x.toml"));
        for before in [&["-c", "x.toml"][..], &["--config", "x.toml"], &["--config=x.toml"]] {
            let words = [&["orbyt"], before, &["keys", "create", "--name", "a"]].concat();
            let Some(Command::Keys(KeysCommand::Create(args))) = read(&words).unwrap().command else {
                panic!("{words:?}")
            };
            assert_eq!((args.state.config, args.name.as_str()), (file.clone(), "a"), "{words:?}");
            assert_eq!(read(&[&["orbyt"], before].concat()).unwrap().serve.config, file);
        }
        assert!(read(&["orbyt", "-c", "x.toml", "man"]).is_err(), "a command that reads none");
    }

    #[test]
    fn commands_that_there_are_not_are_unknown() {
        assert!(Cli::try_parse_from(["orbyt", "dril"]).is_err());
    }
}
