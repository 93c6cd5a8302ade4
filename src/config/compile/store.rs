//! `[store]`.

use super::super::env::Env;
use super::super::problem::Report;
use super::super::raw::{Raw, RawStore};
use super::super::snapshot::Store;
use super::{Compiler, Surroundings, or};
use crate::provider::Catalog;
use crate::vault::MasterKeys;
use std::path::PathBuf;
use std::sync::Arc;

impl Compiler<'_> {
    pub(super) fn store(&mut self, raw: &RawStore) -> Store {
        let database_url = raw.database_url.as_ref().and_then(|at| {
            let url = self.secret(at)?;
            let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| url.reveal().starts_with(scheme));
            if !is_postgres {
                self.report.error(at.problem("must begin with postgres:// (leave it out for the embedded database)"));
            }
            Some(url)
        });
        let master_key = raw.master_key.as_ref().and_then(|at| {
            let text = self.secret(at)?;
            self.report.checked(at, MasterKeys::parse(text.reveal()))?;
            Some(text)
        });
        Store { database_url, connections: or(&raw.connections, 8) as usize, master_key }
    }
}

/// The data directory and `[store]` alone, for commands that need none of the service's other secrets.
pub fn store_alone(
    raw: &Raw,
    catalog: &Arc<Catalog>,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> (PathBuf, Store) {
    let env: &Env = around.env;
    let data_dir = super::data_dir(&raw.server.data_dir, env, around.base);
    (data_dir, Compiler { around, catalog, report }.store(&raw.store))
}
