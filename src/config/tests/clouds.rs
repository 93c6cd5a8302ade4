//! The clouds: their places, their keys, and what their SDKs' variables do.

use super::{Outcome, Trial, with_env, with_file};
use crate::config::Provider;
use crate::dialect::table::Dialect;
use crate::provider::{AuthScheme, Cloud};
use std::sync::Arc;

const ACCOUNT: &str = r#"{
  "type": "service_account",
  "project_id": "of-the-account",
  "client_email": "a@b", "private_key": "canary-key\n"
}"#;

fn one(outcome: Outcome) -> Arc<Provider> {
    let snapshot = outcome.sound();
    assert_eq!(snapshot.providers.len(), 1);
    snapshot.providers[0].clone()
}

fn bedrock(region: &str) -> Cloud {
    Cloud::Bedrock { region: region.into() }
}

#[test]
fn bedrocks_region_comes_from_where_it_is_said_first() {
    let key = "[[provider.key]]\nsecret = 'AKID:s'\n";
    for (more, region, url) in [
        ("region = 'eu-west-3'", "eu-west-3", "https://bedrock-runtime.eu-west-3.amazonaws.com"),
        ("", "of-the-env", "https://bedrock-runtime.of-the-env.amazonaws.com"),
        (
            "base_url = 'https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/'",
            "us-gov-west-1",
            "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
        ),
        ("base_url = 'http://proxy:8080/bedrock'", "of-the-env", "http://proxy:8080/bedrock"),
    ] {
        let file = format!("[[provider]]\nid = 'bedrock'\n{more}\n{key}");
        let variables = [("AWS_REGION", "of-the-env")];
        let provider = one(Trial { file: &file, variables: &variables, ..Trial::default() }.run());
        assert_eq!(
            (provider.cloud.clone(), provider.base.to_string()),
            (Some(bedrock(region)), url.to_owned()),
            "{more}"
        );
        assert_eq!((provider.dialect, provider.auth), (Dialect::BedrockConverse, AuthScheme::Aws));
        assert!(provider.secrets.iter().any(|secret| secret.reveal() == "s"), "its parts are known");
    }
    let nowhere = with_file(&format!("[[provider]]\nid = 'bedrock'\n{key}"));
    assert_eq!(nowhere.errors, ["orbyt.toml:2:6: provider[0].id: bedrock has no region: set region, or AWS_REGION"]);
}

#[test]
fn amazons_variables_make_a_provider_together_with_a_region_and_not_alone() {
    let keys = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
    let with_region = one(with_env(&[keys.as_slice(), &[("AWS_DEFAULT_REGION", "us-west-2")]].concat()));
    assert_eq!(with_region.cloud, Some(bedrock("us-west-2")));
    assert_eq!(with_region.keys[0].secret.reveal(), "AKID:s:t");
    let without = with_env(&keys);
    assert!(without.ids().is_empty() && without.warnings.is_empty(), "they are another program's");
    let file =
        "[[provider]]\nid = 'bedrock'\nregion = 'r-1'\n[[provider]]\nid = 'second'\ncloud = 'bedrock'\nregion = 'r-2'";
    let both = Trial { file, variables: &keys, ..Trial::default() }.run().sound();
    assert!(both.providers.iter().all(|provider| provider.keys[0].secret.reveal() == "AKID:s:t"));
    assert_eq!(both.providers[1].cloud, Some(bedrock("r-2")));
    assert_eq!((both.providers[1].dialect, both.providers[1].auth), (Dialect::BedrockConverse, AuthScheme::Aws));
    let api_key = one(with_env(&[("AWS_BEARER_TOKEN_BEDROCK", "ABSK"), ("AWS_REGION", "us-east-1")]));
    assert_eq!(api_key.keys[0].secret.reveal(), "ABSK");
}

#[test]
fn a_cloud_that_only_the_environment_names_is_left_out_when_its_place_is_missing() {
    for (name, said) in [
        (
            "AZURE_OPENAI_API_KEY",
            "has no base_url: set that of your resource, or AZURE_OPENAI_ENDPOINT; it is left out",
        ),
        ("AWS_BEARER_TOKEN_BEDROCK", "has no region: set region, or AWS_REGION; it is left out"),
        ("VERTEX_API_KEY", "has no project: set project, or GOOGLE_CLOUD_PROJECT; it is left out"),
    ] {
        let outcome = with_env(&[(name, "k")]);
        assert_eq!((outcome.ids(), outcome.errors.len()), (Vec::<&str>::new(), 0));
        assert!(outcome.warnings.len() == 1 && outcome.warnings[0].ends_with(said), "{:?}", outcome.warnings);
    }
}

#[test]
fn azures_address_may_be_written_as_its_pages_show_it() {
    for url in [
        "https://r.openai.azure.com",
        "https://r.openai.azure.com/",
        "https://r.openai.azure.com/openai/v1/",
        "https://r.openai.azure.com/openai/deployments/d/chat/completions",
    ] {
        let variables = [("AZURE_OPENAI_API_KEY", "k"), ("AZURE_OPENAI_ENDPOINT", url)];
        let provider = one(with_env(&variables));
        assert_eq!(provider.base.to_string(), "https://r.openai.azure.com", "{url}");
        assert_eq!(
            (provider.auth, provider.cloud.clone()),
            (AuthScheme::Azure, Some(Cloud::Azure { api_version: None }))
        );
    }
    let file = "[[provider]]\nid = 'azure'\nbase_url = 'https://r.openai.azure.com'\napi_version = '2024-10-21'\n\
        deployments = { 'gpt-4o' = 'ours' }\n[[provider.key]]\nsecret = 'k'\n[[provider.model]]\nid = 'mine'";
    let provider = one(with_file(file));
    assert_eq!(provider.cloud, Some(Cloud::Azure { api_version: Some("2024-10-21".into()) }));
    let names: Vec<_> = provider.models.iter().map(|row| (&*row.upstream, row.aliases.clone())).collect();
    assert_eq!(names, [("mine", vec![]), ("ours", vec!["gpt-4o".to_owned()])]);
    let bad = with_file("[[provider]]\nid = 'azure'\nbase_url = 'http://h'\napi_version = '2024?x'");
    assert_eq!(
        bad.errors,
        ["orbyt.toml:4:15: provider[0].api_version: must be a version such as \"2024-10-21\" or \"preview\""]
    );
}

#[test]
fn vertex_takes_its_project_from_the_settings_the_environment_or_the_account() {
    let disk = [("/etc/orbyt/account.json", ACCOUNT)];
    for (more, variables, project, location) in [
        ("project = 'p'\nlocation = 'us-east5'\n", &[][..], "p", "us-east5"),
        ("", &[("GOOGLE_CLOUD_PROJECT", "e"), ("GOOGLE_CLOUD_LOCATION", "eu")][..], "e", "eu"),
        ("", &[][..], "of-the-account", "global"),
    ] {
        let file = format!("[[provider]]\nid = 'vertex'\n{more}[[provider.key]]\nsecret = {{ file = 'account.json' }}");
        let provider = one(Trial { file: &file, variables, disk: &disk }.run());
        let place = Cloud::Vertex { project: project.into(), location: location.into() };
        assert_eq!((provider.cloud.clone(), provider.keys.len()), (Some(place), 1), "commas do not cut an account");
        assert_eq!(provider.secrets[0].reveal(), "canary-key\n");
    }
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", "/etc/orbyt/account.json"), ("GOOGLE_CLOUD_PROJECT", "e")];
    let provider = one(Trial { variables: &variables, disk: &disk, ..Trial::default() }.run());
    assert_eq!(provider.id.as_ref(), "vertex");
    let gone = with_env(&variables);
    assert_eq!((gone.ids(), gone.errors.len()), (Vec::<&str>::new(), 0), "a file that is gone is a warning");
    assert!(gone.warnings.iter().any(|warning| warning.contains("there is no such file")), "{:?}", gone.warnings);
}

#[test]
fn a_key_that_cannot_be_used_is_an_error_without_a_word_of_it() {
    for (file, said) in [
        (
            "[[provider]]\nid = 'vertex'\nproject = 'p'\n[[provider.key]]\nsecret = '{\"type\": \"canary\"}'",
            "is an account of a type that is not understood",
        ),
        (
            "[[provider]]\nid = 'bedrock'\nregion = 'r'\n[[provider.key]]\nsecret = 'canary is:no id'",
            "must be ACCESS:SECRET or ACCESS:SECRET:SESSION",
        ),
    ] {
        let outcome = with_file(file);
        assert!(outcome.errors.len() == 1 && outcome.errors[0].contains(said), "{:?}", outcome.errors);
        assert!(!outcome.errors[0].contains("canary"));
    }
}
