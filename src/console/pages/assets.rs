//! The stylesheet, the script and the icon, out of the binary.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// What the addresses of the files end with, so that a new version is a new address.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = [STYLE, SCRIPT, ICON].iter().fold(Sha256::new(), |hash, text| hash.chain_update(text));
    hex::encode(hash.finalize()).get(..12).unwrap_or_default().to_owned()
});

fn file(kind: &'static str, text: &'static str, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", *VERSION);
    let head = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "max-age=86400".to_owned())];
    if asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    (head, [(header::CONTENT_TYPE, kind)], text).into_response()
}

pub(super) async fn style(asked: HeaderMap) -> Response {
    file("text/css; charset=utf-8", STYLE, &asked)
}

pub(super) async fn script(asked: HeaderMap) -> Response {
    file("text/javascript; charset=utf-8", SCRIPT, &asked)
}

pub(super) async fn icon(asked: HeaderMap) -> Response {
    file("image/svg+xml", ICON, &asked)
}
