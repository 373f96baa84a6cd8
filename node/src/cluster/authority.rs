//! The authority that signs the certificates of nodes, and nothing else. Its key is sealed and replicated: every node can make
//! its own certificate anew.

use anyhow::{Context, Result};
use octelium_control::nodes::{CA_CERTIFICATE, CA_KEY, CLUSTER_ID};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::identity::{name, valid_for};

const CA_DAYS: i64 = 3650;
const NODE_DAYS: i64 = 30;

/// A new authority of a new cluster, as the keys that are to be sealed.
///
/// # Errors
/// If the key or certificate can't be made.
pub fn generate() -> Result<Vec<(&'static str, Zeroizing<Vec<u8>>)>> {
    let id = Uuid::new_v4().to_string();
    let key = KeyPair::generate().context("making the key of the nodes' CA")?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(&format!("Octelium nodes of {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    valid_for(&mut params, CA_DAYS);
    let certificate = params.self_signed(&key).context("signing the nodes' CA")?;
    Ok(vec![
        (CLUSTER_ID, Zeroizing::new(id.into_bytes())),
        (CA_KEY, Zeroizing::new(key.serialize_pem().into_bytes())),
        (CA_CERTIFICATE, Zeroizing::new(certificate.pem().into_bytes())),
    ])
}

/// What a node shows to others.
pub struct Identity {
    /// The cluster.
    pub cluster: Uuid,
    /// This node.
    pub node: u64,
    /// The authority's certificate.
    pub ca: CertificateDer<'static>,
    /// This node's certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key, PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
    /// It joined the cluster, instead of founding it.
    pub has_joined: bool,
}

impl Identity {
    /// A new certificate for a node, from the opened keys of the cluster.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn issue(cluster_id: &[u8], ca_key: &[u8], ca_certificate: &[u8], node: u64) -> Result<Self> {
        let cluster = std::str::from_utf8(cluster_id)?.parse().context("reading the cluster's id")?;
        let ca_key = KeyPair::from_pem(std::str::from_utf8(ca_key)?).context("reading the key of the nodes' CA")?;
        let ca = CertificateDer::from_pem_slice(ca_certificate).context("reading the nodes' CA")?;
        let issuer = Issuer::from_ca_cert_der(&ca, ca_key).context("reading the nodes' CA")?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![node_name(cluster, node), any_name(cluster)])?;
        params.distinguished_name = name(&format!("Octelium node {node:016x}"));
        params.distinguished_name.push(DnType::OrganizationalUnitName, cluster.to_string());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, NODE_DAYS);
        let certificate = params.signed_by(&key, &issuer)?.der().clone();
        Ok(Self { cluster, node, ca, certificate, key: Zeroizing::new(key.serialize_der()), has_joined: false })
    }

    /// The key as TLS takes it.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:016x} of {})", self.node, self.cluster)
    }
}

/// The name in the certificate of one node.
fn node_name(cluster: Uuid, node: u64) -> String {
    format!("n{node:016x}.{cluster}.nodes.octelium.internal")
}

/// The name in the certificates of all nodes of a cluster.
fn any_name(cluster: Uuid) -> String {
    format!("any.{cluster}.nodes.octelium.internal")
}

/// The name that one node must prove.
pub(crate) fn server_name(cluster: Uuid, node: u64) -> ServerName<'static> {
    ServerName::try_from(node_name(cluster, node)).expect("hexadecimal digits and dashes make DNS labels")
}

/// The name that any node of a cluster proves.
pub(crate) fn any_server_name(cluster: Uuid) -> ServerName<'static> {
    ServerName::try_from(any_name(cluster)).expect("hexadecimal digits and dashes make DNS labels")
}

/// Whether a certificate, which the authority is known to have signed, is that of the node.
pub(crate) fn is_of_node(certificate: &CertificateDer<'_>, cluster: Uuid, node: u64) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&server_name(cluster, node)).is_ok())
}
