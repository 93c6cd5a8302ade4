//! What is kept of a request, for how long, and what never is.

use super::*;
use crate::domain::payloads::{Content, Pattern};
use crate::domain::secret::KeyHash;
use crate::domain::{AttemptRecord, Ended, Principal, RequestRecord, Secret};
use bytes::Bytes;
use http::HeaderMap;
use std::time::{Duration, Instant};

const ROOMY: Settings = Settings {
    ring_bytes: 1 << 20,
    ring_entries: 10,
    body_bytes: 1000,
    policy: Policy::None,
    retention: None,
    redact: Vec::new(),
};

fn store(settings: Settings) -> PayloadStore {
    let store = PayloadStore::new(Arc::default());
    store.configure(settings);
    store
}

fn id(number: u64) -> RequestId {
    RequestId::of(0, number)
}

fn begun(store: &PayloadStore, number: u64, body: &'static str, own: &[&str]) -> Option<Arc<Tape>> {
    let principal = Principal { key_name: "team".into(), key_hash: KeyHash::of(b"k"), key: None, stores: true };
    let secrets = own.iter().filter_map(|key| body.find(key).map(|at| at..at + key.len())).collect();
    let begin = Begin {
        id: id(number),
        arrived_unix_ms: number,
        started: Instant::now(),
        principal: &principal,
        method: "POST",
        url: "/v1/chat/completions?key=hunter2",
        headers: &HeaderMap::new(),
        body: &Bytes::from_static(body.as_bytes()),
        secrets,
        withheld: false,
        own: own.iter().map(|&key| Secret::new(key)).collect(),
    };
    store.begin(begin, || 500_000)
}

fn record(number: u64, status: u16) -> RequestRecord {
    let ended = if status < 400 { Ended::Complete } else { Ended::Error };
    RequestRecord { status, ended, ..RequestRecord::new(id(number), number) }
}

fn attempt(tape: &Arc<Tape>, number: u32) -> AttemptTape {
    tape.attempt(number, &"p".into(), &"m".into(), &"p_01".into())
}

#[test]
fn a_request_is_seen_while_it_runs_and_when_it_is_over() {
    let store = store(ROOMY);
    let tape = begun(&store, 1, r#"{"model":"m"}"#, &[]).unwrap();
    let of = attempt(&tape, 1);
    let body = Bytes::from_static(b"{\"model\":\"upstream\"}");
    of.sent("POST", "https://h/v1/chat/completions".to_owned(), &HeaderMap::new(), &body, Vec::new(), false);
    of.headed(200, &HeaderMap::new());
    of.piece(b"data: 1\n\n");
    tape.answered(200, &HeaderMap::new());
    tape.answer(b"data: 1\n\n");
    let running = store.get(&id(1)).unwrap();
    assert!(!running.complete);
    assert_eq!((running.org.as_str(), running.key_name.as_str()), ("org_default", "team"));
    of.piece(b"data: 2\n\n");
    tape.answer(b"data: 2\n\n");
    tape.finish(&record(1, 200));
    let seen = store.get(&id(1)).unwrap();
    assert!(seen.complete);
    assert_eq!(seen.request.body.text(), Some(r#"{"model":"m"}"#));
    assert_eq!(seen.request.url, "/v1/chat/completions?key=[redacted]");
    assert_eq!(seen.attempts.len(), 1);
    assert_eq!(seen.attempts[0].request.body.text(), Some(r#"{"model":"upstream"}"#));
    let pieces = |body: &crate::domain::payloads::Body| -> Vec<String> {
        body.pieces().map(|(_, piece)| piece.to_owned()).collect()
    };
    let expected = ["data: 1\n\n", "data: 2\n\n"];
    assert_eq!(pieces(&seen.attempts[0].response.as_ref().unwrap().body), expected);
    assert_eq!(pieces(&seen.response.as_ref().unwrap().body), expected);
    let json = serde_json::to_string(&*seen).unwrap();
    assert_eq!(serde_json::from_str::<Payloads>(&json).unwrap(), *seen);
}

#[test]
fn an_address_tried_after_another_is_the_same_attempt() {
    let store = store(ROOMY);
    let tape = begun(&store, 1, "{}", &[]).unwrap();
    for body in [&b"first"[..], b"second"] {
        attempt(&tape, 1).sent("POST", String::new(), &HeaderMap::new(), &Bytes::from_static(body), Vec::new(), false);
    }
    let _ = attempt(&tape, 2);
    let seen = store.get(&id(1)).unwrap();
    assert_eq!(seen.attempts.len(), 2);
    assert_eq!(seen.attempts[0].request.body.text(), Some("second"));
}

#[test]
fn what_is_off_keeps_nothing() {
    let off = store(Settings { ring_bytes: 0, ..ROOMY });
    assert!(!off.is_on() && begun(&off, 1, "{}", &[]).is_none());
    assert!(!store(Settings::default()).is_on());
}

#[test]
fn the_ring_is_bounded_in_requests_and_in_bytes() {
    let store = store(Settings { ring_entries: 3, ..ROOMY });
    for number in 0..5 {
        begun(&store, number, "{}", &[]).unwrap().finish(&record(number, 200));
    }
    assert_eq!(store.ids(), [id(4), id(3), id(2)]);
    assert!(store.get(&id(1)).is_none());
    let held = store.held_bytes();
    assert!(held > 3 * 1024, "what it takes besides bodies counts too: {held}");
    store.configure(Settings { ring_bytes: held - 1, ..ROOMY });
    assert_eq!(store.ids().len(), 2);
    store.configure(Settings { ring_bytes: 0, ..ROOMY });
    assert_eq!((store.ids().len(), store.held_bytes()), (0, 0));
}

#[test]
fn a_request_that_has_left_the_ring_does_not_count() {
    let store = store(Settings { ring_entries: 1, ..ROOMY });
    let first = begun(&store, 1, "{}", &[]).unwrap();
    begun(&store, 2, "{}", &[]).unwrap().finish(&record(2, 200));
    let held = store.held_bytes();
    first.finish(&record(1, 200));
    assert_eq!(store.held_bytes(), held);
    assert_eq!(store.ids(), [id(2)]);
}

#[test]
fn what_goes_to_the_database_alone_takes_no_room_in_the_ring() {
    let store = store(Settings { ring_bytes: 0, policy: Policy::All, ..ROOMY });
    begun(&store, 1, "{}", &[]).unwrap().finish(&record(1, 200));
    assert_eq!((store.held_bytes(), store.ids().len()), (0, 0));
}

#[test]
fn running_requests_have_a_bound_of_their_own() {
    let store = store(Settings { body_bytes: 1 << 30, ..ROOMY });
    let full = 64 * LEAST_ROOM.div_ceil(64);
    let tape = begun(&store, 1, "{}", &[]).unwrap();
    tape.answered(200, &HeaderMap::new());
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..full >> 20 {
        tape.answer(&piece);
    }
    tape.answer(b"more");
    let seen = store.get(&id(1)).unwrap();
    let body = &seen.response.as_ref().unwrap().body;
    assert!(body.cut && body.bytes == full as u64 + 4);
    assert_eq!(store.left_out(), 1);
    tape.finish(&record(1, 200));
    drop(tape);
    assert_eq!(store.0.granted.load(Relaxed), 0, "what is over takes no room among those that run");
}

#[test]
fn the_keys_of_a_client_are_in_nothing_that_is_kept() {
    let store = store(ROOMY);
    let tape = begun(&store, 1, r#"{"extra":{"byok":"CANARY-1234"}}"#, &["CANARY-1234"]).unwrap();
    let of = attempt(&tape, 1);
    assert!(of.is_guarded());
    of.sent("POST", "http://h/CANARY-1234".to_owned(), &HeaderMap::new(), &Bytes::new(), Vec::new(), false);
    let mut headers = HeaderMap::new();
    headers.insert("x-echo", "your key is CANARY-1234".parse().unwrap());
    of.headed(200, &headers);
    of.piece(b"so you are CANARY-");
    of.piece(b"1234, are you?");
    tape.answered(200, &headers);
    tape.answer(b"CANARY-1234");
    let running = format!("{:?}", store.get(&id(1)).unwrap());
    assert!(!running.contains("CANARY") && running.contains("are you?"), "{running}");
    tape.finish(&record(1, 200));
    // Not even where the redactor does not look: it does not know this key.
    let kept = format!("{:?}", tape.shown(&Redactor::default(), &[]));
    assert!(!kept.contains("CANARY") && kept.contains("are you?"), "{kept}");
}

#[test]
fn what_a_provider_says_of_a_refused_key_is_cleaned_at_once() {
    let redactor = Arc::new(Redactor::default());
    redactor.register([&Secret::new("odd canary of a key")]);
    let store = PayloadStore::new(redactor.clone());
    store.configure(ROOMY);
    let tape = begun(&store, 1, "{}", &[]).unwrap();
    let of = attempt(&tape, 1);
    of.headed(401, &HeaderMap::new());
    of.piece(b"wrong: odd canary of a key");
    tape.finish(&record(1, 502));
    // The key is gone by the time somebody looks.
    redactor.register([]);
    assert!(!format!("{:?}", store.get(&id(1)).unwrap()).contains("canary"));
}

#[test]
fn patterns_hide_what_operators_want_hidden() {
    let pattern = Pattern(regex::bytes::Regex::new(r"\b\d{3}-\d{2}-\d{4}\b").unwrap());
    let store = store(Settings { redact: vec![pattern], ..ROOMY });
    let tape = begun(&store, 1, r#"{"content":"my number is 123-45-6789."}"#, &[]).unwrap();
    tape.finish(&record(1, 200));
    let seen = store.get(&id(1)).unwrap();
    assert_eq!(seen.request.body.content, Content::Text(r#"{"content":"my number is [redacted]."}"#.to_owned()));
}

#[test]
fn the_policy_says_what_goes_to_the_database() {
    let went = |policy, number, record: &RequestRecord| {
        let store = store(Settings { ring_bytes: 0, policy, ..ROOMY });
        let (told, heard) = std::sync::mpsc::channel();
        store.set_sink(move |tape| told.send(tape.id()).unwrap());
        if let Some(tape) = begun(&store, number, "{}", &[]) {
            tape.finish(record);
        }
        heard.try_recv().is_ok()
    };
    let attempt = AttemptRecord {
        provider: "p".into(),
        model: "m".into(),
        key_name: "p_01".into(),
        started: Duration::ZERO,
        took: Duration::ZERO,
        status: None,
        reason: None,
        message: None,
        verdict: "ok",
    };
    let twice = RequestRecord { attempts: vec![attempt.clone(), attempt], ..record(1, 200) };
    for (policy, well, retried, badly) in [
        (Policy::None, false, false, false),
        (Policy::Errors, false, true, true),
        (Policy::Sampled(500_001), true, true, true),
        (Policy::Sampled(500_000), false, false, false),
        (Policy::All, true, true, true),
    ] {
        let seen = [&record(1, 200), &twice, &record(1, 500)].map(|record| went(policy, 1, record));
        assert_eq!(seen, [well, retried, badly], "{policy:?}");
    }
}
