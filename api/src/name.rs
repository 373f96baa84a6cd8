//! Names of resources, and the host names that follow from a Service's name.
//!
//! A plain name starts with a letter and has 2 to 40 lower-case letters, digits and single hyphens.

/// The namespace of a Service whose name has one label.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The name of the first Region.
pub const DEFAULT_REGION: &str = "default";
/// The name of the only ClusterConfig.
pub const CLUSTER_CONFIG: &str = "default";
/// Namespaces that start with these belong to the cluster.
pub const RESERVED_NAMESPACE_PREFIXES: [&str; 3] = ["octelium", "local", "cordium"];

const PLAIN_BYTES_MAX: usize = 40;
/// `<user>-<6 characters>`, where the User's name may have 40.
const SESSION_BYTES_MAX: usize = PLAIN_BYTES_MAX + 7;
const DOTTED_BYTES_MAX: usize = 128;

/// Whether `name` is a plain name, e.g. `my-api`.
pub fn is_plain(name: &str) -> bool {
    is_label(name, PLAIN_BYTES_MAX)
}

/// Whether `name` is one that the server may have given to a Session.
pub fn is_session(name: &str) -> bool {
    is_label(name, SESSION_BYTES_MAX)
}

/// Whether `name` is one that the cluster may have given to a Region or Gateway: 2 to 64 characters.
pub fn is_loose(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (2..=64).contains(&bytes.len())
        && bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric)
        && bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
}

/// Whether `name` is made of plain names with at most `dots_max` dots between them.
pub fn is_dotted(name: &str, dots_max: usize) -> bool {
    name.len() <= DOTTED_BYTES_MAX && name.split('.').count() <= dots_max + 1 && name.split('.').all(is_plain)
}

/// Whether `name` is a Service's name: `svc` or `svc.ns`.
pub fn is_service(name: &str) -> bool {
    is_dotted(name, 1)
}

/// Whether `name` is a Policy's name: up to six labels, `child.parent`.
pub fn is_policy(name: &str) -> bool {
    is_dotted(name, 5)
}

/// Whether a Namespace of this name belongs to the cluster.
pub fn is_reserved_namespace(name: &str) -> bool {
    RESERVED_NAMESPACE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The name as it is stored: `svc` becomes `svc.default`, `svc.ns` stays.
pub fn canonical_service(name: &str) -> String {
    let (service, namespace) = split_service(name);
    format!("{service}.{namespace}")
}

/// A Service's own label and its Namespace; `default` if `name` has one label.
pub fn split_service(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, DEFAULT_NAMESPACE))
}

/// The Policy whose rules `name` inherits: what follows the first dot.
pub fn parent_policy(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

/// The host names of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// `status.primaryHostname`: relative to the domain, empty for `default.default`.
    pub primary: String,
    /// `status.additionalHostnames`.
    pub additional: Vec<String>,
    /// The public name used in redirects and for a preserved `Host`.
    pub public_fqdn: String,
    /// All public names that lead to the Service, the full one first.
    pub public: Vec<String>,
    /// The name inside the tunnel.
    pub private_fqdn: String,
}

/// The host names of the Service `name` (either form) in a cluster at `domain`.
pub fn hosts(name: &str, domain: &str) -> Hosts {
    let (service, namespace) = split_service(name);
    let full = format!("{service}.{namespace}");
    let (primary, additional) = match (service, namespace) {
        ("default", "default") => (String::new(), Some(full.clone())),
        (_, "default") => (service.to_owned(), Some(full.clone())),
        ("default", _) => (namespace.to_owned(), Some(full.clone())),
        _ => (full.clone(), None),
    };
    let short = if namespace == DEFAULT_NAMESPACE { service } else { &full };
    let mut public = vec![format!("{full}.{domain}")];
    let mut add = |host: String| {
        if !public.contains(&host) {
            public.push(host);
        }
    };
    add(format!("{short}.{domain}"));
    add(if primary.is_empty() { domain.to_owned() } else { format!("{primary}.{domain}") });
    Hosts {
        public_fqdn: format!("{short}.{domain}"),
        private_fqdn: format!("{short}.local.{domain}"),
        additional: additional.into_iter().collect(),
        public,
        primary,
    }
}

fn is_label(name: &str, bytes_max: usize) -> bool {
    let bytes = name.as_bytes();
    (2..=bytes_max).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.last() != Some(&b'-')
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names() {
        let longest = "a".repeat(40);
        for name in ["ab", "a1", "my-api", "a-b-c", longest.as_str()] {
            assert!(is_plain(name), "{name}");
        }
        let long = "a".repeat(41);
        for name in ["", "a", "1a", "-ab", "ab-", "a--b", "Ab", "a_b", "a.b", "ä1", "a b", long.as_str()] {
            assert!(!is_plain(name), "{name}");
        }
    }

    #[test]
    fn dotted_names() {
        assert!(is_service("svc") && is_service("svc.ns") && !is_service("svc.ns.x1") && !is_service("svc."));
        assert!(is_policy("aa.bb.cc.dd.ee.ff") && !is_policy("aa.bb.cc.dd.ee.ff.gg") && !is_policy(".aa"));
        let long = ["a".repeat(40), "b".repeat(40), "c".repeat(40), "d".repeat(10)].join(".");
        assert_eq!(long.len(), 133);
        assert!(!is_policy(&long));
        assert!(is_session(&format!("{}-abc123", "u".repeat(40))));
    }

    #[test]
    fn a_service_has_two_labels() {
        assert_eq!(canonical_service("svc"), "svc.default");
        assert_eq!(canonical_service("svc.ns"), "svc.ns");
        assert_eq!(split_service("svc"), ("svc", "default"));
        assert_eq!(parent_policy("aa.bb.cc"), Some("bb.cc"));
        assert_eq!(parent_policy("aa"), None);
        assert!(
            is_reserved_namespace("locality") && is_reserved_namespace("octelium-x") && !is_reserved_namespace("prod")
        );
    }

    #[test]
    fn hosts_of_a_service() {
        // Name; primary and additional relative names; public names, all of them, the one for redirects; the private name.
        for (name, primary, additional, public, public_fqdn, private_fqdn) in [
            ("svc", "svc", "svc.default", "svc.default.ex.io svc.ex.io", "svc.ex.io", "svc.local.ex.io"),
            ("svc.ns", "svc.ns", "", "svc.ns.ex.io", "svc.ns.ex.io", "svc.ns.local.ex.io"),
            (
                "default.ns",
                "ns",
                "default.ns",
                "default.ns.ex.io ns.ex.io",
                "default.ns.ex.io",
                "default.ns.local.ex.io",
            ),
            (
                "default",
                "",
                "default.default",
                "default.default.ex.io default.ex.io ex.io",
                "default.ex.io",
                "default.local.ex.io",
            ),
        ] {
            let hosts = hosts(name, "ex.io");
            assert_eq!(hosts.primary, primary, "{name}");
            assert_eq!(hosts.additional.join(" "), additional, "{name}");
            assert_eq!(hosts.public_fqdn, public_fqdn, "{name}");
            assert_eq!(hosts.public.join(" "), public, "{name}");
            assert_eq!(hosts.private_fqdn, private_fqdn, "{name}");
        }
    }
}
