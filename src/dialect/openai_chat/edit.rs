//! Changes to a JSON text, noted by place and carried out in one copy, so that every other byte survives.

use std::ops::Range;

/// A list of changes that is kept and reused from chunk to chunk, so that noting one costs no allocation.
#[derive(Debug, Default)]
pub struct Edits {
    changes: Vec<Change>,
    /// The new texts, one after the other.
    texts: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Change {
    old: Range<usize>,
    new: Range<usize>,
}

impl Edits {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.texts.clear();
    }

    /// Replaces the bytes at `old` by the concatenation of `new`. Changes must not overlap; their order does not matter, but for
    /// insertions at one place, which keep theirs.
    pub fn replace(&mut self, old: Range<usize>, new: &[&[u8]]) {
        let start = self.texts.len();
        for text in new {
            self.texts.extend_from_slice(text);
        }
        self.changes.push(Change { old, new: start..self.texts.len() });
    }

    /// Inserts before the byte at `at`.
    pub fn insert(&mut self, at: usize, new: &[&[u8]]) {
        self.replace(at..at, new);
    }

    /// Appends the changed text.
    pub fn apply(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.changes.sort_by_key(|change| (change.old.start, change.old.end));
        out.reserve(text.len() + self.texts.len());
        let mut at = 0;
        for change in &self.changes {
            out.extend_from_slice(text.get(at..change.old.start).unwrap_or_default());
            out.extend_from_slice(&self.texts[change.new.clone()]);
            at = at.max(change.old.end);
        }
        out.extend_from_slice(&text[at..]);
    }
}

/// Finds what to cut, commas included, when members of an object are taken out one by one in their order.
#[derive(Debug, Default)]
pub struct Cutter {
    /// The end of the last member that stays.
    kept: Option<usize>,
}

impl Cutter {
    /// Notes that the member which ends at `end` stays.
    pub fn keep(&mut self, end: usize) {
        self.kept = Some(end);
    }

    /// The place of the member from its key to the end of its value, with the comma before it, or after it when nothing that stays is
    /// in front.
    pub fn cut(&self, text: &[u8], member: Range<usize>) -> Range<usize> {
        let Some(kept) = self.kept else {
            let rest = &text[member.end..];
            let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            return if rest.get(blank) == Some(&b',') { member.start..member.end + blank + 1 } else { member };
        };
        // Between the last member that stays and this one stand only commas, white space and members that are cut already.
        let comma =
            text[kept..member.start].iter().rposition(|byte| *byte == b',').map_or(member.start, |at| kept + at);
        comma..member.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_apply_in_the_order_of_their_places() {
        let mut edits = Edits::default();
        edits.replace(4..5, &[b"E"]);
        edits.insert(0, &[b"<", b"<"]);
        edits.insert(0, &[b">"]);
        edits.replace(1..3, &[]);
        let mut out = Vec::new();
        edits.apply(b"abcdef", &mut out);
        assert_eq!(out, b"<<>adEf");
        edits.clear();
        assert!(edits.is_empty());
    }

    /// Cuts the members named in `cut` out of a flat object written with single letters.
    fn without(text: &str, cut: &str) -> String {
        let (mut edits, mut cutter) = (Edits::default(), Cutter::default());
        let mut cursor = super::super::scan::Cursor::new(text.as_bytes(), 0);
        cursor
            .object::<super::super::scan::Invalid>(|cursor, key| {
                let value = cursor.value()?;
                if cut.contains(&text[key.start + 1..key.end - 1]) {
                    edits.replace(cutter.cut(text.as_bytes(), key.start..value.end), &[]);
                } else {
                    cutter.keep(value.end);
                }
                Ok(())
            })
            .unwrap();
        let mut out = Vec::new();
        edits.apply(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cuts_take_the_right_commas() {
        let text = r#"{ "a":1, "b":2 ,"c":3 }"#;
        for (cut, left) in [
            ("a", r#"{  "b":2 ,"c":3 }"#),
            ("b", r#"{ "a":1 ,"c":3 }"#),
            ("c", r#"{ "a":1, "b":2  }"#),
            ("ab", r#"{  "c":3 }"#),
            ("bc", r#"{ "a":1  }"#),
            ("ac", r#"{  "b":2  }"#),
            ("abc", r#"{   }"#),
        ] {
            let got = without(text, cut);
            assert_eq!(got, left, "without {cut}");
            assert!(serde_json::from_str::<serde_json::Value>(&got).is_ok());
        }
    }
}
