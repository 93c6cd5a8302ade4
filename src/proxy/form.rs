//! Takes a client's `multipart/form-data` apart.

use crate::dialect::relay::form::{Form, Part};
use crate::domain::Fault;
use bytes::Bytes;
use futures::stream;
use std::convert::Infallible;

/// More parts than any form of OpenAI's has, and few enough that none of them costs anything.
const MOST_PARTS: usize = 256;

/// The boundary of a form; `None` for a body that is none.
///
/// # Errors
/// `BadRequest` when it says that it is one and not where its parts end.
pub(super) fn boundary(content_type: Option<&str>) -> Result<Option<String>, Fault> {
    let Some(content_type) = content_type else { return Ok(None) };
    if !content_type.trim_start().to_ascii_lowercase().starts_with("multipart/") {
        return Ok(None);
    }
    multer::parse_boundary(content_type).map(Some).map_err(|error| wrong(&error))
}

/// The parts of a body.
///
/// # Errors
/// `BadRequest` when it is no form.
pub(super) async fn read(body: Bytes, boundary: String) -> Result<Form, Fault> {
    let whole = stream::iter([Ok::<_, Infallible>(body)]);
    let mut fields = multer::Multipart::new(whole, boundary.clone());
    let mut form = Form { boundary, parts: Vec::new() };
    while let Some(field) = fields.next_field().await.map_err(|error| wrong(&error))? {
        if form.parts.len() == MOST_PARTS {
            return Err(Fault::bad_request("body", format!("the form has more than {MOST_PARTS} parts")));
        }
        let headers = field.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
        let (name, is_file) = (field.name().unwrap_or_default().to_owned(), field.file_name().is_some());
        let body = field.bytes().await.map_err(|error| wrong(&error))?;
        form.parts.push(Part { name, is_file, headers, body });
    }
    Ok(form)
}

fn wrong(error: &multer::Error) -> Fault {
    Fault::bad_request("body", format!("the body is not a form: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn parsed(body: &'static [u8]) -> Result<Form, Fault> {
        read(Bytes::from_static(body), "b".to_owned()).now_or_never().unwrap()
    }

    #[test]
    fn parts_are_read_and_written_as_they_were() {
        let body = b"--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"\xc3\xa9.wav\"\r\ncontent-type: audio/wav\r\n\r\n\
            RIFF\0\xff\r\n--\r\n--b--\r\n";
        let form = parsed(body).unwrap();
        let seen: Vec<(&str, bool, &[u8])> =
            form.parts.iter().map(|part| (part.name.as_str(), part.is_file, &part.body[..])).collect();
        assert_eq!(seen, [("model", false, &b"m"[..]), ("file", true, b"RIFF\0\xff\r\n--")]);
        assert_eq!(form.render("m"), body);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for body in [&b""[..], b"{}", b"--b\r\n", b"--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nunended"] {
            assert!(parsed(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(boundary(None).unwrap(), None);
        assert_eq!(boundary(Some("application/json")).unwrap(), None);
        assert_eq!(boundary(Some("Multipart/Form-Data; boundary=\"a b\"")).unwrap().as_deref(), Some("a b"));
        assert!(boundary(Some("multipart/form-data")).is_err());
    }
}
