//! `completion`: a script that lets a shell complete our command line, the names of resources included.

use anyhow::Context;
use clap::ValueEnum;
use clap_complete::env::Shells;

use crate::output;

/// The variable by which the script asks this program what could come next.
const VARIABLE: &str = "COMPLETE";

/// What `completion` is asked.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// Prints the script.
///
/// # Errors
/// If stdout can't be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let name = match arguments.shell {
        Shell::Bash => "bash",
        Shell::Elvish => "elvish",
        Shell::Fish => "fish",
        Shell::Powershell => "powershell",
        Shell::Zsh => "zsh",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).context("the shell is not known")?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "octeliumctl", "octeliumctl", "octeliumctl", &mut script)?;
    Ok(output::result(&String::from_utf8(script)?)?)
}
