//! Values that are given on the command line: as they are, in a file, on stdin, or typed.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::Usage;

/// Where a value comes from.
#[derive(Debug, Clone, clap::Args)]
pub struct Source {
    /// The value; others on this machine can see it while the command runs, so better use --file
    #[arg(long, allow_hyphen_values = true)]
    pub value: Option<String>,
    /// A file with the value, or `-` for stdin; its bytes are stored as they are
    #[arg(short, long, value_name = "PATH|-", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
}

impl Source {
    /// The file's bytes, else the value given; `None` where neither is.
    ///
    /// # Errors
    /// If it can't be read, is empty, or has more than `bytes_max` bytes.
    pub fn read(&self, bytes_max: u64) -> anyhow::Result<Option<Vec<u8>>> {
        match (&self.file, &self.value) {
            (Some(path), _) => read(path, bytes_max).map(Some),
            (None, Some(value)) => checked(value.clone().into_bytes(), bytes_max).context("the value").map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// What is typed at the terminal without being shown.
///
/// # Errors
/// If there is no terminal, or what was typed is empty or longer than `bytes_max` bytes.
pub fn typed(question: &str, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    if !io::stdin().is_terminal() {
        return Err(Usage("no value: give --value, --file PATH, or --file - for stdin".into()).into());
    }
    checked(rpassword::prompt_password(question)?.into_bytes(), bytes_max).context("the value")
}

/// The bytes of a file, or of stdin for `-`.
///
/// # Errors
/// If they can't be read, there are none, or more than `bytes_max`.
pub fn read(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let shown = || path.display().to_string();
    if path == Path::new("-") {
        io::stdin().lock().take(bytes_max + 1).read_to_end(&mut bytes).context("stdin")?;
        return checked(bytes, bytes_max).context("stdin");
    }
    File::open(path).with_context(shown)?.take(bytes_max + 1).read_to_end(&mut bytes).with_context(shown)?;
    checked(bytes, bytes_max).with_context(shown)
}

fn checked(bytes: Vec<u8>, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    match bytes.len() as u64 {
        0 => bail!("is empty"),
        length if length <= bytes_max => Ok(bytes),
        _ => bail!("is larger than {bytes_max} bytes"),
    }
}
