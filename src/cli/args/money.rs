//! `orbyt budgets`, `orbyt credits`, `orbyt catalog`.

use super::StateArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `orbyt budgets`.
#[derive(Clone, Debug, Subcommand)]
pub enum BudgetsCommand {
    /// Set what an organisation, a project, a key or a user may spend
    Set(SetBudgetArgs),
    /// List the budgets, and what was spent of them
    List(StateArgs),
    /// Take a budget away
    Remove(RemoveBudgetArgs),
}

/// `orbyt budgets set`.
#[derive(Args, Clone, Debug, Default)]
pub struct SetBudgetArgs {
    /// How much in dollars, and for how long: 5/day, 20/week, 50/month, or 100 in all
    #[arg(value_name = "AMOUNT[/SPAN]")]
    pub amount: String,
    /// For an organisation, by name or id; with --user, the one that the user belongs to
    #[arg(long, value_name = "ORG", conflicts_with_all = ["project", "key"], required_unless_present_any = ["project", "key", "user"])]
    pub org: Option<String>,
    /// For a project, by name or id
    #[arg(long, value_name = "PROJECT", conflicts_with_all = ["key", "user"])]
    pub project: Option<String>,
    /// For a key, by name or id; one of the configuration by its name
    #[arg(long, value_name = "KEY", conflicts_with = "user")]
    pub key: Option<String>,
    /// For an end user (the `user` of the requests), or * for each of them
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt budgets remove`.
#[derive(Args, Clone, Debug, Default)]
pub struct RemoveBudgetArgs {
    /// The budget: see `orbyt budgets list`
    #[arg(value_name = "ID")]
    pub id: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt credits`.
#[derive(Clone, Debug, Subcommand)]
pub enum CreditsCommand {
    /// Write down that an organisation has paid in advance; from then on it may spend what it has paid and no more
    Add(AddCreditArgs),
    /// Show what was paid, spent, and is left
    Show(ShowCreditsArgs),
}

/// `orbyt credits add`.
#[derive(Args, Clone, Debug, Default)]
pub struct AddCreditArgs {
    /// How much in dollars; negative to correct a mistake
    #[arg(value_name = "AMOUNT", allow_hyphen_values = true)]
    pub amount: String,
    /// The organisation, by name or id [default: default]
    #[arg(long, value_name = "ORG")]
    pub org: Option<String>,
    /// What it is for, such as the number of an invoice
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub note: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt credits show`.
#[derive(Args, Clone, Debug, Default)]
pub struct ShowCreditsArgs {
    /// Of this organisation alone, by name or id
    #[arg(long, value_name = "ORG")]
    pub org: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `orbyt catalog`.
#[derive(Clone, Debug, Subcommand)]
pub enum CatalogCommand {
    /// Take prices out of a public price list: the api.json of models.dev, or LiteLLM's model_prices_and_context_window.json
    Import(ImportCatalogArgs),
}

/// `orbyt catalog import`.
#[derive(Args, Clone, Debug, Default)]
pub struct ImportCatalogArgs {
    /// The price list
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}
