//! Who is looking, and what of all that there is they may see and change.
//!
//! A [`Viewer`] is put into each request by [`auth`](super::auth) before a handler sees it, and is the only way from a request to an
//! [`Access`]: a handler says what it is about to do, and gets on whose behalf it may ask the database, or a problem to answer with.

use super::problem::Problem;
use super::roles::{Needs, Operation};
use crate::domain::audit::AuditEvent;
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::{Membership, Person, Role};
use crate::store::ports::database::Access;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use std::net::IpAddr;
use std::sync::Arc;

/// Who is looking.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    who: Who,
    /// Where they are.
    pub address: IpAddr,
    /// The session, where it is one that they are looking in and not the administrator's token itself.
    pub session: Option<InSession>,
}

#[derive(Clone, Debug)]
enum Who {
    Administrator,
    Person { person: Arc<Person>, memberships: Arc<[Membership]> },
}

/// What a session brings along.
#[derive(Clone, Debug)]
pub(super) struct InSession {
    /// The hash of the cookie.
    pub hash: KeyHash,
    /// What a form carries as `csrf`, or a request as `x-csrf-token`, to show that it comes from a page of ours.
    pub csrf: Arc<str>,
}

impl Viewer {
    /// Whoever has the administrator's token.
    pub fn administrator(address: IpAddr, session: Option<InSession>) -> Self {
        Self { who: Who::Administrator, address, session }
    }

    /// A person who is logged in.
    pub fn person(address: IpAddr, session: InSession, person: Person, memberships: Vec<Membership>) -> Self {
        let who = Who::Person { person: Arc::new(person), memberships: memberships.into() };
        Self { who, address, session: Some(session) }
    }

    /// Whether all organisations, and the gateway itself, are in sight.
    pub fn is_administrator(&self) -> bool {
        matches!(self.who, Who::Administrator)
    }

    /// The person; `None` for the administrator.
    pub fn as_person(&self) -> Option<&Person> {
        match &self.who {
            Who::Administrator => None,
            Who::Person { person, .. } => Some(person),
        }
    }

    /// What they are called in the audit log and on pages.
    pub fn name(&self) -> &str {
        self.as_person().map_or("administrator", |person| &person.email)
    }

    /// Where they are a member; empty for the administrator, who need not be.
    pub fn memberships(&self) -> &[Membership] {
        match &self.who {
            Who::Administrator => &[],
            Who::Person { memberships, .. } => memberships,
        }
    }

    /// Their role in an organisation; `None` where nothing of it is in sight. The administrator owns all of them.
    pub fn role_in(&self, org: &str) -> Option<Role> {
        match &self.who {
            Who::Administrator => Some(Role::Owner),
            Who::Person { memberships, .. } => memberships.iter().find(|it| &*it.org == org).map(|it| it.role),
        }
    }

    /// Whether they may do something in an organisation.
    pub fn can(&self, operation: Operation, org: &str) -> bool {
        self.may(operation, Some(org)).is_ok()
    }

    /// Whether they may do something in an organisation, or where none is named to the gateway as a whole. Of an organisation that they are no
    /// member of they do not hear whether it exists.
    pub fn may(&self, operation: Operation, org: Option<&str>) -> Result<(), Problem> {
        let role = match (&self.who, org) {
            (Who::Administrator, _) => return Ok(()),
            (Who::Person { .. }, Some(org)) => self.role_in(org).ok_or_else(|| Problem::not_found("organisation"))?,
            (Who::Person { memberships, .. }, None) => {
                memberships.iter().map(|it| it.role).max().ok_or_else(|| too_little(operation))?
            }
        };
        match operation.needs() {
            Needs::Role(least) if role >= least => Ok(()),
            Needs::Role(_) | Needs::Administrator => Err(too_little(operation)),
        }
    }

    /// On whose behalf the database is asked for all that they may see of a kind: in the organisation that they name, or in all of those in which
    /// they may do this. Never empty.
    pub fn reach(&self, operation: Operation, org: Option<&str>) -> Result<Vec<Access>, Problem> {
        self.may(operation, org)?;
        match (&self.who, org) {
            (_, Some(org)) => Ok(vec![Access::Org(org.into())]),
            (Who::Administrator, None) => Ok(vec![Access::System]),
            (Who::Person { memberships, .. }, None) => {
                let able = memberships.iter().filter(|it| self.can(operation, &it.org));
                Ok(able.map(|it| Access::Org(it.org.clone())).collect())
            }
        }
    }

    /// What they do, for the audit log.
    pub fn event(
        &self,
        at: u64,
        action: &str,
        target: &str,
        org: Option<&str>,
        details: &serde_json::Value,
    ) -> AuditEvent {
        let actor = match &self.who {
            Who::Administrator => "administrator".to_owned(),
            Who::Person { person, .. } => format!("{} ({})", person.email, person.id),
        };
        AuditEvent {
            at,
            org: org.map(Into::into),
            actor,
            origin: format!("console, {}", self.address.to_canonical()),
            action: action.to_owned(),
            target: target.to_owned(),
            details: details.to_string(),
        }
    }
}

fn too_little(operation: Operation) -> Problem {
    let detail = match operation.needs() {
        Needs::Role(least) => format!("This takes the role {} or a more powerful one.", least.name()),
        Needs::Administrator => "This takes the administrator's token.".to_owned(),
    };
    Problem::new(StatusCode::FORBIDDEN, detail)
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        // A route outside of the guarded ones has none: nobody gets in by mistake.
        let viewer = parts.extensions.get::<Self>().cloned();
        viewer.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "Nobody is logged in."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn member(roles: &[(&str, Role)]) -> Viewer {
        let person = Person { id: "usr_1".into(), email: "ada@example.com".to_owned(), name: String::new() };
        let membership =
            |(org, role): &(&str, Role)| Membership { org: (*org).into(), person: "usr_1".into(), role: *role };
        let session = InSession { hash: KeyHash::of(b"x"), csrf: "x".into() };
        Viewer::person(HERE, session, person, roles.iter().map(membership).collect())
    }

    fn status(outcome: Result<impl Sized, Problem>) -> u16 {
        outcome.map_or_else(|problem| problem.into_response().status().as_u16(), |_| 200)
    }

    #[test]
    fn a_foreign_organisation_is_one_that_does_not_exist() {
        let viewer = member(&[("org_a", Role::Owner)]);
        for operation in Operation::ALL {
            assert_eq!(status(viewer.reach(*operation, Some("org_b"))), 404, "{operation:?}");
        }
        assert_eq!(status(member(&[]).reach(Operation::SeeKeys, None)), 403);
    }

    #[test]
    fn a_role_counts_in_its_own_organisation_alone() {
        let viewer = member(&[("org_a", Role::Viewer), ("org_b", Role::Admin)]);
        assert_eq!(status(viewer.reach(Operation::ManageKeys, Some("org_a"))), 403);
        assert_eq!(viewer.reach(Operation::ManageKeys, None).unwrap(), [Access::Org("org_b".into())]);
        let both = viewer.reach(Operation::SeeKeys, None).unwrap();
        assert_eq!(both, [Access::Org("org_a".into()), Access::Org("org_b".into())]);
    }

    #[test]
    fn what_concerns_the_whole_gateway_is_the_administrators() {
        let (owner, administrator) = (member(&[("org_a", Role::Owner)]), Viewer::administrator(HERE, None));
        for operation in [Operation::SeeGateway, Operation::ManageModels, Operation::ManageCredits] {
            assert_eq!((status(owner.may(operation, None)), status(owner.may(operation, Some("org_a")))), (403, 403));
            assert_eq!(status(administrator.may(operation, None)), 200);
        }
        assert_eq!(status(owner.may(Operation::SeeHealth, None)), 200, "how it fares is every owner's to know");
        assert_eq!(status(member(&[("org_a", Role::Admin)]).may(Operation::SeeHealth, None)), 403);
        assert_eq!(administrator.reach(Operation::SeeKeys, None).unwrap(), [Access::System]);
    }
}
