//! `orbyt demo`: every scene ends as told, without a network, a key or a configuration.

use crate::gateway::binary;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output};

/// The usual ports are the same for all: one demo at a time.
static USUAL_PORTS: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

fn demo_once() -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(["demo", "--once"]).env_clear().env("HOME", folder.path()).env("TMPDIR", folder.path());
    let output = command.current_dir(folder.path()).output().unwrap();
    let left_over: Vec<_> = folder.path().read_dir().unwrap().collect();
    assert!(left_over.is_empty(), "{left_over:?}");
    output
}

#[test]
fn plays_every_scene_to_the_end_that_it_tells() {
    let _turn = USUAL_PORTS.lock();
    let output = demo_once();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("7 of 7 scenes ended as told."), "{text}");
    for part in ["curl http://", "from openai import OpenAI", "429  rate_limited", "x-orbyt-fallback: true"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "colours without a terminal: {text}");
}

#[test]
fn finds_other_ports_when_the_usual_ones_are_taken() {
    let _turn = USUAL_PORTS.lock();
    // Whether they are taken by this test or by something else makes no difference.
    let _taken = [3001, 4000].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let output = demo_once();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for port in [3001, 4000] {
        assert!(text.contains(&format!("Port {port} is taken by another program")), "{text}");
    }
}
