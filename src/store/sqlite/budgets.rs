//! Budgets and credits.

use super::{SqliteDatabase, Trouble};
use crate::domain::budget::{Budget, Credit, Payer, Span};
use crate::store::ports::budgets::Budgets;
use crate::store::ports::database::{Access, StoreError};
use crate::store::rows::{read_money, read_time, stored_money, stored_time};
use async_trait::async_trait;
use rusqlite::{Transaction, params};

pub(super) fn all(transaction: &Transaction<'_>, access: &Access) -> Result<Vec<Budget>, Trouble> {
    let query = "SELECT id, org_id, payer, subject, span, amount FROM budgets WHERE ?1 IS NULL OR org_id = ?1 \
                 ORDER BY org_id, payer, subject, span";
    let mut query = transaction.prepare(query)?;
    let mut rows = query.query(params![access.org()])?;
    let mut budgets = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at| row.get::<_, String>(at);
        let id = text(0)?;
        let damaged = || Trouble::damaged(&format!("budgets/{id}"));
        budgets.push(Budget {
            org: text(1)?.into(),
            payer: Payer::from_name(&text(2)?).ok_or_else(damaged)?,
            subject: text(3)?.into(),
            span: Span::from_name(&text(4)?).ok_or_else(damaged)?,
            amount: read_money(&text(5)?).ok_or_else(damaged)?,
            id: id.into(),
        });
    }
    Ok(budgets)
}

pub(super) fn credits(transaction: &Transaction<'_>, access: &Access) -> Result<Vec<Credit>, Trouble> {
    let query = "SELECT id, org_id, amount, spent_before, note, created_at FROM credits WHERE ?1 IS NULL OR org_id = ?1 \
                 ORDER BY created_at, id";
    let mut query = transaction.prepare(query)?;
    let mut rows = query.query(params![access.org()])?;
    let mut credits = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at| row.get::<_, String>(at);
        let id = text(0)?;
        let damaged = || Trouble::damaged(&format!("credits/{id}"));
        credits.push(Credit {
            org: text(1)?.into(),
            amount: read_money(&text(2)?).ok_or_else(damaged)?,
            spent_before: read_money(&text(3)?).ok_or_else(damaged)?,
            note: text(4)?,
            created_at: read_time(row.get(5)?),
            id: id.into(),
        });
    }
    Ok(credits)
}

#[async_trait]
impl Budgets for SqliteDatabase {
    async fn set_budget(&self, access: &Access, budget: &Budget, now: u64) -> Result<(), StoreError> {
        let (access, budget) = (access.clone(), budget.clone());
        self.write(move |transaction| {
            if !access.reaches(Some(&budget.org)) {
                return Err(Trouble::unknown("organisation"));
            }
            let Budget { id, org, payer, subject, span, amount } = &budget;
            let put = "INSERT INTO budgets (id, org_id, payer, subject, span, amount, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                       ON CONFLICT (org_id, payer, subject, span) DO UPDATE SET amount = excluded.amount";
            let amount = stored_money(*amount);
            transaction
                .execute(put, params![&**id, &**org, payer.name(), &**subject, span.name(), amount, stored_time(now)])?;
            Ok(())
        })
        .await
    }

    async fn remove_budget(&self, access: &Access, id: &str) -> Result<bool, StoreError> {
        let (access, id) = (access.clone(), id.to_owned());
        self.write(move |transaction| {
            let end = "DELETE FROM budgets WHERE id = ?1 AND (?2 IS NULL OR org_id = ?2)";
            Ok(transaction.execute(end, params![id, access.org()])? > 0)
        })
        .await
    }

    async fn budgets(&self, access: &Access) -> Result<Vec<Budget>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| all(transaction, &access)).await
    }

    async fn add_credit(&self, credit: &Credit) -> Result<(), StoreError> {
        let credit = credit.clone();
        self.write(move |transaction| {
            let Credit { id, org, amount, spent_before, note, created_at } = &credit;
            let put = "INSERT INTO credits (id, org_id, amount, spent_before, note, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let (amount, before) = (stored_money(*amount), stored_money(*spent_before));
            transaction.execute(put, params![&**id, &**org, amount, before, note, stored_time(*created_at)])?;
            Ok(())
        })
        .await
    }

    async fn credits(&self, access: &Access) -> Result<Vec<Credit>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| credits(transaction, &access)).await
    }
}
