//! Models, presets and routing settings that were made in the console.

use super::{PostgresDatabase, Trouble};
use crate::domain::stored_setting::{SettingKind, StoredSetting};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::stored_settings::StoredSettings;
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use tokio_postgres::{Row, Transaction};

/// All of them.
pub(super) async fn all(transaction: &Transaction<'_>) -> Result<Vec<StoredSetting>, Trouble> {
    let query = "SELECT kind, name, body, changed_at, changed_by FROM settings ORDER BY kind, name";
    let setting = |row: &Row| {
        let kind = SettingKind::from_name(row.try_get(0)?).ok_or_else(|| Trouble::damaged("settings"))?;
        Ok(StoredSetting {
            kind,
            name: row.try_get::<_, &str>(1)?.into(),
            body: row.try_get(2)?,
            changed_at: read_time(row.try_get(3)?),
            changed_by: row.try_get(4)?,
        })
    };
    transaction.query(query, &[]).await?.iter().map(setting).collect()
}

#[async_trait]
impl StoredSettings for PostgresDatabase {
    async fn put_setting(&self, setting: &StoredSetting, old: Option<&str>) -> Result<bool, StoreError> {
        let StoredSetting { kind, name, body, changed_at, changed_by } = setting;
        let (kind, name, changed_at) = (kind.name(), &**name, stored_time(*changed_at));
        self.transact(&Access::System, async |transaction| {
            let changed = match old {
                Some(old) => {
                    let put = "UPDATE settings SET body = $3, changed_at = $4, changed_by = $5 \
                               WHERE kind = $1 AND name = $2 AND body = $6";
                    transaction.execute(put, &[&kind, &name, body, &changed_at, changed_by, &old]).await?
                }
                None => {
                    let put = "INSERT INTO settings (kind, name, body, changed_at, changed_by) \
                               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
                    transaction.execute(put, &[&kind, &name, body, &changed_at, changed_by]).await?
                }
            };
            Ok(changed > 0)
        })
        .await
    }

    async fn remove_setting(&self, kind: SettingKind, name: &str, old: &str) -> Result<bool, StoreError> {
        self.transact(&Access::System, async |transaction| {
            let remove = "DELETE FROM settings WHERE kind = $1 AND name = $2 AND body = $3";
            Ok(transaction.execute(remove, &[&kind.name(), &name, &old]).await? > 0)
        })
        .await
    }

    async fn settings(&self) -> Result<Vec<StoredSetting>, StoreError> {
        self.transact(&Access::System, async |transaction| all(transaction).await).await
    }
}
