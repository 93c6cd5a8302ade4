//! What a key may be used for: refused with a 403 that names what was asked, and left out of what was not asked by name.

use super::accept::{ANTHROPIC, percent_decode};
use super::core::ClientCtx;
use super::error::{ApiError, Reason};
use super::plan::Plan;
use crate::config::keys::Holder;
use crate::config::scopes::KeyScopes;
use crate::config::snapshot::{Provider, Snapshot};
use crate::dialect::gemini::client::call::{Call, below_version};
use crate::provider::ModelRow;
use std::net::IpAddr;

/// Whether the key may be used from there, on this path.
///
/// # Errors
/// 403 that names the address or the path.
pub(super) fn admit(holder: Option<&Holder>, address: Option<IpAddr>, path: &str) -> Result<(), ApiError> {
    let Some(holder) = holder else { return Ok(()) };
    let Some(scopes) = &holder.scopes else { return Ok(()) };
    if !scopes.allows_address(address) {
        let from = address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
        return Err(refused(holder, &format!("may not be used from {from}")));
    }
    let list = models_by_openais_name(path);
    let path = canonical(path);
    if !scopes.allows_route(&path) && !list.is_some_and(|list| scopes.allows_route(&list)) {
        return Err(refused(holder, &format!("may not be used for {path}")));
    }
    Ok(())
}

/// A path as the documents have it, in whichever of its forms it was sent. One by which Google's clients ask is never one of OpenAI's list
/// of models, though it may begin like one.
fn canonical(path: &str) -> String {
    if let Some(call) = Call::of(&percent_decode(path.trim_end_matches('/'))) {
        return call.path().chars().take(200).collect();
    }
    if let Some(below) = below_version(path) {
        return format!("/v1beta/{}", below.trim_matches('/').chars().take(200).collect::<String>());
    }
    let path = path.strip_prefix(ANTHROPIC).filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let mut rest = path.trim_matches('/');
    while let Some(below) = rest.strip_prefix("v1/") {
        rest = below;
    }
    format!("/v1/{}", rest.chars().take(200).collect::<String>())
}

/// The list of models that Google's clients read, or one of it, by the name that it has in OpenAI's form: leave to read the one is leave to
/// read the other. The opposite does not hold: who names Google's means Google's.
fn models_by_openais_name(path: &str) -> Option<String> {
    let below = below_version(path)?.trim_end_matches('/');
    let is_list = below == "/models" || below.starts_with("/models/");
    let asks_a_model = Call::of(&percent_decode(path.trim_end_matches('/'))).is_some();
    (is_list && !asks_a_model).then(|| format!("/v1{}", below.chars().take(200).collect::<String>()))
}

impl Plan {
    /// Takes out of the plan what the key may not use.
    ///
    /// # Errors
    /// 403 that names the model, when nothing is left of what was asked for or of a fallback that the request names.
    pub(super) fn keep_to(
        &mut self,
        client: &ClientCtx,
        snapshot: &Snapshot,
        named_fallbacks: bool,
    ) -> Result<(), ApiError> {
        let Some(holder) = &client.holder else { return Ok(()) };
        let Some(scopes) = &holder.scopes else { return Ok(()) };
        // A name of the operator's own may be allowed as such, whatever it stands for.
        let by_name = snapshot.alias(&self.asked).is_some() && scopes.allows_name(&self.asked);
        let allowed = |leg: usize, provider: &Provider, model: &ModelRow| {
            scopes.allows_provider(provider) && ((leg == 0 && by_name) || scopes.allows_model(provider, model))
        };
        let is_left = |targets: &[(usize, super::names::Target)], leg: usize| targets.iter().any(|(of, _)| *of == leg);
        let before = self.targets.clone();
        self.targets.retain(|(leg, target)| allowed(*leg, &target.provider, &target.model));
        self.successors.retain(|target| allowed(1, &target.provider, &target.model));
        for (leg, target) in &before {
            if (*leg == 0 || named_fallbacks) && !is_left(&self.targets, *leg) {
                let name = if *leg == 0 {
                    self.asked.to_string()
                } else {
                    format!("{}/{}", target.provider.id, target.model.upstream)
                };
                let named: Vec<&str> =
                    before.iter().filter(|(of, _)| of == leg).map(|(_, target)| &*target.provider.id).collect();
                return Err(refused(holder, &may_not(scopes, &name, &named)).param("model"));
            }
        }
        Ok(())
    }
}

/// What is said of a model.
fn may_not(scopes: &KeyScopes, model: &str, providers: &[&str]) -> String {
    let shown: String = model.chars().take(200).collect();
    let only = match scopes.models() {
        [] => format!(" at {}", providers.join(", ")),
        list => format!(": it may use {}", list.join(", ")),
    };
    format!("may not use the model {shown:?}{only}")
}

fn refused(holder: &Holder, what: &str) -> ApiError {
    ApiError::new(Reason::NotAllowed, format!("The key {:?} {what}", holder.principal.key_name)).hopeless()
}

#[cfg(test)]
mod tests {
    use super::{canonical, models_by_openais_name};

    #[test]
    fn googles_list_of_models_goes_by_openais_name_too_and_its_calls_do_not() {
        for (path, name) in [
            ("/v1beta/models", Some("/v1/models")),
            ("/v1/v1beta/models/", Some("/v1/models")),
            ("/v1alpha/models/a/b:floor", Some("/v1/models/a/b:floor")),
            ("/v1beta/models/a:generateContent", None),
            ("/v1beta/models/a%3AcountTokens", None),
            ("/v1beta/modelsx", None),
            ("/v1beta/files", None),
            ("/v1/models", None),
        ] {
            assert_eq!(models_by_openais_name(path).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn a_path_has_one_form() {
        assert_eq!(canonical("/anthropic/v1/messages"), "/v1/messages");
        for path in ["/v1/chat/completions", "/chat/completions/", "/v1/v1/chat/completions"] {
            assert_eq!(canonical(path), "/v1/chat/completions", "{path}");
        }
        assert_eq!(canonical("/v1/models/a/b"), "/v1/models/a/b");
        for path in ["/v1/models/a%2Fb:generateContent", "/v1/v1beta/models/a/b:generateContent/"] {
            assert_eq!(canonical(path), "/v1beta/models/a/b:generateContent", "{path}");
        }
    }
}
