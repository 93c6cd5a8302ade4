//! Who may do what: one table, which every operation of the console is looked up in.

use crate::domain::tenancy::Role;

/// What it takes to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// This role, or a more powerful one, in the organisation that it concerns. The administrator may do it in every organisation.
    Role(Role),
    /// The administrator: it concerns the gateway as a whole.
    Administrator,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident => $needs:expr,)*) => {
        /// Everything that can be done in the console.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Operation { $($(#[$doc])* $name,)* }

        impl Operation {
            /// All of them.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it takes.
            pub const fn needs(self) -> Needs {
                match self { $(Self::$name => $needs,)* }
            }
        }
    };
}

const VIEWER: Needs = Needs::Role(Role::Viewer);
const MEMBER: Needs = Needs::Role(Role::Member);
const ADMIN: Needs = Needs::Role(Role::Admin);
const OWNER: Needs = Needs::Role(Role::Owner);

operations! {
    /// See the organisation, its projects and its members.
    SeeOrg => VIEWER,
    /// See its API keys, as far as they are shown.
    SeeKeys => VIEWER,
    /// Make API keys, and change and revoke those that one answers for.
    MakeOwnKeys => MEMBER,
    /// Change and revoke everybody's API keys.
    ManageKeys => ADMIN,
    /// Make, rename and remove projects.
    ManageProjects => ADMIN,
    /// Say who belongs to the organisation, up to one's own role.
    ManageMembers => ADMIN,
    /// Rename the organisation.
    ManageOrg => OWNER,
    /// See which keys of providers it has saved.
    SeeProviderKeys => VIEWER,
    /// Save and remove them.
    ManageProviderKeys => ADMIN,
    /// See models, presets and routing settings.
    SeeModels => VIEWER,
    /// See budgets and credits.
    SeeBudgets => VIEWER,
    /// Set and remove budgets.
    ManageBudgets => ADMIN,
    /// See what was used and what it did cost.
    SeeUsage => VIEWER,
    /// See requests as the ledger has them.
    SeeRequests => VIEWER,
    /// See what requests and answers said.
    SeePayloads => MEMBER,
    /// See what was done in the organisation, and by whom.
    SeeAudit => ADMIN,
    /// See how the gateway's models, breakers and pool of keys are, and by what rules requests are routed; not which keys there are, nor where
    /// anything is.
    SeeHealth => OWNER,
    /// Make and remove organisations.
    ManageOrgs => Needs::Administrator,
    /// Write down what organisations have paid.
    ManageCredits => Needs::Administrator,
    /// Make, change and remove models, presets and routing settings, which hold for all organisations.
    ManageModels => Needs::Administrator,
    /// See all of the gateway's own state: the keys in the pool, cache, whole configuration, live events.
    SeeGateway => Needs::Administrator,
    /// Change it: empty the cache, enable a key.
    ManageGateway => Needs::Administrator,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_looks_on_changes_nothing() {
        for operation in Operation::ALL {
            let sees = format!("{operation:?}").starts_with("See");
            let changes = operation.needs() == Needs::Role(Role::Viewer);
            assert!(sees || !changes, "{operation:?}");
        }
    }
}
