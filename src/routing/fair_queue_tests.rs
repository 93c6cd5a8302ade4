//! Turns, caps and deadlines of a queue, under a virtual clock.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn wish(ticket: Ticket, tenant: &str, model: &str, deadline: Instant) -> Wish {
    Wish { ticket, tenant: tenant.into(), model: model.into(), deadline }
}

fn provider(cap: u32) -> Caps {
    Caps { provider: Some(cap), model: None }
}

#[test]
fn tenants_take_turns_and_the_first_of_each_goes_first() {
    let (mut queue, now) = (FairQueue::default(), Instant::now());
    let late = now + 1000 * SECOND;
    assert_eq!(queue.enter(wish(0, "a", "m", late), provider(1), 100, now), Entered::Held);
    for (ticket, tenant) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c"), (6, "b")] {
        assert_eq!(queue.enter(wish(ticket, tenant, "m", late), provider(1), 100, now), Entered::Waiting);
    }
    let mut order = Vec::new();
    let mut holder = 0;
    while let [next] = queue.end(holder, now)[..] {
        order.push(next);
        holder = next;
    }
    assert_eq!(order, [1, 4, 5, 2, 6, 3]);
    assert_eq!(queue.depth(), 0);
}

#[test]
fn a_model_that_is_full_does_not_hold_up_the_others() {
    let (mut queue, now) = (FairQueue::default(), Instant::now());
    let late = now + 1000 * SECOND;
    let (both, any) = (Caps { provider: Some(2), model: Some(1) }, provider(2));
    assert_eq!(queue.enter(wish(0, "a", "small", late), both, 100, now), Entered::Held);
    assert_eq!(queue.enter(wish(1, "a", "small", late), both, 100, now), Entered::Waiting);
    // Room at the provider, and nobody waits who could use it.
    assert_eq!(queue.enter(wish(2, "a", "big", late), any, 100, now), Entered::Held);
    assert_eq!(queue.enter(wish(3, "a", "big", late), any, 100, now), Entered::Waiting);
    assert_eq!(queue.end(2, now), [3]);
    assert_eq!(queue.end(0, now), [1]);
}

#[test]
fn who_gives_up_leaves_the_queue_and_a_late_one_is_not_served() {
    let (mut queue, now) = (FairQueue::default(), Instant::now());
    let late = now + 1000 * SECOND;
    queue.enter(wish(0, "a", "m", late), provider(1), 100, now);
    for ticket in 1..4 {
        let deadline = if ticket == 2 { now + SECOND } else { late };
        queue.enter(wish(ticket, "a", "m", deadline), provider(1), 100, now);
    }
    assert_eq!((queue.end(1, now), queue.depth()), (vec![], 2));
    assert_eq!((queue.end(0, now + SECOND), queue.depth()), (vec![3], 0));
    assert!(queue.end(2, now + SECOND).is_empty());
}

#[test]
fn a_full_queue_and_a_hopeless_wait_shed_with_the_time_to_expect() {
    let (mut queue, now) = (FairQueue::default(), Instant::now());
    let late = now + 1000 * SECOND;
    // Two requests that took ten seconds each.
    for ticket in 0..2 {
        queue.enter(wish(ticket, "a", "m", late), provider(1), 0, now);
        queue.end(ticket, now + 10 * SECOND);
    }
    queue.enter(wish(2, "a", "m", late), provider(1), 2, now);
    let hurried = wish(3, "a", "m", now + 5 * SECOND);
    let shed = queue.enter(hurried, provider(1), 2, now);
    assert_eq!(shed, Entered::Shed(Shed { full: false, wait: 10 * SECOND }));
    for ticket in 4..6 {
        assert_eq!(queue.enter(wish(ticket, "a", "m", late), provider(1), 2, now), Entered::Waiting);
    }
    let shed = queue.enter(wish(6, "a", "m", late), provider(1), 2, now);
    assert_eq!(shed, Entered::Shed(Shed { full: true, wait: 30 * SECOND }));
    // Another tenant's turn would come sooner, but a full queue is full.
    let shed = queue.enter(wish(7, "b", "m", late), provider(1), 2, now);
    assert_eq!(shed, Entered::Shed(Shed { full: true, wait: 20 * SECOND }));
}

#[test]
fn a_raised_cap_lets_more_in() {
    let (mut queue, now) = (FairQueue::default(), Instant::now());
    let late = now + 1000 * SECOND;
    for ticket in 0..4 {
        queue.enter(wish(ticket, "a", "m", late), provider(1), 100, now);
    }
    assert_eq!(queue.enter(wish(4, "b", "m", late), provider(3), 100, now), Entered::Waiting);
    assert_eq!(queue.end(0, now), [1, 4, 2]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter { tenant: usize, model: usize, patience: u64 },
    End { which: usize },
    Pass { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..4_usize, 0..3_usize, 1..200_u64).prop_map(|(tenant, model, patience)| Step::Enter { tenant, model, patience }),
        4 => (0..64_usize).prop_map(|which| Step::End { which }),
        1 => (0..30_u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

proptest! {
    /// In any order of events: caps hold, no place is free while somebody waits who could use it, nobody overtakes within a tenant and
    /// model, nobody is served after the deadline, and nobody is lost.
    #[test]
    fn places_are_neither_exceeded_nor_wasted(steps in prop::collection::vec(step(), 1..300)) {
        const CAP: usize = 4;
        const MODEL_CAPS: [Option<u32>; 3] = [None, Some(1), Some(2)];
        let mut now = Instant::now();
        let mut queue = FairQueue::default();
        // The model of the test: who holds, and who waits in the order in which they came.
        let (mut held, mut waiting): (Vec<Wish>, Vec<Wish>) = (Vec::new(), Vec::new());
        let model_of = |wish: &Wish| wish.model[1..].parse::<usize>().unwrap();
        for (ticket, step) in steps.into_iter().enumerate() {
            let ticket = ticket as Ticket;
            let mut served = Vec::new();
            match step {
                Step::Enter { tenant, model, patience } => {
                    let wish = wish(ticket, &format!("t{tenant}"), &format!("m{model}"), now + Duration::from_secs(patience));
                    let caps = Caps { provider: Some(CAP as u32), model: MODEL_CAPS[model] };
                    match queue.enter(wish.clone(), caps, 10, now) {
                        Entered::Held => held.push(wish),
                        Entered::Waiting => waiting.push(wish),
                        Entered::Shed(shed) => prop_assert!(shed.full || now + shed.wait > wish.deadline),
                    }
                }
                Step::End { which } => {
                    let all: Vec<Ticket> = held.iter().chain(&waiting).map(|wish| wish.ticket).collect();
                    if let Some(ticket) = all.get(which % all.len().max(1)) {
                        held.retain(|wish| wish.ticket != *ticket);
                        waiting.retain(|wish| wish.ticket != *ticket && wish.deadline > now);
                        served = queue.end(*ticket, now);
                    }
                }
                Step::Pass { seconds } => now += Duration::from_secs(seconds),
            }
            for ticket in served {
                let at = waiting.iter().position(|wish| wish.ticket == ticket);
                prop_assert!(at.is_some(), "{ticket} was served and did not wait");
                let wish = waiting.remove(at.unwrap());
                let before = waiting[..at.unwrap()].iter().find(|it| it.tenant == wish.tenant && it.model == wish.model);
                prop_assert!(before.is_none() && wish.deadline > now);
                held.push(wish);
            }
            let of_model = |model: usize| held.iter().filter(|wish| model_of(wish) == model).count();
            prop_assert!(held.len() <= CAP);
            let room = |model: usize| held.len() < CAP && MODEL_CAPS[model].is_none_or(|cap| of_model(model) < cap as usize);
            prop_assert!((0..3).all(|model| MODEL_CAPS[model].is_none_or(|cap| of_model(model) <= cap as usize)));
            prop_assert!(!waiting.iter().any(|wish| room(model_of(wish))), "a place is wasted");
            prop_assert_eq!(queue.depth(), waiting.len());
        }
    }
}

#[test]
fn who_holds_a_place_from_before_there_was_a_cap_counts() {
    let now = Instant::now();
    let mut queue = FairQueue::default();
    let wish = |ticket| Wish { ticket, tenant: "t".into(), model: "m".into(), deadline: now + Duration::from_secs(9) };
    let caps = |model| Caps { provider: Some(9), model };
    assert_eq!(queue.enter(wish(1), caps(None), 9, now), Entered::Held);
    assert_eq!(queue.enter(wish(2), caps(Some(2)), 9, now), Entered::Held);
    assert_eq!(queue.enter(wish(3), caps(Some(2)), 9, now), Entered::Waiting);
    assert_eq!(queue.end(1, now), [3]);
    assert_eq!(queue.enter(wish(4), caps(Some(2)), 9, now), Entered::Waiting);
}
