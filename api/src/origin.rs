//! Origins of web pages, as browsers write them in `Origin` (RFC 6454 §6.1).

/// Longer ones are none.
const BYTES_MAX: usize = 256;

/// Where a page came from, comparable: lower case, without the port that the scheme implies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// E.g. `https`.
    pub scheme: String,
    /// Host name or address; IPv6 in brackets.
    pub host: String,
    /// `None`: the scheme's own.
    pub port: Option<u16>,
}

impl Origin {
    /// Reads `scheme://host[:port]`. Anything more (path, query, user, `null`) is no origin.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (host, port) = split_port(rest)?;
        if !is_scheme || !is_host(host) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let port = port.filter(|port| default_port(&scheme) != Some(*port));
        Some(Self { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// The port that is connected to, where it is known.
    pub fn effective_port(&self) -> Option<u16> {
        self.port.or_else(|| default_port(&self.scheme))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Host and port of `host[:port]`; `None` if what stands after the colon is no port.
pub fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let colon = match text.rfind(']') {
        Some(end) => text[end..].find(':').map(|at| end + at),
        None => text.find(':'),
    };
    let Some(colon) = colon else { return Some((text, None)) };
    let digits = &text[colon + 1..];
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|port: &u16| is_number && *port > 0)?;
    Some((&text[..colon], Some(port)))
}

/// A host name, an IPv4 address, or an IPv6 address in brackets.
pub fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_without_case_and_implied_ports() {
        for (text, scheme, host, port) in [
            ("https://app.example.com", "https", "app.example.com", None),
            ("HTTPS://App.Example.COM:443", "https", "app.example.com", None),
            ("http://app.example.com:80", "http", "app.example.com", None),
            ("http://app.example.com:443", "http", "app.example.com", Some(443)),
            ("https://[::1]:8443", "https", "[::1]", Some(8443)),
            ("capacitor://localhost", "capacitor", "localhost", None),
        ] {
            let expected = Origin { scheme: scheme.into(), host: host.into(), port };
            assert_eq!(Origin::parse(text), Some(expected), "{text}");
        }
    }

    proptest::proptest! {
        /// An origin that was read is written as it is compared, and read as the same one.
        #[test]
        fn anything_is_survived(text in "[a-zA-Z0-9:/\\[\\].-]{0,40}|https?://.{0,40}") {
            if let Some(origin) = Origin::parse(&text) {
                let port = origin.port.map(|port| format!(":{port}")).unwrap_or_default();
                let written = format!("{}://{}{port}", origin.scheme, origin.host);
                proptest::prop_assert_eq!(Origin::parse(&written), Some(origin));
            }
        }
    }

    #[test]
    fn what_is_more_or_less_than_an_origin_is_none() {
        let long = format!("https://{}", "a".repeat(250));
        for text in [
            "",
            "null",
            "*",
            "https://",
            "https:",
            "app.example.com",
            "https://a/",
            "https://a/path",
            "https://a?q",
            "https://a#f",
            "https://u@a",
            "https://u:p@a",
            "https://a:",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a:1:2",
            "https://[::1",
            "https://::1",
            "https://a b",
            "https://a,https://b",
            "1http://a",
            "://a",
            "https://ä.example",
            &long,
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
