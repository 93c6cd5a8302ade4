//! What a model's name means: the targets behind it.

use super::error::{ApiError, Reason};
use crate::config::snapshot::{ModelAlias, Provider, Snapshot};
use crate::dialect::client::Client;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::openai_completions::envelope::with_plain_prompt;
use crate::dialect::table::Dialect;
use crate::domain::Strategy;
use crate::domain::decision::Parameter;
use crate::provider::{Catalog, ModelRow, ProviderRow, Status};
use std::sync::Arc;

/// A model at a provider.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The provider.
    pub(super) provider: Arc<Provider>,
    /// The model there.
    pub(super) model: Arc<ModelRow>,
}

impl Target {
    /// The model's name without its maker or provider.
    pub(super) fn name(&self) -> &str {
        self.model.id.rsplit('/').next().unwrap_or(&self.model.id)
    }

    /// How many tokens a request may need here: its input as estimated, and what it asks for, which is never more than the model can give.
    pub(super) fn tokens_wanted(&self, envelope: &Envelope) -> u64 {
        let most = self.model.max_output.unwrap_or(u64::MAX);
        envelope.estimated_input_tokens.saturating_add(envelope.max_tokens.unwrap_or_default().min(most))
    }

    /// The format that it is asked in.
    pub(super) fn dialect(&self) -> Dialect {
        self.provider.dialect_of(&self.model)
    }

    /// How it deviates from OpenAI's format. Whether it has the route of text completions is a matter of the model, too.
    pub(super) fn quirks(&self, client: Client, catalog: &Catalog) -> Quirks {
        let (provider, model) = (&self.provider, &*self.model.upstream);
        let all = provider.quirks;
        let Some(models) = provider.row.completions_models.as_ref().filter(|_| client == Client::OpenAiCompletions)
        else {
            return all;
        };
        let has_route = models.iter().any(|known| known == model) || catalog.model_at(&provider.id, model).is_none();
        if has_route { all } else { all.without(Quirks::COMPLETIONS) }
    }

    /// The body of a request whose bytes are passed on.
    pub(super) fn passed_body(&self, envelope: &Envelope) -> Vec<u8> {
        let body = envelope.passthrough_body(&self.model.upstream, self.provider.quirks);
        let takes_one_text = self.provider.row.completions_lacks.contains(&Parameter::Prompt);
        if envelope.client == Client::OpenAiCompletions && takes_one_text { with_plain_prompt(body) } else { body }
    }

    /// Whether a client of this format can have its bytes passed on.
    pub(super) fn speaks(&self, client: Client, catalog: &Catalog) -> bool {
        client.is_spoken_by(self.dialect(), self.quirks(client, catalog))
    }
}

/// A name taken apart.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    /// The targets, in order of preference; never empty.
    pub(super) targets: Vec<Target>,
    /// The `[[model]]` that the name stands for.
    pub(super) alias: Option<Arc<ModelAlias>>,
    /// The strategy that a suffix or the alias asks for.
    pub(super) strategy: Option<Strategy>,
    /// The name has its provider in front, so that no other provider is meant.
    pub(super) pinned: bool,
    /// The name is `auto`: any capable model will do.
    pub(super) auto: bool,
}

impl Meaning {
    /// The one name for what was asked for by any of its names.
    pub(super) fn name(&self) -> Arc<str> {
        match (&self.alias, self.targets.first()) {
            (Some(alias), _) => alias.name.clone(),
            (None, Some(target)) if !self.auto => target.model.id.clone(),
            _ => "auto".into(),
        }
    }
}

/// So many names of `[[model]]` may stand behind each other.
const MOST_NAMES: u8 = 8;

/// Looks names up in a snapshot.
pub(super) struct Names<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) discovered: &'a [(Arc<str>, Vec<String>)],
}

impl Names<'_> {
    /// What a name means: an alias of `[[model]]`, `auto`, `provider/model` or a bare name, with an optional `:floor` or `:nitro`.
    ///
    /// # Errors
    /// 503 when no provider is configured, 404 with advice when nothing is meant by the name.
    pub(super) fn resolve(&self, name: &str) -> Result<Meaning, ApiError> {
        if self.snapshot.providers.is_empty() {
            return Err(no_provider());
        }
        let (name, suffix) = split_suffix(name.trim());
        if name.contains("@preset/") {
            // As the model of the request it is replaced before anything is planned.
            let message = format!("{name:?} is a preset, and only the model of a request may be one");
            return Err(ApiError::new(Reason::ModelNotFound, message).param("model"));
        }
        let mut meaning = match self.snapshot.alias(name) {
            Some(alias) => self.of_alias(alias)?,
            None => self.of_model(name)?,
        };
        meaning.strategy = suffix.or(meaning.strategy);
        Ok(meaning)
    }

    fn of_alias(&self, alias: &Arc<ModelAlias>) -> Result<Meaning, ApiError> {
        let targets: Vec<Target> = alias.targets.iter().flat_map(|name| self.behind(name, MOST_NAMES)).collect();
        if targets.is_empty() {
            let message = format!("None of the targets of the model {:?} has a configured provider", alias.name);
            return Err(ApiError::new(Reason::ModelNotFound, message).param("model"));
        }
        Ok(Meaning { targets, alias: Some(alias.clone()), strategy: alias.strategy, pinned: true, auto: false })
    }

    /// What the target of a `[[model]]` stands for, which may be another one: so many names behind each other, at most.
    fn behind(&self, name: &str, most: u8) -> Vec<Target> {
        match self.snapshot.alias(name) {
            // The configuration has none that leads back to itself.
            Some(alias) if most > 0 => alias.targets.iter().flat_map(|name| self.behind(name, most - 1)).collect(),
            Some(_) => Vec::new(),
            None => self.of_model(name).map(|found| found.targets).unwrap_or_default(),
        }
    }

    fn of_model(&self, name: &str) -> Result<Meaning, ApiError> {
        let plain = |targets, pinned| Meaning { targets, alias: None, strategy: None, pinned, auto: name == "auto" };
        if name == "auto" {
            let targets = self.auto();
            return if targets.is_empty() { Err(self.unknown(name)) } else { Ok(plain(targets, false)) };
        }
        if let Some((prefix, rest)) = name.split_once('/')
            && let Some(provider) = self.snapshot.provider(prefix)
            && !rest.is_empty()
        {
            return Ok(plain(vec![self.at(provider, rest)], true));
        }
        let targets = self.bare(name);
        if targets.is_empty() { Err(self.unknown(name)) } else { Ok(plain(targets, false)) }
    }

    /// A model at a provider that is known; the catalog's row or one made up from its name.
    pub(super) fn at(&self, provider: &Arc<Provider>, name: &str) -> Target {
        let local =
            provider.models.iter().find(|row| *row.upstream == *name || row.aliases.iter().any(|alias| alias == name));
        let known = || self.snapshot.catalog.model_at(&provider.id, name).cloned();
        let made_up = || self.snapshot.catalog.made_up(&provider.id, name);
        let model = local.cloned().or_else(known).unwrap_or_else(made_up);
        Target { provider: provider.clone(), model }
    }

    /// Every configured provider that a bare name may mean, the model's owner first.
    fn bare(&self, name: &str) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        let mut add = |target: Target| {
            if !targets.iter().any(|known| known.provider.id == target.provider.id) {
                targets.push(target);
            }
        };
        for provider in &self.snapshot.providers {
            let own = provider.models.iter().any(|row| *row.upstream == *name || row.aliases.iter().any(|a| a == name));
            if own {
                add(self.at(provider, name));
            }
        }
        for row in self.snapshot.catalog.find(name) {
            if let Some(provider) = self.snapshot.provider(&row.provider) {
                add(Target { provider: provider.clone(), model: row.clone() });
            }
        }
        for (provider, models) in self.discovered {
            if models.iter().any(|model| model == name || model.strip_suffix(":latest") == Some(name))
                && let Some(provider) = self.snapshot.provider(provider)
            {
                add(self.at(provider, name));
            }
        }
        let guessed = self.snapshot.catalog.guess_provider(name).and_then(|row| self.snapshot.provider(&row.id));
        let only = match self.snapshot.providers.as_slice() {
            [only] if !self.is_of_another_maker(name, only) => Some(only),
            _ => None,
        };
        match (targets.is_empty(), guessed, only) {
            (true, Some(provider), _) | (true, None, Some(provider)) => vec![self.at(provider, name)],
            // A host that still serves a model goes before a maker that has switched it off.
            _ => {
                targets.sort_by_key(|target| target.model.status == Status::Deprecated);
                targets
            }
        }
    }

    /// What `auto` chooses from: `[routing] auto`, else every live model of the configured providers.
    fn auto(&self) -> Vec<Target> {
        let listed = &self.snapshot.routing.auto;
        if !listed.is_empty() {
            return listed
                .iter()
                .filter(|name| *name != "auto")
                .flat_map(|name| self.behind(name, MOST_NAMES))
                .collect();
        }
        let models = self.snapshot.catalog.models().iter();
        let live = models.filter(|row| row.status == Status::Live && row.class.converses());
        live.filter_map(|row| {
            let provider = self.snapshot.provider(&row.provider)?;
            Some(Target { provider: provider.clone(), model: row.clone() })
        })
        .collect()
    }

    /// The same model at another provider: its row there, the catalog's equivalent, or the same name.
    pub(super) fn elsewhere(&self, target: &Target, provider: &Arc<Provider>) -> Target {
        if target.provider.id == provider.id {
            return target.clone();
        }
        match self.snapshot.catalog.equivalent(&target.model, &provider.id) {
            Some(row) => Target { provider: provider.clone(), model: row.clone() },
            None => self.at(provider, &target.model.upstream),
        }
    }

    /// Whether the catalog knows that a maker of models does not have this one, because it is somebody else's.
    fn is_of_another_maker(&self, name: &str, provider: &Provider) -> bool {
        self.snapshot.catalog.is_maker(&provider.id) && self.is_known(name)
    }

    /// Whether the catalog knows the name, or at least its provider, be that configured or not.
    pub(super) fn is_known(&self, name: &str) -> bool {
        let (name, _) = split_suffix(name.trim());
        let prefix = name.split_once('/').map_or(name, |(prefix, _)| prefix);
        self.snapshot.catalog.provider(prefix).is_some() || !self.snapshot.catalog.find(name).is_empty()
    }

    /// The provider of the catalog that a name means, be it configured or not.
    pub(super) fn provider_of(&self, name: &str) -> Option<&Arc<ProviderRow>> {
        let (name, _) = split_suffix(name.trim());
        let prefix = name.split_once('/').map_or(name, |(prefix, _)| prefix);
        let catalog = &self.snapshot.catalog;
        catalog.provider(prefix).or_else(|| catalog.provider(&catalog.find(name).first()?.provider))
    }

    fn unknown(&self, name: &str) -> ApiError {
        let row = self.provider_of(name);
        let shown: String = name.chars().take(200).collect();
        let advice = match row.and_then(|row| Some((row, row.key_env.first().or(row.base_url_env.first())?))) {
            Some((row, env)) => format!("the provider {} is not configured: set {env}", row.id),
            None => "no configured provider has it: see GET /v1/models, or write provider/model".to_owned(),
        };
        ApiError::new(Reason::ModelNotFound, format!("The model {shown:?} is not available: {advice}")).param("model")
    }
}

/// What a gateway without providers says.
pub(super) fn no_provider() -> ApiError {
    ApiError::new(
        Reason::NoProvider,
        "No provider is configured: set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY or another provider's key in the \
         gateway's environment or .env file, or add a [[provider]] to its configuration, then reload it",
    )
}

fn split_suffix(name: &str) -> (&str, Option<Strategy>) {
    for (suffix, strategy) in [(":floor", Strategy::Cheap), (":nitro", Strategy::Fast)] {
        if let Some(rest) = name.strip_suffix(suffix) {
            return (rest, Some(strategy));
        }
    }
    (name, None)
}
