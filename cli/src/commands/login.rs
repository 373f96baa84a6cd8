//! `login`: starts a Session and keeps it for the commands to come.

use std::io::{self, Read};

use anyhow::bail;
use octelium_api::user::GetStatusRequest;

use crate::{
    Usage, config,
    output::{self, plain},
    session::{Cluster, NO_ASSERTIONS},
};

/// No token is longer, in bytes.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// How to log in.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// An authentication token, or `-` to read it from stdin; default: OCTELIUM_AUTH_TOKEN, authTokenFile. Others on
    /// this machine can see a TOKEN that is given here while the command runs, so better use `-`
    #[arg(long, value_name = "TOKEN|-", allow_hyphen_values = true, conflicts_with_all = ["web", "assertion"])]
    auth_token: Option<String>,

    /// Log in with a browser (the server has no such log-in yet)
    #[arg(long, conflicts_with = "assertion")]
    web: bool,

    /// Log in with an assertion of another identity provider (the server has no such log-in yet)
    #[arg(long, value_name = "SPEC")]
    assertion: Option<String>,

    /// Narrow the Session to this, e.g. `api:core` or `service:my-api`; repeatable
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
}

/// Starts the Session and says who it belongs to.
///
/// # Errors
/// If there is no token, or it isn't accepted.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    cluster.needs_own_session()?;
    if arguments.web {
        return Err(Usage("the server has no log-in with a browser; use --auth-token".into()).into());
    }
    if arguments.assertion.is_some() {
        return Err(Usage(NO_ASSERTIONS.into()).into());
    }
    let token = match arguments.auth_token.as_deref() {
        Some("-") => read_token()?,
        Some(token) => token.trim().to_owned(),
        None => match cluster.configured_token()? {
            Some(token) => token,
            None if config::variable("OCTELIUM_AUTH_ASSERTION").is_some() => {
                return Err(Usage(format!("OCTELIUM_AUTH_ASSERTION: {NO_ASSERTIONS}")).into());
            }
            None => {
                let text = "the server has no log-in with a browser; give --auth-token TOKEN, or - to read it from \
                            stdin";
                return Err(Usage(text.into()).into());
            }
        },
    };
    if token.is_empty() {
        bail!("the authentication token is empty");
    }
    cluster.login(token, arguments.scope.clone()).await?;
    // Scopes and Policies may keep this Session from asking who it is, and it is logged in nevertheless.
    let status = cluster.user(async |user| user.get_status(GetStatusRequest {}).await).await.unwrap_or_default();
    let name = status.user.and_then(|user| user.metadata).map(|metadata| metadata.name).unwrap_or_default();
    let who = if name.is_empty() { String::new() } else { format!(" as {}", plain(&name)) };
    Ok(output::result(&format!("Logged in to {}{who}\n", cluster.domain()))?)
}

fn read_token() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin().lock().take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TOKEN_BYTES_MAX {
        bail!("what stdin holds is too long for a token");
    }
    Ok(text.trim().to_owned())
}
