//! The host a request names, in `Host` or in an absolute target: a name or address and an optional port, nothing else.

use std::net::Ipv6Addr;

const HOST_BYTES_MAX: usize = 255;

/// The bytes of names and of IPv4 addresses.
const NAME: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0u8;
    while byte < 0x80 {
        bytes[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    bytes
};

/// Splits `host[:port]`, or says that it isn't one. No userinfo, no escapes, no empty host or port.
pub fn split(authority: &[u8]) -> Option<(&str, Option<u16>)> {
    let text = std::str::from_utf8(authority).ok()?;
    let is_name = |byte: &u8| NAME[usize::from(*byte)];
    // What is left of it without its final dot would be no name.
    if authority.first() == Some(&b'.') && matches!(authority.get(1), None | Some(b':')) {
        return None;
    }
    // A name without port, which most are.
    if (1..=HOST_BYTES_MAX).contains(&text.len()) && authority.iter().all(is_name) {
        return Some((text, None));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        (&text[..address.len() + 2], port)
    } else {
        let (host, port) = text.split_at(authority.iter().position(|byte| *byte == b':').unwrap_or(text.len()));
        if host.is_empty() || !host.as_bytes().iter().all(is_name) {
            return None;
        }
        (host, port)
    };
    if host.len() > HOST_BYTES_MAX {
        return None;
    }
    if port.is_empty() {
        return Some((host, None));
    }
    let digits = port.strip_prefix(':')?;
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((host, Some(digits.parse().ok()?)))
}

/// The host as Services know it: lower case, without a final dot.
pub fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether two authorities name the same place under a scheme whose default port is `default_port`.
pub fn same(one: (&str, Option<u16>), other: (&str, Option<u16>), default_port: u16) -> bool {
    one.0.eq_ignore_ascii_case(other.0) && one.1.unwrap_or(default_port) == other.1.unwrap_or(default_port)
}
