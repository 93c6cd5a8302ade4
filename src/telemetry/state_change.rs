//! What the gateway notices about providers, keys and its own configuration, told once when it changes.

use crate::domain::RequestId;
use log::Level;
use std::borrow::Cow;
use std::time::Duration;

/// A change of state. Names are ids and labels, never secrets; `why` may quote a provider and is redacted when logged.
#[derive(Clone, Debug)]
pub enum StateChange<'a> {
    /// The breaker of a target has opened: no traffic until it is probed.
    ProviderUnhealthy {
        /// The provider's id.
        provider: &'a str,
        /// The model as the provider knows it.
        model: &'a str,
        /// What has opened it.
        why: &'a str,
    },
    /// The breaker of a target has closed again.
    ProviderRecovered {
        /// The provider's id.
        provider: &'a str,
        /// The model as the provider knows it.
        model: &'a str,
    },
    /// A key rests because it was rate limited.
    KeyCooldown {
        /// The provider's id.
        provider: &'a str,
        /// The key's name.
        key: &'a str,
        /// How long it rests.
        rest: Duration,
        /// The fault's name.
        why: &'a str,
    },
    /// A key has no quota or credit left.
    KeyExhausted {
        /// The provider's id.
        provider: &'a str,
        /// The key's name.
        key: &'a str,
        /// When it is tried again.
        rest: Duration,
        /// What the provider said.
        why: &'a str,
    },
    /// The provider does not accept the key; it stays out until it is enabled again.
    KeyDisabled {
        /// The provider's id.
        provider: &'a str,
        /// The key's name.
        key: &'a str,
        /// What the provider said.
        why: &'a str,
    },
    /// A key is usable again.
    KeyIdle {
        /// The provider's id.
        provider: &'a str,
        /// The key's name.
        key: &'a str,
    },
    /// A request has moved from one target to the next.
    Failover {
        /// The request.
        request: RequestId,
        /// The provider that failed.
        from: &'a str,
        /// The provider that is asked next.
        to: &'a str,
        /// The fault's name.
        reason: &'a str,
        /// From the client's request to this moment.
        after: Duration,
    },
    /// A store cannot be asked.
    StoreUnhealthy {
        /// Its name: `redis`, `database`.
        store: &'a str,
        /// Why.
        why: &'a str,
    },
    /// It can be asked again.
    StoreRecovered {
        /// Its name.
        store: &'a str,
    },
    /// A new configuration is in force.
    ConfigReloaded,
    /// A new configuration was wrong, the last good one stays in force.
    ConfigRefused {
        /// Everything that is wrong with it.
        errors: &'a [String],
    },
}

/// The name of a field and its value.
pub(super) type Field<'a> = (&'static str, Cow<'a, str>);

impl StateChange<'_> {
    /// How much it matters: `warn` where the operator may have to act.
    pub(super) fn level(&self) -> Level {
        match self {
            Self::KeyDisabled { .. } | Self::ConfigRefused { .. } => Level::Error,
            Self::ProviderUnhealthy { .. } | Self::KeyExhausted { .. } | Self::StoreUnhealthy { .. } => Level::Warn,
            Self::ProviderRecovered { .. } | Self::KeyCooldown { .. } | Self::KeyIdle { .. } => Level::Info,
            Self::Failover { .. } | Self::ConfigReloaded | Self::StoreRecovered { .. } => Level::Info,
        }
    }

    /// The kind of thing that has changed, the `event` of a JSON line.
    pub(super) fn event(&self) -> &'static str {
        match self {
            Self::ProviderUnhealthy { .. } | Self::ProviderRecovered { .. } => "provider",
            Self::KeyCooldown { .. } | Self::KeyExhausted { .. } | Self::KeyDisabled { .. } | Self::KeyIdle { .. } => {
                "key"
            }
            Self::Failover { .. } => "failover",
            Self::StoreUnhealthy { .. } | Self::StoreRecovered { .. } => "store",
            Self::ConfigReloaded | Self::ConfigRefused { .. } => "config",
        }
    }

    /// The leading word, if any, and the fields in the order in which people read them: `provider=openai
    /// status=unhealthy …`, `failover from=openai to=anthropic …`.
    pub(super) fn words_and_fields(&self) -> (&'static str, Vec<Field<'_>>) {
        let key = |provider, key, state| vec![text("provider", provider), text("key", key), text("state", state)];
        match *self {
            Self::ProviderUnhealthy { provider, model, why } => (
                "",
                vec![text("provider", provider), text("status", "unhealthy"), text("model", model), text("why", why)],
            ),
            Self::ProviderRecovered { provider, model } => {
                ("", vec![text("provider", provider), text("status", "recovered"), text("model", model)])
            }
            Self::KeyCooldown { provider, key: name, rest, why } => {
                let mut fields = key(provider, name, "cooldown");
                fields.extend([span("for", rest), text("why", why)]);
                ("", fields)
            }
            Self::KeyExhausted { provider, key: name, rest, why } => {
                let mut fields = key(provider, name, "exhausted");
                fields.extend([span("for", rest), text("why", why)]);
                ("", fields)
            }
            Self::KeyDisabled { provider, key: name, why } => {
                let mut fields = key(provider, name, "disabled");
                fields.push(text("why", why));
                ("", fields)
            }
            Self::KeyIdle { provider, key: name } => ("", key(provider, name, "idle")),
            Self::Failover { request, from, to, reason, after } => {
                let request = ("request_id", request.to_string().into());
                (
                    "failover",
                    vec![text("from", from), text("to", to), text("reason", reason), span("latency", after), request],
                )
            }
            Self::StoreUnhealthy { store, why } => {
                ("", vec![text("store", store), text("status", "unhealthy"), text("why", why)])
            }
            Self::StoreRecovered { store } => ("", vec![text("store", store), text("status", "recovered")]),
            Self::ConfigReloaded => ("", vec![text("config", "reloaded")]),
            Self::ConfigRefused { errors } => {
                ("", vec![text("config", "refused"), ("errors", errors.join("; ").into())])
            }
        }
    }
}

fn text<'a>(name: &'static str, value: &'a str) -> Field<'a> {
    (name, value.into())
}

/// A duration as the configuration writes them: `12ms`, `30s`.
fn span(name: &'static str, value: Duration) -> Field<'static> {
    let millis = value.as_millis();
    let text = if millis >= 1000 && millis.is_multiple_of(1000) {
        format!("{}s", millis / 1000)
    } else {
        format!("{millis}ms")
    };
    (name, text.into())
}
