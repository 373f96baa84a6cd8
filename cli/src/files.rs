//! Files that this program writes for their owner alone: as a whole or not at all.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::NamedTempFile;

use crate::exit::{Exit, Failure};

/// A file that isn't there before [`Self::finish`]. It has mode 0600.
pub struct Private {
    path: PathBuf,
    file: NamedTempFile,
    overwrite: bool,
}

/// Refuses where something is in the way, before anything else is done in vain.
///
/// # Errors
/// If there is.
pub fn check_free(path: &Path, overwrite: bool) -> Result<(), Failure> {
    if !overwrite && path.symlink_metadata().is_ok() {
        return Err(taken(path));
    }
    Ok(())
}

fn taken(path: &Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} is there already; --force replaces it", path.display()))
}

impl Private {
    /// Begins a file that will be at `path`; one that is there already is only replaced with `overwrite`.
    ///
    /// # Errors
    /// If something is there, or nothing can be written there.
    pub fn begin(path: &Path, overwrite: bool) -> anyhow::Result<Self> {
        let shown = || path.display().to_string();
        check_free(path, overwrite)?;
        // In the same directory, so that it can be moved into place. Such files are made with mode 0600.
        let file = tempfile::Builder::new().prefix(".octeliumctl.").tempfile_in(directory(path)).with_context(shown)?;
        Ok(Self { path: path.to_owned(), file, overwrite })
    }

    /// Appends.
    ///
    /// # Errors
    /// If the disk says no.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| self.path.display().to_string())
    }

    /// Moves the file into place, durably.
    ///
    /// # Errors
    /// If something came there meanwhile, or the disk says no. The place is then as it was.
    pub fn finish(self) -> anyhow::Result<()> {
        let Self { path, file, overwrite } = self;
        let shown = || path.display().to_string();
        file.as_file().sync_all().with_context(shown)?;
        let moved = if overwrite { file.persist(&path) } else { file.persist_noclobber(&path) };
        match moved {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Err(taken(&path).into()),
            Err(error) => return Err(error.error).with_context(shown),
        }
        // Some systems can't open directories; the file itself is safe.
        File::open(directory(&path)).and_then(|directory| directory.sync_all()).ok();
        Ok(())
    }
}

/// Where the file is; a bare name is in the working directory.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        for (path, expected) in [("backup", "."), ("a/backup", "a"), ("/backup", "/"), ("./backup", ".")] {
            assert_eq!(directory(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn a_file_is_there_as_a_whole_and_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        let mut file = Private::begin(&path, false).unwrap();
        file.write(b"ab").unwrap();
        assert!(!path.exists());
        file.write(b"cd").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abcd");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Private::begin(&path, false).is_err());
        let mut file = Private::begin(&path, true).unwrap();
        file.write(b"x").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"abcd", "what isn't finished replaces nothing");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_came_meanwhile_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        let file = Private::begin(&path, false).unwrap();
        fs::write(&path, "other").unwrap();
        assert!(file.finish().unwrap_err().to_string().contains("--force"));
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }
}
