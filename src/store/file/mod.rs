//! State in plain files of the data directory.

mod balances;
mod credentials;
mod last_known;
mod lines;
mod owner;
mod presence;
mod private;
mod sockets;
pub mod spool;

pub use balances::{BalancesFile, KeptBalances};
pub use credentials::{Earlier, earlier_credentials, set_aside};
pub use last_known::LastKnown;
pub use lines::{hear, say};
pub use owner::give_to_owner;
pub use presence::{claim, enter};
pub use private::{lock, make_for_owner, make_private, try_lock, write_private};
pub use sockets::{is_trusted, listen_instead};
