//! Budgets and credits: the most that a request can cost is reserved before its plan is walked, and settled with what it did cost when it is
//! over, whichever way that comes about.

use super::bill::{NoPrice, most, unbounded};
use super::core::{ClientCtx, Core};
use super::error::{ApiError, Reason};
use super::ledger;
use super::plan::Plan;
use crate::config::budgets::Payers;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::domain::Money;
use crate::domain::budget::{Account, Draw, Payer, Span, day_of};
use crate::domain::tenancy::{DEFAULT_ORG, DEFAULT_PROJECT};
use crate::store::ports::accounts::{Accounts, Balance, Refused, Reservation};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much longer than its request a reservation lives.
const GRACE: Duration = Duration::from_secs(60);

/// What a request has reserved. Dropped without having been settled (a panic), it gives everything back.
pub(super) struct Funds {
    accounts: Arc<dyn Accounts>,
    /// `None` once it is settled.
    reservation: Option<Reservation>,
    /// What it was settled with, and where, before the request was over.
    booked: Option<(Vec<Account>, Money)>,
}

impl Funds {
    /// Whether there is any bound on what the request may cost.
    pub(super) fn is_wanted(client: &ClientCtx, envelope: &Envelope) -> bool {
        !client.snapshot.budgets.is_empty() || envelope.extensions.max_cost.is_some()
    }

    /// Reserves the most that the request can cost; `None` when it draws on no account.
    ///
    /// # Errors
    /// 402 that says whose budget does not suffice; 503 when whoever keeps the budgets does not answer: Redis where `limits.on_outage` is
    /// `deny`, or, for the last requests of a process that an upgrade has replaced, its successor.
    pub(super) async fn reserve(
        core: &Core,
        client: &ClientCtx,
        envelope: &Envelope,
        plan: &Plan,
    ) -> Result<Option<Self>, ApiError> {
        let day = day_of(client.record.arrived_unix_ms);
        let draws = draws(client, envelope, day);
        if draws.is_empty() && envelope.extensions.max_cost.is_none() {
            return Ok(None);
        }
        let told = |error: ApiError| {
            core.telemetry.metrics.limited("budget");
            error
        };
        if let Some(model) = unbounded(envelope, plan) {
            return Err(no_bound(model));
        }
        let amount = most(client, envelope, plan).map_err(|none| told(no_price(&none)))?;
        if let Some(bound) = envelope.extensions.max_cost.filter(|bound| amount > *bound) {
            let message = format!(
                "this request may cost up to ${amount}, more than extra.max_cost allows (${bound}). \
                 A smaller input or max_tokens makes it cheaper"
            );
            return Err(told(ApiError::new(Reason::BudgetExceeded, message).param("extra.max_cost").hopeless()));
        }
        // What costs nothing draws on nothing.
        if draws.is_empty() || amount == Money::ZERO {
            return Ok(None);
        }
        let ttl = plan.total + GRACE;
        match core.accounts.reserve(&draws, amount, ttl, now_unix_ms()).await {
            Ok(reservation) => {
                Ok(Some(Self { accounts: core.accounts.clone(), reservation: Some(reservation), booked: None }))
            }
            Err(Refused::Short { at, balance }) => {
                let draw = draws.get(at).or(draws.first());
                Err(told(draw.map_or_else(|| short_of("a", amount), |draw| short(draw, balance, amount))))
            }
            Err(Refused::Outage) => {
                core.telemetry.metrics.limited("outage");
                let message = "the budgets of this request cannot be checked right now: whoever keeps them does not answer. Please try again";
                Err(ApiError::new(Reason::LimitsUnavailable, message))
            }
        }
    }

    /// The accounts that the request draws on.
    pub(super) fn accounts(&self) -> Vec<Account> {
        let reserved = self.reservation.as_ref().map(|reservation| &reservation.accounts);
        reserved.or(self.booked.as_ref().map(|(accounts, _)| accounts)).cloned().unwrap_or_default()
    }

    /// Settles with what the request costs as far as anybody knows, before it is over.
    pub(super) fn book(&mut self, cost: Money) {
        if let Some(reservation) = self.reservation.take() {
            self.booked = Some((reservation.accounts.clone(), cost));
            self.accounts.settle(reservation, cost, now_unix_ms());
        }
    }

    /// Settles with what the request did cost.
    pub(super) fn settle(mut self, cost: Money) {
        // What was booked is taken back by nobody: an answer that was about to be sent whole has begun to arrive.
        if let Some((accounts, booked)) = self.booked.take().filter(|(_, booked)| cost > *booked) {
            let none = Reservation { accounts, amount: Money::ZERO, number: u64::MAX, node: None };
            self.accounts.settle(none, cost - booked, now_unix_ms());
        }
        self.end(cost);
    }

    fn end(&mut self, cost: Money) {
        if let Some(reservation) = self.reservation.take() {
            self.accounts.settle(reservation, cost, now_unix_ms());
        }
    }
}

impl Drop for Funds {
    fn drop(&mut self) {
        self.end(Money::ZERO);
    }
}

/// Unix milliseconds. Reservations and days go by the wall clock, because nodes share them.
pub(super) fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn draws(client: &ClientCtx, envelope: &Envelope, day: u32) -> Vec<Draw> {
    let Some(holder) = &client.holder else { return Vec::new() };
    if client.snapshot.budgets.is_empty() {
        return Vec::new();
    }
    let principal = &holder.principal;
    let (org, project, key_subject): (Arc<str>, Arc<str>, _) = match &principal.key {
        Some(key) => (key.org.clone(), key.project.clone(), key.id.clone()),
        None => (DEFAULT_ORG.into(), DEFAULT_PROJECT.into(), principal.key_name.clone()),
    };
    let (key, user) = (principal.id(), envelope.user.as_deref());
    let kept = user.map(|user| ledger::kept_name(&client.core, Some(&envelope.extensions), user));
    let kept_user = kept.as_deref();
    let payers = Payers { org: &org, project: &project, key: &key, key_subject: &key_subject, user, kept_user };
    client.snapshot.budgets.draws(payers, day)
}

fn no_price(NoPrice(model): &NoPrice) -> ApiError {
    let message = format!(
        "the price of {model} is not known, so no budget can be kept with it: set it in [[provider.model]], import a price list \
         (orbyt catalog import), or set money.unknown_price"
    );
    ApiError::new(Reason::BudgetExceeded, message).param("model").hopeless()
}

/// Nobody may ever ask how long it has become.
fn no_bound(model: &str) -> ApiError {
    let message = format!(
        "an answer in the background needs max_output_tokens where a budget is to be kept: how long one of {model} may become is not known"
    );
    ApiError::new(Reason::InvalidRequest, message).param("max_output_tokens")
}

fn short_of(what: &str, amount: Money) -> ApiError {
    let message = format!("{what} budget does not suffice for this request, which may cost up to ${amount}");
    ApiError::new(Reason::BudgetExceeded, message).hopeless()
}

fn short(Draw { account, limit }: &Draw, Balance { spent, reserved }: Balance, amount: Money) -> ApiError {
    let whose = match account.payer {
        Payer::Org => "organisation",
        Payer::Project => "project",
        Payer::Key => "key",
        Payer::User => "user",
    };
    let left = (*limit - spent - reserved).max(Money::ZERO);
    let (what, again) = match account.span {
        Span::Prepaid => ("has no credit left".to_owned(), "add credit"),
        Span::Total => (format!("has spent its budget of ${limit}"), "raise the budget"),
        span => {
            (format!("has spent its budget of ${limit} a {}", span.name()), "wait for the next, or raise the budget")
        }
    };
    let message = if left > Money::ZERO {
        let in_flight = if reserved > Money::ZERO {
            format!(", ${reserved} reserved by requests in flight")
        } else {
            String::new()
        };
        let kind = if account.span == Span::Prepaid { "credit" } else { "budget" };
        format!(
            "this request may cost up to ${amount}, and this {whose}'s {kind} has ${left} left{in_flight}. \
             A smaller input or max_tokens makes it cheaper"
        )
    } else if reserved > Money::ZERO {
        format!("what this {whose} has left is reserved by requests in flight (${reserved}). Please try again soon")
    } else {
        format!("this {whose} {what}: {again}")
    };
    let error = ApiError::new(Reason::BudgetExceeded, message);
    // Requests in flight rarely cost all that is reserved for them.
    if reserved > Money::ZERO { error.retry_after(Duration::from_secs(1)) } else { error.hopeless() }
}
