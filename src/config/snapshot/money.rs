//! `[money]`: how money is reckoned with.

/// `[money]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoneyRules {
    /// What becomes of requests with a budget to models whose price is not known.
    pub unknown_price: UnknownPrice,
}

/// `[money] unknown_price`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownPrice {
    /// They are refused.
    #[default]
    Deny,
    /// They pass, and cost nothing.
    Allow,
    /// They cost what the dearest model of their kind costs.
    Estimate,
}

impl UnknownPrice {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deny, Self::Allow, Self::Estimate];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
            Self::Estimate => "estimate",
        }
    }

    /// What a name means.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }
}
