//! A text of a provider's JSON, borrowed from its bytes wherever it needs no unescaping.

use serde::Deserialize;
use std::borrow::Cow;

/// A text that is borrowed inside an `Option` too, which serde does for a newtype only.
#[derive(Debug, Default, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The text, or nothing.
pub(in crate::dialect) fn text<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_ref().map_or("", |text| &text.0)
}
