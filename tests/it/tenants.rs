//! `orbyt orgs`, `projects`, `users`: who owns what, on both databases.

use crate::api_keys::{orbyt, said};
use crate::postgres;

fn id(said: &str) -> String {
    said.split(['(', ')']).nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn organisations_projects_and_members_are_made_and_listed() {
    let postgres = postgres::Database::create().await;
    for url in [None, Some(postgres.url())] {
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let output = orbyt(folder.path(), url.as_deref(), arguments, "");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.success(), text(&output.stdout), text(&output.stderr))
        };
        let (made, _, note) = run(&["orgs", "create", "acme"]);
        assert!(made && note.contains("The organisation acme (org_"), "{note}");
        let org = id(&note);
        let (again, _, why) = run(&["orgs", "create", "acme"]);
        assert!(!again && why.contains("there is an organisation called \"acme\" already"), "{why}");
        assert!(run(&["projects", "create", "web", "--org", "acme"]).0);
        assert!(!run(&["projects", "create", "web", "--org", &org]).0, "its name is taken there");
        assert!(run(&["projects", "create", "web"]).0, "and free in the default organisation");
        let (_, projects, _) = run(&["projects", "list", "--org", "acme"]);
        assert_eq!(projects.lines().count(), 3, "the head, default and web: {projects}");
        assert!(!run(&["projects", "list", "--org", "nobody"]).0);
        assert!(run(&["users", "add", "Ada@Example.com", "--org", "acme", "--role", "owner"]).0);
        assert!(run(&["users", "add", "ada@example.com", "--org", "acme", "--role", "viewer"]).0, "another role");
        assert!(!run(&["users", "add", "ada@example.com", "--role", "root"]).0);
        assert!(!run(&["users", "add", "ada"]).0);
        let (_, users, _) = run(&["users", "list"]);
        assert!(users.contains("ada@example.com") && users.contains("viewer") && !users.contains("owner"), "{users}");
        assert!(run(&["users", "remove", "ada@example.com", "--org", "acme"]).0);
        assert!(!run(&["users", "remove", "ada@example.com", "--org", "acme"]).0, "she is no member any more");
        let (_, log, _) = run(&["audit", "list"]);
        for action in ["org.create", "project.create", "user.create", "user.role"] {
            assert!(log.contains(action), "{action} in {log}");
        }
        let (several, _, why) = run(&["keys", "create", "--name", "k", "--project", "default"]);
        assert!(!several && why.contains("several organisations"), "{why}");
        let project = projects
            .lines()
            .find(|line| line.starts_with("web"))
            .and_then(|line| line.split_whitespace().nth(1))
            .unwrap();
        let arguments =
            ["keys", "create", "--name", "k", "--project", project, "--owner", "ada", "--budget", "1/day,20/month"];
        let key = said(folder.path(), url.as_deref(), &arguments, "");
        assert!(key.starts_with("sk-or-v1-"), "{key}");
        let (_, budgets, _) = run(&["budgets", "list"]);
        assert!(
            budgets.contains("$1 a day") && budgets.contains("$20 a month") && budgets.contains("(k)"),
            "{budgets}"
        );
    }
}
