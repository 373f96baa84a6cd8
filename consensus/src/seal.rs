//! Sealing: secret data enters the log only encrypted and bound to the resource that it belongs to.
//!
//! Envelope: version u8, key id (8 bytes), nonce (12 bytes), AES-256-GCM ciphertext with tag. Version, key id and the
//! caller's data are authenticated. Random 96-bit nonces allow 2^32 seals with one key (NIST SP 800-38D §8.3), which a
//! control plane never reaches.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, rand,
};
use zeroize::Zeroizing;

use crate::error::Error;

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;
/// What a key file begins with; the key follows as hexadecimal digits.
const FILE_PREFIX: &str = "octelium-sealing-key-v1 ";

/// The key that seals and opens secret data.
pub struct SealingKey {
    key: LessSafeKey,
    id: [u8; KEY_ID_BYTES],
}

impl SealingKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self::from_bytes(&random_key())
    }

    /// The key in a file, which is made with mode 0600 if absent.
    ///
    /// # Errors
    /// If others than its owner may read the file, if it isn't a key file, or if it can't be read or made.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        match File::open(path) {
            Ok(file) => Self::load(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(Error::io("create", path))?;
                Self::load(path, File::open(path).map_err(Error::io("open", path))?)
            }
            Err(error) => Err(Error::io("open", path)(error)),
        }
    }

    fn load(path: &Path, mut file: File) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Key { path: path.to_owned(), reason };
        let metadata = file.metadata().map_err(Error::io("read", path))?;
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(unusable(format!("its mode is {mode:o}, others than its owner may not read it: chmod 600")));
        }
        let mut text = Zeroizing::new(String::with_capacity(256));
        Read::take(&mut file, 256).read_to_string(&mut text).map_err(Error::io("read", path))?;
        let key = text.trim_end().strip_prefix(FILE_PREFIX).and_then(from_hex);
        match key {
            Some(key) => Ok(Self::from_bytes(&key)),
            None => Err(unusable("it is not a key file".to_owned())),
        }
    }

    fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("the key has the length of the algorithm");
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"octelium sealing key id");
        context.update(bytes);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&context.finish().as_ref()[..KEY_ID_BYTES]);
        Self { key: LessSafeKey::new(key), id }
    }

    /// Seals `plain` so that it opens only with this key and the same `associated` data.
    pub fn seal(&self, associated: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the system has random numbers: the key was made from them");
        let mut sealed = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let bound = bound(&sealed, associated);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound),
                &mut sealed[HEAD_BYTES..],
            )
            .expect("secret data is far below the algorithm's limit of 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// What was sealed; wiped from memory when dropped.
    ///
    /// # Errors
    /// If another key or other `associated` data sealed it, or if it was changed.
    pub fn open(&self, associated: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let fail = |reason| Err(Error::Unsealable { reason });
        if sealed.len() < HEAD_BYTES + TAG_BYTES {
            return fail("it is too short");
        }
        if sealed[0] != VERSION {
            return fail("its version is unknown");
        }
        if sealed[1..=KEY_ID_BYTES] != self.id {
            return fail("it was sealed with another key");
        }
        let Ok(nonce) = Nonce::try_assume_unique_for_key(&sealed[1 + KEY_ID_BYTES..HEAD_BYTES]) else {
            return fail("it is too short");
        };
        let mut plain = Zeroizing::new(sealed[HEAD_BYTES..].to_vec());
        let bound = bound(sealed, associated);
        let Ok(length) = self.key.open_in_place(nonce, Aad::from(bound), &mut plain).map(|opened| opened.len()) else {
            return fail("it was changed or belongs to something else");
        };
        plain.truncate(length);
        Ok(plain)
    }
}

/// Shows which key it is, never the key.
impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", to_hex(&self.id))
    }
}

/// What the tag authenticates beside the ciphertext.
fn bound(sealed: &[u8], associated: &[u8]) -> Vec<u8> {
    [&sealed[..=KEY_ID_BYTES], associated].concat()
}

fn random_key() -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(&mut *key).expect("the system has random numbers");
    key
}

/// Makes a key file, all of it or nothing. Another process that makes one at the same time may win.
fn create(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut suffix = [0; 8];
    rand::fill(&mut suffix).map_err(io::Error::other)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", to_hex(&suffix)));
    let temporary = PathBuf::from(name);
    let linked = write_new(&temporary).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&temporary)?;
    linked?;
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let text = Zeroizing::new(format!("{FILE_PREFIX}{}\n", *Zeroizing::new(to_hex(&*random_key()))));
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |character: u8| u8::try_from((character as char).to_digit(16)?).ok();
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn sealed_data_opens_with_the_same_key_and_association() {
        let key = SealingKey::generate();
        for plain in [&b""[..], b"secret"] {
            let sealed = key.seal(b"Secret/u1", plain);
            assert_eq!(key.open(b"Secret/u1", &sealed).unwrap().as_slice(), plain);
        }
        assert_ne!(key.seal(b"a", b"secret"), key.seal(b"a", b"secret"), "each seal has a nonce of its own");
    }

    #[test]
    fn any_change_another_key_or_another_association_is_refused() {
        let key = SealingKey::generate();
        let sealed = key.seal(b"Secret/u1", b"secret");
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(key.open(b"Secret/u1", &changed).is_err(), "byte {position}");
            assert!(key.open(b"Secret/u1", &sealed[..position]).is_err(), "cut to {position}");
        }
        assert!(key.open(b"Secret/u2", &sealed).is_err());
        assert!(SealingKey::generate().open(b"Secret/u1", &sealed).is_err());
    }

    #[test]
    fn a_key_file_is_made_once_and_only_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let first = SealingKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SealingKey::load_or_create(&path).unwrap();
        assert_eq!(again.open(b"a", &first.seal(b"a", b"secret")).unwrap().as_slice(), b"secret");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing half-written stays");

        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(SealingKey::load_or_create(&path), Err(Error::Key { .. })), "mode {mode:o}");
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        for text in ["", "octelium-sealing-key-v1 ", "octelium-sealing-key-v1 zz", &"0".repeat(64)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(SealingKey::load_or_create(&path), Err(Error::Key { .. })), "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn debug_never_shows_the_key() {
        let bytes = [0xab; KEY_BYTES];
        let shown = format!("{:?}", SealingKey::from_bytes(&bytes));
        assert!(!shown.contains("abab") && shown.starts_with("SealingKey("), "{shown}");
    }
}
