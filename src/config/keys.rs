//! The gateway's own keys, as hashes, and who they belong to: those of the configuration, and those of the database.

use super::scopes::KeyScopes;
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::{ApiKey, DEFAULT_ORG, SavedKey, Standing};
use crate::domain::{Principal, ProviderKey, Secret};
use crate::provider::credential;
use std::collections::HashMap;
use std::sync::Arc;

/// The keys that clients may present.
#[derive(Clone, Debug, Default)]
pub struct GatewayKeys {
    entries: Vec<(KeyHash, Principal)>,
    /// The keys that the configuration gives in clear, kept for redaction alone.
    clear: Vec<Secret>,
    stored: Arc<StoredKeys>,
}

/// The keys of the database, to be looked up without asking it.
#[derive(Debug, Default)]
pub struct StoredKeys {
    /// By the beginning of their hash. That is no secret: nobody can choose a key by its hash.
    by_lookup: HashMap<[u8; 8], Vec<Entry>>,
    in_force: usize,
    /// Keys of providers that organisations have saved for themselves.
    saved: Vec<Secret>,
}

#[derive(Debug)]
struct Entry {
    hash: KeyHash,
    /// Unix milliseconds from which this secret of the key is not accepted any more.
    until: Option<u64>,
    holder: Holder,
}

/// Who presented a key, and what it may be used for.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Who it is.
    pub principal: Principal,
    /// What the key may be used for; `None` for everything.
    pub scopes: Option<Arc<KeyScopes>>,
    /// The keys of providers that its project or organisation has saved; `None` for none.
    pub saved: Option<Arc<SavedKeys>>,
}

/// The keys of providers that a project may use as its own, the best first: by the name of the provider.
#[derive(Debug)]
pub struct SavedKeys(Vec<(String, OwnKey)>);

/// A key that was saved.
#[derive(Clone, Debug)]
pub enum OwnKey {
    /// It can be used.
    Key(Arc<ProviderKey>),
    /// It does not open (its name).
    Sealed(Arc<str>),
}

impl SavedKeys {
    /// Those of a project and of its organisation; the project's go first, and of several the one that was added last.
    fn of(org: &str, project: &str, saved: &[SavedKey]) -> Option<Self> {
        let of_org = || saved.iter().rev().filter(|saved| *saved.org == *org);
        let of_project = of_org().filter(|saved| saved.project.as_deref() == Some(project));
        let keys = of_project.chain(of_org().filter(|saved| saved.project.is_none())).map(|saved| {
            let key = saved.secret.as_ref().map_or_else(
                || OwnKey::Sealed(saved.name.as_str().into()),
                |secret| OwnKey::Key(Arc::new(ProviderKey::new(saved.name.as_str(), secret.clone()))),
            );
            (saved.provider.clone(), key)
        });
        Some(keys.collect::<Vec<_>>()).filter(|keys| !keys.is_empty()).map(Self)
    }

    /// The key for a provider of one of these names.
    pub fn for_provider<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<&OwnKey> {
        let find = |name| self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        names.into_iter().find_map(find).map(|(_, key)| key)
    }
}

/// Why a key lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoEntry {
    /// There is no such key.
    Unknown,
    /// There is, but it is not accepted.
    Void {
        /// Its name.
        name: Arc<str>,
        /// Why.
        standing: Standing,
    },
}

impl StoredKeys {
    /// Makes a book of all keys of the database. Keys of other organisations than the default one are called `organisation/name`, since
    /// limits go by the name.
    pub fn new(keys: Vec<ApiKey>, saved: &[SavedKey]) -> Self {
        let secrets = saved.iter().filter_map(|saved| saved.secret.as_ref()).flat_map(credential::secrets).collect();
        let mut book = Self { saved: secrets, ..Self::default() };
        let mut projects: HashMap<Arc<str>, Option<Arc<SavedKeys>>> = HashMap::new();
        for key in keys {
            let of_project = projects.entry(key.project.clone());
            let saved =
                of_project.or_insert_with(|| SavedKeys::of(&key.org, &key.project, saved).map(Arc::new)).clone();
            let scopes = (!key.scopes.is_empty()).then(|| Arc::new(KeyScopes::new(&key.scopes)));
            let key_name: Arc<str> =
                if &*key.org == DEFAULT_ORG { key.name.clone() } else { format!("{}/{}", key.org, key.name).into() };
            book.in_force += usize::from(key.revoked_at.is_none());
            let key = Arc::new(key);
            for secret in &key.secrets {
                let key_hash = KeyHash::of(key.id.as_bytes());
                let principal =
                    Principal { key_name: key_name.clone(), key_hash, key: Some(key.clone()), stores: key.stores() };
                let holder = Holder { principal, scopes: scopes.clone(), saved: saved.clone() };
                let entry = Entry { hash: secret.hash, until: secret.expires_at, holder };
                book.by_lookup.entry(secret.hash.lookup()).or_default().push(entry);
            }
        }
        book
    }

    /// The names of all of them, as in the log; of those that are revoked too.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_lookup.values().flatten().map(|entry| &*entry.holder.principal.key_name)
    }

    /// The keys of providers among them, for the redaction of texts that may repeat one.
    pub fn saved_secrets(&self) -> impl Iterator<Item = &Secret> {
        self.saved.iter()
    }

    fn find(&self, hash: KeyHash, now: u64) -> Result<Holder, NoEntry> {
        let mut alike = self.by_lookup.get(&hash.lookup()).into_iter().flatten();
        let entry = alike.find(|entry| entry.hash == hash).ok_or(NoEntry::Unknown)?;
        let Some(key) = &entry.holder.principal.key else { return Err(NoEntry::Unknown) };
        let standing = match key.standing(now) {
            Standing::Active if entry.until.is_some_and(|until| until <= now) => Standing::Expired,
            standing => standing,
        };
        match standing {
            Standing::Active => Ok(entry.holder.clone()),
            standing => Err(NoEntry::Void { name: key.name.clone(), standing }),
        }
    }
}

impl GatewayKeys {
    /// Adds a key of which only the hash is known.
    pub fn add(&mut self, name: Arc<str>, hash: KeyHash) {
        self.entries.push((hash, Principal { key_name: name, key_hash: hash, key: None, stores: true }));
    }

    /// Adds a key of the configuration that has no name there. Its name is its masked form, or its number when it is too short to show any of it.
    pub fn add_clear(&mut self, secret: Secret) {
        let masked = secret.masked();
        let hidden = masked.chars().all(|c| c == '•');
        let number = self.entries.len() + 1;
        // Limits go by the name, so no two keys share one.
        let taken = self.entries.iter().any(|(_, principal)| *principal.key_name == *masked);
        let name = match (hidden, taken) {
            (true, _) => format!("key_{number:02}"),
            (false, true) => format!("{masked}_{number:02}"),
            (false, false) => masked,
        };
        let key_hash = secret.hash();
        self.entries.push((key_hash, Principal { key_name: name.into(), key_hash, key: None, stores: true }));
        self.clear.push(secret);
    }

    /// Adds a key of the configuration under the name that its operator has given it.
    pub fn add_named(&mut self, name: &str, secret: Secret) {
        self.add(name.into(), secret.hash());
        self.clear.push(secret);
    }

    /// Nothing that the requests of the key carry which was added last is kept.
    pub fn do_not_store_last(&mut self) {
        if let Some((_, principal)) = self.entries.last_mut() {
            principal.stores = false;
        }
    }

    /// The names of the configuration's keys, as in the log.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(_, principal)| &*principal.key_name)
    }

    /// The name of a key of the configuration, by its secret.
    pub fn name_of(&self, secret: &Secret) -> Option<Arc<str>> {
        let hash = secret.hash();
        self.entries.iter().find(|(known, _)| *known == hash).map(|(_, principal)| principal.key_name.clone())
    }

    /// Whether what the requests of a key of the configuration carry may be kept, by its name.
    pub fn stores(&self, name: &str) -> bool {
        self.entries.iter().any(|(_, principal)| *principal.key_name == *name && principal.stores)
    }

    /// The id of a key of the configuration, by its name.
    pub fn id_of(&self, name: &str) -> Option<Arc<str>> {
        let (_, principal) = self.entries.iter().find(|(_, principal)| *principal.key_name == *name)?;
        Some(principal.id())
    }

    /// Puts these keys of the database in the place of those before.
    pub fn set_stored(&mut self, stored: Arc<StoredKeys>) {
        self.stored = stored;
    }

    /// The holder of a presented key at a time (Unix milliseconds). Hashes are compared in constant time, and of the configuration's all of
    /// them, so that the time taken says nothing about a key.
    ///
    /// # Errors
    /// When there is no such key, or it is not accepted.
    pub fn find(&self, presented: &str, now: u64) -> Result<Holder, NoEntry> {
        let hash = KeyHash::of(presented.as_bytes());
        let mut found = None;
        for (entry, principal) in &self.entries {
            if *entry == hash {
                found = Some(principal);
            }
        }
        match (self.stored.find(hash, now), found) {
            // What the database says of a key holds also where the configuration has it too.
            (Err(NoEntry::Unknown), Some(principal)) => {
                Ok(Holder { principal: principal.clone(), scopes: None, saved: None })
            }
            (stored, _) => stored,
        }
    }

    /// Whether there is no key at all, so that nobody could be let in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are; revoked ones do not count.
    pub fn len(&self) -> usize {
        self.entries.len() + self.stored.in_force
    }

    /// The keys that are known in clear.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.clear.iter().chain(self.saved_secrets())
    }

    /// The keys of providers that organisations have saved for themselves.
    pub fn saved_secrets(&self) -> impl Iterator<Item = &Secret> {
        self.stored.saved_secrets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tenancy::{DEFAULT_PROJECT, KeySecret, Scopes};
    use std::collections::BTreeMap;

    fn stored(name: &str, secrets: &[(&str, Option<u64>)]) -> ApiKey {
        let secret = |(text, expires_at): &(&str, Option<u64>)| KeySecret {
            hash: Secret::new(*text).hash(),
            shown: String::new(),
            created_at: 0,
            expires_at: *expires_at,
        };
        ApiKey {
            id: format!("key_{name}").into(),
            org: DEFAULT_ORG.into(),
            project: DEFAULT_PROJECT.into(),
            name: name.into(),
            owner: None,
            workflow: None,
            scopes: Scopes::default(),
            limits: [].into(),
            metadata: BTreeMap::new(),
            disabled: false,
            created_at: 0,
            expires_at: None,
            revoked_at: None,
            secrets: secrets.iter().map(secret).collect(),
        }
    }

    fn name(keys: &GatewayKeys, key: &str, now: u64) -> Result<String, NoEntry> {
        keys.find(key, now).map(|holder| holder.principal.key_name.to_string())
    }

    #[test]
    fn finds_the_holder_and_nobody_else() {
        let mut keys = GatewayKeys::default();
        assert!(keys.is_empty());
        keys.set_stored(Arc::new(StoredKeys::new(vec![stored("first", &[("sk-or-v1-aaaa", None)])], &[])));
        keys.add_clear(Secret::new("x"));
        keys.add_clear(Secret::new("team-a-0123456789-key"));
        for (key, holder) in [("sk-or-v1-aaaa", "first"), ("x", "key_01"), ("team-a-0123456789-key", "tea•••key")]
        {
            assert_eq!(name(&keys, key, 0).as_deref(), Ok(holder));
        }
        for nobody in ["", "sk-or-v1-aaab"] {
            assert_eq!(name(&keys, nobody, 0), Err(NoEntry::Unknown));
        }
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn what_the_database_says_of_a_key_holds_for_one_of_the_configuration_too() {
        let mut keys = GatewayKeys::default();
        keys.add_named("plain", Secret::new("k"));
        assert_eq!(name(&keys, "k", 0).as_deref(), Ok("plain"));
        let scopes = Scopes { models: vec!["openai/*".to_owned()], ..Scopes::default() };
        let narrow = ApiKey { scopes, ..stored("narrow", &[("k", None)]) };
        keys.set_stored(Arc::new(StoredKeys::new(vec![narrow], &[])));
        assert!(keys.find("k", 0).is_ok_and(|holder| holder.scopes.is_some()));
    }

    #[test]
    fn a_rotated_key_is_one_key_with_two_secrets_for_a_while() {
        let mut keys = GatewayKeys::default();
        keys.set_stored(Arc::new(StoredKeys::new(vec![stored("team", &[("new", None), ("old", Some(100))])], &[])));
        assert_eq!((name(&keys, "new", 99).as_deref(), name(&keys, "old", 99).as_deref()), (Ok("team"), Ok("team")));
        let over = NoEntry::Void { name: "team".into(), standing: Standing::Expired };
        assert_eq!((name(&keys, "new", 100).as_deref(), name(&keys, "old", 100)), (Ok("team"), Err(over)));
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn a_key_that_is_void_says_why() {
        let dead = [
            (ApiKey { revoked_at: Some(1), ..stored("a", &[("k", None)]) }, Standing::Revoked),
            (ApiKey { disabled: true, ..stored("a", &[("k", None)]) }, Standing::Disabled),
            (ApiKey { expires_at: Some(5), ..stored("a", &[("k", None)]) }, Standing::Expired),
        ];
        for (key, standing) in dead {
            let mut keys = GatewayKeys::default();
            keys.set_stored(Arc::new(StoredKeys::new(vec![key], &[])));
            assert_eq!(name(&keys, "k", 5), Err(NoEntry::Void { name: "a".into(), standing }));
        }
    }

    #[test]
    fn keys_of_two_organisations_share_no_name() {
        let mut keys = GatewayKeys::default();
        let other = ApiKey { org: "org_b".into(), ..stored("team", &[("b", None)]) };
        keys.set_stored(Arc::new(StoredKeys::new(vec![stored("team", &[("a", None)]), other], &[])));
        assert_eq!((name(&keys, "a", 0).as_deref(), name(&keys, "b", 0).as_deref()), (Ok("team"), Ok("org_b/team")));
    }

    #[test]
    fn a_project_goes_before_its_organisation_and_sees_no_other() {
        let saved = |org: &str, project: Option<&str>, provider: &str, secret: &str| SavedKey {
            org: org.into(),
            project: project.map(Into::into),
            provider: provider.into(),
            name: "n".into(),
            secret: Some(Secret::new(secret)),
        };
        let all = [
            saved(DEFAULT_ORG, Some(DEFAULT_PROJECT), "openai", "project's"),
            saved(DEFAULT_ORG, None, "openai", "organisation's"),
            saved(DEFAULT_ORG, None, "groq", "earlier"),
            saved(DEFAULT_ORG, None, "groq", "later"),
            saved(DEFAULT_ORG, Some("prj_b"), "xai", "of another project"),
            saved("org_b", None, "cohere", "of another organisation"),
            saved(DEFAULT_ORG, None, "mistral", "older"),
            SavedKey { secret: None, ..saved(DEFAULT_ORG, None, "mistral", "") },
        ];
        let mut keys = GatewayKeys::default();
        keys.set_stored(Arc::new(StoredKeys::new(vec![stored("a", &[("k", None)])], &all)));
        let own = keys.find("k", 0).unwrap().saved.unwrap();
        let key = |names: &[&str]| match own.for_provider(names.iter().copied()) {
            Some(OwnKey::Key(key)) => Some(key.secret.reveal().to_owned()),
            Some(OwnKey::Sealed(name)) => Some(format!("{name} does not open")),
            None => None,
        };
        assert_eq!((key(&["openai"]).as_deref(), key(&["x", "groq"]).as_deref()), (Some("project's"), Some("later")));
        assert_eq!((key(&["xai"]), key(&["cohere"])), (None, None));
        assert_eq!(key(&["mistral"]).as_deref(), Some("n does not open"), "an older one does not pay for it");
        assert_eq!(keys.secrets().count(), 7, "all are redacted");
        assert!(!format!("{keys:?}").contains("later"));
    }

    #[test]
    fn debug_shows_no_key() {
        let mut keys = GatewayKeys::default();
        keys.add_clear(Secret::new("canary-canary-canary"));
        assert!(!format!("{keys:?}").contains("canary"));
    }
}
