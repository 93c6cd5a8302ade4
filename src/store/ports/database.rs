//! What all state that outlives the process has in common: where it is, who may see what, how it fails and how changes are told.

use super::api_keys::ApiKeys;
use super::audit::Audit;
use super::budgets::Budgets;
use super::facts::GatewayFacts;
use super::ledger::Ledger;
use super::logins::Logins;
use super::nodes::Nodes;
use super::payloads::PayloadArchive;
use super::provider_keys::ProviderKeys;
use super::reports::Reports;
use super::spending::Spending;
use super::stored_settings::StoredSettings;
use super::tenants::Tenants;
use crate::domain::budget::{Budget, Credit};
use crate::domain::secret::KeyHash;
use crate::domain::stored_setting::StoredSetting;
use crate::domain::tenancy::{ApiKey, SealedKey};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// On whose behalf the database is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// The gateway itself: everything is in sight.
    System,
    /// An organisation, by its id: nothing of another one is in sight.
    Org(Arc<str>),
}

impl Access {
    /// Whether something of an organisation (`None`: of the gateway itself) is in sight.
    pub fn reaches(&self, org: Option<&str>) -> bool {
        match self {
            Self::System => true,
            Self::Org(own) => org == Some(&**own),
        }
    }

    /// The organisation that everything has to belong to; `None` when it need not belong to any.
    pub fn org(&self) -> Option<&str> {
        match self {
            Self::System => None,
            Self::Org(own) => Some(own),
        }
    }
}

/// Why the database did not do what it was asked for. Messages hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It cannot be reached, or cannot write, just now: another try may succeed.
    Unavailable(String),
    /// There is such a thing already.
    Conflict(String),
    /// It must not be done, or an operator has to do something first.
    Refused(String),
    /// The database itself does not take it, for a reason of its own, which another try does not change.
    Rejected(String),
    /// What is there is not what was written.
    Damaged(String),
}

impl StoreError {
    /// What those may read who do not look after the gateway: nothing of where the database is and what it said.
    pub fn told_to_members(&self) -> &str {
        match self {
            Self::Conflict(message) | Self::Refused(message) => message,
            Self::Rejected(_) => "The database does not take this; the log says why.",
            Self::Unavailable(_) | Self::Damaged(_) => "The database cannot do this now; the log says why.",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(message)
            | Self::Conflict(message)
            | Self::Refused(message)
            | Self::Rejected(message)
            | Self::Damaged(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for StoreError {}

/// Everything that a running gateway follows, as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// All keys, revoked ones too.
    pub keys: Vec<ApiKey>,
    /// Keys of providers, sealed.
    pub provider_keys: Vec<SealedKey>,
    /// The hash of the administrator's token.
    pub admin_token: Option<KeyHash>,
    /// Prices that were imported, as JSON.
    pub prices: Option<Arc<str>>,
    /// What may be spent.
    pub budgets: Vec<Budget>,
    /// What was paid in advance.
    pub credits: Vec<Credit>,
    /// Models, presets and routing settings.
    pub settings: Vec<StoredSetting>,
    /// What could not be read: by its row, for the log. A key among them is in `keys`, void.
    pub problems: Vec<String>,
}

/// How the connection to the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Rises whenever something may have changed, also when a lost connection is there again.
    pub revision: u64,
    /// Why it cannot be reached; `None` when it can.
    pub down: Option<Arc<str>>,
}

/// A database: all ports, and word of changes.
#[async_trait]
pub trait Database:
    Tenants
    + ApiKeys
    + ProviderKeys
    + GatewayFacts
    + Audit
    + Budgets
    + Ledger
    + Spending
    + Logins
    + StoredSettings
    + Reports
    + PayloadArchive
{
    /// Where it is, for people; without a password.
    fn place(&self) -> String;

    /// Everything that a running gateway follows.
    ///
    /// # Errors
    /// The database's.
    async fn contents(&self) -> Result<Contents, StoreError>;

    /// How the connection is, and when something has changed, whoever changed it.
    fn link(&self) -> watch::Receiver<Link>;

    /// The way to the other nodes of this database; `None` for one that only one node has.
    fn nodes(&self) -> Option<Arc<dyn Nodes>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_hear_nothing_of_where_the_database_is() {
        let said = || "postgres://db.internal:5432/orbyt refuses: why (SQLSTATE 22P05)".to_owned();
        for error in [StoreError::Rejected(said()), StoreError::Unavailable(said()), StoreError::Damaged(said())] {
            assert!(!error.told_to_members().contains("postgres"), "{error:?}");
        }
        assert_eq!(StoreError::Conflict("taken".to_owned()).told_to_members(), "taken");
    }

    #[test]
    fn an_organisation_sees_its_own_alone() {
        let access = Access::Org("org_a".into());
        assert!(access.reaches(Some("org_a")) && !access.reaches(Some("org_b")) && !access.reaches(None));
        assert!(Access::System.reaches(None) && Access::System.reaches(Some("org_b")));
    }
}
