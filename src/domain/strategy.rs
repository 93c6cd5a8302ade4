//! By what a plan is ordered when several targets can serve a request.

use serde::{Deserialize, Serialize};

/// The order of the targets in a plan. `routing::plan` says what each compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// As configured, or as the request names them.
    #[default]
    Order,
    /// The lowest price of this request first.
    Cheap,
    /// The least measured time for a whole answer first: time to first output, and tokens per second.
    Fast,
    /// The least measured time to first output first.
    Latency,
    /// The most measured tokens per second first.
    Throughput,
    /// The highest measured success rate first, then the most ready keys.
    Reliable,
    /// At random, in proportion to the configured weights.
    Weighted,
}

impl Strategy {
    /// All of them, for listings and tests.
    pub const ALL: [Self; 7] =
        [Self::Order, Self::Cheap, Self::Fast, Self::Latency, Self::Throughput, Self::Reliable, Self::Weighted];

    /// Its name in `[routing] strategy`, in `extra.provider` and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Cheap => "cheap",
            Self::Fast => "fast",
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Reliable => "reliable",
            Self::Weighted => "weighted",
        }
    }

    /// Whether the same facts give the same order every time: such a strategy keeps sessions together by itself.
    pub fn is_steady(self) -> bool {
        matches!(self, Self::Order | Self::Cheap)
    }

    /// The strategy of a name, `None` when there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_strategy() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::from_name(strategy.name()), Some(strategy));
        }
        assert_eq!(Strategy::from_name("Cheap"), None);
        assert_eq!(Strategy::from_name("openai"), None);
    }
}
