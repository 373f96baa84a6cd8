//! The few calls that change the disk, in one place, so that tests and simulations can let them fail.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

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

/// The way to the disk: that of the machine on whose task it was made.
#[derive(Debug, Clone)]
pub struct Disk {
    #[cfg(test)]
    pub faults: std::sync::Arc<Faults>,
    #[cfg(feature = "simulation")]
    machine: Option<crate::simulation::Machine>,
}

#[allow(clippy::derivable_impls, reason = "with the feature `simulation` the machine is that of the task, not none")]
impl Default for Disk {
    fn default() -> Self {
        Self {
            #[cfg(test)]
            faults: std::sync::Arc::default(),
            #[cfg(feature = "simulation")]
            machine: crate::simulation::Machine::current(),
        }
    }
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
        #[cfg(feature = "simulation")]
        if let Some(machine) = &self.machine {
            return machine.drive()?.write(file, bytes, offset);
        }
        file.write_all_at(bytes, offset)
    }

    /// Sets the length of a file.
    pub fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if let Some(machine) = &self.machine {
            return machine.drive()?.set_len(file, bytes);
        }
        file.set_len(bytes)
    }

    /// Waits until the content of a file is durable. After an error the file is lost: the kernel may have dropped the data,
    /// and asking again would say that all is well.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        self.count_sync()?;
        #[cfg(feature = "simulation")]
        if let Some(machine) = &self.machine {
            return machine.drive()?.sync(file);
        }
        file.sync_data()
    }

    /// Waits until the names in a directory are durable.
    pub fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.count_sync()?;
        #[cfg(feature = "simulation")]
        if let Some(machine) = &self.machine {
            machine.drive()?.sync_directory(directory);
            return Ok(());
        }
        File::open(directory)?.sync_data()
    }

    /// Makes an empty file for writing, whatever was there.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        #[cfg(feature = "simulation")]
        if let Some(machine) = &self.machine {
            machine.drive()?.creates(path)?;
        }
        File::create(path)
    }

    /// Opens a file for reading and writing, and makes it if it isn't there.
    pub fn open_or_create(&self, path: &Path) -> io::Result<File> {
        #[cfg(feature = "simulation")]
        if let Some(machine) = &self.machine
            && !path.exists()
        {
            machine.drive()?.creates(path)?;
        }
        File::options().read(true).write(true).create(true).truncate(false).open(path)
    }

    /// Gives a file another name, in place of whatever has it.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if let Some(machine) = &self.machine {
            machine.drive()?.renames(from, to)?;
        }
        fs::rename(from, to)
    }

    /// Removes a file.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if let Some(machine) = &self.machine {
            machine.drive()?.removes(path)?;
        }
        fs::remove_file(path)
    }

    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests count flushes here, and let them fail")]
    fn count_sync(&self) -> io::Result<()> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering;
            self.faults.syncs.fetch_add(1, Ordering::Relaxed);
            if self.faults.sync_fails.load(Ordering::Relaxed) {
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        Ok(())
    }
}
