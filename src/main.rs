//! Arguments in, exit code out.

use clap::Parser;
use std::process::ExitCode;

/// Most of the user time of a small proxied request is allocation, so the allocator is chosen with care: see `benches/README.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orbyt::cli::run(orbyt::cli::args::Cli::parse())
}
