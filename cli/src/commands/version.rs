//! `version`: which release this is.

use octelium_api::API_VERSION;
use serde_json::json;

use crate::{
    exit::{Exit, Failure},
    output::{self, Format},
};

/// What `version` is asked.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Output form
    #[arg(short, long, visible_alias = "output", value_enum, default_value = "yaml")]
    out: Format,
    /// Look for a newer release (this program asks nobody for releases, so it always fails)
    #[arg(long)]
    check: bool,
}

/// Prints the version; needs no cluster.
///
/// # Errors
/// If stdout can't be written, or a newer release is asked for.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut version = json!({ "releaseVersion": env!("CARGO_PKG_VERSION"), "apiVersion": API_VERSION });
    // Known to release builds only.
    for (name, value) in
        [("gitCommit", option_env!("OCTELIUM_GIT_COMMIT")), ("buildDate", option_env!("OCTELIUM_BUILD_DATE"))]
    {
        if let Some(value) = value {
            version[name] = value.into();
        }
    }
    output::result(&output::document(&version, arguments.out)?)?;
    if arguments.check {
        let text = "whether there is a newer release is not known: this program knows no place to ask and calls nobody \
                    but the cluster; compare with where it came from";
        return Err(Failure::new(Exit::Failed, text).into());
    }
    Ok(())
}
