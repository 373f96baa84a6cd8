//! `net.*`

use std::net::IpAddr;

use ipnet::IpNet;

use crate::EvalError;

/// An address, whatever its family.
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// An address whose IPv4 form counts where it is wrapped in IPv6, so that no rule is evaded by another spelling.
fn canonical(text: &str) -> Result<IpAddr, EvalError> {
    parse(text).map(|ip| ip.to_canonical()).ok_or(EvalError::Invalid("net: the text is not an IP address"))
}

/// RFC 1918 and RFC 4193.
pub(super) fn is_private(text: &str) -> Result<bool, EvalError> {
    Ok(match canonical(text)? {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    })
}

pub(super) fn is_in_range(ip: &str, range: &str) -> Result<bool, EvalError> {
    let range: IpNet = range.parse().map_err(|_| EvalError::Invalid("net: the range is not like 10.0.0.0/8"))?;
    let ip = canonical(ip)?;
    let wrapped = match ip {
        IpAddr::V4(ip) => range.contains(&IpAddr::V6(ip.to_ipv6_mapped())),
        IpAddr::V6(_) => false,
    };
    Ok(range.contains(&ip) || wrapped && matches!(range, IpNet::V6(range) if range.prefix_len() >= 96))
}
