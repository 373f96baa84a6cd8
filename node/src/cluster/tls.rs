//! TLS between nodes.

use std::sync::Arc;

use anyhow::{Context, Result};
use aws_lc_rs::digest;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
    version::TLS13,
};

use super::authority::Identity;

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca.clone()).context("reading the nodes' CA")?;
    Ok(Arc::new(roots))
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec()]
}

/// For the door: whoever shows a certificate must be a node of this cluster; who shows none may only ask to join.
///
/// # Errors
/// If the identity can't be used.
pub fn server(identity: &Identity) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider.clone())
        .allow_unauthenticated()
        .build()
        .context("preparing to verify nodes")?;
    let chain = vec![identity.certificate.clone(), identity.ca.clone()];
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, identity.private_key())?;
    config.alpn_protocols = alpn();
    Ok(Arc::new(config))
}

/// For connections to other nodes.
///
/// # Errors
/// If the identity can't be used.
pub fn client(identity: &Identity) -> Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.private_key())?;
    config.alpn_protocols = alpn();
    Ok(Arc::new(config))
}

/// For a node that joins: it has no certificate yet, and knows the authority by its digest.
///
/// # Errors
/// Never in practice: TLS 1.3 is always there.
pub fn joining(ca_digest: [u8; 32]) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(Pinned { ca_digest, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // the name of an API: the verifier below is stricter than the usual one
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = alpn();
    Ok(Arc::new(config))
}

/// The digest by which a token names the authority.
pub fn digest_of(ca: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, ca).as_ref());
    bytes
}

/// Trusts the one authority that has this digest, and what it signed.
#[derive(Debug)]
struct Pinned {
    ca_digest: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = intermediates.iter().find(|certificate| digest_of(certificate) == self.ca_digest);
        let ca = ca.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
