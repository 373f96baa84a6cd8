//! `version`: which release this is.

use octelium_api::API_VERSION;
use serde_json::json;

use crate::output::{self, Format};

/// What `version` is asked.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Output form
    #[arg(short, long, visible_alias = "output", value_enum, default_value = "yaml")]
    out: Format,
}

/// Prints the version; needs no cluster.
///
/// # Errors
/// If stdout can't be written.
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
    Ok(output::result(&output::document(&version, arguments.out)?)?)
}
