//! Sends messages to the webhook, in their order, each until it was taken or has become too old.
//!
//! `x-orbyt-signature: t=SECONDS,v1=HEX` is the HMAC-SHA256 of `SECONDS.BODY` under the secret, with the moment of sending: a receiver that
//! checks both cannot be deceived with what was sent long ago.

use super::outbox::Outbox;
use crate::config::snapshot::Webhook;
use crate::wiring::state::now_ms;
use ring::hmac;
use std::time::{Duration, Instant};

/// How long the receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many messages are sent before it is looked again what is the case.
const AT_ONCE: usize = 5;
/// The first wait after a failure, and the longest.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(300);

/// The header of the signature.
const SIGNATURE: &str = "x-orbyt-signature";

/// Sends, and remembers how it went.
#[derive(Default)]
pub(super) struct Sender {
    client: Option<reqwest::Client>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Sender {
    /// Sends what waits, until the receiver does not take it.
    pub async fn send_what_is_due(&mut self, webhook: &Webhook, keep: Duration, outbox: &Outbox) {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return;
        }
        for _ in 0..AT_ONCE {
            let message = match outbox.first() {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => return self.fail(&format!("what is to be sent cannot be read: {error}")),
            };
            if now_ms().saturating_sub(message.at) > u64::try_from(keep.as_millis()).unwrap_or(u64::MAX) {
                log::error!("an alert is dropped: the webhook has not taken it for {} s", keep.as_secs());
            } else if let Err(why) = self.send(webhook, message.text.clone()).await {
                return self.fail(&why);
            } else if std::mem::take(&mut self.failures) > 0 {
                log::info!("the webhook takes alerts again");
            }
            if let Err(error) = outbox.done(&message) {
                return self.fail(&format!("what was sent cannot be deleted: {error}"));
            }
        }
    }

    async fn send(&mut self, webhook: &Webhook, body: Vec<u8>) -> Result<(), String> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let made =
                    reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
                self.client.insert(made.map_err(|error| error.to_string())?).clone()
            }
        };
        let mut request = client.post(webhook.url.reveal()).header("content-type", "application/json");
        if let Some(secret) = &webhook.secret {
            request = request.header(SIGNATURE, signature(secret.reveal().as_bytes(), now_ms() / 1000, &body));
        }
        // The address may hold a token: it is not repeated.
        let answer = request.body(body).send().await.map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("it answers {}", answer.status())) }
    }

    fn fail(&mut self, why: &str) {
        let wait = wait(self.failures);
        if self.failures == 0 {
            log::warn!("the webhook does not take an alert, which is sent again: {why}");
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + wait);
    }
}

/// How long to wait after so many failures before this one.
fn wait(failures: u32) -> Duration {
    SOON.saturating_mul(2u32.saturating_pow(failures)).min(LATE)
}

fn signature(secret: &[u8], seconds: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    format!("t={seconds},v1={}", hex::encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_openssl_makes_of_the_same() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let expected = "49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(signature(b"secret", 1_700_000_000, br#"{"a":1}"#), format!("t=1700000000,v1={expected}"));
    }

    #[test]
    fn waits_grow_up_to_an_end() {
        let seconds: Vec<u64> = [0, 1, 2, 8, 9, 40].map(|failures| wait(failures).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
