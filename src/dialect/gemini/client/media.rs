//! Pictures, documents, sounds and films of a request, read into the hub by their types.

use super::request::named;
use crate::dialect::chat::{Media, PartKind};
use crate::dialect::openai_chat::fields::Path;
use crate::domain::Fault;
use serde_json::Value;

/// Where the Gemini API keeps uploaded files.
const FILES: &str = "https://generativelanguage.googleapis.com/";

/// `inlineData`.
///
/// # Errors
/// `BadRequest` that names the place.
pub(super) fn inline(value: Value, path: &Path<'_>) -> Result<PartKind, Fault> {
    let mut blob = named(value, path)?;
    let media_type = blob.text("mimeType")?.unwrap_or_default();
    // Clients may write the bytes in the other alphabet of base64.
    let data = blob.required_text("data")?;
    let data = if data.contains(['-', '_']) { data.replace('-', "+").replace('_', "/") } else { data };
    let name = blob.text("displayName")?;
    Ok(kind(Media::Inline { media_type: media_type.clone(), data }, &media_type, name))
}

/// `fileData`.
///
/// # Errors
/// `BadRequest` that names the place, for what only Google can fetch too.
pub(super) fn file(value: Value, path: &Path<'_>) -> Result<PartKind, Fault> {
    let mut file = named(value, path)?;
    let uri = file.required_text("fileUri")?;
    let media_type = file.text("mimeType")?.unwrap_or_default();
    let name = file.text("displayName")?;
    if uri.starts_with(FILES) || uri.starts_with("gs://") || !uri.contains("://") {
        let path = path.member("fileUri");
        return Err(path.fault(format!("{path} is a file that Google keeps: this provider cannot read it")));
    }
    Ok(kind(Media::Url(uri), &media_type, name))
}

fn kind(source: Media, media_type: &str, filename: Option<String>) -> PartKind {
    match media_type.split('/').next().unwrap_or_default() {
        "image" => PartKind::Image { source, detail: None },
        "audio" => PartKind::Audio { source },
        "video" => PartKind::Video { source },
        _ => PartKind::File { source, filename },
    }
}
