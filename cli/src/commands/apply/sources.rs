//! Which files are manifests, and their text.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// Deeper directories than this are taken for a mistake.
const DEPTH_MAX: usize = 64;
/// So are more files, and more bytes in all of them.
const FILES_MAX: usize = 10_000;
const TOTAL_BYTES_MAX: usize = 256 << 20;

/// The text of one manifest file.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// As it is called in complaints.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Reads a file, a directory, or stdin for `-`. No file may be larger than `bytes_max`.
///
/// # Errors
/// If any can't be read, is too large or isn't text; if a directory has no manifests.
pub fn read(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<Source>> {
    if path == Path::new("-") {
        return Ok(vec![Source {
            name: "stdin".to_owned(),
            text: text(io::stdin().lock(), bytes_max).context("stdin")?,
        }]);
    }
    let shown = || path.display().to_string();
    if !fs::metadata(path).with_context(shown)?.is_dir() {
        return Ok(vec![file(path, bytes_max)?]);
    }
    let mut paths = Vec::new();
    let root = path.canonicalize().with_context(shown)?;
    find(path, &root, DEPTH_MAX, &mut paths)?;
    if paths.is_empty() {
        bail!("{} has no .yaml, .yml or .json files", shown());
    }
    let mut total = 0;
    let mut sources = Vec::with_capacity(paths.len());
    for path in paths {
        let source = file(&path, bytes_max)?;
        total += source.text.len();
        if total > TOTAL_BYTES_MAX {
            bail!("{}: the manifests are larger than {TOTAL_BYTES_MAX} bytes together", shown());
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Collects the manifests below `directory` in the order of their names.
fn find(directory: &Path, root: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let shown = || directory.display().to_string();
    if depth == 0 {
        bail!("{}: directories are nested deeper than {DEPTH_MAX}", shown());
    }
    let mut entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>).with_context(shown)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let r#type = entry.file_type().with_context(|| path.display().to_string())?;
        // Kubernetes mounts the files of a ConfigMap as links into such a directory: there they are a second time.
        if entry.file_name().as_encoded_bytes().starts_with(b"..") {
            continue;
        }
        if r#type.is_dir() {
            find(&path, root, depth - 1, paths)?;
        } else if is_manifest(&path) && (r#type.is_file() || leads_to_file(&path, root)?) {
            if paths.len() == FILES_MAX {
                bail!("{}: more than {FILES_MAX} manifests", root.display());
            }
            paths.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

/// Whether a link ends at a regular file. It must be one of the directory's own: what a stranger's directory points to
/// elsewhere on this machine would be read, and shown in complaints.
fn leads_to_file(path: &Path, root: &Path) -> anyhow::Result<bool> {
    let shown = || path.display().to_string();
    let target = path.canonicalize().with_context(shown)?;
    if !fs::metadata(&target).with_context(shown)?.is_file() {
        return Ok(false);
    }
    if !target.starts_with(root) {
        bail!("{} is a link to {}, outside of the directory", shown(), target.display());
    }
    Ok(true)
}

fn file(path: &Path, bytes_max: usize) -> anyhow::Result<Source> {
    let shown = || path.display().to_string();
    let file = File::open(path).with_context(shown)?;
    let length = file.metadata().with_context(shown)?.len();
    if length > bytes_max as u64 {
        bail!("{} has {length} bytes; a manifest has at most {bytes_max}", shown());
    }
    Ok(Source { name: shown(), text: text(file, bytes_max).with_context(shown)? })
}

/// The whole text; pipes don't tell their length beforehand.
fn text(from: impl Read, bytes_max: usize) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    from.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        bail!("a manifest has at most {bytes_max} bytes, and this one more");
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("line {line} is not UTF-8")
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
        let sources = read(directory, 1_000)?;
        let prefix = format!("{}/", directory.display());
        Ok(sources.into_iter().map(|source| source.name.replace(&prefix, "")).collect())
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_names() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("b/deep")).unwrap();
        for name in ["c.yaml", "a.YML", "b/2.json", "b/deep/1.yaml", "note.txt", "yaml", "b/10.yaml"] {
            fs::write(at(name), "x").unwrap();
        }
        assert_eq!(names(directory.path()).unwrap(), ["a.YML", "b/10.yaml", "b/2.json", "b/deep/1.yaml", "c.yaml"]);
    }

    #[test]
    fn a_mounted_config_map_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("..2024_01_01")).unwrap();
        fs::write(at("..2024_01_01/api.yaml"), "x").unwrap();
        symlink("..2024_01_01", at("..data")).unwrap();
        symlink("..data/api.yaml", at("api.yaml")).unwrap();
        assert_eq!(names(directory.path()).unwrap(), ["api.yaml"]);
    }

    #[test]
    fn links_to_directories_are_not_followed_and_those_out_are_refused() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("key.yaml"), "secret").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("a.yaml"), "x").unwrap();
        symlink(".", at("again.yaml")).unwrap();
        assert_eq!(names(directory.path()).unwrap(), ["a.yaml"]);
        symlink(outside.path().join("key.yaml"), at("key.yaml")).unwrap();
        assert!(names(directory.path()).unwrap_err().to_string().contains("outside"));
        fs::remove_file(at("key.yaml")).unwrap();
        symlink("nowhere.yaml", at("broken.yaml")).unwrap();
        assert!(names(directory.path()).is_err());
    }

    #[test]
    fn what_is_too_large_or_no_text_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path(), 10).unwrap_err().to_string().contains("no .yaml"));
        let path = directory.path().join("a.yaml");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap()[0].text, "0123456789");
        let error = read(&path, 9).unwrap_err().to_string();
        assert!(error.contains("has 10 bytes"), "{error}");
        assert!(text(io::Cursor::new("0123456789"), 9).is_err(), "a pipe is limited too");
        fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
        assert!(format!("{:#}", read(&path, 10).unwrap_err()).contains("line 2 is not UTF-8"));
        assert!(read(&directory.path().join("none.yaml"), 10).is_err());
    }
}
