//! Who owns what: organisations, their projects, the API keys of those, and the people who look after them.

use super::Limit;
use super::secret::KeyHash;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The organisation that everything belongs to where nobody made another; the migrations make it.
pub const DEFAULT_ORG: &str = "org_default";
/// Its project.
pub const DEFAULT_PROJECT: &str = "prj_default";

/// A tenant: nothing of one is visible to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organisation {
    /// `org_` and hex digits.
    pub id: Arc<str>,
    /// Its name for people, unique.
    pub name: String,
}

/// A part of an organisation, to tell its applications and costs apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// `prj_` and hex digits.
    pub id: Arc<str>,
    /// Its organisation.
    pub org: Arc<str>,
    /// Its name for people, unique in the organisation.
    pub name: String,
}

/// What someone may do in the console, from everything to looking on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees, and changes nothing.
    Viewer,
    /// Makes and revokes keys of their own.
    Member,
    /// Manages keys, projects and members.
    Admin,
    /// Everything, the organisation's end included.
    Owner,
}

impl Role {
    /// All of them, the most powerful first.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Member, Self::Viewer];

    /// Its name, as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Viewer => "viewer",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Someone who logs in to the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `usr_` and hex digits.
    pub id: Arc<str>,
    /// Their address, unique.
    pub email: String,
    /// Their name, which may be empty.
    pub name: String,
}

/// What someone is in an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The organisation's id.
    pub org: Arc<str>,
    /// The person's id.
    pub person: Arc<str>,
    /// What they may do there.
    pub role: Role,
}

/// What a key may be used for. An empty list allows everything; in names `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Models: `provider/model`, or a bare name for that model at any provider.
    pub models: Vec<String>,
    /// Providers by id.
    pub providers: Vec<String>,
    /// Paths of the gateway, such as `/v1/chat/completions`.
    pub routes: Vec<String>,
    /// Addresses or networks (`192.0.2.0/24`) that the client may come from.
    pub addresses: Vec<String>,
}

impl Scopes {
    /// Whether everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.providers.is_empty() && self.routes.is_empty() && self.addresses.is_empty()
    }
}

/// A gateway key as it is kept: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// `key_` and hex digits. It stays when the key is rotated.
    pub id: Arc<str>,
    /// Its organisation.
    pub org: Arc<str>,
    /// Its project.
    pub project: Arc<str>,
    /// Its name, unique among the keys of the organisation that are not revoked. Limits and logs go by it.
    pub name: Arc<str>,
    /// The person who answers for it.
    pub owner: Option<String>,
    /// What it is used for, as a label.
    pub workflow: Option<String>,
    /// What it may be used for.
    pub scopes: Scopes,
    /// Its own limits, which hold in the place of a rule for keys.
    pub limits: Arc<[Limit]>,
    /// What the operator wants to remember.
    pub metadata: BTreeMap<String, String>,
    /// Not accepted for now.
    pub disabled: bool,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds from which it is not accepted any more.
    pub expires_at: Option<u64>,
    /// Unix milliseconds since which it is void for good.
    pub revoked_at: Option<u64>,
    /// The secrets that are accepted for it, the newest first; more than one while a rotation overlaps.
    pub secrets: Vec<KeySecret>,
}

/// One secret of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecret {
    /// Its hash.
    pub hash: KeyHash,
    /// The form in which people may see it again: `sk-or-v1-8f3•••9fb`.
    pub shown: String,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds from which it is not accepted any more, after a rotation.
    pub expires_at: Option<u64>,
}

/// What a key is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Accepted.
    Active,
    /// Not accepted for now.
    Disabled,
    /// Its time is over.
    Expired,
    /// Void for good.
    Revoked,
}

impl Standing {
    /// Its name, as lists show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl ApiKey {
    /// What the key is at a time (Unix milliseconds).
    pub fn standing(&self, now: u64) -> Standing {
        match self {
            Self { revoked_at: Some(_), .. } => Standing::Revoked,
            Self { expires_at: Some(end), .. } if *end <= now => Standing::Expired,
            Self { disabled: true, .. } => Standing::Disabled,
            _ => Standing::Active,
        }
    }
}

/// A provider's key as the vault keeps it: sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// `pk_` and hex digits.
    pub id: Arc<str>,
    /// The organisation whose own it is; `None` for the gateway's, which serve everybody.
    pub org: Option<Arc<str>>,
    /// The project of that organisation whose own it is; `None` for all of them.
    pub project: Option<Arc<str>>,
    /// The provider's id.
    pub provider: String,
    /// Its name in logs and metrics, unique for the provider.
    pub name: String,
    /// The form in which people may see it again.
    pub shown: String,
    /// Unix milliseconds.
    pub created_at: u64,
    /// The envelope: `v1.<master key's id>.<nonce>.<ciphertext and tag>`.
    pub envelope: String,
}

impl SealedKey {
    /// What the envelope is bound to, so that none can be put into another row.
    pub fn identity(&self) -> String {
        let org = self.org.as_deref().unwrap_or("-");
        let project = self.project.as_deref().map_or_else(String::new, |project| format!(":{project}"));
        // The only free text stands last, so that no two rows have the same identity.
        format!("provider_keys/{}/{org}{project}/{}", self.id, self.provider)
    }
}

/// A provider's key out of the vault, ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultKey {
    /// The provider's id.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// The key.
    pub secret: super::Secret,
}

/// A provider's key that an organisation or a project has saved for its own requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedKey {
    /// The organisation.
    pub org: Arc<str>,
    /// The project; `None` for all of the organisation's.
    pub project: Option<Arc<str>>,
    /// The provider's id.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// The key; `None` for one that does not open. Nobody else's may pay in its place.
    pub secret: Option<super::Secret>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApiKey {
        ApiKey {
            id: "key_1".into(),
            org: DEFAULT_ORG.into(),
            project: DEFAULT_PROJECT.into(),
            name: "a".into(),
            owner: None,
            workflow: None,
            scopes: Scopes::default(),
            limits: [].into(),
            metadata: BTreeMap::new(),
            disabled: false,
            created_at: 0,
            expires_at: None,
            revoked_at: None,
            secrets: Vec::new(),
        }
    }

    #[test]
    fn the_worst_that_holds_is_what_a_key_is() {
        assert_eq!(key().standing(5), Standing::Active);
        assert_eq!(ApiKey { expires_at: Some(6), ..key() }.standing(5), Standing::Active);
        assert_eq!(ApiKey { expires_at: Some(5), disabled: true, ..key() }.standing(5), Standing::Expired);
        assert_eq!(ApiKey { disabled: true, ..key() }.standing(5), Standing::Disabled);
        assert_eq!(ApiKey { revoked_at: Some(9), expires_at: Some(1), ..key() }.standing(5), Standing::Revoked);
    }

    #[test]
    fn roles_are_ordered_and_read_back() {
        assert!(Role::Owner > Role::Admin && Role::Member > Role::Viewer);
        assert!(Role::ALL.iter().all(|role| Role::from_name(role.name()) == Some(*role)));
        assert_eq!(Role::from_name("root"), None);
    }
}
