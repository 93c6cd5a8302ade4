//! The catalog: which providers and models there are, and what a provider's refusal means.
//!
//! A provider is a row of `data/providers.toml` ([`row`]), a model at a provider is a row of a file
//! under `data/models/`
//! ([`model`], [`prices`]); [`catalog`] finds both by any name that people use for them. No code knows a model's name.
//! [`cloud`] says where in a cloud a model is asked, [`credential`] what its keys are made of.
//! [`classify`] turns an error answer, head and body, into a [`crate::domain::Fault`]; [`limits`] reads what any answer tells of its
//! key's limits.

pub mod catalog;
pub mod classify;
pub mod cloud;
pub mod credential;
pub mod limits;
pub mod model;
pub mod price_list;
pub mod prices;
pub mod row;

pub use catalog::Catalog;
pub use classify::classify;
pub use cloud::{Cloud, CloudKind};
pub use limits::rate_limits;
pub use model::{Capabilities, Class, Embeds, ModelRow, OwnForm, Status};
pub use price_list::PriceList;
pub use prices::{PictureKind, PicturePrice, Prices, Tier};
pub use row::{AuthScheme, ProviderRow};
