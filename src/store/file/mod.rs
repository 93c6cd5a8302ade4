//! State in plain files of the data directory.

mod credentials;
mod private;

pub use credentials::CredentialsFile;
pub use private::write_private;
