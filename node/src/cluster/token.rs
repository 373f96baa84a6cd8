//! Join tokens: which cluster, how to know it, and a secret that is good once.

use std::{fmt, str::FromStr};

use anyhow::{Result, anyhow, bail};
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::Zeroizing;

const PREFIX: &str = "octelium-join-v1.";
const SECRET_BYTES: usize = 32;

/// See the module.
pub struct JoinToken {
    /// The cluster that the node will belong to.
    pub cluster: Uuid,
    /// The digest of the authority of its nodes.
    pub ca_digest: [u8; 32],
    /// Which token it is.
    pub id: [u8; 8],
    /// What proves it.
    pub secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl JoinToken {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate(cluster: Uuid, ca_digest: [u8; 32]) -> Result<Self> {
        let mut id = [0; 8];
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        getrandom::fill(&mut id).map_err(|error| anyhow!("no random numbers: {error}"))?;
        getrandom::fill(&mut *secret).map_err(|error| anyhow!("no random numbers: {error}"))?;
        Ok(Self { cluster, ca_digest, id, secret })
    }

    /// Its id as the state knows it.
    pub fn name(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The token as it is handed over. It is a secret.
    pub fn reveal(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([&self.cluster.as_bytes()[..], &self.ca_digest, &self.id, &*self.secret].concat());
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
        Zeroizing::new(format!("{PREFIX}{}", *encoded))
    }

    /// The digest of a secret, which the state keeps instead of it.
    pub fn digest(secret: &[u8]) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        bytes
    }
}

impl FromStr for JoinToken {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let encoded = text.strip_prefix(PREFIX).ok_or_else(|| anyhow!("it doesn't begin with `{PREFIX}`"))?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| anyhow!("it isn't a whole token"))?);
        let Ok(bytes) = <&[u8; 88]>::try_from(bytes.as_slice()) else {
            bail!("it isn't a whole token: it has {} bytes instead of 88", bytes.len());
        };
        let mut token = Self {
            cluster: Uuid::from_slice(&bytes[..16])?,
            ca_digest: [0; 32],
            id: [0; 8],
            secret: Zeroizing::new([0; SECRET_BYTES]),
        };
        token.ca_digest.copy_from_slice(&bytes[16..48]);
        token.id.copy_from_slice(&bytes[48..56]);
        token.secret.copy_from_slice(&bytes[56..]);
        Ok(token)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({} of {})", self.name(), self.cluster)
    }
}

/// Where to join, and with what: `TOKEN@HOST:PORT`.
#[derive(Debug)]
pub struct Invitation {
    /// The token.
    pub token: JoinToken,
    /// Address of any node of the cluster.
    pub address: String,
}

impl FromStr for Invitation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((token, address)) = text.rsplit_once('@') else {
            bail!("join: it must be TOKEN@HOST:PORT, as `octelium-node token create` prints it");
        };
        let is_address = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        if !is_address {
            bail!("join: `{}` is not HOST:PORT", address.escape_default());
        }
        let token = token.parse().map_err(|error| anyhow!("join: the token can't be used: {error}"))?;
        Ok(Self { token, address: address.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_shows_its_secret_only_there() {
        let token = JoinToken::generate(Uuid::from_u128(7), [9; 32]).unwrap();
        let text = token.reveal();
        let read: JoinToken = text.parse().unwrap();
        assert_eq!((read.cluster, read.ca_digest, read.id), (token.cluster, token.ca_digest, token.id));
        assert_eq!(*read.secret, *token.secret);
        assert!(!format!("{token:?}").contains(&text[80..]));
        for length in 0..text.len() {
            assert!(text[..length].parse::<JoinToken>().is_err(), "cut to {length}");
        }
    }

    #[test]
    fn what_is_no_invitation_is_refused_by_name() {
        let token = JoinToken::generate(Uuid::from_u128(7), [9; 32]).unwrap().reveal();
        assert!(format!("{}@host:1", *token).parse::<Invitation>().is_ok());
        for (text, expected) in [
            (token.to_string(), "must be TOKEN@HOST:PORT"),
            (format!("{}@host", *token), "is not HOST:PORT"),
            (format!("{}@host:0", *token), "is not HOST:PORT"),
            (format!("{}@:80", *token), "is not HOST:PORT"),
            ("abc@host:80".to_owned(), "doesn't begin with"),
            (format!("{}AA@host:80", *token), "isn't a whole token"),
        ] {
            let error = text.parse::<Invitation>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
