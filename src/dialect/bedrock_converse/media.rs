//! Which pictures, documents, films and sounds Converse takes, and by which name for their format.

/// The names of formats for media types, the unusual spellings included.
const IMAGES: [(&str, &str); 5] =
    [("image/png", "png"), ("image/jpeg", "jpeg"), ("image/jpg", "jpeg"), ("image/gif", "gif"), ("image/webp", "webp")];
const DOCUMENTS: [(&str, &str); 10] = [
    ("application/pdf", "pdf"),
    ("text/csv", "csv"),
    ("application/msword", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("text/html", "html"),
    ("text/plain", "txt"),
    ("text/markdown", "md"),
    ("text/x-markdown", "md"),
];
const VIDEOS: [(&str, &str); 10] = [
    ("video/mp4", "mp4"),
    ("video/quicktime", "mov"),
    ("video/x-matroska", "mkv"),
    ("video/webm", "webm"),
    ("video/x-flv", "flv"),
    ("video/mpeg", "mpeg"),
    ("video/mpg", "mpg"),
    ("video/x-ms-wmv", "wmv"),
    ("video/wmv", "wmv"),
    ("video/3gpp", "three_gp"),
];
const SOUNDS: [(&str, &str); 14] = [
    ("audio/mp3", "mp3"),
    ("audio/mpeg", "mp3"),
    ("audio/wav", "wav"),
    ("audio/x-wav", "wav"),
    ("audio/wave", "wav"),
    ("audio/opus", "opus"),
    ("audio/aac", "aac"),
    ("audio/flac", "flac"),
    ("audio/ogg", "ogg"),
    ("audio/mp4", "mp4"),
    ("audio/m4a", "m4a"),
    ("audio/x-m4a", "m4a"),
    ("audio/webm", "webm"),
    ("audio/pcm", "pcm"),
];
/// Other text formats; they are sent as plain text.
const TEXTS: [&str; 7] = [
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
    "application/javascript",
    "application/sql",
];

/// The longest name of a document, in characters.
const MAX_NAME: usize = 200;

/// What an inline file is to Converse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Image(&'static str),
    Document(&'static str),
    Video(&'static str),
    Audio(&'static str),
}

/// The kind of a file by its media type, by the end of its name where the type says nothing, and by its first bytes (base64) where
/// neither does.
pub(super) fn kind(media_type: &str, name: Option<&str>, data: &str) -> Option<Kind> {
    let (base, _) = media_type.split_once(';').unwrap_or((media_type, ""));
    let base = base.trim().to_ascii_lowercase();
    let find =
        |table: &[(&str, &'static str)]| table.iter().find(|(known, _)| *known == base).map(|(_, format)| *format);
    let by_type = find(&IMAGES)
        .map(Kind::Image)
        .or_else(|| find(&DOCUMENTS).map(Kind::Document))
        .or_else(|| find(&VIDEOS).map(Kind::Video))
        .or_else(|| find(&SOUNDS).map(Kind::Audio));
    let says_nothing = matches!(base.as_str(), "" | "application/octet-stream");
    let is_text = base.starts_with("text/") || base.ends_with("+json") || base.ends_with("+xml");
    by_type
        .or_else(|| (is_text || TEXTS.contains(&base.as_str())).then_some(Kind::Document("txt")))
        .or_else(|| says_nothing.then(|| by_ending(name?)).flatten())
        // "%PDF-" in base64.
        .or_else(|| (says_nothing && data.starts_with("JVBERi0")).then_some(Kind::Document("pdf")))
}

/// The kind of a file by the end of its name or address.
pub(super) fn by_ending(name: &str) -> Option<Kind> {
    let ending = name.rsplit_once('.')?.1.to_ascii_lowercase();
    let ending = match ending.as_str() {
        "jpg" => "jpeg",
        "htm" => "html",
        "3gp" => "three_gp",
        ending => ending,
    };
    let find = |table: &[(&str, &'static str)]| table.iter().find(|(_, format)| *format == ending).map(|(_, it)| *it);
    find(&IMAGES)
        .map(Kind::Image)
        .or_else(|| find(&DOCUMENTS).map(Kind::Document))
        .or_else(|| find(&VIDEOS).map(Kind::Video))
        .or_else(|| find(&SOUNDS).map(Kind::Audio))
}

/// The media type of a picture's base64 by its first bytes.
pub(super) fn picture_type(data: &str) -> &'static str {
    let begins = [("/9j/", "image/jpeg"), ("R0lG", "image/gif"), ("UklG", "image/webp")];
    begins.iter().find(|(start, _)| data.starts_with(start)).map_or("image/png", |(_, media_type)| media_type)
}

/// The name of a document under Converse's rules (letters, digits, single blanks, hyphens, round and square brackets), different from
/// those that are `taken`. The ending is left out: the format says it.
pub(super) fn document_name(filename: Option<&str>, taken: &[String]) -> String {
    let filename = filename.unwrap_or_default();
    let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']');
    let plain: String = stem.chars().map(|c| if allowed(c) { c } else { ' ' }).collect();
    let words: String = plain.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_NAME - 8).collect();
    let base = if words.trim().is_empty() { "Document" } else { words.trim() };
    let mut name = base.to_owned();
    for number in 2.. {
        if !taken.contains(&name) {
            break;
        }
        name = format!("{base} {number}");
    }
    name
}
