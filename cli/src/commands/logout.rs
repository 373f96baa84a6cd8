//! `logout`: ends the stored Session.

use crate::{output, session::Cluster};

/// Ends the Session.
///
/// # Errors
/// If the server didn't confirm; the Session is forgotten here all the same.
pub async fn run(cluster: &mut Cluster) -> anyhow::Result<()> {
    let ended = cluster.logout().await?;
    let text = if ended { "Logged out of" } else { "Not logged in to" };
    Ok(output::result(&format!("{text} {}\n", cluster.domain()))?)
}
