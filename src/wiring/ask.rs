//! The gateway's own small questions to providers: which models they have. On the control runtime, over a client of its own, so that no
//! request of a client ever waits for one.

use crate::config::snapshot::Provider;
use crate::dialect::table::Dialect;
use crate::domain::ProviderKey;
use crate::provider::AuthScheme;
use crate::provider::credential::GoogleAccount;
use crate::proxy::oauth;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// How long a provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer is read up to here: the longest lists of models are a tenth of it.
const MOST_BYTES: usize = 8 << 20;
/// How many clients are kept, one for each set of certificates that a provider's `ca_file` brings.
const MOST_CLIENTS: usize = 64;

/// Asks providers.
#[derive(Default)]
pub struct Asker {
    /// By the certificates that are trusted besides the system's.
    clients: Mutex<HashMap<Vec<Vec<u8>>, reqwest::Client>>,
}

/// Why a question was not answered.
#[derive(Debug)]
pub struct Unanswered {
    /// The provider's status, if it has answered at all.
    pub status: Option<u16>,
    /// What the provider or the network said; never a key.
    pub message: String,
}

impl Asker {
    /// Asks a provider for its models, with one of its keys: the cheapest question there is.
    ///
    /// # Errors
    /// When there is no answer, or one with an error status.
    pub async fn ask(&self, provider: &Provider, key: Option<&ProviderKey>) -> Result<Answer, Unanswered> {
        let path = match provider.dialect {
            Dialect::OpenAiChat if provider.cloud.is_some() => "/openai/v1/models",
            Dialect::OpenAiChat => "/models",
            Dialect::AnthropicMessages => "/v1/models",
            Dialect::Gemini if provider.cloud.is_some() => "/v1beta1/publishers/google/models",
            Dialect::Gemini => "/v1beta/models",
            Dialect::Cohere => "/v1/models",
            Dialect::Ollama => "/api/tags",
            // Bedrock lists nothing at this address. That it answers at all, with whatever status, says that it is there.
            Dialect::BedrockConverse => "/",
        };
        let client = self.client(&provider.ca).map_err(unanswered)?;
        let mut request = client.get(format!("{}{path}", provider.base));
        for (name, value) in &provider.headers {
            request = request.header(name, value);
        }
        if let Some(key) = key.filter(|_| provider.auth != AuthScheme::Aws) {
            request = match provider.auth {
                AuthScheme::Google if GoogleAccount::is_meant(key.secret.reveal()) => {
                    let told = |message| Unanswered { status: None, message };
                    let account = GoogleAccount::parse(key.secret.reveal()).map_err(told)?;
                    let token = oauth::buy(&account)
                        .await
                        .map_err(|fault| Unanswered { status: fault.status, message: fault.message.into_owned() })?;
                    request.bearer_auth(token.secret.reveal())
                }
                AuthScheme::Azure => request.header("api-key", key.secret.reveal()),
                AuthScheme::Bearer | AuthScheme::None | AuthScheme::Aws | AuthScheme::Google => {
                    request.bearer_auth(key.secret.reveal())
                }
                AuthScheme::Header(name) => request.header(name, key.secret.reveal()),
            };
        }
        let answer = request.send().await.map_err(unanswered)?;
        answer.error_for_status().map(Answer).map_err(unanswered)
    }

    fn client(&self, ca: &[Vec<u8>]) -> reqwest::Result<reqwest::Client> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(ca) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        for certificate in ca {
            builder = builder.add_root_certificate(reqwest::Certificate::from_der(certificate)?);
        }
        let client = builder.build()?;
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.insert(ca.to_vec(), client.clone());
        Ok(client)
    }
}

/// An answer of which only the head has been read.
#[derive(Debug)]
pub struct Answer(reqwest::Response);

impl Answer {
    /// The body.
    ///
    /// # Errors
    /// When it breaks off, or is larger than any list of models.
    pub async fn body(mut self) -> Result<Vec<u8>, Unanswered> {
        let mut body = Vec::new();
        while let Some(piece) = self.0.chunk().await.map_err(unanswered)? {
            if body.len() + piece.len() > MOST_BYTES {
                let message = format!("its answer is larger than {} MiB", MOST_BYTES >> 20);
                return Err(Unanswered { status: Some(self.0.status().as_u16()), message });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

fn unanswered(error: reqwest::Error) -> Unanswered {
    let status = error.status().map(|status| status.as_u16());
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    Unanswered { status, message: format!("{}{source}", error.without_url()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
            let mut sent = 0usize;
            while stream.write_all(&[b' '; 65_536]).await.is_ok() {
                sent += 65_536;
            }
            sent
        });
        let client = Asker::default().client(&[]).unwrap();
        let refused = Answer(client.get(url).send().await.unwrap()).body().await.unwrap_err();
        assert_eq!(refused.message, "its answer is larger than 8 MiB");
        let sent = server.await.unwrap();
        assert!(sent < 4 * MOST_BYTES, "{sent} bytes were taken");
    }

    #[test]
    fn a_client_for_each_set_of_certificates_and_no_more() {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = vec![certificate.cert.der().to_vec()];
        let asker = Asker::default();
        for ca in [&[][..], &ca, &[], &ca] {
            asker.client(ca).unwrap();
        }
        assert_eq!(asker.clients.lock().len(), 2);
    }
}
