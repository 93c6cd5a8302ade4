//! The accounts that nodes share: one script reserves of all that a request draws on, another books what it did cost.
//!
//! While Redis cannot be asked, each node goes on with its share of what was left when it was last heard of. What is spent in that time is
//! booked when Redis is back. A settlement is said until Redis has answered it, and counts once however often it was said.
//!
//! What the ledger says may include what a node has not been able to book yet: Redis remembers by how much the ledger was ahead, and since
//! when, and a settlement from before that is taken for part of it. So it counts once, whichever of the two comes first.

use super::link::{Lane, Link, NODES};
use super::names::Held;
use crate::domain::budget::{Account, Draw, Payer, Span};
use crate::domain::{Money, OnOutage};
use crate::store::memory::MemoryAccounts;
use crate::store::ports::accounts::{Accounts, Balance, Refused, Reservation};
use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use redis::{Script, ScriptInvocation};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// So many settlements are sent at once.
const BATCH: usize = 256;
/// For how long Redis remembers which of a process's settlements were booked, in milliseconds: a node may be cut off for long before it
/// says one again. It is a few hundred numbers a process.
const REMEMBERED: u64 = 7 * 86_400_000;
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
    denies: AtomicBool,
    told: mpsc::UnboundedSender<Settlement>,
}

/// What requests and the task that tells Redis have in common.
#[derive(Default)]
struct Shared {
    known: Mutex<HashMap<Account, Known>>,
    /// What this node reserves while Redis cannot be asked, and what it has spent without it until Redis knows.
    local: MemoryAccounts,
    /// What the ledger has said last, and when, until Redis knows.
    observed: Mutex<HashMap<Account, (Money, Instant)>>,
    has_observed: Notify,
    /// Things that wait to be told.
    waiting: AtomicUsize,
}

/// What is known of an account without asking.
#[derive(Clone, Default)]
struct Known {
    /// What Redis has said last; before it has said anything, what the ledger said first. What is spent without Redis comes on top.
    basis: Option<Balance>,
    /// What the ledger says.
    ledger: Money,
    /// What Redis was told of that last, and under which name.
    told: Option<(Money, Arc<str>)>,
}

impl Shared {
    /// Changes what is known of an account, if there is room for it.
    fn know(&self, account: &Account, change: impl FnOnce(&mut Known)) {
        entry(&mut self.known.lock(), account).map(change);
    }

    /// Redis has said this of an account, `booked` of which was spent without it.
    fn note(&self, account: &Account, said: Balance, booked: Money) {
        // Held until both are done: in between it would count twice.
        let mut all = self.known.lock();
        if booked > Money::ZERO {
            self.local.unspend(account, booked);
        }
        let Some(known) = entry(&mut all, account) else { return };
        // It may have lost what the ledger knows.
        let before = known.ledger - self.local.balance_of(account).spent;
        known.basis = Some(Balance { spent: said.spent.max(before), ..said });
    }

    /// Some of what the ledger has said.
    fn take_observed(&self) -> Vec<Told> {
        let mut observed = self.observed.lock();
        let accounts: Vec<Account> = observed.keys().take(BATCH).cloned().collect();
        let taken = accounts.into_iter().filter_map(|account| {
            let (spent, at) = observed.remove(&account)?;
            Some(Told::Observed { account, spent, at })
        });
        taken.collect()
    }

    /// Puts back what could not be told, unless the ledger has said something newer. Returns how much was put back.
    fn put_back(&self, untold: Vec<Told>) -> usize {
        let (mut observed, mut count) = (self.observed.lock(), 0);
        for it in untold {
            if let Told::Observed { account, spent, at } = it
                && let Entry::Vacant(entry) = observed.entry(account)
            {
                entry.insert((spent, at));
                count += 1;
            }
        }
        count
    }
}

/// What is known of an account; `None` where it is not known, and there is no room for it.
fn entry<'a>(known: &'a mut HashMap<Account, Known>, account: &Account) -> Option<&'a mut Known> {
    let is_full = known.len() >= MOST_KNOWN;
    match known.entry(account.clone()) {
        Entry::Occupied(entry) => Some(entry.into_mut()),
        Entry::Vacant(entry) => (!is_full).then(|| entry.insert(Known::default())),
    }
}

/// Something that Redis has to know.
enum Told {
    Settled { settlement: Settlement, number: u64, lowest: u64, process: Arc<str> },
    Observed { account: Account, spent: Money, at: Instant },
}

struct Settlement {
    /// The name under which it was reserved; `None` when Redis knows of no reservation.
    node: Option<Held>,
    accounts: Vec<Account>,
    amount: Money,
    spent: Money,
    at: Instant,
}

/// What Redis has said. Dropped without having been taken, it gives back what was granted.
struct Answer {
    granted: Option<Settlement>,
    /// The first account that has not enough left.
    short: usize,
    balances: Vec<Balance>,
    teller: Teller,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(unclaimed) = self.granted.take() {
            self.teller.tell(unclaimed);
        }
    }
}

/// Hands settlements to the task that tells them.
struct Teller {
    link: Arc<Link>,
    shared: Arc<Shared>,
    told: mpsc::UnboundedSender<Settlement>,
}

impl Teller {
    fn tell(&self, settlement: Settlement) {
        let counters = [&self.shared.waiting, &self.link.untold];
        for counter in counters {
            counter.fetch_add(1, Ordering::AcqRel);
        }
        if self.told.send(settlement).is_err() {
            for counter in counters {
                counter.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

impl RedisAccounts {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let (told, to_tell) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        link.runtime().spawn(tell_all(link.clone(), shared.clone(), to_tell));
        Self { link, shared, denies: AtomicBool::new(false), told }
    }

    /// Waits until Redis knows everything: for tests that look at what is left.
    pub async fn settled(&self) {
        while self.shared.waiting.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    fn teller(&self) -> Teller {
        Teller { link: self.link.clone(), shared: self.shared.clone(), told: self.told.clone() }
    }

    async fn ask(&self, lane: Arc<Lane>, draws: &[Draw], amount: Money) -> Option<Answer> {
        let accounts: Vec<Account> = draws.iter().map(|draw| draw.account.clone()).collect();
        let mut call = prepared(&RESERVE, &accounts);
        call.arg(&*lane.node).arg(digits(amount));
        for draw in draws {
            call.arg(digits(draw.limit)).arg(remembered(&draw.account));
        }
        let node = Some(Held::new(self.link.clone(), lane.node.clone()));
        let lease = Settlement { node, accounts, amount, spent: Money::ZERO, at: Instant::now() };
        let teller = self.teller();
        let made = move |answer: Vec<String>| {
            let mut words = answer.iter().map(String::as_str);
            let passes = words.next() == Some("1");
            let short = words.next().and_then(|at| at.parse().ok()).unwrap_or(0);
            let balances = balances(answer.get(2..).unwrap_or_default());
            Answer { granted: passes.then_some(lease), short, balances, teller }
        };
        self.link.ask(lane, call, made).await
    }

    /// What this node decides by itself: of each account its share of what was left when Redis was last heard of.
    fn take_share(&self, draws: &[Draw], amount: Money, ttl: Duration, now: u64) -> Result<Reservation, Refused> {
        let nodes = i128::from(self.link.nodes().max(1));
        let share = |draw: &Draw| {
            let known = self.shared.known.lock().get(&draw.account).cloned().unwrap_or_default();
            // As it stood when Redis went: what this node spends without it is reckoned beside that.
            let basis = known.basis.unwrap_or_default();
            let left = (draw.limit - basis.spent - basis.reserved).max(Money::ZERO);
            Draw { account: draw.account.clone(), limit: Money::from_picos(left.picos() / nodes) }
        };
        let shares: Vec<Draw> = draws.iter().map(share).collect();
        self.shared.local.take(&shares, amount, ttl, now)
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
        for (draw, balance) in draws.iter().zip(&answer.balances) {
            self.shared.note(&draw.account, *balance, Money::ZERO);
        }
        let Some(lease) = answer.granted.take() else {
            let balance = answer.balances.get(answer.short).copied().unwrap_or_default();
            return Err(Refused::Short { at: answer.short, balance });
        };
        let node = lease.node.as_ref().map(Held::lent);
        Ok(Reservation { accounts: lease.accounts, amount, number: 0, node })
    }

    fn settle(&self, reservation: Reservation, spent: Money, now: u64) {
        if spent < Money::ZERO {
            // It may have been booked here or there: who has all of it says what is left.
            let Reservation { accounts, amount, .. } = reservation;
            for account in &accounts {
                self.shared.know(account, |known| known.ledger = (known.ledger + spent).max(Money::ZERO));
            }
            return self.teller().tell(Settlement { node: None, accounts, amount, spent, at: Instant::now() });
        }
        let node = match &reservation.node {
            Some(node) => Some(Held::taken_back(self.link.clone(), node.clone())),
            None => {
                let (accounts, number) = (reservation.accounts.clone(), reservation.number);
                self.shared.local.settle(
                    Reservation { accounts, amount: reservation.amount, number, node: None },
                    spent,
                    now,
                );
                if spent == Money::ZERO {
                    return;
                }
                None
            }
        };
        let Reservation { accounts, amount, .. } = reservation;
        self.teller().tell(Settlement { node, accounts, amount, spent, at: Instant::now() });
    }

    fn observe(&self, account: &Account, spent: Money) {
        let lane = self.link.lane();
        let mut is_told = false;
        self.shared.know(account, |known| {
            // There may be very many users. As long as the connection lives, Redis has forgotten nothing.
            let told = known.told.as_ref().filter(|_| account.payer == Payer::User);
            is_told = told.zip(lane.as_ref()).is_some_and(|((told, name), lane)| *told == spent && *name == lane.node);
            // Less than before, when something was given back.
            known.ledger = spent;
            let before = || spent - self.shared.local.balance_of(account).spent;
            known.basis.get_or_insert_with(|| Balance { spent: before().max(Money::ZERO), reserved: Money::ZERO });
        });
        if is_told {
            return;
        }
        // Also what is known here: Redis may have lost it. Only the last word counts, however long Redis is away.
        let mut observed = self.shared.observed.lock();
        if observed.insert(account.clone(), (spent, Instant::now())).is_none() {
            self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        }
        drop(observed);
        self.shared.has_observed.notify_one();
    }

    fn balances(&self) -> Vec<(Account, Balance)> {
        let known = self.shared.known.lock();
        let shown = |(account, known): (&Account, &Known)| {
            let basis = known.basis.unwrap_or_default();
            let spent = basis.spent + self.shared.local.balance_of(account).spent;
            (account.clone(), Balance { spent: spent.max(known.ledger), ..basis })
        };
        known.iter().map(shown).collect()
    }

    fn forget_past(&self, now: u64) {
        let day = crate::domain::budget::day_of(now);
        self.shared.known.lock().retain(|account, _| account.span.first_day(day) == account.from_day);
        self.shared.local.forget_past(now);
    }

    fn set_on_outage(&self, choice: OnOutage) {
        self.denies.store(choice == OnOutage::Deny, Ordering::Relaxed);
    }
}

/// Tells Redis everything, and again until it has answered.
async fn tell_all(link: Arc<Link>, shared: Arc<Shared>, mut told: mpsc::UnboundedReceiver<Settlement>) {
    let (process, mut next) = (Arc::<str>::from(link.process()), 0);
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            count = told.recv_many(&mut batch, BATCH) => if count == 0 { return },
            () = shared.has_observed.notified() => {}
        }
        // All before the first of these are answered.
        let (count, lowest) = (batch.len(), next);
        next += count as u64;
        let numbered = batch.into_iter().zip(lowest..);
        let mut rest: Vec<Told> = numbered
            .map(|(settlement, number)| Told::Settled { settlement, number, lowest, process: process.clone() })
            .collect();
        while !rest.is_empty() {
            rest = tell(&link, &shared, rest).await;
        }
        link.untold.fetch_sub(count, Ordering::AcqRel);
        shared.waiting.fetch_sub(count, Ordering::AcqRel);
        let observed = shared.take_observed();
        if observed.is_empty() {
            continue;
        }
        let count = observed.len();
        let left = shared.put_back(tell(&link, &shared, observed).await);
        shared.waiting.fetch_sub(count - left, Ordering::AcqRel);
        if !shared.observed.lock().is_empty() {
            shared.has_observed.notify_one();
        }
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
                let (accounts, booked) = (it.accounts(), it.spent_without());
                for (account, balance) in accounts.iter().zip(balances(&answer)) {
                    shared.note(account, balance, booked);
                }
                if let Told::Observed { account, spent, .. } = &it {
                    shared.know(account, |known| known.told = Some((*spent, lane.node.clone())));
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
            Self::Settled { settlement, .. } => &settlement.accounts,
            Self::Observed { account, .. } => std::slice::from_ref(account),
        }
    }

    /// What this node has spent by itself, which Redis knows now.
    fn spent_without(&self) -> Money {
        match self {
            Self::Settled { settlement, .. } if settlement.node.is_none() => settlement.spent.max(Money::ZERO),
            _ => Money::ZERO,
        }
    }

    fn call(&self) -> ScriptInvocation<'static> {
        match self {
            Self::Settled { settlement, number, lowest, process } => {
                let Settlement { node, accounts, amount, spent, at } = settlement;
                let mut call = prepared(&BOOK, accounts);
                call.key(format!("{{orbyt}}:settled:{process}"));
                // Without a name there is no reservation of that name.
                call.arg(node.as_ref().map_or("", Held::name)).arg(digits(*amount)).arg(signed(*spent));
                call.arg(age(*at)).arg(number).arg(lowest).arg(REMEMBERED);
                for account in accounts {
                    call.arg(remembered(account));
                }
                call
            }
            Self::Observed { account, spent, at } => {
                let mut call = prepared(&OBSERVE, std::slice::from_ref(account));
                call.arg("").arg(digits(*spent)).arg(age(*at)).arg(remembered(account));
                call
            }
        }
    }
}

/// How long ago something was, in milliseconds: clocks of nodes differ.
fn age(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)
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

/// The same, with a minus for what is given back.
fn signed(amount: Money) -> String {
    amount.picos().to_string()
}

fn money(digits: &str) -> Money {
    Money::from_picos(digits.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::domain::Secret;

    fn account(name: &str) -> Account {
        Account { payer: Payer::User, subject: name.into(), span: Span::Total, from_day: 0 }
    }

    /// A node that never reaches its Redis.
    fn cut_off() -> RedisAccounts {
        let (url, second) = (Secret::new("redis://127.0.0.1:1".to_owned()), Duration::from_secs(1));
        let settings = Settings { url, ca: None, timeout: second, node_ttl: second };
        let link = Link::new(settings, tokio::runtime::Handle::current(), Box::new(|_| {})).unwrap();
        RedisAccounts::new(Arc::new(link))
    }

    #[tokio::test]
    async fn an_outage_keeps_the_last_word_of_the_ledger_alone() {
        let accounts = cut_off();
        for round in 1..=1000 {
            for name in ["a", "b", "c"] {
                accounts.observe(&account(name), Money::from_picos(round));
            }
            tokio::task::yield_now().await;
        }
        // One batch may be on its way beside them.
        assert!(accounts.shared.waiting.load(Ordering::Relaxed) <= 6);
        let told = accounts.shared.observed.lock().values().all(|(spent, _)| spent.picos() == 1000);
        assert!(told);
    }

    #[tokio::test]
    async fn a_node_that_ends_waits_for_what_it_has_to_book() {
        let accounts = cut_off();
        let draws = [Draw { account: account("a"), limit: Money::from_picos(10) }];
        let granted = accounts.reserve(&draws, Money::from_picos(2), AGAIN, 0).await.unwrap();
        accounts.settle(granted, Money::from_picos(1), 0);
        assert_eq!(accounts.link.untold.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_a_node_spends_in_an_outage_is_taken_from_its_share_once() {
        let accounts = cut_off();
        let draws = [Draw { account: account("a"), limit: Money::from_picos(100) }];
        let spend = async |picos| {
            let amount = Money::from_picos(picos);
            let granted = accounts.reserve(&draws, amount, AGAIN, 0).await?;
            accounts.settle(granted, amount, 0);
            Ok::<(), Refused>(())
        };
        spend(50).await.unwrap();
        // The ledger tells what this node has spent itself.
        accounts.observe(&draws[0].account, Money::from_picos(50));
        spend(40).await.unwrap();
        accounts.observe(&draws[0].account, Money::from_picos(90));
        assert!(spend(11).await.is_err());
        spend(10).await.unwrap();
        assert_eq!(accounts.balances()[0].1.spent, Money::from_picos(100));
    }

    #[test]
    fn what_was_spent_in_an_outage_leaves_the_share_once_it_is_booked_though_the_account_is_not_known() {
        let shared = Shared::default();
        shared.known.lock().extend((0..MOST_KNOWN).map(|number| (account(&number.to_string()), Known::default())));
        let (other, five) = (account("other"), Money::from_picos(5));
        let draws = [Draw { account: other.clone(), limit: Money::from_picos(10) }];
        let taken = shared.local.take(&draws, five, AGAIN, 0).unwrap();
        shared.local.settle(taken, five, 0);
        shared.note(&other, Balance { spent: five, reserved: Money::ZERO }, five);
        assert!(!shared.known.lock().contains_key(&other), "there is no room for it");
        assert_eq!(shared.local.balance_of(&other).spent, Money::ZERO);
    }
}
