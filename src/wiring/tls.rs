//! The certificate of the HTTPS listener, which a reload replaces without a new listener.

use crate::config::snapshot::ServerTls;
use arc_swap::ArcSwap;
use pingora::listeners::tls::TlsSettings;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// The certificate in use.
#[derive(Debug)]
pub(super) struct Certificates(ArcSwap<CertifiedKey>);

impl Certificates {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// A text that names the file and what is wrong with it.
    pub(super) fn load(tls: &ServerTls) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(read(tls)?))))
    }

    /// Reads them again; on an error the old ones stay.
    ///
    /// # Errors
    /// A text that names the file and what is wrong with it.
    pub(super) fn reload(&self, tls: &ServerTls) -> Result<(), String> {
        self.0.store(Arc::new(read(tls)?));
        Ok(())
    }

    /// The settings of a listener that always serves the certificate in use, over HTTP/2 or HTTP/1.1.
    ///
    /// # Errors
    /// Pingora's.
    pub(super) fn settings(self: &Arc<Self>) -> Result<TlsSettings, String> {
        let mut settings = TlsSettings::intermediate("", "").map_err(|error| error.to_string())?;
        settings.set_cert_resolver(self.clone());
        settings.enable_h2();
        Ok(settings)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn read(tls: &ServerTls) -> Result<CertifiedKey, String> {
    let bad = |path: &std::path::Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad(&tls.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| bad(&tls.key, &error))?;
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| bad(&tls.key, &error))
}
