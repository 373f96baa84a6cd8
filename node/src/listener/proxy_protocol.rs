//! The PROXY protocol, versions 1 and 2: a load balancer says first on whose behalf it connects.
//!
//! Source: the specification of the protocol by HAProxy. Only what a TCP balancer sends is taken; everything else ends the
//! connection, and so does a balancer that isn't trusted (`proxyProtocolFrom`).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncRead;

use super::opening::Replayed;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY ";
/// As long as the longest line of version 1, CRLF included.
const V1_BYTES_MAX: usize = 107;
const V2_HEAD_BYTES: usize = 16;
/// Of a whole header of version 2, with what the balancer adds (TLVs), which is passed over.
const V2_BYTES_MAX: usize = 4096;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its length.
    pub bytes: usize,
    /// Whose connection it is; `None`: the balancer's own, or one that it knows nothing about.
    pub source: Option<SocketAddr>,
}

/// Reads a header off the front of `bytes`; `None`: more is needed.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    match bytes {
        [b'P', ..] => v1(bytes),
        [b'\r', ..] => v2(bytes),
        [] => Ok(None),
        _ => Err("no PROXY header"),
    }
}

fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let length = bytes.len().min(with.len());
    bytes[..length] == with[..length]
}

fn v1(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    if !begins(bytes, V1) {
        return Err("no PROXY header");
    }
    let within = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(feed) = within.iter().position(|byte| *byte == b'\n') else {
        return if within.len() == V1_BYTES_MAX { Err("PROXY line is too long") } else { Ok(None) };
    };
    let line = within[..feed].strip_suffix(b"\r").ok_or("PROXY line ends without carriage return")?;
    let line = std::str::from_utf8(line).map_err(|_| "PROXY line isn't ASCII")?;
    let rest = line.strip_prefix("PROXY ").ok_or("no PROXY header")?;
    let source = match rest.split(' ').collect::<Vec<_>>()[..] {
        ["UNKNOWN", ..] => None,
        ["TCP4", source, destination, source_port, destination_port] => {
            let addresses = source.parse::<Ipv4Addr>().ok().zip(destination.parse::<Ipv4Addr>().ok());
            let (source, _) = addresses.ok_or("PROXY line has no addresses of its family")?;
            Some(endpoint(source.into(), source_port, destination_port)?)
        }
        ["TCP6", source, destination, source_port, destination_port] => {
            let addresses = source.parse::<Ipv6Addr>().ok().zip(destination.parse::<Ipv6Addr>().ok());
            let (source, _) = addresses.ok_or("PROXY line has no addresses of its family")?;
            Some(endpoint(source.into(), source_port, destination_port)?)
        }
        _ => return Err("PROXY line is malformed"),
    };
    Ok(Some(Header { bytes: feed + 1, source }))
}

fn endpoint(source: IpAddr, source_port: &str, destination_port: &str) -> Result<SocketAddr, &'static str> {
    let port = |text: &str| {
        let is_plain = text == "0" || (text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| is_plain)
    };
    let ports = port(source_port).zip(port(destination_port));
    let (source_port, _) = ports.ok_or("PROXY line has no ports")?;
    Ok(SocketAddr::new(source, source_port))
}

fn v2(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    if !begins(bytes, SIGNATURE) {
        return Err("no PROXY header");
    }
    let Some((head, rest)) = bytes.split_first_chunk::<V2_HEAD_BYTES>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if V2_HEAD_BYTES + length > V2_BYTES_MAX {
        return Err("PROXY header is too long");
    }
    let (is_local, family) = match (head[12], head[13]) {
        (0x20, _) => (true, 0),
        (0x21, family @ (0x00 | 0x11 | 0x21)) => (false, family),
        (0x21, _) => return Err("PROXY header isn't about TCP"),
        _ => return Err("PROXY header has an unknown version or command"),
    };
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let source = match family {
        0x11 => {
            let (addresses, _) = rest.split_first_chunk::<12>().ok_or("PROXY header is too short for its family")?;
            let [a, b, c, d, _, _, _, _, p, q, _, _] = *addresses;
            Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([p, q])))
        }
        0x21 => {
            let (addresses, _) = rest.split_first_chunk::<36>().ok_or("PROXY header is too short for its family")?;
            let (source, others) = addresses.split_first_chunk::<16>().ok_or("PROXY header is too short")?;
            Some(SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([others[16], others[17]])))
        }
        _ => None,
    };
    debug_assert!(!is_local || source.is_none(), "a balancer's own connection has no other source");
    Ok(Some(Header { bytes: V2_HEAD_BYTES + length, source }))
}

/// Reads the header; what follows it stays on `io`.
///
/// # Errors
/// If it is malformed or the connection ends before it does.
pub async fn read<IO: AsyncRead + Unpin>(io: &mut Replayed<IO>) -> io::Result<Option<SocketAddr>> {
    let mut seen = BytesMut::new();
    loop {
        if io.look(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(&seen) {
            Ok(None) => {}
            Ok(Some(header)) => {
                seen.advance(header.bytes);
                io.put_back(seen);
                return Ok(header.source);
            }
            Err(reason) => return Err(io::Error::new(io::ErrorKind::InvalidData, reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    fn source(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn headers_say_whose_connection_it_is() {
        let v4 = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x34, 0x01, 0xbb];
        let v6 = ["2001:db8::9".parse::<Ipv6Addr>().unwrap().octets(), Ipv6Addr::LOCALHOST.octets()].concat();
        let v6 = [&v6[..], &[0x12, 0x34, 0x01, 0xbb]].concat();
        let tlv = [3, 0, 4, 1, 2, 3, 4];
        let cases: Vec<(Vec<u8>, Option<SocketAddr>)> = vec![
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 4660 443\r\n".to_vec(), source("203.0.113.9:4660")),
            (b"PROXY TCP6 2001:db8::9 ::1 4660 443\r\n".to_vec(), source("[2001:db8::9]:4660")),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 0 65535\r\n".to_vec(), source("203.0.113.9:0")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n".to_vec(), None),
            (v2_header(0x21, 0x11, &v4), source("203.0.113.9:4660")),
            (v2_header(0x21, 0x11, &[&v4[..], &tlv].concat()), source("203.0.113.9:4660")),
            (v2_header(0x21, 0x21, &v6), source("[2001:db8::9]:4660")),
            (v2_header(0x20, 0x00, &[]), None),
            (v2_header(0x20, 0x11, &v4), None),
            (v2_header(0x21, 0x00, &tlv), None),
        ];
        for (bytes, source) in cases {
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{shown:?} up to {end}");
            }
            let expected = Ok(Some(Header { bytes: bytes.len(), source }));
            assert_eq!(parse(&bytes), expected, "{shown:?}");
            assert_eq!(parse(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()), expected, "{shown:?} and what follows");
        }
    }

    #[test]
    fn what_is_not_a_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107));
        let cases: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"POST / HTTP/1.1\r\n".to_vec(),
            vec![0x16, 3, 1],
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4660 443\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4660\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4660 443 \r\n".to_vec(),
            b"PROXY  TCP4 203.0.113.9 192.0.2.1 4660 443\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 04660 443\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 +466 443\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.09 192.0.2.1 1 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::9 ::1 4660 443\r\n".to_vec(),
            b"PROXY UDP4 203.0.113.9 192.0.2.1 1 2\r\n".to_vec(),
            b"PROXY tcp4 203.0.113.9 192.0.2.1 1 2\r\n".to_vec(),
            long.into_bytes(),
            v2_header(0x21, 0x12, &[0; 12]),
            v2_header(0x21, 0x31, &[0; 216]),
            v2_header(0x21, 0x11, &[0; 11]),
            v2_header(0x21, 0x21, &[0; 35]),
            v2_header(0x22, 0x11, &[0; 12]),
            v2_header(0x11, 0x11, &[0; 12]),
            v2_header(0x21, 0x11, &[0; 4081]),
            b"\r\n\r\n\0\r\nQUIX\n".to_vec(),
        ];
        for bytes in cases {
            assert!(parse(&bytes).is_err(), "{:?}: {:?}", String::from_utf8_lossy(&bytes), parse(&bytes));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_nothing_is_wanted_for_ever(
            start in prop_oneof![Just(V1.to_vec()), Just(SIGNATURE.to_vec()), Just(vec![])],
            bytes in proptest::collection::vec(any::<u8>(), 0..6000),
        ) {
            let bytes = [start, bytes].concat();
            if let Ok(parsed) = parse(&bytes) {
                prop_assert!(parsed.is_some_and(|header| header.bytes <= bytes.len()) || bytes.len() < V2_BYTES_MAX);
            }
        }
    }
}
