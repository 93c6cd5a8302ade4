//! One conformance suite over both databases: whatever is asked through the ports has the same answer.

use crate::postgres;
use orbyt::config::Store;
use orbyt::domain::audit::{AuditEvent, Head};
use orbyt::domain::budget::{Budget, Credit, Payer, Span};
use orbyt::domain::tenancy::{
    ApiKey, DEFAULT_ORG, DEFAULT_PROJECT, KeySecret, Membership, Organisation, Person, Project, Role, Scopes, SealedKey,
};
use orbyt::domain::{Limit, Measure, Money, Period, Secret};
use orbyt::store::ports::database::{Access, Database, StoreError};
use orbyt::wiring::state::State;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Both databases, new and empty, with what keeps them alive.
pub async fn both() -> [(&'static str, Arc<dyn Database>, TempDir); 2] {
    let postgres = postgres::Database::create().await;
    let mut made = Vec::new();
    for (name, url) in [("sqlite", None), ("postgres", Some(postgres.url()))] {
        let folder = tempfile::tempdir().unwrap();
        made.push((name, open(&folder, url).await, folder));
    }
    made.try_into().ok().unwrap()
}

async fn open(folder: &TempDir, url: Option<String>) -> Arc<dyn Database> {
    let store =
        Store { database_url: url.map(Secret::new), connections: 4, master_key: None, redis: None, node_name: None };
    State::open(folder.path(), &store).await.unwrap().database
}

fn secret(text: &str, created_at: u64) -> KeySecret {
    KeySecret { hash: Secret::new(text).hash(), shown: format!("{text}•••"), created_at, expires_at: None }
}

pub fn key(id: &str, org: &str, project: &str, name: &str) -> ApiKey {
    ApiKey {
        id: id.into(),
        org: org.into(),
        project: project.into(),
        name: name.into(),
        owner: None,
        workflow: None,
        scopes: Scopes::default(),
        limits: [].into(),
        metadata: [].into(),
        disabled: false,
        created_at: 1,
        expires_at: None,
        revoked_at: None,
        secrets: vec![secret(&format!("secret of {id}"), 1)],
    }
}

fn sealed(id: &str, org: Option<&str>, name: &str) -> SealedKey {
    SealedKey {
        id: id.into(),
        org: org.map(Into::into),
        project: None,
        provider: "openai".into(),
        name: name.into(),
        shown: "sk•••".into(),
        created_at: 1,
        envelope: format!("envelope of {id}"),
    }
}

async fn ids(database: &dyn Database, access: &Access) -> Vec<String> {
    database.keys(access).await.unwrap().iter().map(|key| key.id.to_string()).collect()
}

#[tokio::test]
async fn a_key_comes_back_as_it_was_written() {
    for (name, database, _folder) in both().await {
        let full = ApiKey {
            owner: Some("ada@example.com".into()),
            workflow: Some("nightly \"batch\"".into()),
            scopes: Scopes {
                models: vec!["openai/*".into(), "'; --".into()],
                providers: vec!["openai".into()],
                routes: vec!["/v1/chat/*".into()],
                addresses: vec!["192.0.2.0/24".into()],
            },
            limits: [(Measure::Requests(Period::Minute), 60), (Measure::Concurrency, 2)]
                .map(|(measure, amount)| Limit { measure, amount })
                .into(),
            metadata: [("team".to_owned(), "größe ✓".to_owned())].into(),
            disabled: true,
            created_at: 1_700_000_000_123,
            expires_at: Some(1_800_000_000_456),
            ..key("key_full", DEFAULT_ORG, DEFAULT_PROJECT, "full")
        };
        database.create_key(&Access::System, &full).await.unwrap();
        assert_eq!(database.keys(&Access::System).await.unwrap(), std::slice::from_ref(&full), "{name}");
        assert_eq!(database.contents().await.unwrap().keys, [full], "{name}");
    }
}

#[tokio::test]
async fn names_are_taken_until_the_key_is_revoked() {
    for (name, database, _folder) in both().await {
        let make =
            async |id: &str| database.create_key(&Access::System, &key(id, DEFAULT_ORG, DEFAULT_PROJECT, "team")).await;
        make("key_1").await.unwrap();
        assert!(matches!(make("key_2").await, Err(StoreError::Conflict(_))), "{name}");
        assert!(database.revoke_key(&Access::System, "key_1", 50).await.unwrap());
        assert!(database.revoke_key(&Access::System, "key_1", 60).await.unwrap(), "{name}: again changes nothing");
        make("key_2").await.unwrap();
        let keys = database.keys(&Access::System).await.unwrap();
        assert_eq!(keys.iter().map(|key| key.revoked_at).collect::<Vec<_>>(), [Some(50), None], "{name}");
        assert!(!database.revoke_key(&Access::System, "key_none", 50).await.unwrap(), "{name}");
        let nowhere = key("key_3", DEFAULT_ORG, "prj_none", "x");
        let refused = database.create_key(&Access::System, &nowhere).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn a_rotation_adds_a_secret_and_ends_the_others() {
    for (name, database, _folder) in both().await {
        database.create_key(&Access::System, &key("key_1", DEFAULT_ORG, DEFAULT_PROJECT, "a")).await.unwrap();
        assert!(database.rotate_key(&Access::System, "key_1", &secret("second", 10), 100).await.unwrap());
        assert!(database.rotate_key(&Access::System, "key_1", &secret("third", 20), 200).await.unwrap());
        let keys = database.keys(&Access::System).await.unwrap();
        let secrets: Vec<_> = keys[0].secrets.iter().map(|it| (it.shown.as_str(), it.expires_at)).collect();
        let expected = [("third•••", None), ("second•••", Some(200)), ("secret of key_1•••", Some(100))];
        assert_eq!(secrets, expected, "{name}: an end is never put off");
        database.revoke_key(&Access::System, "key_1", 1).await.unwrap();
        assert!(!database.rotate_key(&Access::System, "key_1", &secret("fourth", 30), 300).await.unwrap(), "{name}");
        assert!(database.set_key_disabled(&Access::System, "key_1", true).await.unwrap());
        assert!(database.keys(&Access::System).await.unwrap()[0].disabled, "{name}");
    }
}

#[tokio::test]
async fn nothing_of_an_organisation_is_in_sight_of_another() {
    for (name, database, _folder) in both().await {
        for (org, project) in [("org_a", "prj_a"), ("org_b", "prj_b")] {
            database.create_org(&Organisation { id: org.into(), name: org.into() }, 1).await.unwrap();
            let project = Project { id: project.into(), org: org.into(), name: "main".into() };
            database.create_project(&Access::Org(org.into()), &project, 1).await.unwrap();
        }
        let (a, b) = (Access::Org("org_a".into()), Access::Org("org_b".into()));
        database.create_key(&a, &key("key_a", "org_a", "prj_a", "same")).await.unwrap();
        database.create_key(&b, &key("key_b", "org_b", "prj_b", "same")).await.unwrap();
        database.add_provider_key(&a, &sealed("pk_a", Some("org_a"), "own")).await.unwrap();
        database.add_provider_key(&Access::System, &sealed("pk_all", None, "own")).await.unwrap();
        assert_eq!(
            (ids(&*database, &a).await, ids(&*database, &b).await),
            (vec!["key_a".into()], vec!["key_b".into()])
        );
        assert_eq!(ids(&*database, &Access::System).await.len(), 2, "{name}");
        let orgs = database.orgs(&b).await.unwrap();
        assert_eq!(orgs.iter().map(|org| &*org.id).collect::<Vec<_>>(), ["org_b"], "{name}");
        let projects = database.projects(&b).await.unwrap();
        assert_eq!(projects.iter().map(|project| &*project.id).collect::<Vec<_>>(), ["prj_b"], "{name}");
        assert_eq!(database.provider_keys(&b).await.unwrap(), [], "{name}");
        assert_eq!(database.provider_keys(&a).await.unwrap().len(), 1, "{name}: the gateway's own are not theirs");
        // What is not in sight cannot be changed either.
        assert!(!database.revoke_key(&b, "key_a", 5).await.unwrap(), "{name}");
        assert!(!database.set_key_disabled(&b, "key_a", true).await.unwrap(), "{name}");
        assert!(!database.rotate_key(&b, "key_a", &secret("theft", 5), 5).await.unwrap(), "{name}");
        assert!(!database.remove_provider_key(&b, "pk_a").await.unwrap(), "{name}");
        assert!(!database.reseal_provider_key(&b, "pk_a", "envelope of pk_a", "x").await.unwrap(), "{name}");
        for stolen in [key("key_c", "org_a", "prj_a", "c"), key("key_c", "org_b", "prj_a", "c")] {
            let refused = database.create_key(&b, &stolen).await;
            assert!(matches!(refused, Err(StoreError::Refused(_))), "{name}: {refused:?}");
        }
        let of_project = |org, project: &str| SealedKey { project: Some(project.into()), ..sealed("pk_p", org, "p") };
        database.add_provider_key(&b, &of_project(Some("org_b"), "prj_b")).await.unwrap();
        let own = database.provider_keys(&b).await.unwrap();
        assert_eq!(own, [of_project(Some("org_b"), "prj_b")], "{name}");
        let wrong = SealedKey { id: "pk_w".into(), name: "w".into(), ..of_project(Some("org_b"), "prj_a") };
        for key in [sealed("pk_c", Some("org_a"), "c"), sealed("pk_c", None, "c"), wrong] {
            let refused = database.add_provider_key(&b, &key).await;
            assert!(matches!(refused, Err(StoreError::Refused(_))), "{name}: {refused:?}");
        }
        let project = Project { id: "prj_c".into(), org: "org_a".into(), name: "c".into() };
        assert!(matches!(database.create_project(&b, &project, 1).await, Err(StoreError::Refused(_))), "{name}");
        assert_eq!(ids(&*database, &Access::Org("org_none".into())).await, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn sealed_keys_are_kept_and_resealed_only_from_what_was_read() {
    for (name, database, _folder) in both().await {
        let (first, second) = (sealed("pk_1", None, "one"), sealed("pk_2", None, "two"));
        database.add_provider_key(&Access::System, &first).await.unwrap();
        database.add_provider_key(&Access::System, &second).await.unwrap();
        let again = database.add_provider_key(&Access::System, &sealed("pk_3", None, "one")).await;
        assert!(matches!(again, Err(StoreError::Conflict(_))), "{name}: {again:?}");
        assert_eq!(database.provider_keys(&Access::System).await.unwrap(), [first.clone(), second.clone()], "{name}");
        let reseal =
            async |old: &str| database.reseal_provider_key(&Access::System, "pk_1", old, "new envelope").await.unwrap();
        assert!(!reseal("another envelope").await && reseal("envelope of pk_1").await, "{name}");
        assert!(database.remove_provider_key(&Access::System, "pk_2").await.unwrap());
        assert!(!database.remove_provider_key(&Access::System, "pk_2").await.unwrap(), "{name}");
        let left = SealedKey { envelope: "new envelope".into(), ..first };
        assert_eq!(database.contents().await.unwrap().provider_keys, [left], "{name}");
    }
}

fn event(target: &str, org: Option<&str>) -> AuditEvent {
    AuditEvent {
        at: 1_700_000_000_123,
        org: org.map(Into::into),
        actor: "größe \"ada\"".into(),
        origin: "here".into(),
        action: "key.create".into(),
        target: target.into(),
        details: "{}".into(),
    }
}

#[tokio::test]
async fn the_audit_log_is_one_chain_however_many_write_into_it() {
    let postgres = postgres::Database::create().await;
    for url in [None, Some(postgres.url())] {
        let folder = tempfile::tempdir().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let database = open(&folder, url.clone()).await;
            tasks.spawn(async move {
                for number in 0..10 {
                    database.append(&event(&format!("{writer}/{number}"), None)).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        let database = open(&folder, url.clone()).await;
        let first = database.entries_after(0, 25).await.unwrap();
        let rest = database.entries_after(25, 25).await.unwrap();
        assert_eq!((first.len(), rest.len()), (25, 15), "{url:?}");
        let head = first.iter().chain(&rest).try_fold(Head::default(), |head, entry| head.check(entry)).unwrap();
        assert_eq!(head.seq, 40);
        assert_eq!(first[0].event, event(&first[0].event.target, None), "it comes back as it was written");
        database.append(&event("theirs", Some("org_a"))).await.unwrap();
        let seen = async |org: &str| database.latest_entries(&Access::Org(org.into()), 9).await.unwrap().len();
        assert_eq!((seen("org_a").await, seen("org_b").await), (1, 0), "{url:?}");
        let latest = database.latest_entries(&Access::System, 2).await.unwrap();
        assert_eq!(latest.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [40, 41], "{url:?}");
    }
}

#[tokio::test]
async fn nobody_changes_the_audit_log_in_passing() {
    let postgres = postgres::Database::create().await;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(&folder, None).await.append(&event("a", None)).await.unwrap();
    open(&other, Some(postgres.url())).await.append(&event("a", None)).await.unwrap();
    let file = rusqlite::Connection::open(folder.path().join("orbyt.db")).unwrap();
    let superuser = postgres.superuser().await;
    for change in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
        let error = file.execute_batch(change).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{error}");
        let error = superuser.batch_execute(change).await.unwrap_err();
        assert!(format!("{error:?}").contains("append-only"), "{error:?}");
    }
    assert!(superuser.batch_execute("TRUNCATE audit").await.is_err());
}

#[tokio::test]
async fn of_several_that_begin_at_once_one_makes_the_credentials() {
    let postgres = postgres::Database::create().await;
    for url in [None, Some(postgres.url())] {
        let folder = tempfile::tempdir().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..4 {
            let database = open(&folder, url.clone()).await;
            tasks.spawn(async move {
                let key = key(&format!("key_{number}"), DEFAULT_ORG, DEFAULT_PROJECT, "first");
                database.begin_with(&[key], Some(Secret::new(format!("token {number}")).hash())).await.unwrap()
            });
        }
        let made = tasks.join_all().await;
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{url:?}");
        let contents = open(&folder, url.clone()).await.contents().await.unwrap();
        let number = contents.keys[0].id.trim_start_matches("key_").to_owned();
        assert_eq!(contents.keys.len(), 1);
        assert_eq!(contents.admin_token, Some(Secret::new(format!("token {number}")).hash()), "of the same");
    }
}

#[tokio::test]
async fn a_change_is_told_to_everybody_else_within_a_second() {
    let postgres = postgres::Database::create().await;
    for url in [None, Some(postgres.url())] {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (open(&folder, url.clone()).await, open(&folder, url.clone()).await);
        let mut link = there.link();
        let told = async |link: &mut tokio::sync::watch::Receiver<_>| {
            tokio::time::timeout(Duration::from_secs(1), link.changed()).await.expect("nobody was told").unwrap();
        };
        link.mark_unchanged();
        here.create_key(&Access::System, &key("key_1", DEFAULT_ORG, DEFAULT_PROJECT, "a")).await.unwrap();
        told(&mut link).await;
        here.revoke_key(&Access::System, "key_1", 5).await.unwrap();
        told(&mut link).await;
        here.set_admin_token(Secret::new("t").hash()).await.unwrap();
        told(&mut link).await;
        assert_eq!(there.contents().await.unwrap().keys[0].revoked_at, Some(5));
    }
}

#[tokio::test]
async fn a_database_from_the_future_is_refused_and_left_alone() {
    let postgres = postgres::Database::create().await;
    drop(open(&tempfile::tempdir().unwrap(), Some(postgres.url())).await);
    let later = "INSERT INTO schema_migrations (version, name, sha256) VALUES (99, 'later', 'x')";
    postgres.superuser().await.batch_execute(later).await.unwrap();
    let store = Store {
        database_url: Some(Secret::new(postgres.url())),
        connections: 1,
        master_key: None,
        redis: None,
        node_name: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let error = State::open(folder.path(), &store).await.map(|_| ()).unwrap_err();
    assert!(matches!(&error, StoreError::Refused(why) if why.contains("of a later version of orbyt")), "{error}");
    assert!(!error.to_string().contains("canary"), "the password is shown");
}

#[tokio::test]
async fn whoever_takes_on_the_application_role_sees_one_organisation_in_any_table() {
    let postgres = postgres::Database::create().await;
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder, Some(postgres.url())).await;
    for org in ["org_a", "org_b"] {
        database.create_org(&Organisation { id: org.into(), name: org.into() }, 1).await.unwrap();
        let project = Project { id: format!("prj_{org}").into(), org: org.into(), name: "main".into() };
        database.create_project(&Access::System, &project, 1).await.unwrap();
        let key = key(&format!("key_{org}"), org, &format!("prj_{org}"), "k");
        database.create_key(&Access::System, &key).await.unwrap();
        database.add_provider_key(&Access::System, &sealed(&format!("pk_{org}"), Some(org), "p")).await.unwrap();
    }
    database.add_provider_key(&Access::System, &sealed("pk_all", None, "p")).await.unwrap();
    let superuser = postgres.superuser().await;
    let people = "INSERT INTO users (id, email, created_at) VALUES ('usr_a', 'a@x', 1), ('usr_b', 'b@x', 1);
        INSERT INTO memberships (org_id, user_id, role) VALUES ('org_a', 'usr_a', 'owner'), ('org_b', 'usr_b', 'owner')";
    superuser.batch_execute(people).await.unwrap();

    let hostile = postgres.owner().await;
    let tables = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1";
    let tables: Vec<String> = hostile.query(tables, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(tables.len() >= 8, "{tables:?}");
    // Every table that holds anything of an organisation is behind the policies, for its owner too.
    let open_ones = "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' \
                     AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity) AND relname <> 'schema_migrations'";
    assert!(hostile.query(open_ones, &[]).await.unwrap().is_empty(), "a table without forced row-level security");

    let visible = async |set_up: &str| -> String {
        let mut seen = String::new();
        for table in &tables {
            // Of people, what they log in with is in nobody's sight.
            let row = if table == "users" { "t.id || t.email" } else { "t::text" };
            let rows = format!("SELECT coalesce(string_agg({row}, ' '), '') FROM {table} t");
            hostile.batch_execute("BEGIN").await.unwrap();
            hostile.batch_execute(set_up).await.unwrap();
            // A table that the role may not look at at all shows nothing either.
            if let Ok(row) = hostile.query_one(&rows, &[]).await {
                seen += &format!("{table}: {} ", row.get::<_, String>(0));
            }
            hostile.batch_execute("ROLLBACK").await.unwrap();
        }
        seen
    };
    let of_b = visible("SET LOCAL ROLE orbyt_app; SET LOCAL orbyt.org_id = 'org_b'").await;
    for own in ["org_b", "prj_org_b", "key_org_b", "pk_org_b", "usr_b"] {
        assert!(of_b.contains(own), "{own} is not in sight of its own organisation: {of_b}");
    }
    for theirs in ["org_a", "usr_a", "pk_all"] {
        assert!(!of_b.contains(theirs), "{theirs} is in sight: {of_b}");
    }
    let mut nobodies = vec!["SET LOCAL ROLE orbyt_app", "SET LOCAL ROLE orbyt_app; SET LOCAL orbyt.org_id = ''"];
    let version: i32 =
        hostile.query_one("SELECT current_setting('server_version_num')::int", &[]).await.unwrap().get(0);
    if version >= 160_000 {
        // Older ones know no membership that does not inherit, so there the owner sees what the roles see.
        nobodies.push("SELECT 1");
    }
    for nobody in nobodies {
        let seen = visible(nobody).await;
        assert!(!seen.contains("org_a") && !seen.contains("org_b") && !seen.contains("pk_all"), "{nobody}: {seen}");
    }
    // Nor can anything be changed that is not in sight, or be put where it would not be.
    for change in [
        "UPDATE api_keys SET disabled = true WHERE org_id = 'org_a'",
        "DELETE FROM api_key_secrets WHERE org_id = 'org_a'",
        "UPDATE api_keys SET org_id = 'org_a' WHERE org_id = 'org_b'",
        "INSERT INTO projects (id, org_id, name, created_at) VALUES ('x', 'org_a', 'x', 1)",
        "UPDATE organisations SET name = 'x'",
        "INSERT INTO gateway_facts (name, value) VALUES ('admin_token_sha256', 'x')",
        // Who belongs to it, and as what, is not for the organisation's own transactions to say.
        "INSERT INTO memberships (org_id, user_id, role) VALUES ('org_b', 'usr_a', 'viewer')",
        "UPDATE memberships SET role = 'owner' WHERE user_id = 'usr_b'",
        "SELECT password_hash FROM users",
    ] {
        hostile.batch_execute("BEGIN; SET LOCAL ROLE orbyt_app; SET LOCAL orbyt.org_id = 'org_b'").await.unwrap();
        assert_eq!(hostile.execute(change, &[]).await.unwrap_or(0), 0, "{change}");
        hostile.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn budgets_credits_and_prices_come_back_and_are_followed() {
    for (name, database, _folder) in both().await {
        let large = Money::from_picos(i128::from(u64::MAX) * 1_000_000);
        let budget = |id: &str, amount| Budget {
            id: id.into(),
            org: DEFAULT_ORG.into(),
            payer: Payer::User,
            subject: "*".into(),
            span: Span::Week,
            amount,
        };
        database.set_budget(&Access::System, &budget("bud_1", Money::ZERO), 1).await.unwrap();
        database.set_budget(&Access::System, &budget("bud_2", large), 2).await.unwrap();
        let kept = [budget("bud_1", large)];
        assert_eq!(database.budgets(&Access::System).await.unwrap(), kept, "{name}: in the place of the one before");
        let other = Access::Org("org_other".into());
        assert_eq!(database.budgets(&other).await.unwrap(), [], "{name}");
        assert!(!database.remove_budget(&other, "bud_1").await.unwrap(), "{name}");
        assert!(database.set_budget(&other, &kept[0], 3).await.is_err(), "{name}");
        let credit = Credit {
            id: "crd_1".into(),
            org: DEFAULT_ORG.into(),
            amount: Money::from_picos(-1),
            spent_before: large,
            note: "größe".into(),
            created_at: 9,
        };
        database.add_credit(&credit).await.unwrap();
        assert!(matches!(database.add_credit(&credit).await, Err(StoreError::Conflict(_))), "{name}");
        let nowhere = Credit { id: "crd_2".into(), org: "org_none".into(), ..credit.clone() };
        assert!(matches!(database.add_credit(&nowhere).await, Err(StoreError::Refused(_))), "{name}");
        assert_eq!(database.credits(&other).await.unwrap(), [], "{name}");
        database.set_prices("{}").await.unwrap();
        let contents = database.contents().await.unwrap();
        assert_eq!((contents.budgets, contents.credits), (kept.to_vec(), vec![credit]), "{name}");
        assert_eq!(contents.prices.as_deref(), Some("{}"), "{name}");
        assert!(database.remove_budget(&Access::System, "bud_1").await.unwrap(), "{name}");
        assert!(!database.remove_budget(&Access::System, "bud_1").await.unwrap(), "{name}");
    }
}

#[tokio::test]
async fn people_are_in_sight_of_their_organisations() {
    for (name, database, _folder) in both().await {
        for org in ["org_a", "org_b"] {
            database.create_org(&Organisation { id: org.into(), name: org.into() }, 1).await.unwrap();
        }
        let ada = Person { id: "usr_1".into(), email: "ada@example.com".into(), name: "Ada".into() };
        database.create_person(&ada, 1).await.unwrap();
        let again = Person { id: "usr_2".into(), ..ada.clone() };
        assert!(matches!(database.create_person(&again, 1).await, Err(StoreError::Conflict(_))), "{name}");
        let (a, b) = (Access::Org("org_a".into()), Access::Org("org_b".into()));
        for role in [Role::Owner, Role::Viewer] {
            assert!(
                database.set_role(&a, "org_a", "usr_1", Some(role)).await.is_err(),
                "{name}: not on its own behalf"
            );
            database.set_role(&Access::System, "org_a", "usr_1", Some(role)).await.unwrap();
        }
        assert!(database.set_role(&Access::System, "org_none", "usr_1", Some(Role::Owner)).await.is_err(), "{name}");
        assert!(database.set_role(&Access::System, "org_a", "usr_none", Some(Role::Owner)).await.is_err(), "{name}");
        let membership = Membership { org: "org_a".into(), person: "usr_1".into(), role: Role::Viewer };
        assert_eq!(database.memberships(&a).await.unwrap(), [membership], "{name}");
        assert_eq!(database.people(&a).await.unwrap(), [ada], "{name}");
        assert!(
            database.people(&b).await.unwrap().is_empty() && database.memberships(&b).await.unwrap().is_empty(),
            "{name}"
        );
        database.set_role(&Access::System, "org_a", "usr_1", None).await.unwrap();
        assert_eq!(database.people(&a).await.unwrap(), [], "{name}");
    }
}
