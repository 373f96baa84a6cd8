//! What a node keeps beside its log to find its cluster again: its own certificate and that of the authority.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::authority::Identity;
use crate::node::{make_directory, write};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Membership {
    cluster_id: String,
    node_id: String,
    has_joined: bool,
}

fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("cluster")
}

/// Keeps the identity.
///
/// # Errors
/// If a file can't be written.
pub fn save(data_dir: &Path, identity: &Identity) -> Result<()> {
    let directory = directory(data_dir);
    make_directory(&directory)?;
    let pem = |label: &str, der: &[u8]| {
        let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
        let encoded = Zeroizing::new(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der));
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).unwrap_or_default());
            text.push('\n');
        }
        text.push_str(&format!("-----END {label}-----\n"));
        text
    };
    write(&directory.join("ca.pem"), pem("CERTIFICATE", &identity.ca).as_bytes(), 0o600)?;
    let mut own = pem("CERTIFICATE", &identity.certificate);
    own.push_str(&pem("PRIVATE KEY", &identity.key));
    write(&directory.join("node.pem"), own.as_bytes(), 0o600)?;
    let membership = Membership {
        cluster_id: identity.cluster.to_string(),
        node_id: format!("{:016x}", identity.node),
        has_joined: identity.has_joined,
    };
    write(&directory.join("membership.json"), serde_json::to_string_pretty(&membership)?.as_bytes(), 0o600)
}

/// The identity of the node whose data directory this is; `None` if it never had one.
///
/// # Errors
/// If the files are damaged, or belong to another node.
pub fn load(data_dir: &Path, node: u64) -> Result<Option<Identity>> {
    let directory = directory(data_dir);
    let path = directory.join("membership.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let membership: Membership = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    if membership.node_id != format!("{node:016x}") {
        bail!(
            "{}: it belongs to node {}, the data directory to node {node:016x}: don't mix the files of two nodes",
            path.display(),
            membership.node_id
        );
    }
    let ca = directory.join("ca.pem");
    let ca = CertificateDer::from_pem_file(&ca).with_context(|| format!("reading {}", ca.display()))?;
    let own = directory.join("node.pem");
    let certificate = CertificateDer::from_pem_file(&own).with_context(|| format!("reading {}", own.display()))?;
    let key = PrivateKeyDer::from_pem_file(&own).with_context(|| format!("reading {}", own.display()))?;
    let key = Zeroizing::new(key.secret_der().to_vec());
    let has_joined = membership.has_joined;
    let cluster: Uuid = membership.cluster_id.parse().with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(Identity { cluster, node, ca, certificate, key, has_joined }))
}
