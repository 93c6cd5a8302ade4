//! Finds providers and models by any name that people use for them. Built once from the data files, never changed; only what was made up
//! for a name that they do not have is remembered.

use self::made_up::MadeUp;
use super::model::{Class, Family, ModelRow, RawFamily, RawModel, Status};
use super::price_list::PriceList;
use super::prices::Prices;
use super::row::{ProviderRow, RawProvider};
use ahash::{HashMap, HashMapExt};
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;

const PROVIDERS: &str = include_str!("data/providers.toml");
const FAMILIES: &str = include_str!("data/families.toml");
/// One file for each provider that has models of its own in the catalog.
const MODELS: [(&str, &str); 17] = [
    ("openai", include_str!("data/models/openai.toml")),
    ("anthropic", include_str!("data/models/anthropic.toml")),
    ("google", include_str!("data/models/google.toml")),
    ("mistral", include_str!("data/models/mistral.toml")),
    ("deepseek", include_str!("data/models/deepseek.toml")),
    ("xai", include_str!("data/models/xai.toml")),
    ("cohere", include_str!("data/models/cohere.toml")),
    ("voyage", include_str!("data/models/voyage.toml")),
    ("jina", include_str!("data/models/jina.toml")),
    ("meta", include_str!("data/models/meta.toml")),
    ("perplexity", include_str!("data/models/perplexity.toml")),
    ("groq", include_str!("data/models/groq.toml")),
    ("together", include_str!("data/models/together.toml")),
    ("fireworks", include_str!("data/models/fireworks.toml")),
    ("huggingface", include_str!("data/models/huggingface.toml")),
    ("openrouter", include_str!("data/models/openrouter.toml")),
    ("ollama", include_str!("data/models/ollama.toml")),
];

/// All providers and models that the gateway knows. Names are compared without regard to upper and lower case.
#[derive(Debug)]
pub struct Catalog {
    providers: Vec<Arc<ProviderRow>>,
    /// Ids and aliases.
    provider_names: HashMap<String, usize>,
    /// The listed rows, then their snapshots.
    models: Vec<Arc<ModelRow>>,
    listed: usize,
    /// For each provider: every name of a model there.
    names_at: Vec<HashMap<String, usize>>,
    /// Every bare name: the rows that it may mean, in order.
    bare_names: HashMap<String, Vec<usize>>,
    /// The rows of each `same_as` group, in the order of the providers.
    groups: HashMap<String, Vec<usize>>,
    /// For each class at each provider: the row that stands for it.
    stand_ins: HashMap<(usize, Class), usize>,
    /// The longest prefix first.
    families: Vec<Family>,
    made_up: MadeUp,
    /// Prices that go before those of the rows; these have theirs already.
    imported: PriceList,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvidersFile {
    provider: Vec<RawProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FamiliesFile {
    family: Vec<RawFamily>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelsFile {
    model: Vec<RawModel>,
}

impl Catalog {
    /// The catalog that comes with the gateway.
    ///
    /// # Errors
    /// What is wrong with the data files; the tests see to it that nothing is.
    pub fn builtin() -> Result<Self, String> {
        let mut models = Vec::new();
        for (provider, text) in MODELS {
            let file: ModelsFile = toml::from_str(text).map_err(|error| format!("models/{provider}.toml: {error}"))?;
            models.extend(file.model);
        }
        let families: FamiliesFile = toml::from_str(FAMILIES).map_err(|error| format!("families.toml: {error}"))?;
        let providers: ProvidersFile = toml::from_str(PROVIDERS).map_err(|error| format!("providers.toml: {error}"))?;
        Self::build(providers.provider, families.family, models)
    }

    fn build(providers: Vec<RawProvider>, families: Vec<RawFamily>, models: Vec<RawModel>) -> Result<Self, String> {
        let mut catalog = Self {
            providers: Vec::with_capacity(providers.len()),
            provider_names: HashMap::new(),
            models: Vec::with_capacity(models.len() * 2),
            listed: models.len(),
            names_at: Vec::with_capacity(providers.len()),
            bare_names: HashMap::new(),
            groups: HashMap::new(),
            stand_ins: HashMap::new(),
            families: families.into_iter().map(RawFamily::compile).collect::<Result<_, _>>()?,
            made_up: MadeUp::default(),
            imported: PriceList::default(),
        };
        catalog.families.sort_by_key(|family| std::cmp::Reverse(family.prefix.len()));
        for raw in providers {
            catalog.add_provider(raw.compile()?)?;
        }
        catalog.add_models(models)?;
        catalog.index_bare_names();
        Ok(catalog)
    }

    fn add_provider(&mut self, row: ProviderRow) -> Result<(), String> {
        let index = self.providers.len();
        for name in std::iter::once(row.id.as_ref()).chain(row.aliases.iter().map(String::as_str)) {
            if self.provider_names.insert(name.to_ascii_lowercase(), index).is_some() {
                return Err(format!("provider {}: the name {name} is taken", row.id));
            }
        }
        self.providers.push(Arc::new(row));
        self.names_at.push(HashMap::new());
        Ok(())
    }

    fn add_models(&mut self, raw: Vec<RawModel>) -> Result<(), String> {
        let mut snapshots = Vec::new();
        for raw in raw {
            let (row, dated) = raw.compile()?;
            let row = Arc::new(row);
            snapshots.extend(dated.into_iter().map(|dated| Arc::new(row.snapshot(dated))));
            self.add_model(row)?;
        }
        for row in snapshots {
            self.add_model(row)?;
        }
        Ok(())
    }

    fn add_model(&mut self, row: Arc<ModelRow>) -> Result<(), String> {
        let index = self.models.len();
        let Some(&provider) = self.provider_names.get(row.provider.as_ref()) else {
            return Err(format!("model {}: there is no such provider", row.id));
        };
        for name in names_of(&row) {
            let other = *self.names_at[provider].entry(name.to_ascii_lowercase()).or_insert(index);
            if other != index {
                return Err(format!("model {}: the name {name} is taken by {}", row.id, self.models[other].id));
            }
        }
        if row.snapshot_of.is_none() {
            if let Some(group) = &row.same_as {
                self.groups.entry(group.to_ascii_lowercase()).or_default().push(index);
            }
            // The first live row of a class stands for it; failing that the first of all.
            let stand_in = self.stand_ins.entry((provider, row.class)).or_insert(index);
            if row.status == Status::Live && self.models.get(*stand_in).is_some_and(|held| held.status != Status::Live)
            {
                *stand_in = index;
            }
        }
        self.models.push(row);
        Ok(())
    }

    /// Notes for every bare name which rows it may mean: first those that bear it, then those of the same weights, both in the
    /// order of the providers, which has the makers of models before those that only host them.
    fn index_bare_names(&mut self) {
        let places: Vec<_> =
            self.models.iter().map(|row| self.provider_names.get(row.provider.as_ref()).copied()).collect();
        let order = |&index: &usize| (places[index], index);
        for group in self.groups.values_mut() {
            group.sort_by_key(order);
        }
        let mut bare: HashMap<String, Vec<usize>> = HashMap::with_capacity(self.models.len() * 4);
        for (index, row) in self.models.iter().enumerate() {
            for name in names_of(row) {
                note(&mut bare, name, index);
                if let Some((_, last)) = name.rsplit_once('/') {
                    note(&mut bare, last, index);
                }
            }
        }
        for (name, indices) in &mut bare {
            indices.sort_by_key(order);
            let own = indices.clone();
            let groups = own.iter().filter_map(|&index| self.models[index].same_as.as_deref());
            for group in groups.chain(std::iter::once(name.as_str())) {
                for &mate in self.groups.get(&lower(group)[..]).into_iter().flatten() {
                    if !indices.contains(&mate) {
                        indices.push(mate);
                    }
                }
            }
        }
        for (group, members) in &self.groups {
            bare.entry(group.clone()).or_insert_with(|| members.clone());
        }
        self.bare_names = bare;
    }

    /// The provider of this id or alias.
    pub fn provider(&self, id_or_alias: &str) -> Option<&Arc<ProviderRow>> {
        self.provider_index(id_or_alias).map(|index| &self.providers[index])
    }

    /// The names of those who make keys that begin like this one, when a provider is not among them; `None` when it may well be the
    /// provider's own. Providers that are not in the catalog, and those that anybody may run, take any key.
    pub fn foreign_key(&self, provider: &str, key: &str) -> Option<Vec<&str>> {
        let known = self.provider(provider).filter(|row| row.key_required)?;
        let begins = |row: &ProviderRow| row.key_prefixes.iter().filter(|p| key.starts_with(*p)).map(String::len).max();
        let longest = self.providers.iter().filter_map(|row| begins(row)).max()?;
        let makers = || self.providers.iter().filter(|row| begins(row) == Some(longest));
        let is_foreign = makers().all(|row| row.id != known.id);
        is_foreign.then(|| makers().map(|row| row.name.as_str()).collect())
    }

    /// All providers, those that make models before those that only host them.
    pub fn providers(&self) -> &[Arc<ProviderRow>] {
        &self.providers
    }

    /// All models that are listed; snapshots are not.
    pub fn models(&self) -> &[Arc<ModelRow>] {
        &self.models[..self.listed]
    }

    /// The model of this name at this provider: its name there, an alias, a dated or older name, with or without the provider's id
    /// before it.
    pub fn model_at(&self, provider_id: &str, name: &str) -> Option<&Arc<ModelRow>> {
        let provider = self.provider_index(provider_id)?;
        let names = &self.names_at[provider];
        let name = lower(name);
        let index = names.get(name.as_ref()).or_else(|| {
            let (prefix, rest) = name.split_once('/')?;
            (self.provider_index(prefix)? == provider).then(|| names.get(rest))?
        })?;
        Some(&self.models[*index])
    }

    /// Every row that a name without a provider may mean, the maker's first: `gpt-4o` is OpenAI's, and the same weights elsewhere
    /// follow. A name with a provider before it means that provider's row first.
    pub fn find(&self, bare: &str) -> Vec<&Arc<ModelRow>> {
        let name = lower(bare);
        let prefixed = name.split_once('/').and_then(|(prefix, rest)| self.model_at(prefix, rest));
        let rest = prefixed.and_then(|row| self.bare_names.get(lower(&row.upstream).as_ref()));
        let indices = self.bare_names.get(name.as_ref()).into_iter().chain(rest).flatten();
        let mut rows: Vec<&Arc<ModelRow>> = prefixed.into_iter().collect();
        for row in indices.map(|&index| &self.models[index]) {
            if !rows.iter().any(|known| known.id == row.id) {
                rows.push(row);
            }
        }
        rows
    }

    /// The provider that a bare name which is not in the catalog most likely means, by how it begins.
    pub fn guess_provider(&self, bare: &str) -> Option<&Arc<ProviderRow>> {
        self.provider(self.family(bare)?.owner.as_deref()?)
    }

    /// Whether a provider makes models of its own, so that those of others are not to be had there.
    pub fn is_maker(&self, provider_id: &str) -> bool {
        self.families.iter().any(|family| family.owner.as_deref() == Some(provider_id))
    }

    /// The row that stands in for another at a provider: the same weights, else what stands there for its class, else for the
    /// nearest class. Never a row of the model's own provider.
    pub fn equivalent(&self, row: &ModelRow, provider_id: &str) -> Option<&Arc<ModelRow>> {
        let provider = self.provider_index(provider_id)?;
        let id = &self.providers[provider].id;
        if *id == row.provider {
            return None;
        }
        let group = row.same_as.as_deref().and_then(|group| self.groups.get(lower(group).as_ref()));
        let same = group.into_iter().flatten().find(|&&index| self.models[index].provider == *id);
        let index =
            same.or_else(|| row.class.nearest().iter().find_map(|class| self.stand_ins.get(&(provider, *class))))?;
        Some(&self.models[*index])
    }

    /// A row for a model that the catalog does not have at this provider: it has no prices, and what it can do is taken from a model
    /// of that name elsewhere, else guessed by how the name begins.
    pub fn unknown_model(&self, provider: &ProviderRow, name: &str) -> ModelRow {
        self.unknown_model_at(&provider.id, name)
    }

    /// The same for every request: the row is made up once.
    pub fn made_up(&self, provider_id: &str, name: &str) -> Arc<ModelRow> {
        self.made_up.row(provider_id, name, || self.unknown_model_at(provider_id, name))
    }

    /// The same for a provider that has no row, because it is only in the configuration.
    pub fn unknown_model_at(&self, provider_id: &str, name: &str) -> ModelRow {
        // Hosts put variants behind a colon: `model:free`, `model:host`.
        let elsewhere = |name: &str| self.find(name).first().copied();
        let of_maker = makers_name(name);
        let found = elsewhere(name).or_else(|| elsewhere(name.rsplit_once(':')?.0));
        let known = found.or_else(|| elsewhere(&of_maker));
        let mut row = match known {
            Some(known) => ModelRow::unknown_like(provider_id, name, known),
            None => ModelRow::unknown(provider_id, name, self.family(name).or_else(|| self.family(&of_maker))),
        };
        if let Some(prices) = self.imported.get(provider_id, name) {
            row.prices = prices.clone();
        } else if let Some(known) = known.filter(|_| self.is_cloud(provider_id)) {
            // A cloud has what the maker has, at the maker's prices; what is not so is for the configuration to say.
            row.prices = known.prices.clone();
            row.priced_as = (row.prices != Prices::default()).then(|| known.id.clone());
        }
        row
    }

    fn is_cloud(&self, provider_id: &str) -> bool {
        self.provider(provider_id).is_some_and(|row| row.cloud.is_some())
    }

    /// The same catalog with the prices of a list, which go before its own.
    #[must_use]
    pub fn with_prices(&self, list: PriceList) -> Self {
        let of_names =
            |provider: &str, row: &ModelRow| names_of(row).find_map(|name| list.get(provider, name)).cloned();
        let priced = |row: &Arc<ModelRow>| {
            // A dated version costs what its row does, unless the list has it.
            let base = row.snapshot_of.as_deref().and_then(|id| id.split_once('/'));
            let base = base.and_then(|(provider, name)| self.model_at(provider, name));
            match of_names(&row.provider, row).or_else(|| of_names(&row.provider, base?)) {
                Some(prices) => Arc::new(ModelRow { prices: prices.or(&row.prices), ..ModelRow::clone(row) }),
                None => row.clone(),
            }
        };
        let models = self.models.iter().map(priced).collect();
        Self {
            providers: self.providers.clone(),
            provider_names: self.provider_names.clone(),
            models,
            listed: self.listed,
            names_at: self.names_at.clone(),
            bare_names: self.bare_names.clone(),
            groups: self.groups.clone(),
            stand_ins: self.stand_ins.clone(),
            families: self.families.clone(),
            made_up: MadeUp::default(),
            imported: list,
        }
    }

    /// What a model without prices may cost at most, going by what it is: the dearest of the same weights elsewhere, else of its class, or
    /// of the nearest that has any; and the id of the row that it is taken from.
    pub fn estimated_prices(&self, row: &ModelRow) -> Option<(&Prices, &Arc<str>)> {
        let per_token = |row: &&Arc<ModelRow>| row.prices.estimate(1000, 1000);
        let dearest = |rows: &mut dyn Iterator<Item = &Arc<ModelRow>>| -> Option<Arc<str>> {
            let known = rows.filter_map(|row| Some((per_token(&row)?, row)));
            known.max_by_key(|(price, _)| *price).map(|(_, row)| row.id.clone())
        };
        let group = row.same_as.as_deref().and_then(|group| self.groups.get(lower(group).as_ref()));
        let alike = dearest(&mut group.into_iter().flatten().map(|&at| &self.models[at]));
        let of_class = |class: &Class| dearest(&mut self.models().iter().filter(|row| row.class == *class));
        let id = alike.or_else(|| row.class.nearest().iter().find_map(of_class))?;
        let row = self.models().iter().find(|row| row.id == id)?;
        Some((&row.prices, &row.id))
    }

    fn provider_index(&self, id_or_alias: &str) -> Option<usize> {
        self.provider_names.get(lower(id_or_alias).as_ref()).copied()
    }

    /// The family of a name, by its last segment: hosts put the maker or a path before it.
    fn family(&self, name: &str) -> Option<&Family> {
        let last = name.rsplit('/').next()?;
        self.families.iter().find(|family| {
            last.get(..family.prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(&family.prefix))
        })
    }
}

/// A model's name as its maker has it, out of one that a cloud has put together: `us.maker.name-20250929-v1:0` and the end of an ARN
/// (Bedrock), `name@20250929` (Vertex).
fn makers_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let last = match super::model::maker_in(last) {
        Some(maker) => last.split_once(maker).map_or(last, |(_, rest)| rest.trim_start_matches('.')),
        None => last,
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let version = last.rsplit_once("-v").filter(|(_, version)| version.split(':').all(digits));
    version.map_or(last, |(name, _)| name).replace('@', "-")
}

/// Every name that leads to a row at its provider.
fn names_of(row: &ModelRow) -> impl Iterator<Item = &str> {
    let own = row.id.split_once('/').map(|(_, name)| name);
    own.into_iter().chain(std::iter::once(row.upstream.as_ref())).chain(row.aliases.iter().map(String::as_str))
}

fn note(bare: &mut HashMap<String, Vec<usize>>, name: &str, index: usize) {
    let indices = bare.entry(name.to_ascii_lowercase()).or_default();
    if !indices.contains(&index) {
        indices.push(index);
    }
}

/// A name as it is looked up; almost all are in lower case already and cost nothing.
fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

mod made_up;

#[cfg(test)]
mod tests;
