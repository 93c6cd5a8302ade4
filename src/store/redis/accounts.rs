//! The accounts that nodes share: one script reserves of all that a request draws on, another books what it did cost.
//!
//! While Redis cannot be asked, each node goes on with its share of what was left when it was last heard of. What is spent in that time is
//! booked when Redis is back. A settlement is said until Redis has answered it, and counts once however often it was said.

use super::link::{Lane, Link, NODES};
use super::names::Held;
use crate::domain::budget::{Account, Draw, Span};
use crate::domain::{Money, OnOutage};
use crate::store::memory::MemoryAccounts;
use crate::store::ports::accounts::{Accounts, Balance, Refused, Reservation};
use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use redis::{Script, ScriptInvocation};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// So many settlements are sent at once.
const BATCH: usize = 256;
/// For how long Redis remembers that a settlement was booked, in milliseconds: longer than it takes to say it again.
const REMEMBERED: u64 = 300_000;
/// After so long it is said again.
const AGAIN: Duration = Duration::from_millis(250);
/// So many accounts are known by heart for an outage.
const MOST_KNOWN: usize = 65_536;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("lua/account.lua"), include_str!(concat!("lua/", $file)))))
    };
}

static RESERVE: LazyLock<Script> = script!("reserve.lua");
static BOOK: LazyLock<Script> = script!("book.lua");
static OBSERVE: LazyLock<Script> = script!("observe.lua");

/// What has to be known to Redis before it is asked.
pub(super) fn scripts() -> [&'static Script; 3] {
    [&*RESERVE, &*BOOK, &*OBSERVE]
}

/// The accounts of all nodes together.
pub struct RedisAccounts {
    link: Arc<Link>,
    shared: Arc<Shared>,
    /// What this node reserves and spends while Redis cannot be asked.
    local: MemoryAccounts,
    denies: AtomicBool,
    numbers: AtomicU64,
    told: mpsc::UnboundedSender<Told>,
}

/// What Redis has said last of each account.
#[derive(Default)]
struct Shared {
    known: Mutex<HashMap<Account, Balance>>,
    /// What waits to be told.
    waiting: AtomicUsize,
}

impl Shared {
    fn note(&self, account: &Account, balance: Balance) {
        let mut known = self.known.lock();
        if known.len() < MOST_KNOWN || known.contains_key(account) {
            known.insert(account.clone(), balance);
        }
    }
}

/// Something that Redis has to know.
enum Told {
    Settled(Settlement),
    Observed { account: Account, spent: Money },
}

struct Settlement {
    /// The name under which it was reserved; `None` when Redis knows of no reservation.
    node: Option<Held>,
    id: String,
    accounts: Vec<Account>,
    amount: Money,
    spent: Money,
}

/// What Redis has said. Dropped without having been taken, it gives back what was granted.
struct Answer {
    granted: Option<Settlement>,
    /// The first account that has not enough left.
    short: usize,
    balances: Vec<Balance>,
    told: mpsc::UnboundedSender<Told>,
    shared: Arc<Shared>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(unclaimed) = self.granted.take() {
            send(&self.shared, &self.told, Told::Settled(unclaimed));
        }
    }
}

fn send(shared: &Shared, told: &mpsc::UnboundedSender<Told>, what: Told) {
    shared.waiting.fetch_add(1, Ordering::AcqRel);
    if told.send(what).is_err() {
        shared.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl RedisAccounts {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let (told, to_tell) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        link.runtime().spawn(tell_all(link.clone(), shared.clone(), to_tell));
        let (local, denies, numbers) = (MemoryAccounts::default(), AtomicBool::new(false), AtomicU64::new(0));
        Self { link, shared, local, denies, numbers, told }
    }

    /// Waits until Redis knows everything: for tests that look at what is left.
    pub async fn settled(&self) {
        while self.shared.waiting.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    fn next_id(&self) -> String {
        format!("{}.{:x}", self.link.process(), self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    async fn ask(&self, lane: Arc<Lane>, draws: &[Draw], amount: Money) -> Option<Answer> {
        let accounts: Vec<Account> = draws.iter().map(|draw| draw.account.clone()).collect();
        let mut call = prepared(&RESERVE, &accounts);
        call.arg(&*lane.node).arg(digits(amount));
        for draw in draws {
            call.arg(digits(draw.limit)).arg(remembered(&draw.account));
        }
        let node = Some(Held::new(self.link.clone(), lane.node.clone()));
        let lease = Settlement { node, id: self.next_id(), accounts, amount, spent: Money::ZERO };
        let (told, shared) = (self.told.clone(), self.shared.clone());
        let made = move |answer: Vec<String>| {
            let mut words = answer.iter().map(String::as_str);
            let passes = words.next() == Some("1");
            let short = words.next().and_then(|at| at.parse().ok()).unwrap_or(0);
            let balances = balances(answer.get(2..).unwrap_or_default());
            Answer { granted: passes.then_some(lease), short, balances, told, shared }
        };
        self.link.ask(lane, call, made).await
    }

    /// What this node decides by itself: of each account its share of what was left when Redis was last heard of.
    fn take_share(&self, draws: &[Draw], amount: Money, ttl: Duration, now: u64) -> Result<Reservation, Refused> {
        let nodes = i128::from(self.link.nodes().max(1));
        let share = |draw: &Draw| {
            let known = self.shared.known.lock().get(&draw.account).copied().unwrap_or_default();
            let left = (draw.limit - known.spent - known.reserved).max(Money::ZERO);
            Draw { account: draw.account.clone(), limit: Money::from_picos(left.picos() / nodes) }
        };
        let shares: Vec<Draw> = draws.iter().map(share).collect();
        self.local.take(&shares, amount, ttl, now)
    }
}

#[async_trait]
impl Accounts for RedisAccounts {
    async fn reserve(&self, draws: &[Draw], amount: Money, ttl: Duration, now: u64) -> Result<Reservation, Refused> {
        let answer = match self.link.lane() {
            Some(lane) => self.ask(lane, draws, amount).await,
            None => None,
        };
        let Some(mut answer) = answer else {
            if self.denies.load(Ordering::Relaxed) {
                return Err(Refused::Outage);
            }
            return self.take_share(draws, amount, ttl, now);
        };
        let is_told = self.shared.waiting.load(Ordering::Acquire) == 0;
        for (draw, balance) in draws.iter().zip(&answer.balances) {
            self.shared.note(&draw.account, *balance);
            if is_told {
                // What was spent in an outage is part of what Redis has said.
                self.local.forget(&draw.account);
            }
        }
        let Some(lease) = answer.granted.take() else {
            let balance = answer.balances.get(answer.short).copied().unwrap_or_default();
            return Err(Refused::Short { at: answer.short, balance });
        };
        let node = lease.node.as_ref().map(Held::lent);
        Ok(Reservation { accounts: lease.accounts, amount, number: 0, node })
    }

    fn settle(&self, reservation: Reservation, spent: Money, now: u64) {
        let node = match &reservation.node {
            Some(node) => Some(Held::taken_back(self.link.clone(), node.clone())),
            None => {
                let (accounts, number) = (reservation.accounts.clone(), reservation.number);
                self.local.settle(Reservation { accounts, amount: reservation.amount, number, node: None }, spent, now);
                if spent == Money::ZERO {
                    return;
                }
                None
            }
        };
        let Reservation { accounts, amount, .. } = reservation;
        let settlement = Settlement { node, id: self.next_id(), accounts, amount, spent };
        send(&self.shared, &self.told, Told::Settled(settlement));
    }

    fn observe(&self, account: &Account, spent: Money) {
        let known = self.shared.known.lock().get(account).copied().unwrap_or_default();
        if spent > known.spent {
            self.shared.note(account, Balance { spent, ..known });
        }
        // Also what is known here: Redis may have lost it.
        send(&self.shared, &self.told, Told::Observed { account: account.clone(), spent });
    }

    fn balances(&self) -> Vec<(Account, Balance)> {
        self.shared.known.lock().iter().map(|(account, balance)| (account.clone(), *balance)).collect()
    }

    fn forget_past(&self, now: u64) {
        let day = crate::domain::budget::day_of(now);
        self.shared.known.lock().retain(|account, _| account.span.first_day(day) == account.from_day);
        self.local.forget_past(now);
    }

    fn set_on_outage(&self, choice: OnOutage) {
        self.denies.store(choice == OnOutage::Deny, Ordering::Relaxed);
    }
}

/// Tells Redis everything, and again until it has answered.
async fn tell_all(link: Arc<Link>, shared: Arc<Shared>, mut told: mpsc::UnboundedReceiver<Told>) {
    loop {
        let mut batch = Vec::new();
        if told.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let count = batch.len();
        // What the ledger says may include what was settled before: said the other way round it would count twice.
        let (settled, observed): (Vec<Told>, Vec<Told>) =
            batch.into_iter().partition(|it| matches!(it, Told::Settled(_)));
        for mut rest in [settled, observed] {
            while !rest.is_empty() {
                rest = tell(&link, &shared, rest).await;
            }
        }
        shared.waiting.fetch_sub(count, Ordering::AcqRel);
    }
}

/// Says these things at once. Returns those that have to be said again, after a while.
async fn tell(link: &Link, shared: &Shared, what: Vec<Told>) -> Vec<Told> {
    let lane = link.back().await;
    let said = what.into_iter().map(|it| {
        let (call, lane) = (it.call(), lane.clone());
        async move { (call.invoke_async::<Vec<String>>(&mut lane.connection.clone()).await, it) }
    });
    let mut again = Vec::new();
    for (result, it) in join_all(said).await {
        match result {
            Ok(answer) => {
                for (account, balance) in it.accounts().iter().zip(balances(&answer)) {
                    shared.note(account, balance);
                }
            }
            Err(error) => {
                link.failed(&lane, &error);
                again.push(it);
            }
        }
    }
    if !again.is_empty() {
        tokio::time::sleep(AGAIN).await;
    }
    again
}

/// What is spent and reserved of each account, as scripts answer.
fn balances(answer: &[String]) -> Vec<Balance> {
    let (pairs, _) = answer.as_chunks::<2>();
    pairs.iter().map(|[spent, reserved]| Balance { spent: money(spent), reserved: money(reserved) }).collect()
}

impl Told {
    fn accounts(&self) -> &[Account] {
        match self {
            Self::Settled(settlement) => &settlement.accounts,
            Self::Observed { account, .. } => std::slice::from_ref(account),
        }
    }

    fn call(&self) -> ScriptInvocation<'static> {
        match self {
            Self::Settled(Settlement { node, id, accounts, amount, spent }) => {
                let mut call = prepared(&BOOK, accounts);
                call.key(format!("{{orbyt}}:settled:{id}"));
                // Without a name there is no reservation of that name.
                call.arg(node.as_ref().map_or("", Held::name)).arg(digits(*amount)).arg(digits(*spent)).arg(REMEMBERED);
                for account in accounts {
                    call.arg(remembered(account));
                }
                call
            }
            Self::Observed { account, spent } => {
                let mut call = prepared(&OBSERVE, std::slice::from_ref(account));
                call.arg("").arg(digits(*spent)).arg(remembered(account));
                call
            }
        }
    }
}

fn prepared(script: &'static Script, accounts: &[Account]) -> ScriptInvocation<'static> {
    let mut call = script.prepare_invoke();
    call.key(NODES);
    for Account { payer, subject, span, from_day } in accounts {
        call.key(format!("{{orbyt}}:account:{}:{}:{from_day}:{subject}", payer.name(), span.name()));
    }
    call
}

/// For how long an account is remembered after it was last used, in milliseconds: beyond the end of its span. 0 is for ever.
fn remembered(account: &Account) -> u64 {
    const DAY: u64 = 86_400_000;
    match account.span {
        Span::Day => 3 * DAY,
        Span::Week => 9 * DAY,
        Span::Month => 33 * DAY,
        Span::Total | Span::Prepaid => 0,
    }
}

/// An amount in decimal digits; there is none below nothing.
fn digits(amount: Money) -> String {
    amount.max(Money::ZERO).picos().to_string()
}

fn money(digits: &str) -> Money {
    Money::from_picos(digits.parse().unwrap_or(0))
}
