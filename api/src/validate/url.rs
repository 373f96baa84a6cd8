//! URLs of upstreams and the paths that requests are rewritten to.

use percent_encoding::percent_decode_str;
pub use url::Url;

const URL_BYTES_MAX: usize = 2048;
const PATH_BYTES_MAX: usize = 512;

/// The port that a scheme implies.
pub fn default_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "http" | "ws" | "h2c" => 80,
        "https" | "wss" => 443,
        "ssh" => 22,
        "dns" => 53,
        "postgres" | "postgresql" => 5432,
        "redis" => 6379,
        "mysql" => 3306,
        "mongodb" => 27017,
        "rdp" => 3389,
        "amqp" => 5672,
        "ftp" => 21,
        "dot" => 853,
        "socks5" => 1080,
        _ => return None,
    })
}

/// The URL of an upstream: scheme, host and a port that is written or implied, nothing else.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn upstream(text: &str) -> Result<Url, String> {
    if text.is_empty() {
        return Err("missing".to_owned());
    }
    if text.len() > URL_BYTES_MAX {
        return Err(format!("has {} bytes; at most {URL_BYTES_MAX}", text.len()));
    }
    // The parser repairs much; what it would repair is refused, so that everyone reads the same host.
    if let Some(char) = text.chars().find(|char| !char.is_ascii_graphic() || *char == '\\') {
        return Err(format!("{char:?} can't stand in a URL"));
    }
    let Some((_, rest)) = text.split_once("://") else {
        return Err("needs a scheme, for example `https://host`".to_owned());
    };
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') {
        return Err("a user or password can't stand in the URL; use `http.auth` with a Secret".to_owned());
    }
    let host = match authority.rsplit_once(':') {
        Some((_, "")) => return Err("the port is missing after `:`".to_owned()),
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    match url.host_str() {
        Some(read) if !read.is_empty() && read.eq_ignore_ascii_case(host) => {}
        Some(read) if !read.is_empty() => return Err(format!("the host is written in an unusual way; write `{read}`")),
        _ => return Err("the host is missing".to_owned()),
    }
    match url.port().or_else(|| default_port(url.scheme())) {
        Some(0) => return Err("port 0 can't be reached".to_owned()),
        Some(_) => {}
        None => return Err(format!("needs a port: scheme `{}` implies none", url.scheme())),
    }
    if tail.contains('#') {
        return Err("a fragment (`#…`) has no meaning here".to_owned());
    }
    if !matches!(tail, "" | "/") {
        return Err(
            "a path or query is not used in an upstream's URL; use `http.path.addPrefix` for a prefix".to_owned()
        );
    }
    Ok(url)
}

/// A path that requests are rewritten with: absolute and canonical, without query.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn rewrite_path(path: &str) -> Result<(), String> {
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("has {} bytes; at most {PATH_BYTES_MAX}", path.len()));
    }
    let Some(rest) = path.strip_prefix('/') else { return Err("must start with `/`".to_owned()) };
    // RFC 3986 §3.3: pchar and `/`.
    if let Some(char) =
        path.chars().find(|char| !char.is_ascii_alphanumeric() && !"-._~!$&'()*+,;=:@/%".contains(*char))
    {
        return Err(format!("{char:?} can't stand in a path"));
    }
    for (index, _) in path.match_indices('%') {
        let digits =
            path.get(index + 1..index + 3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            None => return Err("`%` must be followed by two hexadecimal digits".to_owned()),
            Some(b'/' | b'\\' | b'%' | 0x00..0x20 | 0x7f) => {
                return Err("encoded slashes, backslashes, percent and control characters are refused".to_owned());
            }
            Some(_) => {}
        }
    }
    let segments: Vec<_> = rest.split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let decoded = percent_decode_str(segment).collect::<Vec<u8>>();
        if matches!(decoded.as_slice(), b"." | b"..") {
            return Err("segments `.` and `..` are refused".to_owned());
        }
        if segment.is_empty() && index + 1 < segments.len() {
            return Err("`//` is refused".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_upstreams() {
        for text in [
            "http://my-api.default.svc:8080",
            "https://apiv1.example.com",
            "https://apiv1.example.com/",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "http://[::1]",
            "HTTPS://Example.com",
            "tcp://db:9000",
            "postgres://db",
        ] {
            assert!(upstream(text).is_ok(), "{text}: {:?}", upstream(text));
        }
        let long = format!("http://{}", "a".repeat(2048));
        for (text, part) in [
            ("", "missing"),
            ("example.com", "needs a scheme"),
            ("http:example.com", "needs a scheme"),
            ("http:\\\\example.com", "can't stand"),
            ("http://", "not a URL"),
            ("tcp://:80", "not a URL"),
            ("http://a b", "can't stand"),
            ("http://a\n", "can't stand"),
            ("http://bücher.example", "can't stand"),
            ("http://user:pass@host", "user or password"),
            ("http://user@host", "user or password"),
            ("http://host:", "port is missing"),
            ("http://host:0", "port 0"),
            ("http://host:65536", "not a URL"),
            ("tcp://host", "needs a port"),
            ("grpc://host", "needs a port"),
            ("http://0x7f.1", "unusual"),
            ("http://1", "unusual"),
            ("http://host/#x", "fragment"),
            ("http://host#x", "fragment"),
            ("http://host/v1", "path or query"),
            ("http://host/?q=1", "path or query"),
            ("http://host?q=1", "path or query"),
            (long.as_str(), "at most 2048"),
        ] {
            let error = upstream(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn paths_of_rewrites() {
        for path in ["/", "/v1", "/v1/", "/a/b%20c", "/a:b@c;d=1", "/~x", "/..."] {
            assert_eq!(rewrite_path(path), Ok(()), "{path}");
        }
        let long = format!("/{}", "a".repeat(512));
        for (path, part) in [
            ("", "start with"),
            ("v1", "start with"),
            ("//v1", "`//`"),
            ("/v1//x", "`//`"),
            ("/v1//", "`//`"),
            ("/v1/../x", "`..`"),
            ("/.", "`..`"),
            ("/%2e%2E/x", "`..`"),
            ("/a?b", "can't stand"),
            ("/a#b", "can't stand"),
            ("/a b", "can't stand"),
            ("/a\\b", "can't stand"),
            ("/ä", "can't stand"),
            ("/a\0", "can't stand"),
            ("/%2f", "encoded slashes"),
            ("/%5C", "encoded slashes"),
            ("/%252e", "encoded slashes"),
            ("/%00", "encoded slashes"),
            ("/%zz", "hexadecimal"),
            ("/%+1", "hexadecimal"),
            ("/%4", "hexadecimal"),
            (long.as_str(), "at most 512"),
        ] {
            let error = rewrite_path(path).expect_err(path);
            assert!(error.contains(part), "{path}: {error}");
        }
    }
}
