//! `[alerts]`: what is read, and what is refused without repeating a secret.

use super::with_file;
use std::time::Duration;

#[test]
fn without_a_webhook_nobody_is_told() {
    let alerts = with_file("").sound().alerts;
    assert_eq!((alerts.hold, alerts.webhook), (Duration::from_secs(60), None));
}

#[test]
fn a_webhook_and_its_secret_are_secrets_of_the_configuration() {
    let text =
        "[alerts]\nhold = '5s'\nkeep = '1h'\n[alerts.webhook]\nurl = 'https://h/canary-path'\nsecret = 'canary'\n";
    let snapshot = with_file(text).sound();
    let alerts = &snapshot.alerts;
    assert_eq!((alerts.hold, alerts.keep), (Duration::from_secs(5), Duration::from_secs(3600)));
    let webhook = alerts.webhook.as_ref().unwrap();
    assert_eq!(webhook.url.reveal(), "https://h/canary-path");
    let secrets: Vec<_> = snapshot.secrets().map(crate::domain::Secret::reveal).collect();
    assert!(secrets.contains(&"canary") && secrets.contains(&"https://h/canary-path"));
    assert!(!format!("{snapshot:?}").contains("canary"));
}

#[test]
fn a_webhook_without_an_address_that_can_be_asked_is_an_error() {
    for (text, says) in [
        ("secret = 'canary'", "alerts.webhook: url is missing"),
        ("url = 'ftp://h/canary'", "alerts.webhook.url: must begin with http:// or https://"),
    ] {
        let errors = with_file(&format!("[alerts.webhook]\n{text}\n")).errors;
        assert!(errors.len() == 1 && errors[0].ends_with(says) && !errors[0].contains("canary"), "{errors:?}");
    }
}
