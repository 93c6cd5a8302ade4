//! Models, presets and routing settings that were made in the console.

use super::{SqliteDatabase, Trouble};
use crate::domain::stored_setting::{SettingKind, StoredSetting};
use crate::store::ports::database::StoreError;
use crate::store::ports::stored_settings::StoredSettings;
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use rusqlite::{Transaction, params};

/// All of them.
pub(super) fn all(transaction: &Transaction<'_>) -> Result<Vec<StoredSetting>, Trouble> {
    let query = "SELECT kind, name, body, changed_at, changed_by FROM settings ORDER BY kind, name";
    let mut query = transaction.prepare(query)?;
    let mut rows = query.query([])?;
    let mut settings = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = SettingKind::from_name(&row.get::<_, String>(0)?).ok_or_else(|| Trouble::damaged("settings"))?;
        settings.push(StoredSetting {
            kind,
            name: row.get::<_, String>(1)?.into(),
            body: row.get(2)?,
            changed_at: read_time(row.get(3)?),
            changed_by: row.get(4)?,
        });
    }
    Ok(settings)
}

#[async_trait]
impl StoredSettings for SqliteDatabase {
    async fn put_setting(&self, setting: &StoredSetting, old: Option<&str>) -> Result<bool, StoreError> {
        let (setting, old) = (setting.clone(), old.map(str::to_owned));
        self.write(move |transaction| {
            let StoredSetting { kind, name, body, changed_at, changed_by } = setting;
            let values = params![kind.name(), &*name, body, stored_time(changed_at), changed_by, old];
            let put = match &old {
                Some(_) => {
                    "UPDATE settings SET body = ?3, changed_at = ?4, changed_by = ?5 WHERE kind = ?1 AND name = ?2 AND body = ?6"
                }
                None => {
                    "INSERT INTO settings (kind, name, body, changed_at, changed_by) SELECT ?1, ?2, ?3, ?4, ?5 \
                     WHERE ?6 IS NULL ON CONFLICT DO NOTHING"
                }
            };
            Ok(transaction.execute(put, values)? > 0)
        })
        .await
    }

    async fn remove_setting(&self, kind: SettingKind, name: &str, old: &str) -> Result<bool, StoreError> {
        let (name, old) = (name.to_owned(), old.to_owned());
        self.write(move |transaction| {
            let remove = "DELETE FROM settings WHERE kind = ?1 AND name = ?2 AND body = ?3";
            Ok(transaction.execute(remove, params![kind.name(), name, old])? > 0)
        })
        .await
    }

    async fn settings(&self) -> Result<Vec<StoredSetting>, StoreError> {
        self.read(all).await
    }
}
