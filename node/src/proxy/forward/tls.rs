//! How an https upstream has to prove itself.

use std::sync::{Arc, OnceLock};

use octelium_actors::router::Tls;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// TLS settings for connections to an upstream.
///
/// # Errors
/// A sentence, if a CA can't be read or there are none.
pub fn client(settings: &Tls) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder();
    let mut config = if settings.insecure_skip_verify {
        let provider = builder.crypto_provider().clone();
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(settings)?).with_no_client_auth()
    };
    config.alpn_protocols = vec![if settings.is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Arc::new(config))
}

fn roots(settings: &Tls) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if settings.trusted_cas.is_empty() || settings.append_to_system {
        roots.extend(system()?.roots.iter().cloned());
    }
    for (index, bundle) in settings.trusted_cas.iter().enumerate() {
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("tls.trustedCAs[{index}] is not PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("tls.trustedCAs[{index}] can't be used: {error}"))?;
        }
    }
    if roots.is_empty() {
        Err("no CA is trusted: the system has none and tls.trustedCAs is empty".into())
    } else {
        Ok(roots)
    }
}

/// Read once for the process.
fn system() -> Result<&'static RootCertStore, String> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    Ok(SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a CA of the system can't be read");
        }
        roots.add_parsable_certificates(found.certs);
        roots
    }))
}

/// `insecureSkipVerify`: anybody may answer. Signatures are still checked, as TLS needs them.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
