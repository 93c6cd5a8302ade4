//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Much of the user time of a small proxied request is allocation. This allocator takes the place of C's `malloc`, for SQLite too, when
    // anything of it is used; as Rust's global allocator it would be told an alignment each time, which takes it a longer way.
    let _ = std::hint::black_box(mimalloc::MiMalloc.version());
    // Huge pages double the memory of a stream, since its pieces lie scattered; a kernel that knows nothing of them needs no telling.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    orbyt::cli::run(orbyt::cli::args::Cli::of_process())
}
