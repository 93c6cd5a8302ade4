//! Budgets and credits.

use super::{PostgresDatabase, Trouble};
use crate::domain::budget::{Budget, Credit, Payer, Span};
use crate::store::ports::budgets::Budgets;
use crate::store::ports::database::{Access, StoreError};
use crate::store::rows::{read_money, read_time, stored_money, stored_time};
use async_trait::async_trait;
use tokio_postgres::{Row, Transaction};

pub(super) async fn all(transaction: &Transaction<'_>) -> Result<Vec<Budget>, Trouble> {
    let query = "SELECT id, org_id, payer, subject, span, amount FROM budgets ORDER BY org_id, payer, subject, span";
    let budget = |row: &Row| {
        let text = |at: usize| row.try_get::<_, &str>(at);
        let id = text(0)?;
        let damaged = || Trouble::damaged(&format!("budgets/{id}"));
        Ok(Budget {
            id: id.into(),
            org: text(1)?.into(),
            payer: Payer::from_name(text(2)?).ok_or_else(damaged)?,
            subject: text(3)?.into(),
            span: Span::from_name(text(4)?).ok_or_else(damaged)?,
            amount: read_money(text(5)?).ok_or_else(damaged)?,
        })
    };
    transaction.query(query, &[]).await?.iter().map(budget).collect()
}

pub(super) async fn credits(transaction: &Transaction<'_>) -> Result<Vec<Credit>, Trouble> {
    let query = "SELECT id, org_id, amount, spent_before, note, created_at FROM credits ORDER BY created_at, id";
    let credit = |row: &Row| {
        let text = |at: usize| row.try_get::<_, &str>(at);
        let id = text(0)?;
        let damaged = || Trouble::damaged(&format!("credits/{id}"));
        Ok(Credit {
            id: id.into(),
            org: text(1)?.into(),
            amount: read_money(text(2)?).ok_or_else(damaged)?,
            spent_before: read_money(text(3)?).ok_or_else(damaged)?,
            note: text(4)?.to_owned(),
            created_at: read_time(row.try_get(5)?),
        })
    };
    transaction.query(query, &[]).await?.iter().map(credit).collect()
}

#[async_trait]
impl Budgets for PostgresDatabase {
    async fn set_budget(&self, access: &Access, budget: &Budget, now: u64) -> Result<(), StoreError> {
        if !access.reaches(Some(&budget.org)) {
            return Err(StoreError::Refused("there is no such organisation".to_owned()));
        }
        // An organisation may be shown its budgets, but it does not set them by itself: the gateway does, on its behalf.
        self.transact(&Access::System, async |transaction| {
            let Budget { id, org, payer, subject, span, amount } = budget;
            let put = "INSERT INTO budgets (id, org_id, payer, subject, span, amount, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                       ON CONFLICT (org_id, payer, subject, span) DO UPDATE SET amount = excluded.amount";
            let amount = stored_money(*amount);
            let row: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                [&&**id, &&**org, &payer.name(), &&**subject, &span.name(), &amount, &stored_time(now)];
            transaction.execute(put, &row).await?;
            Ok(())
        })
        .await
    }

    async fn remove_budget(&self, access: &Access, id: &str) -> Result<bool, StoreError> {
        self.transact(&Access::System, async |transaction| {
            let end = "DELETE FROM budgets WHERE id = $1 AND ($2::text IS NULL OR org_id = $2)";
            Ok(transaction.execute(end, &[&id, &access.org()]).await? > 0)
        })
        .await
    }

    async fn budgets(&self, access: &Access) -> Result<Vec<Budget>, StoreError> {
        self.transact(access, async |transaction| all(transaction).await).await
    }

    async fn add_credit(&self, credit: &Credit) -> Result<(), StoreError> {
        self.transact(&Access::System, async |transaction| {
            let Credit { id, org, amount, spent_before, note, created_at } = credit;
            let put = "INSERT INTO credits (id, org_id, amount, spent_before, note, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
            let (amount, before) = (stored_money(*amount), stored_money(*spent_before));
            transaction.execute(put, &[&&**id, &&**org, &amount, &before, note, &stored_time(*created_at)]).await?;
            Ok(())
        })
        .await
    }

    async fn credits(&self, access: &Access) -> Result<Vec<Credit>, StoreError> {
        self.transact(access, async |transaction| credits(transaction).await).await
    }
}
