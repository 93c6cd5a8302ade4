//! The keys of Amazon's and Google's clouds, by the variables that their own SDKs read.
//!
//! These variables may be there for other programs. So they make a provider only together with the place to use it at
//! (`AWS_REGION`, `GOOGLE_CLOUD_PROJECT`), and otherwise only give keys to a provider of the file that has none.

use super::env::Env;
use super::problem::{At, Place};
use super::raw::{Raw, RawKey, RawProvider, RawSecret};
use crate::domain::Secret;
use crate::provider::{Catalog, CloudKind};
use std::path::PathBuf;

/// The variables of Amazon's regions.
pub const AWS_REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// The variables of Google's projects.
pub const GOOGLE_PROJECT: [&str; 2] = ["GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"];
/// The variables of Google's locations.
pub const GOOGLE_LOCATION: [&str; 2] = ["GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION"];
/// The variables of versions of Azure's API.
pub const AZURE_API_VERSION: [&str; 2] = ["OPENAI_API_VERSION", "AZURE_OPENAI_API_VERSION"];

/// Adds what the environment knows of keys and places.
pub fn apply(env: &Env, catalog: &Catalog, raw: &mut Raw) {
    for (kind, secret, place) in
        [(CloudKind::Bedrock, aws(env), &AWS_REGION), (CloudKind::Vertex, google(env), &GOOGLE_PROJECT)]
    {
        let Some(secret) = secret else { continue };
        let cloud_of = |provider: &RawProvider| {
            let own = provider.cloud.as_ref().map(|at| at.value);
            own.or_else(|| catalog.provider(&provider.id.value)?.cloud)
        };
        let mut found = false;
        for provider in raw.providers.iter_mut().filter(|provider| cloud_of(provider) == Some(kind)) {
            found = true;
            if provider.keys.is_empty() {
                provider.keys.push(RawKey::new(secret.clone()));
            }
        }
        if !found && place.iter().any(|name| env.get(name).is_some()) {
            let mut provider = RawProvider::new(At::new(kind.name().to_owned(), secret.place.clone()));
            provider.keys.push(RawKey::new(secret));
            raw.providers.push(provider);
        }
    }
}

/// Amazon's keys, put together as a key of the gateway's.
fn aws(env: &Env) -> Option<At<RawSecret>> {
    const NAME: &str = "AWS_ACCESS_KEY_ID";
    let mut keys = format!("{}:{}", env.get(NAME)?, env.get("AWS_SECRET_ACCESS_KEY")?);
    if let Some(session) = env.get("AWS_SESSION_TOKEN") {
        keys = keys + ":" + session;
    }
    Some(At::new(RawSecret::FromEnv(Secret::new(keys)), Place::Env(NAME.to_owned())))
}

/// Google's account, in the file that the variable names.
fn google(env: &Env) -> Option<At<RawSecret>> {
    const NAME: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    let path = PathBuf::from(env.get(NAME)?);
    Some(At::new(RawSecret::File(path), Place::Env(NAME.to_owned())))
}
