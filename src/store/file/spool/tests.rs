//! The spool as a whole, on a real disk.

use super::*;
use crate::domain::{CacheUse, Ended, RequestId, Usage};

/// A row that is told from others by its number.
pub(super) fn row(number: u64) -> LedgerRow<'static> {
    LedgerRow {
        id: RequestId::of(7, number),
        revision: 0,
        arrived_unix_ms: 1_700_000_000_000 + number,
        org: "org_default".into(),
        project: "prj_default".into(),
        key_id: "key_1".into(),
        key_name: "app".into(),
        owner: None,
        workflow: Some("support".into()),
        user: Some("kim".into()),
        trace_id: None,
        session_id: None,
        dialect: "openai_chat".into(),
        route: "POST /v1/chat/completions".into(),
        requested_model: Some("m".into()),
        provider: Some("p".into()),
        model: Some("m".into()),
        strategy: "order".into(),
        stream: true,
        status: 200,
        ended: Ended::Complete,
        error_code: None,
        attempts: Vec::new(),
        fallback: false,
        dropped: vec!["seed".to_owned()].into(),
        usage: Some(Usage { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7, ..Usage::default() }),
        cost_picos: Some(5),
        hedge_cost_picos: None,
        embedding_cost_picos: None,
        estimated: false,
        byok: false,
        cache: CacheUse::Bypass,
        similarity_ppm: None,
        ttft_us: Some(1),
        latency_us: 2,
        overhead_us: 3,
        queued_us: None,
        bytes_in: 4,
        bytes_out: 5,
        decision: None,
    }
}

fn open(data_dir: &Path, name: &str) -> FileSpool {
    FileSpool::open(data_dir, name, 1 << 30).unwrap()
}

/// Everything that can be drained, as the writer does it.
fn all(drain: &mut Drain<'_>) -> (Vec<LedgerRow<'static>>, u64, u64) {
    let (mut rows, mut damaged, mut tail) = (Vec::new(), 0, 0);
    loop {
        let batch = drain.next_batch().unwrap();
        if batch.is_empty() {
            return (rows, damaged, tail);
        }
        damaged += batch.damaged;
        tail += batch.tail;
        rows.extend(batch.rows.iter().cloned());
        drain.done(&batch).unwrap();
    }
}

fn files(data_dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![data_dir.join(FOLDER)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                names.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    names.sort();
    names
}

#[test]
fn what_is_appended_is_drained_in_order_and_then_gone() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), "a");
    let mut drain = Drain::new(&spool);
    assert!(drain.next_batch().unwrap().is_empty());
    for number in 0..20_000 {
        spool.append(&row(number));
    }
    assert!(spool.state().bytes > 1_000_000);
    let (rows, damaged, tail) = all(&mut drain);
    assert_eq!((rows.len(), damaged, tail), (20_000, 0, 0));
    assert!(rows.iter().zip(0..).all(|(found, number)| *found == row(number)));
    spool.append(&row(7));
    let (rows, ..) = all(&mut drain);
    assert_eq!(rows, [row(7)]);
    assert_eq!(spool.state(), SpoolState::default());
    drain.finish();
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn what_ends_after_the_folder_is_gone_is_on_the_disk_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), "a");
    Drain::new(&spool).finish();
    assert!(!spool.folder.exists());
    spool.append(&row(1));
    assert_eq!(spool.state().failing, None);
    let other = open(folder.path(), "b");
    let mut drain = Drain::new(&other);
    assert_eq!(drain.adopt().unwrap(), 0, "its process lives, and has its lock again");
    drop(spool);
    assert_eq!(drain.adopt().unwrap(), 1);
    assert_eq!(all(&mut drain).0, [row(1)]);
}

#[test]
fn a_batch_that_was_not_taken_over_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), "a");
    let mut drain = Drain::new(&spool);
    spool.append(&row(1));
    let first = drain.next_batch().unwrap();
    spool.append(&row(2));
    assert_eq!(drain.next_batch().unwrap().rows.len(), 2);
    drain.done(&first).unwrap();
    assert_eq!(drain.next_batch().unwrap().rows, [row(2)]);
}

#[test]
fn a_batch_says_whether_it_is_all_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let dead = open(folder.path(), "a");
    dead.append(&row(1));
    drop(dead);
    let spool = open(folder.path(), "b");
    let large = LedgerRow { key_name: "x".repeat(1 << 19).into(), ..row(2) };
    while spool.inner.lock().segments.len() < 2 {
        spool.append(&large);
    }
    let mut drain = Drain::new(&spool);
    drain.adopt().unwrap();
    let next = |drain: &mut Drain<'_>| {
        let batch = drain.next_batch().unwrap();
        drain.done(&batch).unwrap();
        (batch.rows.first().map(|row| row.id), batch.is_all)
    };
    assert_eq!(next(&mut drain), (Some(row(1).id), false), "one of another process");
    while spool.inner.lock().segments.len() > 1 {
        assert_eq!(next(&mut drain), (Some(large.id), false), "a full file, and one behind it");
    }
    let batch = drain.next_batch().unwrap();
    spool.append(&row(3));
    assert!(batch.is_all, "what has come since does not count");
    drain.done(&batch).unwrap();
    assert_eq!(next(&mut drain), (Some(row(3).id), true));
}

#[test]
fn a_dead_process_is_drained_by_the_next_one_and_a_living_one_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dead = open(folder.path(), "a");
    dead.append(&row(1));
    let living = open(folder.path(), "b");
    living.append(&row(2));
    drop(dead);
    let own = open(folder.path(), "c");
    own.append(&row(3));
    let mut drain = Drain::new(&own);
    assert_eq!(drain.adopt().unwrap(), 1);
    assert_eq!(drain.adopt().unwrap(), 0);
    assert!(drain.left_bytes() > 0);
    let (rows, ..) = all(&mut drain);
    assert_eq!(rows, [row(1), row(3)]);
    assert_eq!(drain.left_bytes(), 0);
    assert!(!folder.path().join(FOLDER).join("a").exists() && folder.path().join(FOLDER).join("b").exists());
}

#[test]
fn what_a_crash_has_cut_off_or_a_disk_has_damaged_is_counted_and_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    for (name, is_cut) in [("a", true), ("b", false)] {
        let dead = open(folder.path(), name);
        for number in 0..3 {
            dead.append(&row(number));
        }
        let path = dead.path(1);
        drop(dead);
        let mut bytes = std::fs::read(&path).unwrap();
        if is_cut {
            bytes.truncate(bytes.len() - 1);
        } else {
            bytes[HEADER.len() + 20] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    let own = open(folder.path(), "c");
    let mut drain = Drain::new(&own);
    assert_eq!(drain.adopt().unwrap(), 2);
    let (rows, damaged, tail) = all(&mut drain);
    assert_eq!(rows, [row(0), row(1), row(1), row(2)]);
    assert!(damaged > 20 && tail > 20);
    assert_eq!(files(folder.path()), ["b-0000000001.spool.damaged", "lock"]);
}

#[test]
fn a_file_that_the_version_before_has_left_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let dead = open(folder.path(), "a");
    (0..3).for_each(|number| dead.append(&row(number)));
    let path = dead.path(1);
    drop(dead);
    // The first version ends each row three bytes earlier where there is nothing in them, so that its frames are made anew.
    let mut first = b"ORBYTSP1".to_vec();
    for number in 0..3 {
        let whole = postcard::to_stdvec(&row(number)).unwrap();
        let payload = &whole[..whole.len() - 3];
        first.extend_from_slice(&[0xd5, 0x1e]);
        first.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        first.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        first.extend_from_slice(payload);
    }
    std::fs::write(&path, first).unwrap();
    let own = open(folder.path(), "b");
    let mut drain = Drain::new(&own);
    assert_eq!(drain.adopt().unwrap(), 1);
    let (rows, damaged, tail) = all(&mut drain);
    assert_eq!((rows, damaged, tail), (vec![row(0), row(1), row(2)], 0, 0));
    assert!(!path.exists());
}

#[test]
fn a_file_of_a_later_version_is_not_touched_and_keeps_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join(FOLDER).join("a");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(segment_path(&dead, 1), b"ORBYTSP9whatever").unwrap();
    open(folder.path(), "b").append(&row(1));
    let own = open(folder.path(), "c");
    own.append(&row(2));
    let mut drain = Drain::new(&own);
    assert_eq!(drain.adopt().unwrap(), 2);
    assert_eq!(all(&mut drain).0, [row(1), row(2)]);
    let trouble = drain.trouble().unwrap().to_owned();
    assert!(trouble.contains("0000000001.spool is of another version"), "{trouble}");
    assert!(drain.left_bytes() > 0);
    drain.adopt().unwrap();
    assert_eq!(all(&mut drain).0, []);
    std::fs::remove_dir_all(&dead).unwrap();
    drain.adopt().unwrap();
    assert_eq!((all(&mut drain).0, drain.trouble()), (Vec::new(), None));
}

#[test]
fn a_folder_that_cannot_be_read_and_a_file_that_is_gone_keep_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    for (name, number) in [("b", 1), ("c", 2)] {
        open(folder.path(), name).append(&row(number));
    }
    // A folder in the place of the lock cannot be opened, whoever asks.
    std::fs::create_dir_all(folder.path().join(FOLDER).join("a").join(LOCK)).unwrap();
    let own = open(folder.path(), "d");
    own.append(&row(3));
    let mut drain = Drain::new(&own);
    assert_eq!(drain.adopt().unwrap(), 2);
    assert!(drain.trouble().is_some_and(|why| why.contains("spool/a")));
    std::fs::remove_file(segment_path(&folder.path().join(FOLDER).join("b"), 1)).unwrap();
    assert_eq!(all(&mut drain).0, [row(2), row(3)]);
    assert!(!folder.path().join(FOLDER).join("b").exists());
}

#[test]
fn a_file_that_cannot_be_deleted_keeps_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let dead = open(folder.path(), "a");
    (0..3).for_each(|number| dead.append(&row(number)));
    let path = dead.path(1);
    drop(dead);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER.len() + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // Where the damaged file is to be put, something else stands.
    let aside = folder.path().join(FOLDER).join("a-0000000001.spool.damaged");
    std::fs::create_dir_all(aside.join("in the way")).unwrap();
    let own = open(folder.path(), "b");
    let mut drain = Drain::new(&own);
    assert_eq!(drain.adopt().unwrap(), 1);
    let (rows, damaged, _) = all(&mut drain);
    assert_eq!(rows, [row(1), row(2)]);
    assert!(damaged > 0 && drain.trouble().is_some());
    own.append(&row(7));
    assert_eq!(all(&mut drain).0, [row(7)], "the next ones reach the database all the same");
    std::fs::remove_dir_all(&aside).unwrap();
    drain.adopt().unwrap();
    let (rows, damaged, _) = all(&mut drain);
    assert_eq!((rows, damaged, drain.trouble()), (Vec::new(), 0, None), "nothing comes twice");
    assert!(aside.is_file() && !folder.path().join(FOLDER).join("a").exists());
}

#[test]
fn what_is_taken_over_does_not_come_again_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), "a");
    (0..3).for_each(|number| first.append(&row(number)));
    assert_eq!(all(&mut Drain::new(&first)).0.len(), 3);
    first.append(&row(3));
    drop(first);
    let next = open(folder.path(), "b");
    let mut drain = Drain::new(&next);
    assert_eq!(drain.adopt().unwrap(), 1);
    assert_eq!(all(&mut drain).0, [row(3)]);
    drain.finish();
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn a_file_that_is_old_is_deleted_however_small() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), "a");
    let mut drain = Drain::new(&spool);
    spool.append(&row(1));
    all(&mut drain);
    assert!(spool.path(1).exists());
    spool.inner.lock().old_at = Instant::now();
    assert_eq!(all(&mut drain).0, []);
    assert_eq!(files(folder.path()), ["lock"]);
    spool.append(&row(2));
    assert_eq!(all(&mut drain).0, [row(2)]);
}

#[test]
fn what_the_disk_does_not_take_waits_in_memory_and_what_that_does_not_take_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let spool = FileSpool::open(folder.path(), "a", 2000).unwrap();
    let large = |number| LedgerRow { key_name: "x".repeat(1 << 19).into(), ..row(number) };
    for number in 0..10 {
        spool.append(&row(number));
    }
    for number in 10..50 {
        spool.append(&large(number));
    }
    let state = spool.state();
    assert!(state.failing.as_deref().is_some_and(|why| why.contains("it has the 2000 bytes that it may have")));
    assert!(state.lost > 0 && state.waiting > 15 << 20 && state.bytes <= 2000, "{state:?}");
    let waiting = spool.take_waiting();
    let (rows, ..) = all(&mut Drain::new(&spool));
    let kept: Vec<_> = rows.into_iter().chain(rows_of(&waiting)).collect();
    let expected = (0..10).map(row).chain((10..50 - state.lost).map(large));
    assert!(kept.into_iter().eq(expected), "the last ones are lost, no other");
    spool.flush();
    spool.append(&row(1));
}

#[test]
fn every_row_is_shown_and_stays_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let shown = || {
        let mut ids = Vec::new();
        each_row(folder.path(), |row| ids.push(row.id)).unwrap();
        ids.sort_unstable_by_key(ToString::to_string);
        ids
    };
    assert_eq!(shown(), []);
    let (one, two) = (open(folder.path(), "1-1"), open(folder.path(), "2-2"));
    for number in 0..3 {
        one.append(&row(number));
    }
    two.append(&row(3));
    let mut expected: Vec<_> = (0..4).map(|number| row(number).id).collect();
    expected.sort_unstable_by_key(ToString::to_string);
    assert_eq!(shown(), expected);
    assert_eq!(shown(), expected, "nothing was taken out");
}
