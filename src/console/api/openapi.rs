//! `/api/openapi.json` and `/api/docs`: what the API can do, in OpenAPI 3.1 and as a page.

use super::{
    audit, budgets, config, gateway, generation, keys, members, orgs, provider_keys, reports, session, settings,
};
use crate::console::routes::{self, escaped};
use axum::Json;
use axum::response::Html;
use serde::Serialize;
use std::fmt::Write;
use std::sync::LazyLock;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

/// What went wrong (RFC 9457).
#[derive(Serialize, ToSchema)]
struct Problem {
    /// Always `about:blank`: the title says what kind it is.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// The member or parameter that is wrong, where it is one.
    at: Option<String>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Orbyt's admin API",
        description = "Send the administrator's token as `Authorization: Bearer …`, or log in at `/api/v1/session`: then each request that \
                       changes something carries the session's `x-csrf-token`. Lists come in pages: `cursor` takes the `next_cursor` of the \
                       page before. Where an answer has an `etag`, a change with `if-match` is made to that version alone."
    ),
    paths(
        session::begin, session::show, session::end, members::change_password,
        keys::list, keys::create, keys::show, keys::change, keys::remove, keys::rotate, keys::revoke,
        orgs::list, orgs::create, orgs::show, orgs::rename,
        orgs::list_projects, orgs::create_project, orgs::show_project, orgs::rename_project,
        members::list, members::add, members::show, members::change, members::remove, members::reset_password,
        provider_keys::list, provider_keys::add, provider_keys::remove,
        settings::models::list, settings::models::show, settings::models::set, settings::models::remove,
        settings::presets::list, settings::presets::show, settings::presets::set, settings::presets::remove,
        settings::sections, settings::section, settings::set_section, settings::remove_section,
        budgets::list, budgets::set, budgets::remove, budgets::credits, budgets::add_credit,
        gateway::health, gateway::accounts, gateway::pool, gateway::enable, gateway::breakers, gateway::cache, gateway::empty_cache,
        config::show, audit::list, audit::verify, routes::explain, routes::payloads, generation::show,
        reports::requests, reports::request, reports::usage, reports::sessions,
    ),
    components(schemas(Problem)),
    modifiers(&Everywhere),
)]
struct Document;

/// What holds of every operation.
struct Everywhere;

/// What can become of a request besides what it is for.
const PROBLEMS: [(&str, &str); 11] = [
    ("400", "The request cannot be understood."),
    ("401", "Nobody is logged in."),
    ("403", "You may not do this, or the token against forged requests is missing."),
    ("404", "There is no such thing in sight."),
    ("409", "It is at odds with what there is."),
    ("412", "It has changed since you saw it."),
    ("413", "The body is larger than 64 KiB."),
    ("415", "The body is not JSON."),
    ("422", "The request is understood, and is not possible."),
    ("429", "Too many wrong tokens or passwords."),
    ("503", "The database does not answer now."),
];

impl Modify for Everywhere {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("admin_token", SecurityScheme::Http(bearer));
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("orbyt_session")));
        components.add_security_scheme("session", cookie);
        let schemes = ["admin_token", "session"].map(|name| utoipa::openapi::SecurityRequirement::new(name, [""; 0]));
        document.security = Some(schemes.into());
        for item in document.paths.paths.values_mut() {
            for operation in operations_mut(item) {
                for (status, description) in PROBLEMS {
                    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
                    let response = ResponseBuilder::new().description(description);
                    let response = response.content("application/problem+json", content).build();
                    operation.responses.responses.entry(status.to_owned()).or_insert(response.into());
                }
            }
        }
    }
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

/// The description.
fn document() -> &'static utoipa::openapi::OpenApi {
    static DOCUMENT: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(|| {
        let mut document = Document::openapi();
        env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
        document
    });
    &DOCUMENT
}

/// The description as OpenAPI 3.1.
pub(super) async fn json() -> Json<&'static utoipa::openapi::OpenApi> {
    Json(document())
}

/// The description as a page that needs nothing else.
pub(super) async fn page() -> Html<String> {
    let document = document();
    let mut rows = String::new();
    for (path, item) in &document.paths.paths {
        let methods = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        for (method, operation) in methods {
            let Some(operation) = operation else { continue };
            let summary = operation.summary.as_deref().or(operation.description.as_deref()).unwrap_or_default();
            // A string takes any amount of text.
            let _ = writeln!(
                rows,
                "<tr><td><code>{method}</code></td><td><code>{}</code></td><td>{}</td></tr>",
                escaped(path),
                escaped(summary)
            );
        }
    }
    let text = document.info.description.as_deref().unwrap_or_default();
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head><body>\n<h1>{title}</h1>\n\
         <p>{}</p>\n<p>All of it, with bodies and answers, is in <a href=\"/api/openapi.json\">openapi.json</a> (OpenAPI 3.1).</p>\n\
         <table>\n<thead><tr><th scope=\"col\">Method</th><th scope=\"col\">Path</th><th scope=\"col\">What it does</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</body></html>\n",
        escaped(text),
        title = escaped(&document.info.title),
    ))
}
