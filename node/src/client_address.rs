//! Who the caller is, by address, where trusted proxies stand between it and the node.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use octelium_http1::Headers;

/// More networks than these are not looked through for every connection.
const NETWORKS_MAX: usize = 256;

/// Networks, by prefix; IPv4 within IPv6 counts as IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Parses prefixes like `10.0.0.0/8` and plain addresses.
    ///
    /// # Errors
    /// The first text that is neither, or that there are too many.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        if texts.len() > NETWORKS_MAX {
            return Err(format!("{} networks; at most {NETWORKS_MAX}", texts.len()));
        }
        texts.iter().map(|text| network(text.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them has `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse().map_err(|_| format!("`{text}` is neither an address nor a prefix like 10.0.0.0/8"))?,
    };
    // IPv4 within IPv6 counts as IPv4, in prefixes too.
    let network = match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some() => {
            let address = v6.addr().to_ipv4_mapped().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
            Ipv4Net::new(address, v6.prefix_len() - 96).map_or(network, IpNet::V4)
        }
        other => other,
    };
    if network != network.trunc() {
        return Err(format!("`{text}` has bits after its prefix; write {}", network.trunc()));
    }
    Ok(network)
}

/// The caller's address: that of the connection, or where this is a trusted hop, the last one in `X-Forwarded-For` that
/// isn't. What stands left of that was written by somebody who isn't trusted, and is never read.
pub fn client(peer: IpAddr, headers: &Headers, trusted: &Networks) -> IpAddr {
    let mut client = peer.to_canonical();
    let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").collect();
    for line in lines.into_iter().rev() {
        for entry in line.rsplit(|byte| *byte == b',') {
            if !trusted.contains(client) {
                return client;
            }
            let Some(address) = address(entry.trim_ascii()) else { return client };
            client = address;
        }
    }
    client
}

/// An address as proxies write it: with a port or without.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    address.or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

    #[test]
    fn only_trusted_hops_are_believed() {
        let trusted = Networks::parse(&[
            "10.0.0.0/8".into(),
            "2001:db8::/32".into(),
            "192.0.2.1".into(),
            "::ffff:203.0.113.128/121".into(),
        ])
        .unwrap();
        let cases: [(&str, &[&str], &str); 15] = [
            ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("203.0.113.200", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("192.0.2.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.9.9.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9,10.9.9.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9", "10.9.9.9"], "203.0.113.9"),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("10.0.0.1", &["1.1.1.1, unknown, 10.9.9.9"], "10.9.9.9"),
            ("10.0.0.1", &["1.1.1.1,,"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("2001:db8::1", &["[2a00::5]:443"], "2a00::5"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
        ];
        for (peer, lines, expected) in cases {
            let mut headers = Headers::new();
            for line in lines {
                headers.append(&X_FORWARDED_FOR, &line.parse().unwrap());
            }
            let found = client(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_unless_named() {
        let mut headers = Headers::new();
        headers.append(&X_FORWARDED_FOR, &"203.0.113.9".parse().unwrap());
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(client(peer, &headers, &Networks::default()), peer);
        for (text, expected) in [
            ("10.0.0.0/40", "`10.0.0.0/40` is neither an address nor a prefix like 10.0.0.0/8"),
            ("10.0.0.1/8", "`10.0.0.1/8` has bits after its prefix; write 10.0.0.0/8"),
        ] {
            assert_eq!(Networks::parse(&[text.into()]), Err(expected.into()));
        }
        assert!(Networks::parse(&vec!["10.0.0.1".into(); NETWORKS_MAX + 1]).is_err());
    }
}
