//! `completion`: a script that lets a shell complete our command line.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::output;

/// What `completion` is asked.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// If stdout can't be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "octeliumctl", &mut script);
    Ok(output::result(&String::from_utf8(script)?)?)
}
