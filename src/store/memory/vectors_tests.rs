//! Tests of the index.

use super::*;
use futures::FutureExt;
use proptest::prelude::*;

fn place(owner: u8, scope: u8) -> Place {
    Place { owner: [owner; 32], scope: [scope; 32] }
}

/// A direction in the plane.
fn at(degrees: u32) -> Vector {
    let angle = f64::from(degrees).to_radians();
    Vector::of(vec![angle.cos() as f32, angle.sin() as f32]).unwrap()
}

fn put(vectors: &MemoryVectors, place: Place, degrees: u32, key: u8, until: u64) {
    vectors.put(place, at(degrees), [key; 32], until, 0).now_or_never().unwrap();
}

/// The key of the nearest.
fn nearest_key(vectors: &MemoryVectors, place: Place, degrees: u32, now: u64) -> Option<u8> {
    vectors.nearest(&place, &at(degrees), now).now_or_never().unwrap().map(|near| near.key[0])
}

#[test]
fn finds_the_nearest_of_the_place_and_says_how_near_it_is() {
    let vectors = MemoryVectors::new(10);
    assert_eq!(nearest_key(&vectors, place(1, 1), 0, 0), None);
    [(0, 1), (30, 2), (90, 3)].iter().for_each(|(degrees, key)| put(&vectors, place(1, 1), *degrees, *key, 100));
    put(&vectors, place(1, 2), 20, 4, 100);
    put(&vectors, place(2, 1), 20, 5, 100);
    let near = vectors.nearest(&place(1, 1), &at(20), 0).now_or_never().unwrap().unwrap();
    assert_eq!(near.key, [2; 32]);
    assert!((near.similarity - 10_f32.to_radians().cos()).abs() < 1e-5);
    assert_eq!(nearest_key(&vectors, place(2, 1), 180, 0), Some(5));
    assert_eq!(nearest_key(&vectors, place(2, 2), 20, 0), None);
    let other = Vector::of(vec![1.0; 3]).unwrap();
    assert_eq!(vectors.nearest(&place(1, 1), &other, 0).now_or_never().unwrap(), None);
}

#[test]
fn what_is_over_or_forgotten_is_not_found() {
    let vectors = MemoryVectors::new(10);
    put(&vectors, place(1, 1), 0, 1, 100);
    put(&vectors, place(1, 1), 50, 2, 200);
    assert_eq!(nearest_key(&vectors, place(1, 1), 0, 99), Some(1));
    assert_eq!(nearest_key(&vectors, place(1, 1), 0, 100), Some(2));
    vectors.forget(&place(1, 1), &[2; 32]).now_or_never().unwrap();
    vectors.forget(&place(1, 1), &[9; 32]).now_or_never().unwrap();
    vectors.forget(&place(9, 9), &[2; 32]).now_or_never().unwrap();
    assert_eq!(nearest_key(&vectors, place(1, 1), 0, 100), None);
    assert_eq!(vectors.held(), 1);
    vectors.forget(&place(1, 1), &[1; 32]).now_or_never().unwrap();
    assert!(vectors.0.lock().owners.is_empty());
}

#[test]
fn one_key_is_kept_once_with_its_last_time() {
    let vectors = MemoryVectors::new(10);
    put(&vectors, place(1, 1), 0, 1, 100);
    put(&vectors, place(1, 1), 0, 1, 300);
    assert_eq!((vectors.held(), nearest_key(&vectors, place(1, 1), 0, 200)), (1, Some(1)));
}

#[test]
fn who_has_most_makes_room() {
    let vectors = MemoryVectors::new(4);
    (0..3).for_each(|key| put(&vectors, place(1, 1), 10 * u32::from(key), key, 100 + u64::from(key)));
    put(&vectors, place(2, 1), 0, 10, 50);
    put(&vectors, place(2, 1), 0, 11, 200);
    // The first tenant had three: its first one to go went, although another one's goes earlier.
    let index = vectors.0.lock();
    let kept = |owner: u8| index.owners[&[owner; 32]].by_age.values().map(|(_, key)| key[0]).collect::<Vec<_>>();
    assert_eq!((kept(1), kept(2)), (vec![1, 2], vec![10, 11]));
}

#[test]
fn what_is_over_goes_before_anything_else() {
    let vectors = MemoryVectors::new(2);
    put(&vectors, place(1, 1), 0, 1, 100);
    put(&vectors, place(1, 1), 0, 2, 500);
    vectors.put(place(2, 1), at(0), [3; 32], 500, 100).now_or_never().unwrap();
    let found = |owner| nearest_key(&vectors, place(owner, 1), 0, 100);
    assert_eq!((vectors.held(), found(1), found(2)), (2, Some(2), Some(3)));
}

#[test]
fn a_search_is_not_disturbed_by_what_changes_meanwhile() {
    let vectors = MemoryVectors::new(10_000);
    for number in 0..2 * AT_ONCE {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        vectors.put(place(1, 1), at(90), key, 100, 0).now_or_never().unwrap();
    }
    put(&vectors, place(1, 1), 0, 255, 100);
    let (one, direction) = (place(1, 1), at(0));
    let mut search = Box::pin(vectors.nearest(&one, &direction, 0));
    assert!(search.as_mut().now_or_never().is_none(), "it lets others have their turn");
    vectors.forget(&place(1, 1), &[255; 32]).now_or_never().unwrap();
    let found = futures::executor::block_on(search).unwrap();
    assert_eq!((found.key, found.similarity), ([255; 32], 1.0));
    assert_eq!(nearest_key(&vectors, place(1, 2), 0, 0), None);
}

/// What is done to an index and to a plain list.
#[derive(Clone, Debug)]
enum Step {
    Put { place: (u8, u8), degrees: u32, key: u8, time: u64 },
    Forget { place: (u8, u8), key: u8 },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any_place = || (0..3_u8, 0..2_u8);
    let step = prop_oneof![
        6 => (any_place(), 0..180_u32, any::<u8>(), 1..50_u64)
            .prop_map(|(place, degrees, key, time)| Step::Put { place, degrees, key, time }),
        1 => (any_place(), any::<u8>()).prop_map(|(place, key)| Step::Forget { place, key }),
        1 => (1..20_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn it_holds_its_bound_and_finds_the_best_that_it_holds(steps in steps(), most in 1..12_u32) {
        let vectors = MemoryVectors::new(most);
        let mut now = 0;
        // Everything that was ever put and neither forgotten, replaced nor over.
        let mut model: HashMap<(Place, u8), (u32, u64)> = HashMap::new();
        let mut was_full = false;
        for step in steps {
            match step {
                Step::Put { place: (owner, scope), degrees, key, time } => {
                    let put = vectors.put(place(owner, scope), at(degrees), [key; 32], now + time, now);
                    put.now_or_never().unwrap();
                    model.insert((place(owner, scope), key), (degrees, now + time));
                    was_full |= model.len() > most as usize;
                    // What was put just now is there.
                    prop_assert!(nearest_key(&vectors, place(owner, scope), degrees, now).is_some());
                }
                Step::Forget { place: (owner, scope), key } => {
                    vectors.forget(&place(owner, scope), &[key; 32]).now_or_never().unwrap();
                    model.remove(&(place(owner, scope), key));
                }
                Step::Wait(time) => now += time,
            }
            prop_assert!(vectors.held() <= u64::from(most));
            let index = vectors.0.lock();
            let held: usize = index.owners.values().map(|owner| owner.by_age.len()).sum();
            let listed: usize = index.owners.values().flat_map(|owner| owner.lists.values()).map(|list| list.len()).sum();
            prop_assert_eq!((held, listed), (index.entries, index.entries));
        }
        for owner in 0..3 {
            for scope in 0..2 {
                let here = place(owner, scope);
                let list = vectors.0.lock().list(&here).unwrap_or_default();
                let living: Vec<&Entry> = list.iter().filter(|entry| entry.age.0 > now).collect();
                // Nothing that was not put into this very place, as it was put.
                for entry in &living {
                    let known = model.get(&(here, entry.key[0]));
                    prop_assert_eq!(known.map(|(degrees, until)| (at(*degrees), *until)), Some((entry.vector.clone(), entry.age.0)));
                }
                for degrees in [0, 45, 170] {
                    let found = vectors.nearest(&here, &at(degrees), now).now_or_never().unwrap();
                    let best = living.iter().filter_map(|entry| entry.vector.similarity(&at(degrees))).reduce(f32::max);
                    prop_assert_eq!(found.map(|near| near.similarity), best);
                }
            }
        }
        // Without a reason to let go, nothing is lost.
        if !was_full {
            let living = model.values().filter(|(_, until)| *until > now).count();
            let index = vectors.0.lock();
            let kept = index.owners.values().flat_map(|owner| owner.by_age.keys()).filter(|(until, _)| *until > now);
            prop_assert_eq!(kept.count(), living);
        }
    }
}
