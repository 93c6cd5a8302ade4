//! A `multipart/form-data` body, taken apart and put together again. Source: RFC 7578.

use crate::dialect::extensions::MEMBERS;
use crate::domain::Fault;
use bytes::Bytes;

/// A form as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// What stands between the parts, without the dashes before it.
    pub boundary: String,
    /// The parts, in order.
    pub parts: Vec<Part>,
}

/// A part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Whether it is a file.
    pub is_file: bool,
    /// Its head, line by line.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its content.
    pub body: Bytes,
}

impl Form {
    /// The text of a part, the last one when there are several.
    ///
    /// # Errors
    /// `BadRequest` when it is no text.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, Fault> {
        let Some(part) = self.parts.iter().rfind(|part| part.name == name) else { return Ok(None) };
        let text =
            std::str::from_utf8(&part.body).map_err(|_| Fault::bad_request(name, format!("{name} is no text")))?;
        Ok(Some(text))
    }

    /// Bytes of the parts that are no files.
    pub fn text_bytes(&self) -> usize {
        self.parts.iter().filter(|part| !part.is_file).map(|part| part.body.len()).sum()
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.body.len()).sum()
    }

    /// The media type, with the boundary.
    pub fn content_type(&self) -> String {
        // Quoted, because it may hold characters that a bare value must not.
        let is_bare = self.boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+'".contains(&byte));
        let quote = if is_bare { "" } else { "\"" };
        format!("multipart/form-data; boundary={quote}{}{quote}", self.boundary)
    }

    /// The form for a provider: with its name for the model, and without what is addressed to the gateway.
    pub fn render(&self, model: &str) -> Vec<u8> {
        let sent = || self.parts.iter().filter(|part| !MEMBERS.contains(&part.name.as_str()));
        let size: usize = sent().map(|part| part.body.len() + 256).sum();
        let mut out = Vec::with_capacity(size);
        let mut has_model = false;
        for part in sent() {
            has_model |= part.name == "model";
            self.begin(&mut out);
            for (name, value) in &part.headers {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(if part.name == "model" { model.as_bytes() } else { &part.body });
            out.extend_from_slice(b"\r\n");
        }
        if !has_model {
            self.begin(&mut out);
            out.extend_from_slice(b"Content-Disposition: form-data; name=\"model\"\r\n\r\n");
            out.extend_from_slice(model.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        out
    }

    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"--");
        out.extend_from_slice(self.boundary.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}
