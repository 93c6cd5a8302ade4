//! The command line: one file a command.

pub mod admin;
pub mod args;
pub mod audit;
pub mod backup;
pub mod budgets;
pub mod catalog;
pub mod check;
pub mod credentials;
pub mod demo;
pub mod drill;
pub mod explain;
pub mod health;
pub mod keys;
pub mod manual;
pub mod requests;
pub mod serve;
pub mod start;
pub mod summary;
pub mod tenants;
pub mod upgrade;
pub mod vault;

use crate::config::{Source, StoreSettings};
use crate::domain::Secret;
use crate::wiring::state::{Heard, State, now_ms, ring};
use args::{
    AdminCommand, AuditCommand, BudgetsCommand, CatalogCommand, CheckArgs, Cli, Command, CreditsCommand, KeysCommand,
    OrgsCommand, ProjectsCommand, RequestsCommand, ResetTokenArgs, StateArgs, UsersCommand, VaultCommand,
};
use std::future::Future;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

/// Does what the command line asks for. Errors are printed; the exit code says whether there were any.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Drill(args) => drill::run(&args),
        Command::Backup(args) => print(backup::run_backup(&args).map(Said::note)),
        Command::Restore(args) => print(backup::run_restore(&args).map(Said::note)),
        Command::Check(args) => check(args),
        Command::Upgrade(args) => upgrade::run(args),
        Command::Explain(args) => said(explain::explain(&args)),
        Command::Health(args) => said(health::health(&args)),
        Command::Completions(args) => said(Ok(manual::completions(args.shell))),
        Command::Man(args) => said(manual::manual(&args)),
        Command::Admin(AdminCommand::ResetToken(args)) => reset_token(args),
        Command::Keys(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Audit(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Orgs(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Projects(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Users(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Budgets(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Credits(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Catalog(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Requests(command) => print(on_state(command.state().clone(), async |state| command.run(state).await)),
        Command::Vault(command) => {
            let work = async |state: &State, settings: &StoreSettings| command.run(state, settings).await;
            print(on_settings(command.state().clone(), work))
        }
    }
}

/// What a command has to say: for people, and for standard output.
struct Said {
    note: String,
    output: String,
}

impl Said {
    fn note(note: String) -> Self {
        Self { note, output: String::new() }
    }

    fn output(output: String) -> Self {
        Self { note: String::new(), output }
    }

    /// A new key stands alone on standard output, so that it can be read by a program.
    fn key(made: keys::Made) -> Self {
        Self { note: made.note, output: format!("{}\n", made.secret.reveal()) }
    }
}

impl KeysCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::Create(args) => &args.state,
            Self::List(args) => &args.state,
            Self::Revoke(args) | Self::Disable(args) | Self::Enable(args) => &args.state,
            Self::Rotate(args) => &args.one.state,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        let (database, now) = (&*state.database, now_ms());
        match self {
            Self::Create(args) => {
                let mut made = keys::create(database, args, now).await?;
                made.note += &keys::note_of_scopes(state, args).await;
                Ok(Said::key(made))
            }
            Self::List(args) => keys::list(database, args, now).await.map(Said::output),
            Self::Revoke(args) => keys::revoke(database, args, now).await.map(Said::note),
            Self::Rotate(args) => keys::rotate(database, args, now).await.map(Said::key),
            Self::Disable(args) => keys::set_disabled(database, args, true).await.map(Said::note),
            Self::Enable(args) => keys::set_disabled(database, args, false).await.map(Said::note),
        }
    }
}

impl OrgsCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::Create(args) => &args.state,
            Self::List(args) => args,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        match self {
            Self::Create(args) => tenants::create_org(&*state.database, args, now_ms()).await.map(Said::note),
            Self::List(_) => tenants::list_orgs(&*state.database).await.map(Said::output),
        }
    }
}

impl ProjectsCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::Create(args) => &args.state,
            Self::List(args) => &args.state,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        match self {
            Self::Create(args) => tenants::create_project(&*state.database, args, now_ms()).await.map(Said::note),
            Self::List(args) => tenants::list_projects(&*state.database, args).await.map(Said::output),
        }
    }
}

impl UsersCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::Add(args) => &args.state,
            Self::Password(args) => &args.state,
            Self::Remove(args) => &args.state,
            Self::List(args) => args,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        match self {
            Self::Password(args) => {
                let given = if args.stdin { Some(key_from_stdin()?) } else { None };
                tenants::set_password(&*state.database, args, given).await.map(|(note, made)| {
                    let output = made.map_or_else(String::new, |made| format!("{}\n", made.reveal()));
                    Said { note, output }
                })
            }
            Self::Add(args) => tenants::add_user(&*state.database, args, now_ms()).await.map(Said::note),
            Self::List(_) => tenants::list_users(&*state.database).await.map(Said::output),
            Self::Remove(args) => tenants::remove_user(&*state.database, args).await.map(Said::note),
        }
    }
}

impl BudgetsCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::Set(args) => &args.state,
            Self::Remove(args) => &args.state,
            Self::List(args) => args,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        let (database, now) = (&*state.database, now_ms());
        match self {
            Self::Set(args) => budgets::set(database, args, now).await.map(Said::note),
            Self::List(_) => budgets::list(database, now).await.map(Said::output),
            Self::Remove(args) => budgets::remove(database, args).await.map(Said::note),
        }
    }
}

impl CreditsCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::Add(args) => &args.state,
            Self::Show(args) => &args.state,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        match self {
            Self::Add(args) => budgets::add_credit(&*state.database, args, now_ms()).await.map(Said::note),
            Self::Show(args) => budgets::show_credits(&*state.database, args).await.map(Said::output),
        }
    }
}

impl CatalogCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::Import(args) => &args.state,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        match self {
            Self::Import(args) => catalog::import(state, args).await.map(Said::note),
        }
    }
}

impl AuditCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::List(args) => &args.state,
            Self::Verify(args) => &args.state,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        match self {
            Self::List(args) => audit::list(&*state.database, args).await.map(Said::output),
            Self::Verify(args) => audit::verify(&*state.database, args).await.map(|said| Said::output(said + "\n")),
        }
    }
}

impl RequestsCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::List(args) => &args.state,
            Self::Show(args) => &args.state,
        }
    }

    async fn run(&self, state: &crate::wiring::state::State) -> Result<Said, String> {
        match self {
            Self::List(args) => requests::list(&*state.database, args, now_ms()).await.map(Said::output),
            Self::Show(args) => requests::show(&*state.database, args).await.map(Said::output),
        }
    }
}

impl VaultCommand {
    fn state(&self) -> &StateArgs {
        match self {
            Self::Add(args) => &args.state,
            Self::Remove(args) => &args.state,
            Self::List(args) | Self::Rotate(args) => args,
        }
    }

    async fn run(&self, state: &State, settings: &StoreSettings) -> Result<Said, String> {
        match self {
            Self::Add(args) => vault::add(state, settings, args, &key_from_stdin()?, now_ms()).await.map(Said::note),
            Self::List(_) => vault::list(state).await.map(Said::output),
            Self::Remove(args) => vault::remove(state, args).await.map(Said::note),
            Self::Rotate(_) => vault::rotate(state).await.map(Said::note),
        }
    }
}

/// Arguments are seen by everybody on the machine, so a key comes by standard input.
fn key_from_stdin() -> Result<Secret, String> {
    let mut text = zeroize::Zeroizing::new(String::new());
    io::stdin().read_to_string(&mut text).map_err(|error| format!("cannot read the key: {error}"))?;
    Ok(Secret::new(text.trim()))
}

/// Runs a command on the state that the configuration names, and has a gateway that runs take the change over.
fn on_state(
    args: StateArgs,
    work: impl AsyncFnOnce(&crate::wiring::state::State) -> Result<Said, String>,
) -> Result<Said, String> {
    on_opened(args, start::open_state_but_vault, async |state: &State, _: &StoreSettings| work(state).await)
}

/// The same for commands that seal and open keys of the vault.
fn on_settings(
    args: StateArgs,
    work: impl AsyncFnOnce(&State, &StoreSettings) -> Result<Said, String>,
) -> Result<Said, String> {
    on_opened(args, start::open_state, work)
}

fn on_opened(
    args: StateArgs,
    open: impl AsyncFnOnce(&Source) -> Result<(State, StoreSettings), String>,
    work: impl AsyncFnOnce(&State, &StoreSettings) -> Result<Said, String>,
) -> Result<Said, String> {
    let source = Source::of_process(args.config).map_err(|problem| problem.to_string())?;
    blocking(async {
        let is_new = start::has_no_database(&source);
        let (state, settings) = open(&source).await?;
        let mut said = work(&state, &settings).await.map_err(|message| format!("error: {message}"))?;
        if is_new && !said.note.is_empty() {
            said.note += &format!(
                "\nnote: there was no database in {}, so this is a new one; that of a gateway is named by its ORBYT_DATA_DIR or its file (-c)",
                settings.data_dir.display()
            );
        }
        let heard = ring(&settings.data_dir);
        // Lists have no note, and nothing that a gateway would have to hear of.
        if !said.note.is_empty() {
            said.note += &unheard(heard, &settings.data_dir, &state.database.place());
        }
        Ok(said)
    })
}

/// What is to be said when no gateway has taken a change over.
fn unheard(heard: Heard, data_dir: &Path, place: &str) -> String {
    match heard {
        Heard::Yes => String::new(),
        Heard::NotYet => format!(
            "\nnote: it is in {place}, but the gateway of {} has not taken it over yet: it will as soon as it can reach its database",
            data_dir.display()
        ),
        Heard::Nobody => format!(
            "\nnote: no gateway runs in {}: it is in {place}, where gateways elsewhere find it by themselves",
            data_dir.display()
        ),
    }
}

fn print(outcome: Result<Said, String>) -> ExitCode {
    let said = match outcome {
        Ok(said) => said,
        Err(message) => return failed(&message),
    };
    if !said.note.is_empty() {
        eprintln!("{}", said.note);
    }
    match io::stdout().write_all(said.output.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn blocking<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work)
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

fn said(outcome: Result<String, String>) -> ExitCode {
    match outcome.map(|text| io::stdout().write_all(text.as_bytes())) {
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
    match blocking(admin::reset_token(&source)) {
        Ok(reset) => {
            eprintln!("The new admin token, shown only now (its hash is in {}):", reset.kept_in);
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
