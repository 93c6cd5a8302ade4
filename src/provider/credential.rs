//! What stands in a provider's key where it is more than one text: the keys of Amazon's clouds and Google's accounts.
//!
//! ```text
//!   ACCESS:SECRET[:SESSION]                              Amazon: signs each request (SigV4)
//!   {"type": "service_account", "private_key", …}        Google: signs a claim that buys an access token
//!   {"type": "authorized_user", "refresh_token", …}      Google: buys an access token (`gcloud auth application-default login`)
//!   anything else                                        is sent as it is
//! ```
//!
//! Sources: Amazon's and Google's guides to credentials; the JSON is what Google's consoles and tools write.

use crate::domain::Secret;
use serde::Deserialize;

/// Keys that sign requests to Amazon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKeys {
    /// The id of the key; it is sent in clear.
    pub access_key_id: String,
    /// What signs.
    pub secret_access_key: Secret,
    /// The token of temporary keys.
    pub session_token: Option<Secret>,
}

impl AwsKeys {
    /// Reads `ACCESS:SECRET[:SESSION]`; `None` for anything else, such as an API key of Bedrock's, which is sent as a bearer token.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':').map(str::trim);
        let (access, secret) = (parts.next()?, parts.next()?);
        let session = parts.next().filter(|session| !session.is_empty());
        let is_id = !access.is_empty() && access.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_id && !secret.is_empty()).then(|| Self {
            access_key_id: access.to_owned(),
            secret_access_key: Secret::new(secret),
            session_token: session.map(Secret::new),
        })
    }
}

/// An account of Google's, in the JSON that Google gives out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoogleAccount {
    /// A service account: a claim signed with its private key buys tokens.
    Service {
        /// Who it is.
        client_email: String,
        /// The key in PEM.
        private_key: Secret,
        /// Which of its keys that is.
        private_key_id: Option<String>,
        /// Where tokens are to be had.
        token_uri: String,
        /// The project that it belongs to.
        project_id: Option<String>,
    },
    /// A person's account: a refresh token buys tokens.
    User {
        /// The program that the person let in.
        client_id: String,
        /// The program's secret.
        client_secret: Secret,
        /// What buys tokens.
        refresh_token: Secret,
        /// Where tokens are to be had.
        token_uri: String,
        /// The project that pays.
        project_id: Option<String>,
    },
}

/// Where Google's tokens are to be had unless an account says otherwise.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

#[derive(Deserialize)]
struct RawAccount {
    #[serde(rename = "type")]
    kind: String,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
    token_uri: Option<String>,
    project_id: Option<String>,
    quota_project_id: Option<String>,
}

impl GoogleAccount {
    /// Whether a text is meant to be an account: only JSON begins so.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().starts_with('{')
    }

    /// Reads an account.
    ///
    /// # Errors
    /// What is wrong with it, without a word out of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: RawAccount =
            serde_json::from_str(text).map_err(|_| "is not an account of Google's in JSON".to_owned())?;
        let need = |name: &str, value: Option<String>| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| format!("is an account without {name}"))
        };
        let token_uri = raw.token_uri.filter(|uri| !uri.is_empty()).unwrap_or_else(|| TOKEN_URI.to_owned());
        match raw.kind.as_str() {
            "service_account" => Ok(Self::Service {
                client_email: need("client_email", raw.client_email)?,
                private_key: Secret::new(need("private_key", raw.private_key)?),
                private_key_id: raw.private_key_id,
                token_uri,
                project_id: raw.project_id,
            }),
            "authorized_user" => Ok(Self::User {
                client_id: need("client_id", raw.client_id)?,
                client_secret: Secret::new(need("client_secret", raw.client_secret)?),
                refresh_token: Secret::new(need("refresh_token", raw.refresh_token)?),
                token_uri,
                project_id: raw.quota_project_id.or(raw.project_id),
            }),
            // The word is the file's own, so it is not repeated.
            _ => {
                Err("is an account of a type that is not understood: service_account and authorized_user are"
                    .to_owned())
            }
        }
    }

    /// The project that it names.
    pub fn project_id(&self) -> Option<&str> {
        let (Self::Service { project_id, .. } | Self::User { project_id, .. }) = self;
        project_id.as_deref()
    }

    /// Where tokens are to be had.
    pub fn token_uri(&self) -> &str {
        let (Self::Service { token_uri, .. } | Self::User { token_uri, .. }) = self;
        token_uri
    }
}

/// The texts in a key that must not be shown: the key itself, or those parts of it that are secret.
pub fn secrets(key: &Secret) -> Vec<Secret> {
    let text = key.reveal();
    if GoogleAccount::is_meant(text) {
        return match GoogleAccount::parse(text) {
            Ok(GoogleAccount::Service { private_key, .. }) => vec![private_key],
            Ok(GoogleAccount::User { client_secret, refresh_token, .. }) => vec![client_secret, refresh_token],
            Err(_) => vec![key.clone()],
        };
    }
    match AwsKeys::parse(text) {
        Some(keys) => std::iter::once(keys.secret_access_key).chain(keys.session_token).chain([key.clone()]).collect(),
        None => vec![key.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_amazon_have_two_or_three_parts() {
        let keys = AwsKeys::parse("AKIDEXAMPLE:wJal/rXU+tnF:Fwo:Gz==").unwrap();
        assert_eq!((keys.access_key_id.as_str(), keys.secret_access_key.reveal()), ("AKIDEXAMPLE", "wJal/rXU+tnF"));
        assert_eq!(keys.session_token.as_ref().map(Secret::reveal), Some("Fwo:Gz=="));
        assert_eq!(AwsKeys::parse("AKIDEXAMPLE:secret").unwrap().session_token, None);
        for other in ["ABSKQmVkcm9jaw==", "AKIDEXAMPLE:", ":secret", "not an id:secret", ""] {
            assert_eq!(AwsKeys::parse(other), None, "{other}");
        }
    }

    #[test]
    fn accounts_of_google_are_read_and_their_faults_named_without_their_words() {
        let service = r#"{"type": "service_account", "client_email": "a@b", "private_key": "PEM", "project_id": "p"}"#;
        let account = GoogleAccount::parse(service).unwrap();
        assert_eq!((account.project_id(), account.token_uri()), (Some("p"), TOKEN_URI));
        let user = r#"{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
            "quota_project_id": "q", "token_uri": "http://h/token"}"#;
        let account = GoogleAccount::parse(user).unwrap();
        assert_eq!((account.project_id(), account.token_uri()), (Some("q"), "http://h/token"));
        for (text, fault) in [
            (r#"{"type": "service_account", "client_email": "a@b"}"#, "without private_key"),
            (r#"{"type": "canary"}"#, "not understood"),
            (r#"{"type": canary"#, "not an account"),
        ] {
            let told = GoogleAccount::parse(text).unwrap_err();
            assert!(told.contains(fault) && !told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn the_secret_parts_of_a_key_are_known_by_themselves() {
        let parts = |key: &str| -> Vec<String> {
            secrets(&Secret::new(key)).iter().map(|secret| secret.reveal().to_owned()).collect()
        };
        assert_eq!(parts("AKID1:topsecret:session"), ["topsecret", "session", "AKID1:topsecret:session"]);
        assert_eq!(parts("sk-plain"), ["sk-plain"]);
        assert_eq!(parts(r#"{"type":"service_account","client_email":"a","private_key":"PEM"}"#), ["PEM"]);
    }
}
