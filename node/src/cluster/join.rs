//! How a new node becomes one of the cluster: it shows a token once, and gets what every node has.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use octelium_consensus::Replica;
use octelium_control::{
    Control,
    nodes::{CA_CERTIFICATE, CA_KEY, CLUSTER_ID},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    authority::{Identity, any_server_name},
    link::{connect, exchange},
    tls,
    token::{Invitation, JoinToken},
};

/// A request to join is no longer.
pub(super) const REQUEST_BYTES_MAX: usize = 4 << 10;
const JOIN_WITHIN: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asking {
    token_id: String,
    #[serde(with = "super::wiped")]
    secret: Zeroizing<String>,
    node_id: String,
    address: String,
    domain: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    /// The text of the file with the sealing key.
    #[serde(with = "super::wiped")]
    sealing_key: Zeroizing<String>,
    #[serde(with = "super::wiped")]
    ca_key: Zeroizing<String>,
    ca_certificate: String,
}

/// What is needed to take nodes in.
pub struct Joins {
    /// Knows the tokens and opens keys.
    pub control: Control,
    /// The file with the sealing key.
    pub key_file: PathBuf,
}

impl Joins {
    /// A new token.
    ///
    /// # Errors
    /// If it can't be kept.
    pub async fn create(&self, identity: &Identity, ttl: Duration) -> Result<Zeroizing<String>> {
        let token = JoinToken::generate(identity.cluster, tls::digest_of(&identity.ca))?;
        self.control.add_join_token(&token.name(), &JoinToken::digest(&*token.secret), ttl).await?;
        Ok(token.reveal())
    }

    /// Answers a request to join.
    ///
    /// # Errors
    /// Why the node isn't taken in.
    pub(super) async fn take_in(&self, replica: &Replica, request: &[u8]) -> Result<Vec<u8>> {
        let asking: Asking =
            serde_json::from_slice(request).map_err(|_| anyhow!("the request to join can't be read"))?;
        let is_name = asking.token_id.len() == 16 && asking.token_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let node = u64::from_str_radix(&asking.node_id, 16).ok().filter(|node| *node != 0);
        let (Some(node), true) = (node, is_name) else { bail!("the request to join can't be read") };
        let secret = Zeroizing::new(from_hex(&asking.secret).context("the request to join can't be read")?);
        self.control.take_join_token(&asking.token_id, &JoinToken::digest(&secret)).await?;
        // Only who has a token learns these.
        if asking.domain != self.control.domain() {
            bail!("this cluster serves the domain `{}`, the node `{}`", self.control.domain(), asking.domain);
        }
        if replica.known_members().iter().any(|member| member.id == node) {
            bail!("node {node:016x} is a member already: start it without --join, or give it an empty data directory");
        }
        let open = |name: &str| self.control.open_key(name).ok_or_else(|| anyhow!("the key `{name}` can't be opened"));
        let text =
            |bytes: Zeroizing<Vec<u8>>| Ok::<_, anyhow::Error>(Zeroizing::new(std::str::from_utf8(&bytes)?.to_owned()));
        let given = Given {
            sealing_key: Zeroizing::new(
                std::fs::read_to_string(&self.key_file)
                    .with_context(|| format!("reading {}", self.key_file.display()))?,
            ),
            ca_key: text(open(CA_KEY)?)?,
            ca_certificate: text(open(CA_CERTIFICATE)?)?.to_string(),
        };
        replica.add_member(node, &asking.address).await?;
        tracing::info!(node = %format!("{node:016x}"), address = asking.address, "a node was taken in");
        Ok(serde_json::to_vec(&given)?)
    }
}

/// What a new node got.
pub struct Joined {
    /// Its identity.
    pub identity: Identity,
    /// The text of the file with the sealing key.
    pub sealing_key: Zeroizing<String>,
}

/// Asks a node of the cluster to take this one in.
///
/// # Errors
/// If it can't be reached, isn't of the token's cluster, or refuses.
pub async fn ask(invitation: &Invitation, node: u64, address: &str, domain: &str) -> Result<Joined> {
    let token = &invitation.token;
    let asking = Asking {
        token_id: token.name(),
        secret: Zeroizing::new(token.secret.iter().map(|byte| format!("{byte:02x}")).collect()),
        node_id: format!("{node:016x}"),
        address: address.to_owned(),
        domain: domain.to_owned(),
    };
    let request = Request::post("https://node/join").body(Full::new(Bytes::from(serde_json::to_vec(&asking)?)))?;
    let config = tls::joining(token.ca_digest)?;
    let answer = async {
        let mut sender = connect(config, &invitation.address, any_server_name(token.cluster)).await?;
        exchange(&mut sender, request).await
    };
    let answer = tokio::time::timeout(JOIN_WITHIN, answer)
        .await
        .map_err(|_| anyhow!("no answer within {JOIN_WITHIN:?}"))
        .and_then(|answer| answer)
        .with_context(|| format!("joining at {}", invitation.address))?;
    let given: Given = serde_json::from_slice(&answer).context("reading the answer to the request to join")?;
    let mut identity = Identity::issue(
        token.cluster.to_string().as_bytes(),
        given.ca_key.as_bytes(),
        given.ca_certificate.as_bytes(),
        node,
    )?;
    if tls::digest_of(&identity.ca) != token.ca_digest {
        bail!("the cluster at {} gave another authority than that of the token", invitation.address);
    }
    identity.has_joined = true;
    Ok(Joined { identity, sealing_key: given.sealing_key })
}

/// This node's identity from the keys in its state; `None` if there are none yet.
///
/// # Errors
/// If they can't be used.
pub fn from_state(control: &Control, node: u64) -> Result<Option<Identity>> {
    let keys = (control.open_key(CLUSTER_ID), control.open_key(CA_KEY), control.open_key(CA_CERTIFICATE));
    let (Some(id), Some(key), Some(certificate)) = keys else { return Ok(None) };
    Identity::issue(&id, &key, &certificate, node).map(Some)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| (0..text.len()).step_by(2).filter_map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect())
}
