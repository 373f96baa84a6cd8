//! The data directory: one process at a time, and the id of the node that lives and dies with it.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;

use crate::{durable, error::Error, form, log_store::disk::Disk, machine};

const NODE_MAGIC: &[u8; 8] = b"octlnode";

/// A locked data directory.
pub struct Directory {
    path: PathBuf,
    lock: Arc<File>,
    node: form::NodeId,
}

impl Directory {
    /// Creates the directory if needed, locks it, removes half-written files and loads or makes the node id.
    pub fn open(disk: &Disk, path: &Path) -> Result<Self, Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("create", path))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(Error::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { directory: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &lock_path)(error)),
        }
        remove_temporary(disk, path)?;
        let node_path = path.join("node");
        let stored = durable::read_checked(&node_path, NODE_MAGIC)?;
        let node = match &stored {
            Some(payload) => form::NodeId::decode(payload.as_slice())
                .map_err(|error| Error::corrupt(&node_path, 0, error.to_string()))?,
            None => form::NodeId { id: random_id()?, initialized: false },
        };
        let directory = Self { path: path.to_owned(), lock: Arc::new(lock), node };
        if stored.is_none() {
            directory.save(disk)?;
        }
        Ok(directory)
    }

    pub fn node_id(&self) -> u64 {
        self.node.id
    }

    /// Whether the first log entry was written here.
    pub fn initialized(&self) -> bool {
        self.node.initialized
    }

    /// Notes that the first log entry was written: an empty log is a lost log from now on.
    pub fn set_initialized(&mut self, disk: &Disk) -> Result<(), Error> {
        self.node.initialized = true;
        self.save(disk)
    }

    /// The lock; who still writes holds a copy.
    pub fn lock(&self) -> Arc<File> {
        Arc::clone(&self.lock)
    }

    fn save(&self, disk: &Disk) -> Result<(), Error> {
        let path = self.path.join("node");
        durable::replace_checked(disk, &path, NODE_MAGIC, &self.node.encode_to_vec()).map_err(Error::io("write", path))
    }
}

/// The id of the node whose data directory this is, made if there is none yet; and whether its log has begun.
///
/// # Errors
/// If the directory is in use or can't be read.
pub fn peek(path: &Path) -> Result<(u64, bool), Error> {
    let directory = Directory::open(&Disk::default(), path)?;
    Ok((directory.node_id(), directory.initialized()))
}

/// A node id that no other node has.
fn random_id() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    machine::fill_random(&mut bytes).map_err(|_| Error::Failed { reason: "no random numbers".to_owned() })?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

/// Removes what a crash left half-written.
pub fn remove_temporary(disk: &Disk, directory: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let path = entry.map_err(Error::io("list", directory))?.path();
        if path.extension().is_some_and(|extension| extension == durable::TEMPORARY) {
            disk.remove_file(&path).map_err(Error::io("remove", path))?;
        }
    }
    Ok(())
}
