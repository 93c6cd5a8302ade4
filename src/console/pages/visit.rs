//! Who visits a page, and of which organisation they want to see something.

use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::domain::tenancy::{Membership, Organisation};
use crate::store::ports::database::{Access, StoreError};
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use maud::html;
use serde::Deserialize;
use std::sync::Arc;

/// A visit.
pub(super) struct Visit {
    /// Who it is.
    pub viewer: Viewer,
    /// The organisation that was chosen, from the address. Who is a member of several and names none is in [one of them](usual), which links and
    /// forms name from there on; for the administrator `None` means all.
    pub org: Option<Arc<str>>,
    /// The page.
    pub path: String,
    /// What stands behind it in the address.
    pub query: String,
    /// The host by which the console was reached, as the browser says.
    pub host: Option<String>,
}

#[derive(Deserialize)]
struct Chosen {
    org: Option<Arc<str>>,
}

impl Visit {
    /// On whose behalf the database is asked: for the organisation that was chosen, otherwise for all of them where all are in sight, and for the
    /// first in which this is allowed where not.
    pub fn access(&self, operation: Operation) -> Result<Access, Problem> {
        if self.org.is_none() && self.viewer.is_administrator() {
            return Ok(Access::System);
        }
        self.home(operation).map(Access::Org)
    }

    /// The organisation in which something is done: the one that was chosen, or the first in which this is allowed.
    pub fn home(&self, operation: Operation) -> Result<Arc<str>, Problem> {
        if let Some(org) = &self.org {
            self.viewer.may(operation, Some(org))?;
            return Ok(org.clone());
        }
        if self.viewer.is_administrator() {
            return Ok(crate::domain::tenancy::DEFAULT_ORG.into());
        }
        let able = self.viewer.memberships().iter().find(|it| self.viewer.can(operation, &it.org));
        match able {
            Some(membership) => Ok(membership.org.clone()),
            None => Err(self.viewer.may(operation, None).err().unwrap_or_else(|| Problem::not_found("organisation"))),
        }
    }

    /// Where something is written that stays: as [`home`](Self::home), but nobody who looks at several organisations writes into one without having
    /// chosen it.
    pub async fn chosen(&self, shared: &Shared, operation: Operation) -> Result<Arc<str>, Problem> {
        if self.is_undecided(shared).await {
            let detail = "Choose the organisation first: what is written here belongs to one of them.";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        self.home(operation)
    }

    /// Whether several organisations are looked at at once.
    pub async fn is_undecided(&self, shared: &Shared) -> bool {
        self.org.is_none() && self.orgs(shared).await.len() > 1
    }

    /// The organisations that they can choose from.
    pub async fn orgs(&self, shared: &Shared) -> Vec<Organisation> {
        let Some(database) = &shared.deps.database else { return Vec::new() };
        // A page without the choice is better than none.
        let Ok(mut orgs) = database.orgs(&Access::System).await else { return Vec::new() };
        orgs.retain(|org| self.viewer.role_in(&org.id).is_some());
        orgs
    }

    /// What forms carry against forged requests.
    pub fn csrf(&self) -> &str {
        self.viewer.session.as_ref().map_or("", |session| &session.csrf)
    }

    /// An address that keeps to the chosen organisation.
    pub fn link(&self, path: &str) -> String {
        match &self.org {
            Some(org) => {
                let org: String = form_urlencoded::byte_serialize(org.as_bytes()).collect();
                let sign = if path.contains('?') { '&' } else { '?' };
                format!("{path}{sign}org={org}")
            }
            None => path.to_owned(),
        }
    }
}

/// Where somebody is who is a member of several organisations and has named none: where they may do most, so that it is the same on every page.
fn usual(memberships: &[Membership]) -> Option<Arc<str>> {
    let several = memberships.len() > 1;
    let by_role = |it: &&Membership| (it.role, std::cmp::Reverse(it.org.clone()));
    memberships.iter().filter(|_| several).max_by_key(by_role).map(|it| it.org.clone())
}

impl FromRequestParts<Arc<Shared>> for Visit {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Failure> {
        let viewer = Viewer::from_request_parts(parts, shared).await?;
        Ok(Self::of(viewer, &parts.uri, &parts.headers))
    }
}

impl Visit {
    /// The visit of somebody at an address.
    pub fn of(viewer: Viewer, uri: &Uri, headers: &HeaderMap) -> Self {
        let chosen = Query::<Chosen>::try_from_uri(uri).ok().and_then(|Query(chosen)| chosen.org);
        let org = chosen.filter(|org| !org.is_empty()).or_else(|| usual(viewer.memberships()));
        let query = uri.query().unwrap_or_default().to_owned();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        Self { viewer, org, path: uri.path().to_owned(), query, host }
    }
}

/// A page that cannot be shown, and why.
#[derive(Debug)]
pub(super) struct Failure(pub Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, detail) = (self.0.status(), self.0.detail().to_owned());
        let page = super::layout::bare(
            status.canonical_reason().unwrap_or("Error"),
            &html! {
                section.panel {
                    header { h1 { (status.as_u16()) " " (status.canonical_reason().unwrap_or_default()) } }
                    div.body { p { (detail) } p { a href="/overview" { "To the overview" } } }
                }
            },
        );
        (status, Html(page.into_string())).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tenancy::Role;

    #[test]
    fn who_belongs_to_several_is_in_one_of_them_from_the_first_page_on() {
        let member = |org: &str, role| Membership { org: org.into(), person: "usr_1".into(), role };
        assert_eq!(usual(&[]), None);
        assert_eq!(usual(&[member("org_a", Role::Viewer)]), None, "there is nothing to choose");
        let some = [member("org_0", Role::Viewer), member("org_a", Role::Admin), member("org_b", Role::Admin)];
        assert_eq!(usual(&some).as_deref(), Some("org_a"));
    }
}
