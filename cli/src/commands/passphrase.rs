//! The passphrase that a backup is sealed under: from a file, the environment, or typed.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use crate::{Usage, config, input, prompt};

/// What the server takes, in bytes.
const BYTES_MIN: usize = 12;
const BYTES_MAX: usize = 1_024;
const VARIABLE: &str = "OCTELIUM_BACKUP_PASSPHRASE";

/// Where the passphrase comes from.
#[derive(Debug, clap::Args)]
pub struct Passphrase {
    /// A file with the passphrase, which only you may read, or `-` for stdin; default: OCTELIUM_BACKUP_PASSPHRASE, or it
    /// is asked for
    #[arg(long, value_name = "PATH|-", value_hint = clap::ValueHint::FilePath)]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    /// The passphrase. `twice`: a typed one is asked for again, since a slip would make the backup useless.
    ///
    /// # Errors
    /// If there is none, it can't be read, or it is shorter or longer than one can be.
    pub fn read(&self, twice: bool) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let text = match (&self.passphrase_file, config::variable(VARIABLE)) {
            (Some(path), _) if path == Path::new("-") => {
                let bytes = Zeroizing::new(input::read(path, 2 * BYTES_MAX as u64)?);
                return checked(one_line(&bytes));
            }
            (Some(path), _) => Zeroizing::new(
                config::read_private(path).with_context(|| format!("passphrase file {}", path.display()))?,
            ),
            (None, Some(text)) => Zeroizing::new(text),
            (None, None) => typed(twice)?,
        };
        checked(one_line(text.as_bytes()))
    }
}

/// Without the line break that editors and `echo` put at the end.
fn one_line(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

fn checked(bytes: &[u8]) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    match bytes.len() {
        BYTES_MIN..=BYTES_MAX => Ok(Zeroizing::new(bytes.to_vec())),
        length => Err(Usage(format!("the passphrase has {length} bytes; expected {BYTES_MIN} to {BYTES_MAX}")).into()),
    }
}

fn typed(twice: bool) -> anyhow::Result<Zeroizing<String>> {
    if !prompt::possible() {
        return Err(Usage(format!("no passphrase: give --passphrase-file PATH, or set {VARIABLE}")).into());
    }
    let first = Zeroizing::new(rpassword::prompt_password("Passphrase: ")?);
    if twice && *first != *Zeroizing::new(rpassword::prompt_password("The same again: ")?) {
        bail!("the two passphrases differ");
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_no_part_of_it() {
        for (given, expected) in
            [("secret", "secret"), ("secret\n", "secret"), ("secret\r\n", "secret"), ("a\n\n", "a\n")]
        {
            assert_eq!(one_line(given.as_bytes()), expected.as_bytes(), "{given:?}");
        }
    }

    #[test]
    fn its_length_is_bounded() {
        for (length, accepted) in [(0, false), (11, false), (12, true), (1_024, true), (1_025, false)] {
            assert_eq!(checked(&vec![b'x'; length]).is_ok(), accepted, "{length}");
        }
    }
}
