//! Reads Rust source as far as the rules need it: tokens with their lines, what is test code, paths, functions.

use std::collections::BTreeSet;
use std::path::Path;

/// A piece of source. Comments are gone; doc comments are comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// An identifier or keyword, raw ones without `r#`.
    Word(String),
    /// The inside of a string literal, escapes as written.
    Text(String),
    /// Any other character; `::` is one of them, as `:` `:`.
    Sign(char),
}

/// A token and the line it begins on, from 1.
#[derive(Clone, Debug)]
pub struct Placed {
    pub token: Token,
    pub line: usize,
}

impl Placed {
    fn is_sign(&self, sign: char) -> bool {
        self.token == Token::Sign(sign)
    }

    /// The identifier, when it is one.
    pub fn word(&self) -> Option<&str> {
        match &self.token {
            Token::Word(word) => Some(word),
            Token::Text(_) | Token::Sign(_) => None,
        }
    }
}

/// One source file.
pub struct Source {
    /// Relative to the repository, with forward slashes: `src/proxy/relay.rs`.
    pub path: String,
    /// How many lines it has.
    pub lines: usize,
    /// Whether its first line says what it is for.
    pub opens_with_doc: bool,
    /// All tokens.
    pub tokens: Vec<Placed>,
    /// For each token: whether it belongs to test code.
    pub in_test: Vec<bool>,
}

impl Source {
    /// Reads a file's text. `all_test` says that the whole file is test code.
    pub fn read(path: &str, text: &str, all_test: bool) -> Self {
        let tokens = tokens(text);
        let mut in_test = vec![all_test; tokens.len()];
        for (start, end) in test_spans(&tokens) {
            in_test[start..end].fill(true);
        }
        Self {
            path: path.to_owned(),
            lines: text.lines().count(),
            opens_with_doc: text.starts_with("//!"),
            tokens,
            in_test,
        }
    }

    /// The first folder or file below `src/`, without `.rs`: `proxy`, `wiring`; `None` outside of `src/`.
    pub fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// How deep the file's module is below the crate: `src/dialect/mod.rs` is 1, `src/dialect/gemini/stream.rs` is 3.
    fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let parts = inside.split('/').count();
        match inside.rsplit('/').next() {
            Some("mod.rs" | "lib.rs" | "main.rs") => parts - 1,
            _ => parts,
        }
    }

    /// Every path into the crate that is not test code, from its root: `["domain", "Usage"]`, groups spelled out.
    pub fn crate_paths(&self) -> Vec<(Vec<String>, usize)> {
        let mut found = Vec::new();
        for (at, placed) in self.tokens.iter().enumerate() {
            if self.in_test[at] || self.follows_path_separator(at) {
                continue;
            }
            let after = match placed.word() {
                Some("crate") => Some(at + 1),
                Some("super") => self.climb(at),
                _ => None,
            };
            if let Some(after) = after {
                expand(&self.tokens, after, &[], &mut found);
            }
        }
        found
    }

    /// The paths `a::b::c` of the file that are not test code, as written, groups spelled out.
    pub fn paths(&self) -> Vec<(Vec<String>, usize)> {
        let mut found = Vec::new();
        for (at, placed) in self.tokens.iter().enumerate() {
            if self.in_test[at] || self.follows_path_separator(at) {
                continue;
            }
            if let Some(word) = placed.word() {
                let before = found.len();
                expand(&self.tokens, at + 1, &[word.to_owned()], &mut found);
                if found.len() == before {
                    found.push((vec![word.to_owned()], placed.line));
                }
            }
        }
        found
    }

    fn follows_path_separator(&self, at: usize) -> bool {
        at >= 2 && self.tokens[at - 1].is_sign(':') && self.tokens[at - 2].is_sign(':')
    }

    /// Where a chain of `super::super::` ends, when it ends at the root of the crate.
    fn climb(&self, mut at: usize) -> Option<usize> {
        let mut steps = 1;
        while separator(&self.tokens, at + 1) && self.tokens.get(at + 3).and_then(Placed::word) == Some("super") {
            steps += 1;
            at += 3;
        }
        (steps >= self.depth()).then_some(at + 1)
    }

    /// Every function with a body: its name, its first line and how many lines it has.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for (at, placed) in self.tokens.iter().enumerate() {
            let name = self.tokens.get(at + 1).and_then(Placed::word);
            if let (Some("fn"), Some(name)) = (placed.word(), name)
                && let Some(open) = body(&self.tokens, at)
            {
                let last = self.tokens[closing(&self.tokens, open)].line;
                found.push((name.to_owned(), placed.line, last - placed.line + 1));
            }
        }
        found
    }
}

/// Where the modules stand that `#[cfg(test)] mod name;` of this file declares, relative to the repository: beginnings of paths.
pub fn test_files(source: &Source) -> BTreeSet<String> {
    let beside = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let below = match source.path.rsplit('/').next() {
        Some("mod.rs" | "lib.rs" | "main.rs") => beside,
        _ => source.path.trim_end_matches(".rs"),
    };
    let mut files = BTreeSet::new();
    for at in test_attributes(&source.tokens) {
        let item = &source.tokens[at..];
        let named = item.iter().position(|placed| placed.word() == Some("mod")).unwrap_or(item.len());
        let (Some(Token::Word(name)), Some(Token::Sign(';'))) = (token(item, named + 1), token(item, named + 2)) else {
            continue;
        };
        let given = item[..named].iter().find_map(|placed| match &placed.token {
            Token::Text(path) => Some(format!("{beside}/{path}")),
            Token::Word(_) | Token::Sign(_) => None,
        });
        files.extend(given);
        files.insert(format!("{below}/{name}.rs"));
        files.insert(format!("{below}/{name}/"));
    }
    files
}

fn token(tokens: &[Placed], at: usize) -> Option<&Token> {
    tokens.get(at).map(|placed| &placed.token)
}

/// All `.rs` files below a folder.
pub fn rust_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

fn separator(tokens: &[Placed], at: usize) -> bool {
    tokens.get(at).is_some_and(|placed| placed.is_sign(':'))
        && tokens.get(at + 1).is_some_and(|placed| placed.is_sign(':'))
}

/// Spells out the path tree whose `::` stands at `at`; returns where it ends.
fn expand(tokens: &[Placed], at: usize, prefix: &[String], found: &mut Vec<(Vec<String>, usize)>) -> usize {
    if !separator(tokens, at) {
        return at;
    }
    let next = at + 2;
    match tokens.get(next).map(|placed| &placed.token) {
        Some(Token::Word(word)) => {
            let mut path = prefix.to_vec();
            path.push(word.clone());
            let before = found.len();
            let end = expand(tokens, next + 1, &path, found);
            if found.len() == before {
                found.push((path, tokens[next].line));
            }
            end
        }
        Some(Token::Sign('{')) => {
            let mut inside = next + 1;
            while let Some(placed) = tokens.get(inside) {
                if placed.is_sign('}') {
                    return inside + 1;
                }
                let Some(word) = placed.word() else {
                    inside += 1;
                    continue;
                };
                let mut path = prefix.to_vec();
                path.push(word.to_owned());
                let before = found.len();
                inside = expand(tokens, inside + 1, &path, found);
                if found.len() == before {
                    found.push((path, placed.line));
                }
                if tokens.get(inside).and_then(Placed::word) == Some("as") {
                    inside += 2;
                }
            }
            inside
        }
        _ => next,
    }
}

/// The `{` of a function's body; `None` for a declaration that ends in `;`.
fn body(tokens: &[Placed], from: usize) -> Option<usize> {
    let mut nesting = 0_i32;
    for (at, placed) in tokens.iter().enumerate().skip(from) {
        match placed.token {
            Token::Sign('(' | '[') => nesting += 1,
            Token::Sign(')' | ']') => nesting -= 1,
            Token::Sign('{') if nesting == 0 => return Some(at),
            Token::Sign(';') if nesting == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The `}` that closes the `{` at `open`, or the last token.
fn closing(tokens: &[Placed], open: usize) -> usize {
    let mut nesting = 0_i32;
    for (at, placed) in tokens.iter().enumerate().skip(open) {
        match placed.token {
            Token::Sign('{') => nesting += 1,
            Token::Sign('}') => nesting -= 1,
            _ => {}
        }
        if nesting == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// Where the item after each `#[cfg(test)]` or `#[test]` begins.
fn test_attributes(tokens: &[Placed]) -> Vec<usize> {
    let starts_with = |at: usize, wanted: &[&str]| {
        wanted.iter().enumerate().all(|(offset, wanted)| match tokens.get(at + offset).map(|placed| &placed.token) {
            Some(Token::Word(word)) => word == wanted,
            Some(Token::Sign(sign)) => wanted.chars().eq([*sign]),
            _ => false,
        })
    };
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if starts_with(at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            found.push(at + 7);
        } else if starts_with(at, &["#", "[", "test", "]"]) {
            found.push(at + 4);
        } else if starts_with(at, &["#", "[", "tokio", ":", ":", "test"]) {
            found.push(at + 6);
        }
    }
    found
}

/// The token ranges of test code: from a test attribute to the end of its item.
fn test_spans(tokens: &[Placed]) -> Vec<(usize, usize)> {
    let end = |start: usize| match body(tokens, start) {
        Some(open) => closing(tokens, open) + 1,
        None => (start..tokens.len()).find(|at| tokens[*at].is_sign(';')).map_or(tokens.len(), |at| at + 1),
    };
    test_attributes(tokens).into_iter().map(|start| (start, end(start))).collect()
}

/// Cuts a file's text into tokens.
fn tokens(text: &str) -> Vec<Placed> {
    let chars: Vec<char> = text.chars().collect();
    let mut scanner = Scanner { chars: &chars, at: 0, line: 1, tokens: Vec::new() };
    while scanner.at < chars.len() {
        scanner.step();
    }
    scanner.tokens
}

struct Scanner<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
    tokens: Vec<Placed>,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn advance(&mut self) {
        self.line += usize::from(self.peek(0) == '\n');
        self.at += 1;
    }

    fn put(&mut self, token: Token, line: usize) {
        self.tokens.push(Placed { token, line });
    }

    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.advance();
                }
            }
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(0, true),
            ('\'', _) => self.quote(),
            (c, _) if c.is_whitespace() => self.advance(),
            (c, _) if c.is_alphanumeric() || c == '_' => self.word(),
            (c, _) => {
                self.put(Token::Sign(c), self.line);
                self.advance();
            }
        }
    }

    fn block_comment(&mut self) {
        let mut nesting = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => nesting += 1,
                ('*', '/') => nesting -= 1,
                _ => {
                    self.advance();
                    continue;
                }
            }
            self.advance();
            self.advance();
            if nesting == 0 {
                return;
            }
        }
    }

    /// A string from its opening quote, closed by a quote and `hashes` signs.
    fn string(&mut self, hashes: usize, escapes: bool) {
        let line = self.line;
        let mut inside = String::new();
        self.advance();
        while self.at < self.chars.len() {
            let c = self.peek(0);
            if c == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == '#') {
                (0..=hashes).for_each(|_| self.advance());
                break;
            }
            inside.push(c);
            self.advance();
            if c == '\\' && escapes {
                inside.push(self.peek(0));
                self.advance();
            }
        }
        self.put(Token::Text(inside), line);
    }

    /// A character literal, or a lifetime.
    fn quote(&mut self) {
        let is_char = self.peek(1) == '\\' || self.peek(2) == '\'';
        self.advance();
        if is_char {
            if self.peek(0) == '\\' {
                self.advance();
            }
            self.advance();
            while self.at < self.chars.len() && self.peek(0) != '\'' {
                self.advance();
            }
            self.advance();
        } else {
            while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                self.advance();
            }
        }
    }

    /// A word, or the prefix of a raw or byte string.
    fn word(&mut self) {
        let line = self.line;
        let mut word = String::new();
        while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
            word.push(self.peek(0));
            self.advance();
        }
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        let hashes = (0..).take_while(|ahead| self.peek(*ahead) == '#').count();
        if raw && self.peek(hashes) == '"' {
            (0..hashes).for_each(|_| self.advance());
            self.string(hashes, false);
        } else if matches!(word.as_str(), "b" | "c") && self.peek(0) == '"' {
            self.string(0, true);
        } else if word == "b" && self.peek(0) == '\'' {
            self.quote();
        } else if word == "r" && hashes == 1 {
            self.advance();
        } else {
            self.put(Token::Word(word), line);
        }
    }
}
