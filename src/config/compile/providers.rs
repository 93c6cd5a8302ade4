//! The providers: what the catalog knows, with what the operator wrote over it, and the secrets looked up.

use super::super::net::BaseUrl;
use super::super::problem::{At, Place, did_you_mean};
use super::super::raw::*;
use super::super::snapshot::{Provider, Timeouts};
use super::super::values;
use super::clouds::credential_fits;
use super::{Compiler, all};
use crate::dialect::openai_chat::passthrough::Quirks;
use crate::dialect::table::Dialect;
use crate::domain::{KeyQuota, Money, ProviderKey, Secret};
use crate::provider::credential::{self, GoogleAccount};
use crate::provider::row::completions;
use crate::provider::{AuthScheme, ModelRow, PicturePrice, Prices, ProviderRow, Tier};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Headers that the gateway sets itself.
const RESERVED: [&str; 7] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "expect", "accept-encoding"];

impl Compiler<'_> {
    /// The providers that can be used, in the order in which they were written.
    pub(super) fn providers(&mut self, raw: &[RawProvider], timeouts: Timeouts) -> Vec<Provider> {
        let mut providers: Vec<Provider> = Vec::new();
        for raw in raw {
            let provider = self.provider(raw, timeouts);
            let Some(provider) = provider else { continue };
            if let Some(name) = taken(&providers, &provider) {
                self.report.error(raw.id.problem(format!("there are two providers called {name:?}")));
            }
            if self.is_usable(raw, &provider) {
                providers.push(provider);
            }
        }
        providers
    }

    fn is_usable(&mut self, raw: &RawProvider, provider: &Provider) -> bool {
        if raw.enabled.as_ref().is_some_and(|enabled| !enabled.value) {
            return false;
        }
        if provider.keys.is_empty() && provider.needs_key() {
            let names = &provider.row.key_env;
            let hint = if names.is_empty() { "[[provider.key]]".to_owned() } else { names.join(" or ") };
            self.report.warn(raw.id.problem(format!("{} has no key and is left out: set {hint}", provider.id)));
            return false;
        }
        true
    }

    fn provider(&mut self, raw: &RawProvider, timeouts: Timeouts) -> Option<Provider> {
        let written = raw.id.value.as_str();
        if written.is_empty()
            || !written.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
        {
            self.report.error(raw.id.problem("must be made of lower-case letters, digits, - _ and ."));
            return None;
        }
        let known = self.catalog.provider(written).map(|row| {
            let (dialect, url) = (raw.dialect.as_ref().map(|at| at.value), raw.base_url.as_ref().map(|at| &*at.value));
            Arc::new(row.spoken_to(dialect, url))
        });
        let row = self.row(raw, known.as_deref());
        let keys = self.provider_keys(&row, raw);
        let (base, cloud) = match row.cloud {
            Some(kind) => self.place(kind, raw, &keys).map(|(base, cloud)| (Some(base), Some(cloud)))?,
            None => (self.base_url(raw, known.as_deref()), None),
        };
        let headers = self.headers(raw, &row);
        let ca = raw.ca_file.as_ref().map(|file| self.certificates(file)).unwrap_or_default();
        let own = &raw.timeouts;
        let has_own_clock = [&own.connect, &own.first_output, &own.idle, &own.total].into_iter().any(Option::is_some);
        let own_timeouts = has_own_clock.then(|| self.timeouts(own, timeouts));
        let mut models: Vec<_> = raw.models.iter().map(|model| Arc::new(self.local_model(&row.id, model))).collect();
        let caps = raw.models.iter().zip(&models);
        let model_caps = caps.filter_map(|(raw, row)| Some((row.upstream.clone(), raw.max_concurrent.as_ref()?.value)));
        let model_caps = model_caps.collect();
        models.extend(self.deployments(&row.id, &raw.deployments, &models));
        let secrets = keys.iter().flat_map(|key| credential::secrets(&key.secret)).collect();
        Some(Provider {
            id: row.id.clone(),
            name: row.name.clone(),
            dialect: row.dialect,
            base: base?,
            cloud,
            auth: row.auth,
            headers,
            quirks: row.quirks,
            keys,
            secrets,
            ca,
            weight: raw.weight.as_ref().map(|at| at.value),
            max_concurrent: raw.max_concurrent.as_ref().map(|at| at.value),
            model_caps,
            discovers: row.discovers,
            timeouts: own_timeouts,
            aliases: row.aliases.clone(),
            row: Arc::new(row),
            models,
        })
    }

    /// The provider's row of the catalog with what was written over it. A provider of the operator's own begins with what
    /// is usual for its format: the headers and the key's header come from the catalog's row that speaks it.
    fn row(&self, raw: &RawProvider, known: Option<&ProviderRow>) -> ProviderRow {
        let dialect = raw.dialect.as_ref().map(|at| at.value);
        let dialect = dialect.or(known.map(|row| row.dialect)).unwrap_or(Dialect::OpenAiChat);
        let of_cloud = raw.cloud.as_ref().and_then(|at| self.catalog.provider(at.value.name())).map(|row| &**row);
        let dialect = of_cloud.filter(|_| raw.dialect.is_none()).map_or(dialect, |row| row.dialect);
        let of_format = || {
            let speaks = |row: &&Arc<ProviderRow>| row.speaks(dialect) && dialect != Dialect::OpenAiChat;
            self.catalog.providers().iter().find(speaks).map(|row| row.spoken_to(Some(dialect), None))
        };
        let usual = of_cloud.or(known).filter(|row| row.dialect == dialect).cloned().or_else(of_format);
        let usual = usual.as_ref();
        let usual_auth = usual.map_or(AuthScheme::Bearer, |row| row.auth);
        // Without a word about keys, a provider of one's own is taken to need none.
        let keyless = known.is_none() && raw.auth.is_none() && raw.keys.is_empty();
        let auth = raw.auth.as_ref().map_or(if keyless { AuthScheme::None } else { usual_auth }, |at| at.value);
        let mut quirks = usual.map_or(Quirks::ALL_TOLERANT, |row| row.quirks);
        if let Some(names) = &raw.quirks {
            quirks = names.iter().fold(Quirks::NONE, |quirks, at| quirks.with(at.value));
        }
        let id: Arc<str> = known.map_or_else(|| raw.id.value.as_str().into(), |row| row.id.clone());
        let mut aliases = known.map(|row| row.aliases.clone()).unwrap_or_default();
        aliases.extend(raw.aliases.iter().flatten().map(|alias| alias.value.clone()));
        if known.is_none() && id.contains('_') {
            aliases.push(id.replace('_', "-"));
        }
        ProviderRow {
            name: raw
                .name
                .as_ref()
                .map(|at| at.value.clone())
                .or_else(|| known.map(|row| row.name.clone()))
                .unwrap_or_else(|| id.to_string()),
            aliases,
            dialect,
            base_url: known.map(|row| row.base_url.clone()).unwrap_or_default(),
            base_path: usual.map(|row| row.base_path.clone()).unwrap_or_default(),
            trim_path: usual.map(|row| row.trim_path.clone()).unwrap_or_default(),
            other: known.and_then(|row| row.other.clone()),
            auth,
            headers: usual.map(|row| row.headers.clone()).unwrap_or_default(),
            quirks,
            completions_path: known.map_or_else(completions, |row| row.completions_path.clone()),
            completions_models: known.and_then(|row| row.completions_models.clone()),
            completions_lacks: known.map(|row| row.completions_lacks.clone()).unwrap_or_default(),
            embeddings_inputs: usual.and_then(|row| row.embeddings_inputs),
            key_env: known.map(|row| row.key_env.clone()).unwrap_or_default(),
            base_url_env: known.map(|row| row.base_url_env.clone()).unwrap_or_default(),
            key_required: auth != AuthScheme::None && known.is_none_or(|row| row.key_required || raw.auth.is_some()),
            discovers: raw.discover.as_ref().map_or(known.is_some_and(|row| row.discovers), |at| at.value),
            cloud: raw.cloud.as_ref().map(|at| at.value).or(usual.and_then(|row| row.cloud)),
            key_prefixes: known.map(|row| row.key_prefixes.clone()).unwrap_or_default(),
            otel_name: known.map_or_else(|| id.to_string(), |row| row.otel_name.clone()),
            id,
        }
    }

    /// Where the provider is. What users write is completed as its own SDK would (`ProviderRow::base_url_from`), and an
    /// endpoint or a version that was written too much is taken off.
    fn base_url(&mut self, raw: &RawProvider, known: Option<&ProviderRow>) -> Option<BaseUrl> {
        let Some(written) = &raw.base_url else {
            let Some(row) = known else {
                let names = self.catalog.providers().iter().map(|row| &*row.id);
                let hint = did_you_mean(&raw.id.value, names);
                let message =
                    format!("{:?} is not in the catalog{hint}; a provider of your own needs a base_url", raw.id.value);
                self.report.error(raw.id.problem(message));
                return None;
            };
            return self.report.checked(&raw.id, BaseUrl::parse(&row.base_url));
        };
        let row = self.row(raw, known);
        let mut text = written.value.trim().trim_end_matches('/');
        if row.dialect == Dialect::OpenAiChat {
            text = text.strip_suffix("/chat/completions").unwrap_or(text);
            while text.ends_with("/v1/v1") {
                text = &text[..text.len() - "/v1".len()];
            }
        }
        // The URL is looked at before anything is put behind it.
        let mut base = self.report.checked(written, BaseUrl::parse(text))?;
        let completed = if known.is_some() { row.base_url_from(text) } else { text.to_owned() };
        base.path = BaseUrl::parse(&completed).map_or(base.path, |completed| completed.path);
        match row.dialect {
            Dialect::OpenAiChat if known.is_none() && base.path.is_empty() => base.path = "/v1".to_owned(),
            _ if known.is_none() => base.path = trimmed(&base.path, &row.trim_path),
            _ => {}
        }
        Some(base)
    }

    fn provider_keys(&mut self, row: &ProviderRow, provider: &RawProvider) -> Vec<Arc<ProviderKey>> {
        let id = &row.id;
        let mut keys: Vec<Arc<ProviderKey>> = Vec::new();
        for raw in &provider.keys {
            let group = raw.group.as_ref().or(provider.group.as_ref()).map(|at| at.value.as_str().into());
            let quota = KeyQuota { rpm: raw.rpm.as_ref().map(|at| at.value), tpm: raw.tpm.as_ref().map(|at| at.value) };
            let Some(secret) = self.provider_secret(&raw.secret) else { continue };
            if let Err(message) = credential_fits(row.auth, secret.reveal()) {
                self.report.error(raw.secret.problem(message));
                continue;
            }
            // One variable or file may hold several keys with commas between them; an account of Google's has commas of its own.
            let is_account = GoogleAccount::is_meant(secret.reveal());
            let parts: Vec<Secret> =
                if is_account { vec![secret] } else { values::list(secret.reveal()).map(Secret::new).collect() };
            for part in &parts {
                let own_name = raw.name.as_ref().map(|name| name.value.clone());
                let name = match (own_name, parts.len()) {
                    (Some(name), 1) => name,
                    (Some(name), _) => format!("{name}_{:02}", keys.len() + 1),
                    (None, _) => format!("{id}_{:02}", keys.len() + 1),
                };
                if keys.iter().any(|key| *key.name == *name) && matches!(raw.secret.value, RawSecret::Vault(_)) {
                    let message = format!("{id} has another key called {name:?}: the one in the vault is left out");
                    self.report.warn(raw.secret.problem(message));
                    continue;
                }
                if keys.iter().any(|key| *key.name == *name) {
                    self.report.error(raw.secret.problem(format!("there are two keys called {name:?}")));
                }
                if keys.iter().any(|key| key.secret == *part) {
                    self.report.warn(raw.secret.problem("is given twice and used once"));
                    continue;
                }
                let key = ProviderKey::new(name, part.clone());
                keys.push(Arc::new(ProviderKey { quota, group: group.clone(), ..key }));
            }
        }
        keys
    }

    /// Reports keys of one group with different limits: what they share cannot have two sizes.
    pub(super) fn groups(&mut self, providers: &[RawProvider]) {
        let mut limits: Vec<(&str, &RawKey)> = Vec::new();
        for (provider, key) in
            providers.iter().flat_map(|provider| provider.keys.iter().map(move |key| (provider, key)))
        {
            let Some(group) = key.group.as_ref().or(provider.group.as_ref()) else { continue };
            let Some((_, first)) = limits.iter().find(|(name, _)| *name == group.value) else {
                limits.push((&group.value, key));
                continue;
            };
            let values = |key: &RawKey| (key.rpm.as_ref().map(|at| at.value), key.tpm.as_ref().map(|at| at.value));
            if values(first) != values(key) {
                let message =
                    format!("the keys of the group {:?} share one quota: rpm and tpm must be the same", group.value);
                self.report.error(key.secret.problem(message));
            }
        }
    }

    /// A provider's key. An environment variable that is not set leaves the key out with a warning, so that one file serves
    /// several machines.
    fn provider_secret(&mut self, at: &At<RawSecret>) -> Option<Secret> {
        if let RawSecret::Env(name) = &at.value
            && self.around.env.get(name).is_none()
        {
            self.report.warn(at.problem(format!("the environment variable {name} is not set; the key is left out")));
            return None;
        }
        // A variable that names a file may be meant for another program.
        if let (RawSecret::File(path), Place::Env(_)) = (&at.value, &at.place)
            && let Err(message) = self.secret_file(path)
        {
            self.report.warn(at.problem(format!("{message}; the key is left out")));
            return None;
        }
        self.secret(at)
    }

    /// Looks a secret up.
    pub(super) fn secret(&mut self, at: &At<RawSecret>) -> Option<Secret> {
        let env = self.around.env;
        let secret = match &at.value {
            RawSecret::Plain(secret) | RawSecret::FromEnv(secret) | RawSecret::Vault(secret) => Ok(secret.clone()),
            RawSecret::Env(name) => {
                env.get(name).map(Secret::new).ok_or_else(|| format!("the environment variable {name} is not set"))
            }
            RawSecret::File(path) => self.secret_file(path),
            RawSecret::Credential(name) => match env.get("CREDENTIALS_DIRECTORY") {
                Some(_) if name.contains('/') => Err("a credential's name has no / in it".to_owned()),
                Some(directory) => self.secret_file(&Path::new(directory).join(name)),
                None => Err("$CREDENTIALS_DIRECTORY is not set: systemd sets it for LoadCredential=".to_owned()),
            },
        };
        let secret = self.report.checked(at, secret)?;
        if !GoogleAccount::is_meant(secret.reveal()) && !secret.reveal().bytes().all(|b| matches!(b, b' '..=b'~')) {
            self.report.error(at.problem("holds characters that cannot be sent in a header"));
            return None;
        }
        Some(secret)
    }

    fn secret_file(&self, path: &Path) -> Result<Secret, String> {
        let path = self.around.base.join(path);
        let bytes = (self.around.read)(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{} is not text", path.display()))?;
        match text.trim() {
            "" => Err(format!("{} is empty", path.display())),
            text => Ok(Secret::new(text)),
        }
    }

    fn headers(&mut self, raw: &RawProvider, row: &ProviderRow) -> Vec<(String, String)> {
        let mut headers = row.headers.clone();
        for (name, value) in &raw.headers {
            let lower = name.value.to_ascii_lowercase();
            if http::HeaderName::try_from(lower.as_str()).is_err() || http::HeaderValue::try_from(value).is_err() {
                self.report.error(name.problem("is not a header"));
            } else if lower == row.auth.header() {
                self.report.error(name.problem("is set from the key: use [[provider.key]]"));
            } else if RESERVED.contains(&lower.as_str()) {
                self.report.error(name.problem("is set by the gateway"));
            } else {
                headers.retain(|(other, _)| *other != lower);
                headers.push((lower, value.clone()));
            }
        }
        headers
    }

    pub(super) fn local_model(&self, provider: &str, raw: &RawModel) -> ModelRow {
        let name = &raw.id.value;
        let of_catalog = self.catalog.model_at(provider, name).map(|row| ModelRow::clone(row));
        let mut row = of_catalog.unwrap_or_else(|| self.catalog.unknown_model_at(provider, name));
        let per_token =
            |price: &Setting<Money>| price.as_ref().map(|at| Money::from_picos(at.value.picos() / 1_000_000));
        if let Some(name) = &raw.name {
            row.name.clone_from(&name.value);
        }
        row.aliases.extend(raw.aliases.iter().flatten().map(|alias| alias.value.clone()));
        row.context = raw.context.as_ref().map(|at| at.value).or(row.context);
        row.max_output = raw.max_output.as_ref().map(|at| at.value).or(row.max_output);
        let own = Prices {
            input: per_token(&raw.input),
            output: per_token(&raw.output),
            cached_input: per_token(&raw.cached_input),
            cache_write_5m: per_token(&raw.cache_write_5m),
            cache_write_1h: per_token(&raw.cache_write_1h),
            reasoning: per_token(&raw.reasoning),
            audio_input: per_token(&raw.audio_input),
            audio_output: per_token(&raw.audio_output),
            image: raw.image.as_ref().map(|at| at.value),
            pictures: raw.pictures.iter().map(picture).collect(),
            second: raw.second.as_ref().map(|at| at.value),
            character: per_token(&raw.character),
            request: raw.request.as_ref().map(|at| at.value),
            above: tiers(&raw.above, per_token),
        };
        if own.is_known() {
            row.priced_as = None;
        }
        row.prices = own.or(&row.prices);
        if raw.fallbacks.is_some() {
            row.fallbacks = all(raw.fallbacks.as_ref().map(|list| list.to_vec()));
        }
        row
    }

    /// The certificates of a PEM file, each in DER.
    pub(super) fn certificates(&mut self, file: &At<PathBuf>) -> Vec<Vec<u8>> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let Some(pem) = self.read(file) else { return Vec::new() };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates {
            Ok(list) if !list.is_empty() => list.into_iter().map(|der| der.as_ref().to_vec()).collect(),
            _ => {
                self.report.error(file.problem("holds no certificate in PEM form"));
                Vec::new()
            }
        }
    }

    /// Reads a file that the configuration names.
    pub(super) fn read(&mut self, file: &At<PathBuf>) -> Option<Vec<u8>> {
        let path = self.around.base.join(&file.value);
        let result = (self.around.read)(&path).map_err(|error| format!("{}: {error}", path.display()));
        self.report.checked(file, result)
    }
}

fn picture(raw: &RawPicture) -> PicturePrice {
    let text = |setting: &Setting<String>| setting.as_ref().map(|at| at.value.clone());
    PicturePrice { size: text(&raw.size), quality: text(&raw.quality), price: raw.price.value }
}

fn tiers(raw: &[RawTier], per_token: impl Fn(&Setting<Money>) -> Option<Money>) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = raw
        .iter()
        .map(|raw| Tier {
            above_tokens: raw.tokens.value,
            input: per_token(&raw.input),
            cached_input: per_token(&raw.cached_input),
            cache_write_5m: per_token(&raw.cache_write_5m),
            cache_write_1h: per_token(&raw.cache_write_1h),
            output: per_token(&raw.output),
        })
        .collect();
    tiers.sort_by_key(|tier| tier.above_tokens);
    tiers
}

/// A path without what the dialect's own path brings.
fn trimmed(path: &str, suffix: &str) -> String {
    let rest = if suffix.is_empty() { None } else { path.strip_suffix(suffix) };
    rest.unwrap_or(path).trim_end_matches('/').to_owned()
}

/// A name of the new provider that another one has already.
fn taken<'p>(providers: &[Provider], new: &'p Provider) -> Option<&'p str> {
    let names =
        |provider: &'p Provider| std::iter::once(&*provider.id).chain(provider.aliases.iter().map(String::as_str));
    names(new).find(|name| {
        providers.iter().any(|other| *other.id == **name || other.aliases.iter().any(|alias| alias == name))
    })
}
