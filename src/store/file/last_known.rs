//! `last-known.json`: what a database on a server held when it was last seen, for a start while it is away. Hashes and envelopes, no key.

use super::write_private;
use crate::domain::budget::{Budget, Credit, Payer, Span};
use crate::domain::secret::KeyHash;
use crate::domain::stored_setting::{SettingKind, StoredSetting};
use crate::domain::tenancy::{ApiKey, KeySecret, SealedKey};
use crate::store::ports::database::{Contents, StoreError};
use crate::store::rows::{ScopesRow, limits_of, limits_row, read_money, stored_money};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// The file in the data directory, for the database at one place.
pub struct LastKnown {
    path: PathBuf,
    place: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    place: String,
    keys: Vec<KeyRow>,
    provider_keys: Vec<SealedRow>,
    admin_token_sha256: Option<String>,
    #[serde(default)]
    prices: Option<String>,
    #[serde(default)]
    budgets: Vec<BudgetRow>,
    #[serde(default)]
    credits: Vec<CreditRow>,
    #[serde(default)]
    settings: Vec<SettingRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingRow {
    kind: String,
    name: String,
    body: String,
    changed_at: u64,
    changed_by: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetRow {
    id: String,
    org: String,
    payer: String,
    subject: String,
    span: String,
    amount: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreditRow {
    id: String,
    org: String,
    amount: String,
    spent_before: String,
    note: String,
    created_at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRow {
    id: String,
    org: String,
    project: String,
    name: String,
    owner: Option<String>,
    workflow: Option<String>,
    scopes: ScopesRow,
    #[serde(default)]
    limits: BTreeMap<String, u64>,
    metadata: BTreeMap<String, String>,
    disabled: bool,
    created_at: u64,
    expires_at: Option<u64>,
    revoked_at: Option<u64>,
    secrets: Vec<SecretRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretRow {
    sha256: String,
    shown: String,
    created_at: u64,
    expires_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedRow {
    id: String,
    org: Option<String>,
    #[serde(default)]
    project: Option<String>,
    provider: String,
    name: String,
    shown: String,
    created_at: u64,
    envelope: String,
}

impl LastKnown {
    /// The file in this directory. Nothing is read or made yet.
    pub fn new(data_dir: &Path, place: String) -> Self {
        Self { path: data_dir.join("last-known.json"), place }
    }

    /// Writes down what the database holds.
    ///
    /// # Errors
    /// When the file cannot be written; it is then as it was.
    pub fn keep(&self, contents: &Contents) -> Result<(), StoreError> {
        let file = File {
            version: VERSION,
            place: self.place.clone(),
            keys: contents.keys.iter().map(KeyRow::from).collect(),
            provider_keys: contents.provider_keys.iter().map(SealedRow::from).collect(),
            admin_token_sha256: contents.admin_token.map(|hash| hash.to_hex()),
            settings: contents.settings.iter().map(SettingRow::from).collect(),
            prices: contents.prices.as_deref().map(str::to_owned),
            budgets: contents.budgets.iter().map(BudgetRow::from).collect(),
            credits: contents.credits.iter().map(CreditRow::from).collect(),
        };
        let failed =
            |error: io::Error| StoreError::Unavailable(format!("cannot write {}: {error}", self.path.display()));
        let text = serde_json::to_vec(&file).map_err(|error| failed(error.into()))?;
        write_private(&self.path, &text).map_err(failed)
    }

    /// What was written down; `None` when nothing was, or for another database.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn recall(&self) -> Result<Option<Contents>, StoreError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(StoreError::Unavailable(format!("cannot read {}: {error}", self.path.display())));
            }
        };
        let damaged = |why: &str| StoreError::Damaged(format!("{} is damaged: {why}", self.path.display()));
        let file: File = serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
        if file.version != VERSION || file.place != self.place {
            return Ok(None);
        }
        let hash = |hex: String| KeyHash::from_hex(&hex).ok_or_else(|| damaged("a hash is not 64 hex digits"));
        let key = |row: KeyRow| {
            let secret = |row: SecretRow| {
                let SecretRow { sha256, shown, created_at, expires_at } = row;
                Ok(KeySecret { hash: hash(sha256)?, shown, created_at, expires_at })
            };
            Ok(ApiKey {
                id: row.id.into(),
                org: row.org.into(),
                project: row.project.into(),
                name: row.name.into(),
                owner: row.owner,
                workflow: row.workflow,
                scopes: row.scopes.into(),
                limits: limits_of(&row.limits).ok_or_else(|| damaged("a limit is not known"))?,
                metadata: row.metadata,
                disabled: row.disabled,
                created_at: row.created_at,
                expires_at: row.expires_at,
                revoked_at: row.revoked_at,
                secrets: row.secrets.into_iter().map(secret).collect::<Result<_, StoreError>>()?,
            })
        };
        Ok(Some(Contents {
            keys: file.keys.into_iter().map(key).collect::<Result<_, StoreError>>()?,
            provider_keys: file.provider_keys.into_iter().map(SealedKey::from).collect(),
            admin_token: file.admin_token_sha256.map(hash).transpose()?,
            prices: file.prices.map(Into::into),
            settings: file.settings.into_iter().filter_map(SettingRow::read).collect(),
            budgets: all(file.budgets, BudgetRow::read).ok_or_else(|| damaged("a budget is none"))?,
            credits: all(file.credits, CreditRow::read).ok_or_else(|| damaged("a credit is none"))?,
            problems: Vec::new(),
        }))
    }
}

fn all<R, T>(rows: Vec<R>, read: impl Fn(R) -> Option<T>) -> Option<Vec<T>> {
    rows.into_iter().map(read).collect()
}

impl From<&Budget> for BudgetRow {
    fn from(budget: &Budget) -> Self {
        Self {
            id: budget.id.to_string(),
            org: budget.org.to_string(),
            payer: budget.payer.name().to_owned(),
            subject: budget.subject.to_string(),
            span: budget.span.name().to_owned(),
            amount: stored_money(budget.amount),
        }
    }
}

impl BudgetRow {
    fn read(self) -> Option<Budget> {
        Some(Budget {
            payer: Payer::from_name(&self.payer)?,
            span: Span::from_name(&self.span)?,
            amount: read_money(&self.amount)?,
            id: self.id.into(),
            org: self.org.into(),
            subject: self.subject.into(),
        })
    }
}

impl From<&Credit> for CreditRow {
    fn from(credit: &Credit) -> Self {
        Self {
            id: credit.id.to_string(),
            org: credit.org.to_string(),
            amount: stored_money(credit.amount),
            spent_before: stored_money(credit.spent_before),
            note: credit.note.clone(),
            created_at: credit.created_at,
        }
    }
}

impl CreditRow {
    fn read(self) -> Option<Credit> {
        let Self { id, org, amount, spent_before, note, created_at } = self;
        let (amount, spent_before) = (read_money(&amount)?, read_money(&spent_before)?);
        Some(Credit { id: id.into(), org: org.into(), amount, spent_before, note, created_at })
    }
}

impl From<&StoredSetting> for SettingRow {
    fn from(setting: &StoredSetting) -> Self {
        let StoredSetting { kind, name, body, changed_at, changed_by } = setting.clone();
        Self { kind: kind.name().to_owned(), name: name.to_string(), body, changed_at, changed_by }
    }
}

impl SettingRow {
    /// One of a kind that this version does not know is left out.
    fn read(self) -> Option<StoredSetting> {
        let Self { kind, name, body, changed_at, changed_by } = self;
        let kind = SettingKind::from_name(&kind)?;
        Some(StoredSetting { kind, name: name.into(), body, changed_at, changed_by })
    }
}

impl From<&ApiKey> for KeyRow {
    fn from(key: &ApiKey) -> Self {
        let secret = |secret: &KeySecret| SecretRow {
            sha256: secret.hash.to_hex(),
            shown: secret.shown.clone(),
            created_at: secret.created_at,
            expires_at: secret.expires_at,
        };
        Self {
            id: key.id.to_string(),
            org: key.org.to_string(),
            project: key.project.to_string(),
            name: key.name.to_string(),
            owner: key.owner.clone(),
            workflow: key.workflow.clone(),
            scopes: (&key.scopes).into(),
            limits: limits_row(&key.limits),
            metadata: key.metadata.clone(),
            disabled: key.disabled,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            secrets: key.secrets.iter().map(secret).collect(),
        }
    }
}

impl From<&SealedKey> for SealedRow {
    fn from(key: &SealedKey) -> Self {
        Self {
            id: key.id.to_string(),
            org: key.org.as_deref().map(str::to_owned),
            project: key.project.as_deref().map(str::to_owned),
            provider: key.provider.clone(),
            name: key.name.clone(),
            shown: key.shown.clone(),
            created_at: key.created_at,
            envelope: key.envelope.clone(),
        }
    }
}

impl From<SealedRow> for SealedKey {
    fn from(row: SealedRow) -> Self {
        let SealedRow { id, org, project, provider, name, shown, created_at, envelope } = row;
        let project = project.map(Into::into);
        Self { id: id.into(), org: org.map(Into::into), project, provider, name, shown, created_at, envelope }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;
    use crate::domain::tenancy::Scopes;
    use crate::domain::{Limit, Measure, Money};
    use std::os::unix::fs::PermissionsExt;

    fn contents() -> Contents {
        let secret =
            KeySecret {
                hash: Secret::new("a").hash(), shown: "a•••b".into(), created_at: 1, expires_at: Some(9)
            };
        let key = ApiKey {
            id: "key_1".into(),
            org: "org_1".into(),
            project: "prj_1".into(),
            name: "team".into(),
            owner: Some("ada".into()),
            workflow: None,
            scopes: Scopes { models: vec!["a*".into()], ..Scopes::default() },
            limits: [Limit { measure: Measure::Concurrency, amount: 3 }].into(),
            metadata: [("k".to_owned(), "v".to_owned())].into(),
            disabled: true,
            created_at: 1,
            expires_at: Some(2),
            revoked_at: Some(3),
            secrets: vec![secret],
        };
        let sealed = SealedKey {
            id: "pk_1".into(),
            org: Some("org_1".into()),
            project: Some("prj_1".into()),
            provider: "openai".into(),
            name: "one".into(),
            shown: "x".into(),
            created_at: 4,
            envelope: "v1.a.b.c".into(),
        };
        let budget = Budget {
            id: "bud_1".into(),
            org: "org_1".into(),
            payer: Payer::User,
            subject: "*".into(),
            span: Span::Week,
            amount: Money::from_picos(i128::from(u64::MAX) * 1000),
        };
        let credit = Credit {
            id: "crd_1".into(),
            org: "org_1".into(),
            amount: Money::from_picos(-5),
            spent_before: Money::ZERO,
            note: "n".into(),
            created_at: 3,
        };
        Contents {
            keys: vec![key],
            provider_keys: vec![sealed],
            admin_token: Some(Secret::new("t").hash()),
            prices: Some("{}".into()),
            settings: vec![StoredSetting {
                kind: SettingKind::Preset,
                name: "terse".into(),
                body: "{}".into(),
                changed_at: 5,
                changed_by: "ada".into(),
            }],
            budgets: vec![budget],
            credits: vec![credit],
            problems: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_comes_back_for_the_same_database_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = LastKnown::new(folder.path(), "postgres://a/b".into());
        assert_eq!(file.recall(), Ok(None));
        file.keep(&contents()).unwrap();
        assert_eq!(file.recall(), Ok(Some(contents())));
        let mode = std::fs::metadata(folder.path().join("last-known.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(LastKnown::new(folder.path(), "postgres://other/b".into()).recall(), Ok(None));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = LastKnown::new(folder.path(), "p".into());
        file.keep(&contents()).unwrap();
        let path = folder.path().join("last-known.json");
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in [&text[..text.len() / 2], "", &text.replace("sha256\":\"", "sha256\":\"x")] {
            std::fs::write(&path, damaged).unwrap();
            let error = file.recall().unwrap_err();
            assert!(error.to_string().contains("last-known.json is damaged"), "{error}");
        }
    }
}
