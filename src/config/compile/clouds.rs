//! Where in a cloud a provider is: its host and what its paths and signatures name.

use super::super::clouds::{AWS_REGION, AZURE_API_VERSION, GOOGLE_LOCATION, GOOGLE_PROJECT};
use super::super::net::BaseUrl;
use super::super::problem::{At, Place};
use super::super::raw::*;
use super::Compiler;
use crate::domain::ProviderKey;
use crate::provider::credential::{AwsKeys, GoogleAccount};
use crate::provider::{AuthScheme, Cloud, CloudKind, ModelRow};
use std::sync::Arc;

/// The region of Amazon's that is meant where neither a setting nor the address names one: what its own tools take for services that
/// are not its own.
const DEFAULT_REGION: &str = "us-east-1";

impl Compiler<'_> {
    /// The place of a provider and its base URL. A place that is not complete is an error in the file, and leaves out a provider that
    /// only the environment has switched on.
    pub(super) fn place(
        &mut self,
        kind: CloudKind,
        raw: &RawProvider,
        keys: &[Arc<ProviderKey>],
    ) -> Option<(BaseUrl, Cloud)> {
        let written = match &raw.base_url {
            Some(at) => Some(self.report.checked(at, BaseUrl::parse(&without_paths(kind, &at.value)))?),
            None => None,
        };
        let cloud = match kind {
            CloudKind::Azure => {
                let api_version = self.own_or_env(&raw.api_version, &AZURE_API_VERSION);
                Cloud::Azure { api_version: api_version.map(Arc::from) }
            }
            CloudKind::Bedrock => {
                let own = raw.region.as_ref().map(|at| at.value.clone());
                let region = own
                    .or_else(|| written.as_ref().and_then(|base| region_of(&base.host)))
                    .or_else(|| self.own_or_env(&None, &AWS_REGION))
                    .or_else(|| written.as_ref().map(|_| DEFAULT_REGION.to_owned()));
                let Some(region) = region else {
                    return self.missing(raw, "has no region: set region, or AWS_REGION");
                };
                Cloud::Bedrock { region: region.into() }
            }
            CloudKind::Vertex => {
                let own = self.own_or_env(&raw.project, &GOOGLE_PROJECT);
                let account = || GoogleAccount::parse(keys.first()?.secret.reveal()).ok();
                let Some(project) = own.or_else(|| account()?.project_id().map(str::to_owned)) else {
                    return self.missing(raw, "has no project: set project, or GOOGLE_CLOUD_PROJECT");
                };
                let location = self.own_or_env(&raw.location, &GOOGLE_LOCATION).unwrap_or_else(|| "global".to_owned());
                Cloud::Vertex { project: project.into(), location: location.into() }
            }
        };
        let base = match (written, cloud.base_url()) {
            (Some(base), _) => base,
            (None, Some(url)) => self.report.checked(&raw.id, BaseUrl::parse(&url))?,
            (None, None) => {
                return self.missing(raw, "has no base_url: set that of your resource, or AZURE_OPENAI_ENDPOINT");
            }
        };
        Some((base, cloud))
    }

    fn missing<T>(&mut self, raw: &RawProvider, what: &str) -> Option<T> {
        if raw.enabled.as_ref().is_some_and(|enabled| !enabled.value) {
            return None;
        }
        let message = format!("{} {what}", raw.id.value);
        match raw.id.place {
            Place::Env(_) => self.report.warn(raw.id.problem(format!("{message}; it is left out"))),
            _ => self.report.error(raw.id.problem(message)),
        }
        None
    }

    /// What the file says, else the first of these variables that is set. Unlike elsewhere the file comes first: one file may name
    /// several places, and the variables are often there for other programs.
    fn own_or_env(&self, own: &Setting<String>, names: &[&str]) -> Option<String> {
        let from_env = || names.iter().find_map(|name| self.around.env.get(name)).map(str::to_owned);
        own.as_ref().map(|at| at.value.clone()).or_else(from_env)
    }

    /// A row for each deployment that has a name of the operator's, unless `[[provider.model]]` has one.
    pub(super) fn deployments(
        &self,
        provider: &str,
        raw: &[(At<String>, String)],
        models: &[Arc<ModelRow>],
    ) -> Vec<Arc<ModelRow>> {
        let is_new = |name: &str| !models.iter().any(|row| *row.upstream == *name);
        let rows = raw.iter().filter(|(_, deployment)| is_new(deployment)).map(|(name, deployment)| {
            let known = self.catalog.model_at(provider, &name.value).map(|row| ModelRow::clone(row));
            let mut row = known.unwrap_or_else(|| self.catalog.unknown_model_at(provider, &name.value));
            row.upstream = deployment.as_str().into();
            if !row.aliases.contains(&name.value) {
                row.aliases.push(name.value.clone());
            }
            Arc::new(row)
        });
        rows.collect()
    }
}

/// What users copy from a cloud's pages, without the path that a request brings.
fn without_paths(kind: CloudKind, url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    match kind {
        CloudKind::Azure => url.find("/openai").map_or(url, |at| &url[..at]).to_owned(),
        CloudKind::Bedrock => url.to_owned(),
        CloudKind::Vertex => url.strip_suffix("/v1").unwrap_or(url).to_owned(),
    }
}

/// The region in the name of one of Amazon's hosts: `bedrock-runtime.eu-west-3.amazonaws.com`.
fn region_of(host: &str) -> Option<String> {
    let before = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let region =
        before.split('.').find(|part| part.matches('-').count() >= 2 && part.ends_with(|c: char| c.is_ascii_digit()));
    region.map(str::to_owned)
}

/// Whether a key is one that the scheme can use.
///
/// # Errors
/// What is wrong with it, without a word out of it.
pub(super) fn credential_fits(auth: AuthScheme, key: &str) -> Result<(), String> {
    match auth {
        AuthScheme::Google if GoogleAccount::is_meant(key) => GoogleAccount::parse(key).map(drop),
        AuthScheme::Aws if key.contains(':') && AwsKeys::parse(key).is_none() => {
            Err("must be ACCESS:SECRET or ACCESS:SECRET:SESSION, or an API key of Bedrock's".to_owned())
        }
        _ => Ok(()),
    }
}
