//! The few calls that change the disk, in one place, so that tests can let them fail.

use std::{fs::File, io, os::unix::fs::FileExt};

/// What a test wants to go wrong.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Faults {
    /// So many bytes still fit, if set.
    pub bytes_left: parking_lot::Mutex<Option<usize>>,
    /// From now on each flush fails.
    pub sync_fails: std::sync::atomic::AtomicBool,
    /// How many flushes were asked for.
    pub syncs: std::sync::atomic::AtomicUsize,
}

/// The way to the disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    #[cfg(test)]
    pub faults: std::sync::Arc<Faults>,
}

impl Disk {
    /// Writes all of `bytes` at `offset`. After an error some of them may be there.
    pub fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = self.faults.bytes_left.lock().as_mut() {
            let fits = bytes.len().min(*left);
            *left -= fits;
            if fits < bytes.len() {
                file.write_all_at(&bytes[..fits], offset)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        file.write_all_at(bytes, offset)
    }

    /// Waits until the content of a file, or the names in a directory, are durable. After an error the file is lost:
    /// the kernel may have dropped the data, and asking again would say that all is well.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering;
            self.faults.syncs.fetch_add(1, Ordering::Relaxed);
            if self.faults.sync_fails.load(Ordering::Relaxed) {
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        file.sync_data()
    }
}
