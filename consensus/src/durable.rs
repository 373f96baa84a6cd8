//! Files that are either the old or the new ones, whatever happens in between.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{error::Error, log_store::disk::Disk};

/// The version of the small files' frame.
const VERSION: u32 = 1;
/// Magic, version and length of the payload.
const HEAD_BYTES: usize = 16;
const CRC_BYTES: usize = 4;
/// The ending of a file that is still written; leftovers are removed at start.
pub const TEMPORARY: &str = "tmp";

/// Puts `bytes` at `path`: all of them, durably, or nothing changes.
pub fn replace(disk: &Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(disk, path, |file| disk.write_all_at(file, bytes, 0))
}

/// Like [`replace`], with the content written by `write`.
pub fn replace_with(disk: &Disk, path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary(path);
    let file = disk.create(&temporary)?;
    write(&file)?;
    disk.sync(&file)?;
    disk.rename(&temporary, path)?;
    sync_directory(disk, path.parent().unwrap_or(Path::new(".")))
}

/// Makes created, renamed and removed names durable.
pub fn sync_directory(disk: &Disk, directory: &Path) -> io::Result<()> {
    disk.sync_directory(directory)
}

/// The name under which a file is written before it replaces `path`.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TEMPORARY);
    name.into()
}

/// Replaces a small file: magic, version, length, payload and a checksum over all of it.
pub fn replace_checked(disk: &Disk, path: &Path, magic: &[u8; 8], payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::Error::other("the payload is too long"))?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len() + CRC_BYTES);
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    replace(disk, path, &bytes)
}

/// The payload of a small file; `None` if there is no such file.
///
/// # Errors
/// If it can't be read, or isn't exactly what was written.
pub fn read_checked(path: &Path, magic: &[u8; 8]) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes).map_err(Error::io("read", path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let corrupt = |offset: usize, reason: String| Err(Error::corrupt(path, offset as u64, reason));
    if bytes.len() < HEAD_BYTES + CRC_BYTES {
        return corrupt(bytes.len(), "it is too short".to_owned());
    }
    if bytes[..8] != *magic {
        return corrupt(0, "it is another kind of file".to_owned());
    }
    let version = u32_at(&bytes, 8);
    if version != VERSION {
        return corrupt(8, format!("it has version {version}, this program knows {VERSION}"));
    }
    if bytes.len() - HEAD_BYTES - CRC_BYTES != u32_at(&bytes, 12) as usize {
        return corrupt(12, "its length is wrong".to_owned());
    }
    let end = bytes.len() - CRC_BYTES;
    if crc32fast::hash(&bytes[..end]) != u32_at(&bytes, end) {
        return corrupt(end, "its checksum is wrong".to_owned());
    }
    Ok(Some(bytes[HEAD_BYTES..end].to_vec()))
}

/// The little-endian number at `offset`, which must be inside.
pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

/// The little-endian number at `offset`, which must be inside.
pub fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}
