//! `[alerts]`: who is told what an operator has to know of.

use super::super::problem::At;
use super::super::raw::{RawAlerts, RawWebhook};
use super::super::snapshot::{Alerts, Webhook};
use super::{Compiler, or};
use std::time::Duration;

impl Compiler<'_> {
    pub(super) fn alerts(&mut self, raw: &RawAlerts) -> Alerts {
        let webhook = raw.webhook.as_ref().and_then(|at| self.webhook(at));
        Alerts {
            hold: or(&raw.hold, Duration::from_secs(60)),
            keep: or(&raw.keep, Duration::from_secs(24 * 3600)),
            webhook,
        }
    }

    fn webhook(&mut self, at: &At<RawWebhook>) -> Option<Webhook> {
        let raw = &at.value;
        let Some(address) = &raw.url else {
            self.report.error(at.problem("url is missing"));
            return None;
        };
        let url = self.secret(address)?;
        if !["http://", "https://"].iter().any(|scheme| url.reveal().starts_with(scheme)) {
            // Not repeated: it may hold a token.
            self.report.error(address.problem("must begin with http:// or https://"));
            return None;
        }
        let secret = match &raw.secret {
            Some(secret) => Some(self.secret(secret)?),
            None => None,
        };
        Some(Webhook { url, secret })
    }
}
