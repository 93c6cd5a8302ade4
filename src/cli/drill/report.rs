//! The table of a drill: equal outcomes are one line, with how often they came and how long the slowest took.

use crate::sim::client::Answer;
use std::fmt::Write;
use std::time::Duration;

/// What clients saw, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    round: String,
    model: String,
    stream: bool,
    sees: String,
    is_error: bool,
    served_by: String,
    attempts: String,
    fallback: String,
    times: u32,
    slowest: Duration,
}

impl Row {
    /// Counts an outcome.
    pub fn add(rows: &mut Vec<Self>, round: &str, model: &str, stream: bool, asked: &Result<Answer, String>) {
        let row = Self::of(round, model, stream, asked);
        match rows.iter_mut().find(|known| Self { times: 1, slowest: row.slowest, ..(*known).clone() } == row) {
            Some(known) => {
                known.times += 1;
                known.slowest = known.slowest.max(row.slowest);
            }
            None => rows.push(row),
        }
    }

    fn of(round: &str, model: &str, stream: bool, asked: &Result<Answer, String>) -> Self {
        let header = |name: &str| match asked {
            Ok(answer) if !answer.header(name).is_empty() => answer.header(name).to_owned(),
            _ => "-".to_owned(),
        };
        let (is_error, sees) = match asked {
            Ok(answer) => (answer.status != 200 || !answer.looks_complete(), sees(answer)),
            Err(error) => (true, format!("no answer: {error}")),
        };
        // Of an answer that no target gave, the head names none.
        let served_by = if is_error && header("x-provider") == "-" {
            "nobody".to_owned()
        } else {
            format!("{} {}", header("x-provider"), header("x-model"))
        };
        Self {
            round: round.to_owned(),
            model: model.to_owned(),
            stream,
            sees,
            is_error,
            served_by,
            attempts: header("x-orbyt-attempts"),
            fallback: if header("x-orbyt-fallback") == "true" { "yes" } else { "no" }.to_owned(),
            times: 1,
            slowest: asked.as_ref().map(|answer| answer.took).unwrap_or_default(),
        }
    }
}

/// The status, and what is wrong with the answer, as a client reads it.
fn sees(answer: &Answer) -> String {
    let error = answer.error().unwrap_or_default();
    let code = error["code"].as_str().or_else(|| error["type"].as_str());
    match (answer.status, answer.looks_complete(), code) {
        (status, true, _) => status.to_string(),
        (200, false, Some(code)) => format!("200, then the error {code}"),
        (200, false, None) => "200, cut".to_owned(),
        (status, false, Some(code)) => format!("{status} {code}"),
        (status, false, None) => status.to_string(),
    }
}

/// How many requests ended in an error.
pub(super) fn failed(rows: &[Row]) -> u32 {
    rows.iter().filter(|row| row.is_error).map(|row| row.times).sum()
}

/// How many requests there were.
pub(super) fn asked(rows: &[Row]) -> u32 {
    rows.iter().map(|row| row.times).sum()
}

/// The table, with a line of names above and a mark before what is an error.
pub(super) fn table(rows: &[Row]) -> String {
    let names =
        ["", "fault", "model", "asked as", "client sees", "served by", "attempts", "fallback", "requests", "slowest"];
    let cells = |row: &Row| {
        [
            if row.is_error { "✗" } else { "✓" }.to_owned(),
            row.round.clone(),
            row.model.clone(),
            if row.stream { "stream" } else { "whole" }.to_owned(),
            row.sees.clone(),
            row.served_by.clone(),
            row.attempts.clone(),
            row.fallback.clone(),
            row.times.to_string(),
            format!("{} ms", row.slowest.as_millis()),
        ]
    };
    let lines: Vec<[String; 10]> = std::iter::once(names.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut out = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            // A string takes any amount of text.
            let _ = write!(out, "{cell:<width$}  ");
        }
        text += out.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::client::BodyEnd;

    fn answer(status: u16, body: &str, took_ms: u64) -> Result<Answer, String> {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut headers = vec![header("x-orbyt-attempts", "2"), header("x-orbyt-fallback", "true")];
        if status == 200 {
            headers.extend([header("x-provider", "two"), header("x-model", "m")]);
        }
        Ok(Answer {
            status,
            headers,
            body: body.as_bytes().to_vec(),
            end: BodyEnd::Clean,
            head_after: Duration::ZERO,
            took: Duration::from_millis(took_ms),
        })
    }

    const GOOD: &str = r#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#;

    #[test]
    fn equal_outcomes_are_one_line_and_errors_are_counted() {
        let mut rows = Vec::new();
        Row::add(&mut rows, "one down", "one/m", false, &answer(200, GOOD, 5));
        Row::add(&mut rows, "one down", "one/m", false, &answer(200, GOOD, 9));
        let refused = r#"{"error":{"code":"all_targets_failed","message":"m"}}"#;
        Row::add(&mut rows, "one down", "one/m", false, &answer(503, refused, 1));
        Row::add(&mut rows, "one down", "one/m", false, &Err("reset".to_owned()));
        assert_eq!((rows.len(), failed(&rows), asked(&rows)), (3, 2, 4));
        let text = table(&rows);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "✓ one down one/m whole 200 two m 2 yes 2 9 ms");
        assert_eq!(lines[2], "✗ one down one/m whole 503 all_targets_failed nobody 2 yes 1 1 ms");
        assert_eq!(lines[3], "✗ one down one/m whole no answer: reset nobody - no 1 0 ms");
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error_though_its_status_is_good() {
        let mut rows = Vec::new();
        Row::add(&mut rows, "r", "m", true, &answer(200, "{}", 1));
        assert_eq!((rows[0].sees.as_str(), failed(&rows)), ("200, cut", 1));
    }
}
