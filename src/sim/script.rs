//! What a simulated provider does with which call.

use super::act::Act;
use super::fault::SimFault;
use std::collections::VecDeque;
use std::time::Duration;

/// What is done with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A named fault, or none.
    Fault(SimFault),
    /// No fault, with a pause before each piece of the answer.
    Paced(Duration),
    /// This status, these headers and this body, whatever was asked.
    Reply {
        /// The HTTP status.
        status: u16,
        /// Headers beside `content-type: application/json` and the length.
        headers: Vec<(&'static str, String)>,
        /// The body as it is.
        body: String,
    },
    /// Literally this.
    Acts(Vec<Act>),
}

impl Step {
    /// A good answer.
    pub const OK: Self = Self::Fault(SimFault::Ok);
}

impl From<SimFault> for Step {
    fn from(fault: SimFault) -> Self {
        Self::Fault(fault)
    }
}

/// The steps in order of precedence: for a key, the next in the queue, for a model, for all; then the model's name.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub by_key: Vec<(String, Step)>,
    pub queue: VecDeque<Step>,
    pub by_model: Vec<(String, Step)>,
    pub always: Option<Step>,
}

impl Script {
    /// The step for a call. Takes it out of the queue if it came from there.
    pub fn next(&mut self, key: Option<&str>, model: &str) -> Step {
        if let Some((_, step)) = self.by_key.iter().rfind(|(one, _)| Some(one.as_str()) == key) {
            return step.clone();
        }
        if let Some(step) = self.queue.pop_front() {
            return step;
        }
        if let Some((_, step)) = self.by_model.iter().rfind(|(part, _)| model.contains(part.as_str())) {
            return step.clone();
        }
        if let Some(step) = &self.always {
            return step.clone();
        }
        Step::Fault(fault_of_model(model).unwrap_or(SimFault::Ok))
    }
}

/// The fault of a model called `sim-<fault>`.
fn fault_of_model(model: &str) -> Option<SimFault> {
    let name = model.rsplit('/').next().unwrap_or(model);
    SimFault::from_name(name.strip_prefix("sim-")?)
}

/// Whether no simulated provider knows a model: it says so itself, or it is a `sim-` without a fault.
pub(super) fn is_unknown(model: &str, only: Option<&[String]>) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    match only {
        Some(models) => !models.iter().any(|one| one == model),
        None => {
            name.contains("unknown")
                || name.contains("does-not-exist")
                || (name.starts_with("sim-") && fault_of_model(name).is_none())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_before_names_of_models_and_the_queue_before_what_stays() {
        let mut script = Script::default();
        assert_eq!(script.next(None, "sim-429"), SimFault::RateLimited.into());
        assert_eq!(script.next(None, "gpt-4o"), Step::OK);
        script.always = Some(SimFault::ServerError.into());
        script.by_model.push(("gpt".to_owned(), SimFault::Html.into()));
        script.queue.push_back(SimFault::Empty.into());
        script.by_key.push(("k2".to_owned(), SimFault::Quota.into()));
        assert_eq!(script.next(Some("k2"), "gpt-4o"), SimFault::Quota.into());
        assert_eq!(script.next(Some("k1"), "gpt-4o"), SimFault::Empty.into());
        assert_eq!(script.next(Some("k1"), "gpt-4o"), SimFault::Html.into());
        assert_eq!(script.next(Some("k1"), "sim-429"), SimFault::ServerError.into());
    }

    #[test]
    fn knows_which_models_nobody_knows() {
        assert!(is_unknown("sim-nonsense", None) && is_unknown("gpt-does-not-exist", None));
        assert!(!is_unknown("sim-429", None) && !is_unknown("gpt-4o", None));
        assert!(is_unknown("gpt-4o", Some(&["gpt-5".to_owned()])));
    }
}
