//! A body that is not translated whatever its provider: the model's name is exchanged, what is the gateway's cut out, and hardly anything
//! else touched.

use super::{Cutter, Edits, Envelope, Field, Member, Work, write};
use std::borrow::Cow;

impl Envelope {
    /// The body for a provider; members may be called otherwise there (`renamed`), or not be wanted (`is_cut`).
    pub(in crate::dialect) fn relayed_body(
        &self,
        model: &str,
        renamed: impl Fn(&str) -> Option<&'static str>,
        is_cut: impl Fn(&str, &[u8]) -> bool,
    ) -> Vec<u8> {
        let (mut edits, mut cutter) = (Edits::default(), Cutter::default());
        for member in &self.members {
            let (name, value) = (super::name(&self.body[member.key.clone()]), member.value.clone());
            if member.field.is_extension() || is_cut(&name, &self.body[value.clone()]) {
                edits.replace(cutter.cut(&self.body, member.key.start..value.end), &[]);
                continue;
            }
            cutter.keep(value.end);
            if member.field == Field::Model {
                let mut name = Vec::with_capacity(model.len() + 2);
                write::string(model, &mut name);
                edits.replace(value, &[&name]);
            } else if let Some(name) = renamed(&name) {
                edits.replace(member.key.clone(), &[b"\"", name.as_bytes(), b"\""]);
            }
        }
        let mut out = Vec::new();
        edits.apply(&self.body, &mut out);
        out
    }

    /// Whether its answer is a stream for certain; of what passes as it is the provider's answer says so.
    pub fn streams_at_once(&self) -> bool {
        self.stream && !matches!(self.work, Work::Relay(_))
    }

    /// The name of a top-level member, escapes resolved.
    pub(in crate::dialect) fn name_of(&self, member: &Member) -> Cow<'_, str> {
        super::name(&self.body[member.key.clone()])
    }

    /// The value of a top-level member by its name, the last one when there are several.
    pub(in crate::dialect) fn member(&self, name: &str) -> Option<&[u8]> {
        let member = self.members.iter().rfind(|member| self.name_of(member) == name)?;
        Some(&self.body[member.value.clone()])
    }
}
