//! `orbyt orgs`, `orbyt projects`, `orbyt users`.

use super::StateArgs;
use clap::{Args, Subcommand};

/// `orbyt orgs`.
#[derive(Clone, Debug, Subcommand)]
pub enum OrgsCommand {
    /// Make an organisation, with a project called default
    Create(CreateOrgArgs),
    /// List the organisations
    List(StateArgs),
}

/// `orbyt orgs create`.
#[derive(Args, Clone, Debug, Default)]
pub struct CreateOrgArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt projects`.
#[derive(Clone, Debug, Subcommand)]
pub enum ProjectsCommand {
    /// Make a project, to tell applications and their costs apart
    Create(CreateProjectArgs),
    /// List the projects
    List(ListProjectsArgs),
}

/// `orbyt projects create`.
#[derive(Args, Clone, Debug, Default)]
pub struct CreateProjectArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Its organisation, by name or id [default: default]
    #[arg(long, value_name = "ORG")]
    pub org: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt projects list`.
#[derive(Args, Clone, Debug, Default)]
pub struct ListProjectsArgs {
    /// Those of this organisation alone, by name or id
    #[arg(long, value_name = "ORG")]
    pub org: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt users`.
#[derive(Clone, Debug, Subcommand)]
pub enum UsersCommand {
    /// Make somebody a member of an organisation, or give a member another role
    Add(AddUserArgs),
    /// List the members of all organisations
    List(StateArgs),
    /// Give somebody a password to log in to the console with: a new one, which is printed, or the one on standard input
    Password(PasswordArgs),
    /// End a membership
    Remove(RemoveUserArgs),
}

/// `orbyt users add`.
#[derive(Args, Clone, Debug, Default)]
pub struct AddUserArgs {
    /// Their address
    #[arg(value_name = "EMAIL")]
    pub email: String,
    /// Their name
    #[arg(long, value_name = "NAME", default_value = "")]
    pub name: String,
    /// The organisation, by name or id [default: default]
    #[arg(long, value_name = "ORG")]
    pub org: Option<String>,
    /// What they may do in the console
    #[arg(long, value_name = "ROLE", default_value = "member", value_parser = ["owner", "admin", "member", "viewer"])]
    pub role: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt users password`.
#[derive(Args, Clone, Debug, Default)]
pub struct PasswordArgs {
    /// Their address or id
    #[arg(value_name = "EMAIL|ID")]
    pub user: String,
    /// Read the password from standard input
    #[arg(long)]
    pub stdin: bool,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt users remove`.
#[derive(Args, Clone, Debug, Default)]
pub struct RemoveUserArgs {
    /// Their address or id
    #[arg(value_name = "EMAIL|ID")]
    pub user: String,
    /// The organisation, by name or id [default: default]
    #[arg(long, value_name = "ORG")]
    pub org: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}
