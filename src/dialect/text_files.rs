//! Files of messages for formats that know texts only.

use super::chat::Media;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The text of a file.
///
/// # Errors
/// Why it is none.
pub fn text(source: &Media) -> Result<String, &'static str> {
    let Media::Inline { media_type, data } = source else {
        return Err("this provider does not fetch documents; send the data itself");
    };
    if !is_text(media_type) {
        return Err("this provider takes documents as text only");
    }
    decoded(data).ok_or("the document is not text in UTF-8, encoded in base64")
}

/// A file as a part of the message's text.
pub fn inline(title: Option<&str>, text: &str) -> String {
    match title {
        Some(title) => format!("{title}:\n\n{text}\n"),
        None => format!("{text}\n"),
    }
}

fn is_text(media_type: &str) -> bool {
    let (base, _) = media_type.split_once(';').unwrap_or((media_type, ""));
    let base = base.trim().to_ascii_lowercase();
    base.starts_with("text/")
        || base.ends_with("+json")
        || base.ends_with("+xml")
        || matches!(
            base.as_str(),
            "application/json"
                | "application/xml"
                | "application/yaml"
                | "application/x-yaml"
                | "application/toml"
                | "application/javascript"
                | "application/sql"
        )
}

/// Decodes base64 as clients send it: with or without padding, perhaps with line breaks.
fn decoded(data: &str) -> Option<String> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    String::from_utf8(LENIENT.decode(bytes).ok()?).ok()
}
