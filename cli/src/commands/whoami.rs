//! `whoami`: whose Session this is.

use octelium_api::{
    manifest,
    user::{GetStatusRequest, GetStatusResponse},
};

use crate::{
    output::{self, Format, plain},
    session::Cluster,
};

/// How to show it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Output form; default: a few lines
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

/// Shows the domain, the User and the Session.
///
/// # Errors
/// If nobody is logged in, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let status = cluster.user(async |user| user.get_status(GetStatusRequest {}).await).await?;
    let text = match arguments.out {
        Some(Format::Json) => output::document(&manifest::message_to_json(&status), Format::Json)?,
        Some(Format::Yaml) => manifest::message_to_yaml(&status),
        None => lines(status, cluster.domain()),
    };
    Ok(output::result(&text)?)
}

/// A line for each thing that is known.
fn lines(status: GetStatusResponse, domain: &str) -> String {
    let user = status.user.unwrap_or_default();
    let (user_spec, user_metadata) = (user.spec.unwrap_or_default(), user.metadata.unwrap_or_default());
    let session = status.session.unwrap_or_default();
    let (session_status, session_metadata) = (session.status.unwrap_or_default(), session.metadata.unwrap_or_default());
    let with = |name: String, kind: &str, unset: &str| match kind {
        _ if name.is_empty() => name,
        kind if kind == unset => name,
        kind => format!("{name} ({kind})"),
    };
    let domain = if status.domain.is_empty() { domain.to_owned() } else { status.domain };
    let connected = if session_status.is_connected { "yes" } else { "" };
    let rows = [
        ("Domain", domain),
        ("User", with(user_metadata.name, user_spec.r#type().as_str_name(), "TYPE_UNKNOWN")),
        ("Email", user_spec.email),
        ("Session", with(session_metadata.name, session_status.r#type().as_str_name(), "UNKNOWN")),
        ("Connected", connected.to_owned()),
    ];
    rows.iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(label, value)| format!("{:<10} {}\n", format!("{label}:"), plain(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use octelium_api::{
        meta::Metadata,
        user::get_status_response::{Session, User, session, user},
    };

    use super::*;

    #[test]
    fn what_is_known_has_a_line() {
        let named = |name: &str| Some(Metadata { name: name.into(), ..Default::default() });
        let spec = user::Spec { r#type: user::spec::Type::Workload.into(), ..Default::default() };
        let status = session::Status { r#type: session::status::Type::Client.into(), is_connected: false };
        let status = GetStatusResponse {
            domain: "x.org".into(),
            user: Some(User { metadata: named("root"), spec: Some(spec), status: None }),
            session: Some(Session { metadata: named("root-a1b2c3"), spec: None, status: Some(status) }),
            ..Default::default()
        };
        let expected = "Domain:    x.org\nUser:      root (WORKLOAD)\nSession:   root-a1b2c3 (CLIENT)\n";
        assert_eq!(lines(status, "other"), expected);
        assert_eq!(lines(GetStatusResponse::default(), "x.org"), "Domain:    x.org\n");
    }
}
