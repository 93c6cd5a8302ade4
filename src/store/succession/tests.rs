//! Books that go from process to process, all of which are played here.

use super::wire::{Ask, PROTOCOL, hear};
use super::*;
use crate::domain::budget::{Payer, Span};
use crate::domain::{Limit, Measure};
use crate::store::file::{listen_instead, say};
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::sync::Weak;

const TTL: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);

fn draw(limit: i128) -> [Draw; 1] {
    let account = Account { payer: Payer::Org, subject: "o".into(), span: Span::Total, from_day: 0 };
    [Draw { account, limit: Money::from_picos(limit) }]
}

async fn reserve(books: &Succession, amount: i128) -> Result<Reservation, Refused> {
    books.reserve(&draw(100), Money::from_picos(amount), TTL, now_ms()).await
}

fn settle(books: &Succession, reservation: Reservation, spent: i128) {
    Accounts::settle(books, reservation, Money::from_picos(spent), now_ms());
}

/// Spent and reserved.
fn standing(books: &Succession) -> (i128, i128) {
    let known = books.balances();
    known.first().map_or((0, 0), |(_, balance)| (balance.spent.picos(), balance.reserved.picos()))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A process that says things one by one, as the link of one does.
struct ByHand(BufReader<UnixStream>);

impl ByHand {
    fn connects(folder: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(folder.join("books.sock")).unwrap()))
    }

    /// With 40 reserved, and two places.
    fn comes(folder: &Path) -> Self {
        let mut guest = Self::connects(folder);
        let accounts = draw(0).map(|draw| draw.account).to_vec();
        let open = OpenReservation { number: 7, accounts, amount: Money::from_picos(40), until: now_ms() + 60_000 };
        let places = vec![(Scope::Key, Arc::from("k"), 2)];
        let hello = Open { holder: "other".to_owned(), reservations: vec![open], places, settled: 0 };
        assert_eq!(guest.asks(&Ask::Hello(hello)), Answer::Done);
        guest
    }

    fn asks(&mut self, ask: &Ask) -> Answer {
        say(self.0.get_mut(), ask).unwrap();
        hear(&mut self.0).unwrap().unwrap()
    }

    fn settles(&mut self, said: u64, number: u64, spent: i128) -> Answer {
        let accounts = draw(0).map(|draw| draw.account).to_vec();
        let (amount, spent) = (Money::from_picos(40), Money::from_picos(spent));
        self.asks(&Ask::Settle { said, number, accounts, amount, spent, in_ledger: false })
    }
}

/// Whoever accepts at this moment, for as long as anybody does.
fn accepting(books: &Succession) -> Weak<UnixListener> {
    Arc::downgrade(books.0.listener.lock().as_ref().unwrap())
}

fn subject() -> Subject {
    let limit = Limit { measure: Measure::Concurrency, amount: 2 };
    Subject { scope: Scope::Key, name: "k".into(), limits: [limit].into() }
}

/// Books that have served, and those of a successor that has taken them.
fn replaced(folder: &Path) -> (Succession, Succession) {
    let (old, new) = (Succession::new(folder), Succession::new(folder));
    old.begin().unwrap();
    new.take_over().unwrap().serves();
    (old, new)
}

#[tokio::test]
async fn what_is_reserved_and_spent_goes_to_the_successor_and_is_settled_there() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Succession::new(folder.path()), Succession::new(folder.path()));
    old.begin().unwrap();
    let (first, second) = (reserve(&old, 30).await.unwrap(), reserve(&old, 20).await.unwrap());
    settle(&old, first, 25);
    new.take_over().unwrap().serves();
    assert_eq!(standing(&new), (25, 20));
    assert!(reserve(&new, 56).await.is_err());
    let own = reserve(&new, 40).await.unwrap();
    // The process before asks; there are 15 left.
    let balance = Balance { spent: Money::from_picos(25), reserved: Money::from_picos(60) };
    assert_eq!(reserve(&old, 16).await.unwrap_err(), Refused::Short { at: 0, balance });
    let late = reserve(&old, 15).await.unwrap();
    assert_eq!(standing(&new), (25, 75));
    assert!(reserve(&new, 1).await.is_err());
    settle(&old, late, 5);
    settle(&old, second, 20);
    old.settled().await;
    assert_eq!(standing(&new), (50, 40));
    settle(&new, own, 0);
    assert_eq!(standing(&new), (50, 0));
}

#[tokio::test]
async fn the_third_process_has_what_both_before_it_have_open() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Succession::new(folder.path()), Succession::new(folder.path()));
    first.begin().unwrap();
    let of_first = reserve(&first, 10).await.unwrap();
    second.take_over().unwrap().serves();
    let of_second = reserve(&second, 20).await.unwrap();
    let third = Succession::new(folder.path());
    third.take_over().unwrap().serves();
    assert_eq!(standing(&third), (0, 30));
    // What the first says reaches the third, though it was the second that has taken its books.
    settle(&first, of_first, 7);
    first.settled().await;
    assert_eq!(standing(&third), (7, 20));
    let late = reserve(&first, 73).await.unwrap();
    assert!(reserve(&second, 1).await.is_err());
    settle(&first, late, 1);
    settle(&second, of_second, 2);
    first.settled().await;
    second.settled().await;
    assert_eq!(standing(&third), (10, 0));
}

#[tokio::test]
async fn a_successor_that_ends_before_it_serves_leaves_the_books_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Succession::new(folder.path()), Succession::new(folder.path()));
    old.begin().unwrap();
    let first = accepting(&old);
    let before = reserve(&old, 30).await.unwrap();
    let taken = new.take_over().unwrap();
    assert!(taken.has_books());
    let meanwhile = reserve(&old, 10).await.unwrap();
    assert_eq!(standing(&new), (0, 40));
    drop(taken);
    until("it to notice", || old.lost().is_some()).await;
    until("the end of those who accepted before", || first.strong_count() == 0).await;
    assert_eq!(standing(&old), (0, 40));
    settle(&old, before, 30);
    settle(&old, meanwhile, 1);
    assert_eq!(standing(&old), (31, 0));
    // And the next one takes them from it.
    let (next, second) = (Succession::new(folder.path()), accepting(&old));
    next.take_over().unwrap().serves();
    assert_eq!(standing(&next), (31, 0));
    until("nobody to accept here any more", || second.strong_count() == 0).await;
}

#[tokio::test]
async fn one_of_another_version_that_ends_leaves_the_way_to_the_books_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.sock");
    let old = Succession::new(folder.path());
    old.begin().unwrap();
    let _open = reserve(&old, 30).await.unwrap();
    let mut other = ByHand::connects(folder.path());
    let listener = listen_instead(&path).unwrap();
    assert_eq!(other.asks(&Ask::Take { protocol: PROTOCOL + 1 }), Answer::NotHere);
    drop((listener, other));
    until("somebody to listen again", || UnixStream::connect(&path).is_ok()).await;
    let next = Succession::new(folder.path());
    assert!(next.take_over().unwrap().has_books());
    assert_eq!(standing(&next), (0, 30));
}

#[tokio::test]
async fn one_that_is_not_given_the_books_says_when_it_serves_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let listener = listen_instead(&folder.path().join("books.sock")).unwrap();
    let before = std::thread::spawn(move || {
        let mut lines = BufReader::new(listener.accept().unwrap().0);
        assert!(matches!(hear(&mut lines).unwrap(), Some(Ask::Take { .. })));
        say(lines.get_mut(), &Answer::NotHere).unwrap();
        hear::<Ask>(&mut lines).unwrap()
    });
    let taken = Succession::new(folder.path()).take_over().unwrap();
    assert!(!taken.has_books());
    taken.serves();
    assert!(matches!(before.join().unwrap(), Some(Ask::Serves)));
}

#[tokio::test]
async fn what_a_process_had_open_is_given_back_once_it_was_looked_up_what_it_has_spent() {
    let folder = tempfile::tempdir().unwrap();
    let new = Succession::new(folder.path());
    new.begin().unwrap();
    {
        // One that then is killed.
        let _guest = ByHand::comes(folder.path());
        assert_eq!((standing(&new), new.lost()), ((0, 40), None));
        assert!(new.acquire(vec![subject()], 0, Instant::now()).await.0.is_err(), "its places count");
    }
    tokio::time::timeout(PATIENCE, new.somebody_left()).await.unwrap();
    let lost = new.lost().unwrap();
    assert_eq!((lost.as_slice(), standing(&new)), (["other".to_owned()].as_slice(), (0, 40)));
    new.bury("other");
    assert_eq!((standing(&new), new.lost()), ((0, 0), None));
    assert!(new.acquire(vec![subject()], 0, Instant::now()).await.0.is_ok());
}

#[tokio::test]
async fn what_is_said_again_because_no_answer_was_heard_is_booked_once() {
    let folder = tempfile::tempdir().unwrap();
    let new = Succession::new(folder.path());
    new.begin().unwrap();
    let mut first = ByHand::comes(folder.path());
    assert_eq!((first.settles(1, 7, 30), standing(&new)), (Answer::Done, (30, 0)));
    // The answer has got lost with its connection: there are two for a moment.
    let mut second = ByHand::comes(folder.path());
    assert_eq!(standing(&new), (30, 40));
    assert_eq!((second.settles(1, 7, 30), standing(&new)), (Answer::Done, (30, 0)));
    assert_eq!((first.settles(2, 8, 5), standing(&new)), (Answer::NotHere, (30, 0)));
    assert_eq!((second.settles(2, 8, 5), standing(&new)), (Answer::Done, (35, 0)));
    drop((first, second));
    until("both to be gone", || new.0.guests.lock()["other"].connections == 0).await;
    let _ = new.lost();
    let mut third = ByHand::comes(folder.path());
    third.settles(2, 7, 5);
    assert_eq!(standing(&new), (35, 0));
    // And the next one knows it too.
    let next = Succession::new(folder.path());
    next.take_over().unwrap().serves();
    let mut fourth = ByHand::comes(folder.path());
    fourth.settles(2, 7, 5);
    assert_eq!(standing(&next), (35, 0));
}

#[tokio::test]
async fn what_the_ledger_has_first_is_looked_up_there_and_not_booked_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let old = Succession::new(folder.path());
    old.begin().unwrap();
    let open = reserve(&old, 40).await.unwrap();
    {
        // A successor that serves and is killed.
        let mut taker = ByHand::connects(folder.path());
        assert!(matches!(taker.asks(&Ask::Take { protocol: PROTOCOL }), Answer::Books(_)));
        say(taker.0.get_mut(), &Ask::Serves).unwrap();
    }
    until("the way to it to be closed", || old.0.listener.lock().is_none()).await;
    settle(&old, open, 30);
    old.settled_before_ledger(Duration::from_millis(10)).await;
    let late = old.0.accounts.note(draw(100).map(|draw| draw.account).to_vec(), Money::from_picos(4), now_ms() + 1000);
    settle(&old, late, 4);
    // The one after that has seen the ledger.
    let next = Succession::new(folder.path());
    next.observe(&draw(100)[0].account, Money::from_picos(30));
    next.begin().unwrap();
    tokio::time::timeout(PATIENCE, old.settled()).await.unwrap();
    assert_eq!(standing(&next), (34, 0), "30 of the ledger, and what came after that");
    assert_eq!(next.lost(), Some(Vec::new()), "it is to look there again");
}

#[tokio::test]
async fn who_has_given_the_books_away_misses_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = replaced(folder.path());
    let _open = reserve(&first, 10).await.unwrap();
    let connections = |books: &Succession| books.0.guests.lock().values().map(|guest| guest.connections).sum::<u32>();
    until("the first to come", || connections(&second) == 1).await;
    let third = Succession::new(folder.path());
    third.take_over().unwrap().serves();
    until("the first to leave the second", || connections(&second) == 0).await;
    assert_eq!(second.lost(), None);
    until("both to come to the third", || connections(&third) == 2).await;
    assert_eq!((third.lost(), standing(&third)), (None, (0, 10)));
}

#[tokio::test]
async fn limits_do_not_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Succession::new(folder.path()), Succession::new(folder.path()));
    old.begin().unwrap();
    let per_day = Limit { measure: Measure::Requests(crate::domain::Period::Day), amount: 3 };
    let both = || vec![subject(), Subject { scope: Scope::User, name: "u".into(), limits: [per_day].into() }];
    let lease = old.acquire(both(), 0, Instant::now()).await.0.unwrap();
    new.take_over().unwrap().serves();
    let other = new.acquire(both(), 0, Instant::now()).await.0.unwrap();
    assert!(new.acquire(vec![subject()], 0, Instant::now()).await.0.is_err(), "one place is the process before's");
    LimitStore::settle(&old, lease, 0, Instant::now());
    old.settled().await;
    let late = old.acquire(both(), 0, Instant::now()).await.0.unwrap();
    old.settled().await;
    assert!(new.acquire(vec![subject()], 0, Instant::now()).await.0.is_err(), "it is told of late ones");
    LimitStore::settle(&new, other, 0, Instant::now());
    LimitStore::settle(&old, late, 0, Instant::now());
    old.settled().await;
    assert!(new.acquire(both(), 0, Instant::now()).await.0.is_err(), "three of three a day");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_at_both_are_never_over() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = replaced(folder.path());
    let asks = |books: &Succession| {
        let books = books.clone();
        tokio::spawn(async move {
            let mut spent = 0;
            for amount in (1..4).cycle().take(300) {
                if let Ok(reservation) = books.reserve(&draw(1000), Money::from_picos(amount), TTL, now_ms()).await {
                    settle(&books, reservation, amount - 1);
                    spent += amount - 1;
                }
            }
            spent
        })
    };
    let asking: Vec<_> = (0..8).map(|n| asks(if n % 2 == 0 { &old } else { &new })).collect();
    let done = Arc::new(AtomicBool::new(false));
    let (seen, over) = (new.clone(), done.clone());
    let watch = tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            let (spent, reserved) = standing(&seen);
            assert!(spent + reserved <= 1000, "{spent} + {reserved}");
            tokio::task::yield_now().await;
        }
    });
    let mut spent = 0;
    for asked in asking {
        spent += asked.await.unwrap();
    }
    old.settled().await;
    done.store(true, Ordering::Relaxed);
    watch.await.unwrap();
    until("all to be settled", || standing(&new) == (spent, 0)).await;
    assert!(spent > 900, "{spent}");
}
