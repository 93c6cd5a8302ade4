//! State in plain files of the data directory.

mod credentials;
mod last_known;
mod presence;
mod private;
pub mod spool;

pub use credentials::{Earlier, earlier_credentials, set_aside};
pub use last_known::LastKnown;
pub use presence::{claim, enter};
pub use private::{lock, make_private, try_lock, write_private};
