//! State behind ports: [`ports`] says what the gateway needs, each other folder is one way to provide it.

pub mod file;
mod ledger_rows;
pub mod memory;
pub mod migrations;
pub mod ports;
pub mod postgres;
pub mod redis;
mod rows;
mod sparse_json;
pub mod sqlite;
pub mod succession;
