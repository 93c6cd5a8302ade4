//! Pictures, documents, sounds and films as parts.
//!
//! Inline bytes become `inlineData`. An address becomes `fileData`, whose type Google wants to know beforehand: it is guessed from the
//! path. Video pages of YouTube are addresses that Google understands by itself. Ids of uploaded files (`files/abc`) become the address
//! under which the Gemini API knows them.

use super::body::{FileData, InlineData, Part};
use crate::dialect::chat::{Media, ModelTraits, PartKind};
use crate::domain::Fault;
use std::borrow::Cow;

/// Where the Gemini API keeps uploaded files; `fileUri` is this address also behind a proxy.
const FILES: &str = "https://generativelanguage.googleapis.com/v1beta/";

/// The part for a picture, a document, a sound or a film; `None` for text.
///
/// # Errors
/// `BadRequest` when it is given by address and the target takes none.
pub fn part<'a>(kind: &'a PartKind, traits: &ModelTraits) -> Result<Option<Part<'a>>, Fault> {
    let (source, name, fallback) = match kind {
        PartKind::Text(_) | PartKind::Refusal(_) => return Ok(None),
        PartKind::Image { source, .. } => (source, None, "image/jpeg"),
        PartKind::File { source, filename } => (source, filename.as_deref(), "application/pdf"),
        PartKind::Audio { source } => (source, None, "audio/mpeg"),
        PartKind::Video { source } => (source, None, "video/mp4"),
    };
    let part = match source {
        Media::Inline { media_type, data } => {
            let mime_type = inline_type(media_type, name);
            Part { inline_data: Some(InlineData { mime_type, data }), ..Part::default() }
        }
        Media::Url(url) if is_youtube(url) => file(Cow::Borrowed(url), Some("video/mp4")),
        Media::Url(url) if traits.media_urls || url.starts_with("gs://") => {
            file(Cow::Borrowed(url), Some(by_path(url).unwrap_or(fallback)))
        }
        Media::Url(_) => {
            let message =
                "this model takes no media by address: send the bytes as base64, or let the gateway fetch them";
            return Err(Fault::bad_request("messages", message));
        }
        Media::FileId(id) if id.contains("://") => file(Cow::Borrowed(id), by_path(id).or(name.and_then(by_path))),
        Media::FileId(id) => {
            let path = if id.starts_with("files/") { "" } else { "files/" };
            file(Cow::Owned(format!("{FILES}{path}{id}")), name.and_then(by_path))
        }
    };
    Ok(Some(part))
}

fn file<'a>(file_uri: Cow<'a, str>, mime_type: Option<&'static str>) -> Part<'a> {
    Part { file_data: Some(FileData { mime_type, file_uri }), ..Part::default() }
}

/// The type to declare for inline bytes. Google reads every text as `text/plain`, but refuses types such as `application/json`.
fn inline_type<'a>(declared: &'a str, name: Option<&str>) -> &'a str {
    let essence = declared.split(';').next().unwrap_or_default().trim();
    if essence.is_empty() || essence.eq_ignore_ascii_case("application/octet-stream") {
        return name.and_then(by_path).unwrap_or("application/pdf");
    }
    if is_text(essence) { "text/plain" } else { declared }
}

fn is_text(essence: &str) -> bool {
    let essence = essence.to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return essence.starts_with("text/") };
    matches!(
        subtype,
        "json"
            | "x-ndjson"
            | "jsonl"
            | "xml"
            | "yaml"
            | "x-yaml"
            | "toml"
            | "javascript"
            | "x-javascript"
            | "typescript"
            | "x-typescript"
            | "x-python"
            | "x-sh"
            | "sql"
            | "graphql"
            | "rtf"
            | "csv"
            | "markdown"
    ) || subtype.ends_with("+json")
        || subtype.ends_with("+xml")
}

/// Whether an address is a page of a video on YouTube.
fn is_youtube(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    matches!(host.as_str(), "youtube.com" | "www.youtube.com" | "m.youtube.com" | "youtu.be")
}

/// The type that the extension of a path or an address names.
fn by_path(path: &str) -> Option<&'static str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" | "jpe" | "jfif" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "avif" => "image/avif",
        "bmp" => "image/bmp",
        "pdf" => "application/pdf",
        "txt" | "md" | "markdown" | "csv" | "tsv" | "json" | "jsonl" | "ndjson" | "xml" | "yaml" | "yml" | "toml"
        | "html" | "htm" | "css" | "js" | "mjs" | "ts" | "tsx" | "jsx" | "py" | "rs" | "go" | "java" | "c" | "h"
        | "cpp" | "cs" | "rb" | "php" | "sh" | "sql" | "log" | "rtf" | "tex" | "ini" | "srt" | "vtt" => "text/plain",
        "mp3" | "mpga" => "audio/mpeg",
        "wav" => "audio/wav",
        "aac" => "audio/aac",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "flac" => "audio/flac",
        "aif" | "aiff" => "audio/aiff",
        "m4a" => "audio/mp4",
        "mp4" | "m4v" => "video/mp4",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        "mpg" | "mpeg" => "video/mpeg",
        "avi" => "video/x-msvideo",
        "flv" => "video/x-flv",
        "wmv" => "video/x-ms-wmv",
        "3gp" | "3gpp" => "video/3gpp",
        "mkv" => "video/x-matroska",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn render(kind: &PartKind, traits: &ModelTraits) -> Value {
        serde_json::to_value(part(kind, traits).unwrap().unwrap()).unwrap()
    }

    fn url(url: &str) -> PartKind {
        PartKind::Image { source: Media::Url(url.to_owned()), detail: None }
    }

    #[test]
    fn addresses_carry_a_guessed_type() {
        let traits = ModelTraits::default();
        let cases = [
            (url("https://a.example/x.PNG?size=3"), "image/png"),
            (url("https://a.example/render"), "image/jpeg"),
            (PartKind::Video { source: Media::Url("https://youtu.be/abc".into()) }, "video/mp4"),
            (PartKind::File { source: Media::Url("gs://b/notes.md".into()), filename: None }, "text/plain"),
            (PartKind::Audio { source: Media::Url("https://a.example/b/c.wav#t".into()) }, "audio/wav"),
        ];
        for (kind, expected) in cases {
            assert_eq!(render(&kind, &traits)["fileData"]["mimeType"], expected, "{kind:?}");
        }
    }

    #[test]
    fn addresses_are_refused_where_none_are_taken() {
        let traits = ModelTraits { media_urls: false, ..ModelTraits::default() };
        let fault = part(&url("https://a.example/x.png"), &traits).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("messages"));
        assert!(part(&url("https://www.youtube.com/watch?v=1"), &traits).is_ok());
        assert!(part(&url("https://notyoutube.com/watch?v=1"), &traits).is_err());
    }

    #[test]
    fn uploaded_files_get_their_address() {
        let traits = ModelTraits::default();
        let file = |id: &str| PartKind::File { source: Media::FileId(id.to_owned()), filename: Some("a.pdf".into()) };
        let address = "https://generativelanguage.googleapis.com/v1beta/files/abc";
        let expected = json!({"fileData": {"mimeType": "application/pdf", "fileUri": address}});
        for id in ["files/abc", "abc", address] {
            assert_eq!(render(&file(id), &traits), expected, "{id}");
        }
    }

    #[test]
    fn texts_are_declared_plain() {
        let file = |media_type: &str, name: Option<&str>| PartKind::File {
            source: Media::Inline { media_type: media_type.to_owned(), data: "YQ==".to_owned() },
            filename: name.map(str::to_owned),
        };
        let cases = [
            (file("application/json", None), "text/plain"),
            (file("text/x-rust; charset=utf-8", None), "text/plain"),
            (file("application/octet-stream", Some("a.csv")), "text/plain"),
            (file("", None), "application/pdf"),
            (file("application/pdf", Some("a.txt")), "application/pdf"),
            (file("audio/x-wav", None), "audio/x-wav"),
        ];
        for (kind, expected) in cases {
            assert_eq!(render(&kind, &ModelTraits::default())["inlineData"]["mimeType"], expected, "{kind:?}");
        }
    }
}
