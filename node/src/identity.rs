//! The cluster's certificate authority and the certificates that listeners show.
//!
//! The authority's key is sealed and replicated; certificates are made from it when a name is first asked for, and anew at
//! half of their life. A certificate of the operator's own takes precedence for the names that it covers.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use octelium_actors::{router::Routes, view::View};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use crate::control_door::is_api_host;

/// Names of the authority's parts among the cluster's keys.
pub const CA_KEY: &str = "ca/key";
/// See [`CA_KEY`].
pub const CA_CERTIFICATE: &str = "ca/certificate";

const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 30;
/// Certificates kept at most; names come from the routes, so there are no more than Namespaces.
const LEAVES_MAX: usize = 4096;

/// A new authority, as the keys that are to be sealed.
///
/// # Errors
/// If the key or certificate can't be made.
pub fn generate(domain: &str) -> Result<Vec<(String, Zeroizing<Vec<u8>>)>> {
    let key = KeyPair::generate().context("making the key of the cluster's CA")?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(&format!("Octelium CA of {domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    valid_for(&mut params, CA_DAYS);
    let certificate = params.self_signed(&key).context("signing the cluster's CA")?;
    Ok(vec![
        (CA_KEY.to_owned(), Zeroizing::new(key.serialize_pem().into_bytes())),
        (CA_CERTIFICATE.to_owned(), Zeroizing::new(certificate.pem().into_bytes())),
    ])
}

pub(crate) fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[allow(clippy::disallowed_methods, reason = "certificates are dated by the wall clock")]
pub(crate) fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(days);
}

/// Makes and finds certificates.
pub struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    routes: Arc<View<Routes>>,
    own: Option<Arc<CertifiedKey>>,
    leaves: ArcSwap<HashMap<String, (Instant, Arc<CertifiedKey>)>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// From the opened keys of the authority; `own`: paths of a PEM chain and its key.
    ///
    /// # Errors
    /// If a key or certificate can't be read.
    pub fn open(
        key: &[u8],
        certificate: &[u8],
        own: Option<(&Path, &Path)>,
        routes: Arc<View<Routes>>,
    ) -> Result<Self> {
        let key = KeyPair::from_pem(std::str::from_utf8(key)?).context("reading the key of the cluster's CA")?;
        let ca = CertificateDer::from_pem_slice(certificate).context("reading the cluster's CA")?;
        let issuer = Issuer::from_ca_cert_der(&ca, key).context("reading the cluster's CA")?;
        let own = own.map(|(chain, key)| load(chain, key)).transpose()?;
        Ok(Self { issuer, ca, routes, own, leaves: ArcSwap::default() })
    }

    fn leaf(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let routes = self.routes.load();
        let domain = &routes.domain;
        // Only for names that lead somewhere: a stranger can't make us sign.
        if host != &**domain && !is_api_host(host, domain) && routes.route(host).is_none() {
            return None;
        }
        let parent = if host == &**domain { host } else { host.split_once('.')?.1 };
        let fresh = Duration::from_secs(LEAF_DAYS.unsigned_abs() * 86_400 / 2);
        if let Some((made, leaf)) = self.leaves.load().get(parent)
            && made.elapsed() < fresh
        {
            return Some(leaf.clone());
        }
        match self.sign(parent) {
            Ok(leaf) => {
                self.leaves.rcu(|leaves| {
                    let mut leaves = HashMap::clone(leaves);
                    if leaves.len() >= LEAVES_MAX {
                        leaves.clear();
                    }
                    leaves.insert(parent.to_owned(), (Instant::now(), leaf.clone()));
                    leaves
                });
                Some(leaf)
            }
            Err(error) => {
                tracing::error!(%error, parent, "a certificate can't be made");
                None
            }
        }
    }

    /// For `parent` and all names one label below it.
    fn sign(&self, parent: &str) -> Result<Arc<CertifiedKey>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![parent.to_owned(), format!("*.{parent}")])?;
        params.distinguished_name = name(parent);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, LEAF_DAYS);
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        Ok(Arc::new(CertifiedKey::new(vec![leaf.der().clone(), self.ca.clone()], signing)))
    }

    fn own_for(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let own = self.own.as_ref()?;
        let end = rustls::server::ParsedCertificate::try_from(own.end_entity_cert().ok()?).ok()?;
        let name = rustls::pki_types::ServerName::try_from(host).ok()?;
        rustls::client::verify_server_name(&end, &name).ok().map(|()| own.clone())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Who asks for no name (by address, or with an old client) is shown what the operator gave, and nothing that was made for
        // a name.
        let Some(host) = hello.server_name() else { return self.own.clone() };
        let host = host.to_ascii_lowercase();
        self.own_for(&host).or_else(|| self.leaf(&host))
    }
}

fn load(chain: &Path, key: &Path) -> Result<Arc<CertifiedKey>> {
    let pem = fs::read(chain).with_context(|| format!("reading {}", chain.display()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.with_context(|| format!("{} is not a PEM chain", chain.display()))?;
    if certificates.is_empty() {
        bail!("{} holds no certificate", chain.display());
    }
    let pem = Zeroizing::new(fs::read(key).with_context(|| format!("reading {}", key.display()))?);
    let key_der = PrivateKeyDer::from_pem_slice(&pem).with_context(|| format!("{} is not a PEM key", key.display()))?;
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key_der)
        .with_context(|| format!("{} holds a key of an unknown kind", key.display()))?;
    let certified = CertifiedKey::new(certificates, signing);
    certified.keys_match().with_context(|| format!("{} is not the key of {}", key.display(), chain.display()))?;
    Ok(Arc::new(certified))
}
