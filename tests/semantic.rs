//! Recall and wrong hits of the semantic cache by threshold, on the questions of `paraphrases/questions.toml`.
//!
//! `cargo test --test semantic -- --nocapture` prints the table; with `UPDATE_DOCS=1` it is written into docs/semantic-cache.md.

mod paraphrases;

use paraphrases::{Group, groups, measure};
use std::path::Path;

/// The thresholds that are tried.
const THRESHOLDS: [f32; 8] = [0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95];

fn count(groups: &[Group], of: impl Fn(&Group) -> usize) -> usize {
    groups.iter().map(of).sum()
}

fn percent(part: usize, whole: usize) -> String {
    if whole == 0 { "—".to_owned() } else { format!("{:.0} %", 100.0 * part as f64 / whole as f64) }
}

async fn table() -> String {
    let groups = groups();
    let (same, other) = (count(&groups, |group| group.same.len()), count(&groups, |group| group.other.len()));
    let mut table = format!(
        "| threshold | recall ({same} paraphrases) | wrong hits ({other} near misses) | of all hits wrong |\n|---|---|---|---|\n"
    );
    for threshold in THRESHOLDS {
        let outcome = measure(&groups, threshold).await;
        let wrong = outcome.wrong + outcome.astray;
        table += &format!(
            "| {threshold:.2} | {} | {} | {} |\n",
            percent(outcome.right, same),
            percent(outcome.wrong, other),
            percent(wrong, outcome.right + wrong),
        );
    }
    table
}

#[tokio::test]
async fn the_document_shows_what_is_measured() {
    let table = table().await;
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/semantic-cache.md");
    let mut document = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- semantic:begin -->\n", "<!-- semantic:end -->");
    let place = document.find(begin).unwrap() + begin.len()..document.find(end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        document.replace_range(place, &table);
        std::fs::write(&path, document).unwrap();
    } else {
        assert_eq!(document[place], table, "UPDATE_DOCS=1 cargo test --test semantic writes it anew");
    }
}

#[tokio::test]
async fn a_higher_threshold_finds_less_and_errs_less() {
    let groups = groups();
    let mut last = None;
    for threshold in THRESHOLDS {
        let outcome = measure(&groups, threshold).await;
        if let Some(last) = last.replace((outcome.right, outcome.wrong, outcome.astray)) {
            assert!(outcome.right <= last.0 && outcome.wrong <= last.1 && outcome.astray <= last.2, "{outcome:?}");
        }
    }
    let (first, strict) = (measure(&groups, THRESHOLDS[0]).await, measure(&groups, 0.999).await);
    assert!(first.right > 50 && first.wrong > 50, "the set has something to find, and something to fall for");
    // Which of "miles to kilometres" and "kilometres to miles" is meant, a bag of words cannot tell.
    assert_eq!((strict.wrong, strict.astray), (1, 0));
}

#[test]
fn the_set_is_sound() {
    let groups = groups();
    let texts = || groups.iter().flat_map(|group| [&group.same[..], &group.other[..]].concat());
    let mut all: Vec<String> = texts().chain(groups.iter().map(|group| group.question.clone())).collect();
    let total = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), total, "a text stands there twice");
    assert!(groups.len() >= 36 && groups.iter().all(|group| group.same.len() >= 3 && group.other.len() >= 3));
}
