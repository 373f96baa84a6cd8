//! A disk that remembers what isn't durable yet, and forgets some of it when the power fails.
//!
//! What is written lies in real files at once, as a process sees it. Beside them stands a journal of what was not flushed: when the power
//! fails, of the writes of each file any may be kept, lost or kept in some sectors, and of the names in a directory the last ones may be lost.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

/// What a disk writes as a whole, in bytes.
const SECTOR: usize = 512;
/// So many writes of one file wait; the system writes the oldest by itself.
const WAITING_MAX: usize = 32;

/// Clones are handles to the same drive, which outlives its machines.
#[derive(Debug, Clone)]
pub struct Drive {
    journal: Arc<Mutex<Journal>>,
    /// Flushes do nothing.
    pub(super) is_lying: bool,
}

#[derive(Debug)]
struct Journal {
    /// Where files go that were removed and may come back.
    graves: PathBuf,
    buried: u64,
    writes: Vec<Write>,
    names: Vec<Name>,
}

/// A change of a file's content.
#[derive(Debug)]
struct Write {
    inode: u64,
    file: File,
    offset: u64,
    /// What was there, as far as there was something.
    before: Vec<u8>,
    length_before: u64,
    after: After,
}

#[derive(Debug)]
enum After {
    Bytes(Vec<u8>),
    Length(u64),
}

/// A change of the names in a directory.
#[derive(Debug)]
enum Name {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<PathBuf> },
    Removed { path: PathBuf, grave: PathBuf },
}

impl Name {
    fn directory(&self) -> Option<&Path> {
        let (Self::Created(path) | Self::Renamed { to: path, .. } | Self::Removed { path, .. }) = self;
        path.parent()
    }
}

impl Drive {
    /// A drive on which removed files are kept in `graves`, a directory beside the data.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new(graves: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&graves)?;
        let journal = Journal { graves, buried: 0, writes: Vec::new(), names: Vec::new() };
        Ok(Self { journal: Arc::new(Mutex::new(journal)), is_lying: false })
    }

    /// The power fails: of what isn't durable, `random` decides what stays. No machine may run on it. Returns how many changes were lost,
    /// in whole or in part.
    ///
    /// # Errors
    /// If the real disk fails.
    pub fn power_fails(&self, mut random: u64) -> io::Result<u64> {
        let mut journal = self.journal.lock();
        let names = std::mem::take(&mut journal.names);
        let writes = std::mem::take(&mut journal.writes);
        let mut lost = content(writes, &mut random)?;
        let mut kept_of: Vec<(PathBuf, bool)> = Vec::new();
        // Once a name of a directory is lost, so are those after it.
        let mut undone = Vec::new();
        for name in names {
            let directory = name.directory().unwrap_or(Path::new("")).to_owned();
            let known = kept_of.iter().position(|(of, _)| *of == directory).unwrap_or_else(|| {
                kept_of.push((directory, true));
                kept_of.len() - 1
            });
            kept_of[known].1 &= !next(&mut random).is_multiple_of(3);
            if !kept_of[known].1 {
                undone.push(name);
            }
        }
        lost += undone.len() as u64;
        for name in undone.into_iter().rev() {
            match name {
                Name::Created(path) => fs::remove_file(path)?,
                Name::Renamed { from, to, replaced } => {
                    fs::rename(&to, &from)?;
                    replaced.map_or(Ok(()), |grave| fs::rename(grave, &to))?;
                }
                Name::Removed { path, grave } => fs::rename(grave, path)?,
            }
        }
        for grave in fs::read_dir(&journal.graves)? {
            fs::remove_file(grave?.path())?;
        }
        Ok(lost)
    }

    pub(crate) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.note(file, offset, bytes.len(), After::Bytes(bytes.to_vec()))?;
        file.write_all_at(bytes, offset)
    }

    pub(crate) fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        let before = file.metadata()?.len();
        let cut = usize::try_from(before.saturating_sub(length)).map_err(io::Error::other)?;
        self.note(file, length, cut, After::Length(length))?;
        file.set_len(length)
    }

    fn note(&self, file: &File, offset: u64, length: usize, after: After) -> io::Result<()> {
        let metadata = file.metadata()?;
        let there = metadata.len().saturating_sub(offset).min(length as u64);
        let mut before = vec![0; usize::try_from(there).map_err(io::Error::other)?];
        // Files that are only written can't be read; they are new, and nothing is there.
        if !before.is_empty() {
            file.read_exact_at(&mut before, offset)?;
        }
        let inode = metadata.ino();
        let write = Write { inode, file: file.try_clone()?, offset, before, length_before: metadata.len(), after };
        let mut journal = self.journal.lock();
        if journal.writes.iter().filter(|write| write.inode == inode).count() >= WAITING_MAX
            && let Some(oldest) = journal.writes.iter().position(|write| write.inode == inode)
        {
            journal.writes.remove(oldest);
        }
        journal.writes.push(write);
        Ok(())
    }

    pub(crate) fn sync(&self, file: &File) -> io::Result<()> {
        if !self.is_lying {
            let inode = file.metadata()?.ino();
            self.journal.lock().writes.retain(|write| write.inode != inode);
        }
        Ok(())
    }

    pub(crate) fn sync_directory(&self, directory: &Path) {
        if !self.is_lying {
            self.journal.lock().names.retain(|name| name.directory() != Some(directory));
        }
    }

    pub(crate) fn creates(&self, path: &Path) -> io::Result<()> {
        if path.exists() {
            self.removes(path)?;
            fs::remove_file(path)?;
        }
        self.journal.lock().names.push(Name::Created(path.to_owned()));
        Ok(())
    }

    pub(crate) fn renames(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut journal = self.journal.lock();
        let replaced = if to.exists() { Some(journal.bury(to)?) } else { None };
        journal.names.push(Name::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    pub(crate) fn removes(&self, path: &Path) -> io::Result<()> {
        let mut journal = self.journal.lock();
        let grave = journal.bury(path)?;
        journal.names.push(Name::Removed { path: path.to_owned(), grave });
        Ok(())
    }
}

impl Journal {
    fn bury(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.buried += 1;
        let grave = self.graves.join(self.buried.to_string());
        fs::hard_link(path, &grave)?;
        Ok(grave)
    }
}

/// Takes all writes back, then does those again that reached the disk.
fn content(writes: Vec<Write>, random: &mut u64) -> io::Result<u64> {
    for write in writes.iter().rev() {
        write.file.write_all_at(&write.before, write.offset)?;
        write.file.set_len(write.length_before)?;
    }
    let mut lost = 0;
    for write in writes {
        let fate = next(random) % 4;
        match &write.after {
            After::Bytes(bytes) => {
                let keeps = |random: &mut u64| fate == 0 || (fate == 1 && next(random).is_multiple_of(2));
                let mut prefix = usize::try_from(next(random)).unwrap_or_default() % (bytes.len() + 1);
                if fate != 2 {
                    prefix = 0;
                }
                write.file.write_all_at(&bytes[..prefix], write.offset)?;
                for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                    if keeps(random) {
                        write.file.write_all_at(sector, write.offset + (number * SECTOR) as u64)?;
                    }
                }
            }
            After::Length(length) if fate == 0 => write.file.set_len(*length)?,
            After::Length(_) => {}
        }
        lost += u64::from(fate != 0);
    }
    Ok(lost)
}

/// The next of random numbers (SplitMix64).
pub(super) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
