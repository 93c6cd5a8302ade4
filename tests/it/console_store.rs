//! What the console keeps, over both databases: logins and sessions, settings, changes that lose against others.

use crate::store::{both, key};
use orbyt::domain::Secret;
use orbyt::domain::audit::AuditEvent;
use orbyt::domain::stored_setting::{SettingKind, StoredSetting};
use orbyt::domain::tenancy::{DEFAULT_ORG, DEFAULT_PROJECT, Organisation, Person, Project, Role};
use orbyt::store::ports::database::{Access, StoreError};
use orbyt::store::ports::logins::{Holder, Login, Session};
use orbyt::store::ports::tenants::{RoleChange, RoleOutcome};

const ALL: Access = Access::System;

fn session(cookie: &str, holder: Holder, from: u64) -> Session {
    let hash = Secret::new(cookie).hash();
    Session { hash, holder, address: "::1".to_owned(), created_at: from, expires_at: from + 10 }
}

#[tokio::test]
async fn a_session_is_its_holders_as_long_as_it_lasts() {
    for (name, database, _folder) in both().await {
        let ada = Person { id: "usr_a".into(), email: "ada@example.com".into(), name: "Ada".into() };
        database.create_person(&ada, 1).await.unwrap();
        database.set_role(&ALL, DEFAULT_ORG, "usr_a", Some(Role::Admin)).await.unwrap();
        assert_eq!(database.login("ada@example.com").await, Ok(None), "{name}: she has no password");
        assert_eq!(database.set_password("usr_a", "$hash").await, Ok(true), "{name}");
        assert_eq!(database.set_password("usr_x", "$hash").await, Ok(false), "{name}");
        let login = Login { person: "usr_a".into(), password_hash: "$hash".into() };
        assert_eq!(database.login("ada@example.com").await, Ok(Some(login)), "{name}");

        let hers = session("one", Holder::Person("usr_a".into()), 5);
        database.begin_session(&hers).await.unwrap();
        let seen = database.session(&hers.hash, 14).await.unwrap().unwrap();
        assert_eq!((&seen.session, seen.person.as_ref()), (&hers, Some(&ada)), "{name}");
        assert_eq!(seen.memberships.iter().map(|it| it.role).collect::<Vec<_>>(), [Role::Admin], "{name}");
        assert_eq!(database.session(&hers.hash, 15).await, Ok(None), "{name}: it is over");
        database.set_role(&ALL, DEFAULT_ORG, "usr_a", None).await.unwrap();
        assert!(database.session(&hers.hash, 14).await.unwrap().unwrap().memberships.is_empty(), "{name}: at once");
        database.set_password("usr_a", "$other").await.unwrap();
        assert_eq!(database.session(&hers.hash, 14).await, Ok(None), "{name}: another password ends it");

        let admins = session("two", Holder::Administrator(Secret::new("t").hash()), 5);
        database.begin_session(&admins).await.unwrap();
        assert_eq!(database.session(&admins.hash, 5).await.unwrap().unwrap().session, admins, "{name}");
        database.end_session(&admins.hash).await.unwrap();
        assert_eq!(database.session(&admins.hash, 5).await, Ok(None), "{name}");
        let nobodys = session("three", Holder::Person("usr_x".into()), 5);
        assert!(database.begin_session(&nobodys).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_setting_is_changed_from_what_it_was() {
    for (name, database, _folder) in both().await {
        let with = |body: &str| StoredSetting {
            kind: SettingKind::Preset,
            name: "terse".into(),
            body: body.to_owned(),
            changed_at: 5,
            changed_by: "ada".to_owned(),
        };
        let revision = database.link().borrow().revision;
        assert_eq!(database.put_setting(&with("{}"), Some("{}")).await, Ok(false), "{name}: there is none");
        assert_eq!(database.put_setting(&with("{}"), None).await, Ok(true), "{name}");
        assert_eq!(database.put_setting(&with(r#"{"a":1}"#), None).await, Ok(false), "{name}: there is one");
        assert_eq!(database.put_setting(&with(r#"{"a":1}"#), Some("{}")).await, Ok(true), "{name}");
        assert_eq!(database.settings().await, Ok(vec![with(r#"{"a":1}"#)]), "{name}");
        assert_eq!(database.contents().await.unwrap().settings, [with(r#"{"a":1}"#)], "{name}");
        let mut link = database.link();
        let told = link.wait_for(|link| link.revision > revision);
        tokio::time::timeout(crate::gateway::PATIENCE, told).await.expect(name).unwrap();
        assert_eq!(database.remove_setting(SettingKind::Model, "terse", "{}").await, Ok(false), "{name}");
        assert_eq!(
            database.remove_setting(SettingKind::Preset, "terse", "{}").await,
            Ok(false),
            "{name}: another body"
        );
        assert_eq!(database.remove_setting(SettingKind::Preset, "terse", r#"{"a":1}"#).await, Ok(true), "{name}");
        assert_eq!(database.settings().await, Ok(vec![]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_changed_from_what_it_was_and_an_owner_is_left() {
    for (name, database, _folder) in both().await {
        for id in ["usr_a", "usr_b"] {
            let person = Person { id: id.into(), email: format!("{id}@example.com"), name: String::new() };
            database.create_person(&person, 1).await.unwrap();
        }
        let change = |person, seen, wanted| RoleChange { org: DEFAULT_ORG, person, seen, wanted, keeps_an_owner: true };
        let (owner, viewer) = (Some(Role::Owner), Some(Role::Viewer));
        let made = async |person, seen, wanted| database.change_role(&change(person, seen, wanted)).await;
        assert_eq!(made("usr_a", viewer, owner).await, Ok(RoleOutcome::Changed), "{name}: no member yet");
        for id in ["usr_a", "usr_b"] {
            assert_eq!(made(id, None, owner).await, Ok(RoleOutcome::Done), "{name}");
            assert_eq!(made(id, None, viewer).await, Ok(RoleOutcome::Changed), "{name}: a member by now");
        }
        // Each of two owners takes the role from the other at the same moment: one is left.
        let (a, b) = (change("usr_a", owner, viewer), change("usr_b", owner, None));
        let (one, two) = tokio::join!(database.change_role(&a), database.change_role(&b));
        let mut outcomes = [one.unwrap(), two.unwrap()];
        outcomes.sort_by_key(|outcome| *outcome != RoleOutcome::Done);
        assert_eq!(outcomes, [RoleOutcome::Done, RoleOutcome::LastOwner], "{name}");
        let owners = database.memberships(&ALL).await.unwrap().into_iter().filter(|it| it.role == Role::Owner);
        let [last] = owners.collect::<Vec<_>>().try_into().unwrap();
        let end = change(&last.person, owner, None);
        assert_eq!(database.change_role(&end).await, Ok(RoleOutcome::LastOwner), "{name}");
        let end = RoleChange { keeps_an_owner: false, ..end };
        assert_eq!(database.change_role(&end).await, Ok(RoleOutcome::Done), "{name}: the administrator may");
        let nowhere = RoleChange { org: "org_none", ..change("usr_a", None, owner) };
        assert!(matches!(database.change_role(&nowhere).await, Err(StoreError::Refused(_))), "{name}");
    }
}

#[tokio::test]
async fn only_a_key_that_is_void_can_be_forgotten() {
    for (name, database, _folder) in both().await {
        let one = key("key_1", DEFAULT_ORG, DEFAULT_PROJECT, "one");
        database.create_key(&ALL, &one).await.unwrap();
        database.create_key(&ALL, &key("key_2", DEFAULT_ORG, DEFAULT_PROJECT, "two")).await.unwrap();
        assert_eq!(database.forget_key(&ALL, "key_1").await, Ok(false), "{name}: it is in force");
        database.revoke_key(&ALL, "key_1", 5).await.unwrap();
        assert_eq!(database.forget_key(&Access::Org("org_x".into()), "key_1").await, Ok(false), "{name}");
        assert_eq!(database.forget_key(&Access::Org(DEFAULT_ORG.into()), "key_1").await, Ok(true), "{name}");
        let left = database.keys(&ALL).await.unwrap();
        assert_eq!(left.iter().map(|key| &*key.id).collect::<Vec<_>>(), ["key_2"], "{name}");
        // Its secret is free, too.
        assert_eq!(database.create_key(&ALL, &one).await, Ok(()), "{name}");
    }
}

#[tokio::test]
async fn of_two_changes_of_a_key_the_second_loses() {
    for (name, database, _folder) in both().await {
        let old = key("key_1", DEFAULT_ORG, DEFAULT_PROJECT, "one");
        database.create_key(&ALL, &old).await.unwrap();
        database.create_key(&ALL, &key("key_2", DEFAULT_ORG, DEFAULT_PROJECT, "two")).await.unwrap();
        let mut new = old.clone();
        (new.name, new.owner, new.disabled, new.expires_at) = ("three".into(), Some("ada".into()), true, Some(9));
        (new.scopes.models, new.metadata) = (vec!["a*".into()], [("k".to_owned(), "v".to_owned())].into());
        let foreign = Access::Org("org_x".into());
        assert_eq!(database.replace_key(&foreign, &old, &new).await, Ok(false), "{name}");
        assert_eq!(database.replace_key(&Access::Org(DEFAULT_ORG.into()), &old, &new).await, Ok(true), "{name}");
        assert_eq!(database.keys(&ALL).await.unwrap()[0], new, "{name}");
        assert_eq!(database.replace_key(&ALL, &old, &old).await, Ok(false), "{name}");
        let mut taken = new.clone();
        taken.name = "two".into();
        assert!(matches!(database.replace_key(&ALL, &new, &taken).await, Err(StoreError::Conflict(_))), "{name}");
    }
}

#[tokio::test]
async fn names_are_changed_from_what_they_were_and_entries_are_read_backwards() {
    for (name, database, _folder) in both().await {
        let (org, project) = (Organisation { id: "org_a".into(), name: "a".into() }, "prj_a");
        database.create_org(&org, 1).await.unwrap();
        let made = Project { id: project.into(), org: org.id.clone(), name: "p".into() };
        let access = Access::Org(org.id.clone());
        database.create_project(&access, &made, 1).await.unwrap();
        assert_eq!(database.rename_org("org_a", "b", "c").await, Ok(false), "{name}");
        assert_eq!(database.rename_org("org_a", "a", "c").await, Ok(true), "{name}");
        assert!(matches!(database.rename_org("org_a", "c", "default").await, Err(StoreError::Conflict(_))), "{name}");
        let foreign = Access::Org(DEFAULT_ORG.into());
        assert_eq!(database.rename_project(&foreign, project, "p", "q").await, Ok(false), "{name}");
        assert_eq!(database.rename_project(&access, project, "p", "q").await, Ok(true), "{name}");

        for at in 1..=5 {
            let event = AuditEvent {
                at,
                org: (at % 2 == 0).then(|| org.id.clone()),
                actor: "ada".into(),
                origin: "here".into(),
                action: "x".into(),
                target: "y".into(),
                details: "{}".into(),
            };
            database.append(&event).await.unwrap();
        }
        let seqs = async |access: &Access, before, most| {
            let entries = database.entries_before(access, before, most).await.unwrap();
            entries.iter().map(|entry| entry.seq).collect::<Vec<_>>()
        };
        assert_eq!(seqs(&ALL, u64::MAX, 2).await, [5, 4], "{name}");
        assert_eq!(seqs(&ALL, 4, 10).await, [3, 2, 1], "{name}");
        assert_eq!(seqs(&access, u64::MAX, 10).await, [4, 2], "{name}");
    }
}
