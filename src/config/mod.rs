//! Configuration: from what was written to what is run, with every error at once.
//!
//! ```text
//!   file ──reader, file──┐                          ┌──> Snapshot (immutable, swapped as a whole)
//!                        ├──> Raw ──────compile─────┤
//!   environment ───env───┘   every value optional,  └──> every error, as file:line:column: key: message
//!                            with its place
//! ```
//!
//! [`settings::SETTINGS`] is the table of all keys: the reader refuses what is not in it, docs/configuration.md and
//! `conf/orbyt.toml` are tested against it. Only [`load`] touches the disk.

pub mod budgets;
pub mod clouds;
pub mod compile;
pub mod env;
mod example;
pub mod file;
mod glob;
pub mod keys;
pub mod load;
pub mod net;
pub mod problem;
pub mod raw;
pub mod reader;
pub mod scopes;
pub mod settings;
pub mod snapshot;
pub mod stored;
pub mod values;

pub use budgets::BudgetBook;
pub use env::Env;
pub use keys::{GatewayKeys, StoredKeys};
pub use load::{
    FromStore, Loaded, Refused, Source, StoreSettings, data_dir, load, load_with, store_settings,
    store_settings_but_vault,
};
pub use net::{BaseUrl, IpNet};
pub use problem::{Place, Problem};
pub use settings::settings_table;
pub use snapshot::*;

#[cfg(test)]
mod tests;
