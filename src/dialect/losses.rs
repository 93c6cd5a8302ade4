//! What of a request cannot be said in a provider's format.

use crate::domain::Fault;

/// The client's parameters that are left out, by name; or the refusal to leave any out.
#[derive(Debug)]
pub struct Losses {
    refuse: bool,
    names: Vec<String>,
}

impl Losses {
    /// None yet; `refuse` is [`crate::dialect::chat::ModelTraits::require_parameters`].
    pub fn new(refuse: bool) -> Self {
        Self { refuse, names: Vec::new() }
    }

    /// Leaves a parameter out, and says why where that is not allowed.
    ///
    /// # Errors
    /// `BadRequest` when nothing may be left out.
    pub fn drop(&mut self, parameter: &str, why: &'static str) -> Result<(), Fault> {
        if self.refuse {
            return Err(Fault::bad_request(parameter, why));
        }
        if !self.names.iter().any(|name| name == parameter) {
            self.names.push(parameter.to_owned());
        }
        Ok(())
    }

    /// The names, in the order in which they were found.
    pub fn into_names(self) -> Vec<String> {
        self.names
    }
}
