//! Arguments in, exit code out.

use std::process::ExitCode;

/// Most of the user time of a small proxied request is allocation, so the allocator is chosen with care: see `benches/README.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages double the memory of a stream, since its pieces lie scattered; a kernel that knows nothing of them needs no telling.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    orbyt::cli::run(orbyt::cli::args::Cli::of_process())
}
