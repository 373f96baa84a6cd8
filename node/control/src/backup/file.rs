//! The file of a backup: a header, then frames sealed with AES-256-GCM under a key that Argon2id (RFC 9106) makes of a passphrase
//! and the header's salt.
//!
//! Header: `magic (16) | version (4) | memory in KiB (4) | passes (4) | lanes (4) | salt (16)`, numbers big-endian.
//! Frame: `length (4) | sealed bytes`. Its nonce is its number, and a mark for the last one, so that frames can't be left out,
//! moved or cut off; the header is authenticated with each. A key seals one file, since the salt is random.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

const MAGIC: &[u8; 16] = b"OCTELIUM-BACKUP\n";
const VERSION: u32 = 1;
const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = 16 + 4 * 4 + SALT_BYTES;
/// Plain bytes of a frame.
const FRAME_BYTES: usize = 256 << 10;
const KEY_BYTES: usize = 32;

/// What deriving the key costs: the second choice of RFC 9106 §4, with one lane.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// A file may ask for more, up to these, so that it can't be used to stop the node.
const MEMORY_KIB_MAX: u32 = 256 << 10;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 4;

/// Why a file can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It doesn't begin like one.
    #[error("this isn't a backup")]
    Magic,
    /// A later version made it.
    #[error("the backup has version {0}; this server knows {VERSION}")]
    Version(u32),
    /// Its header asks for too much.
    #[error("the backup's header is damaged")]
    Header,
    /// Wrong passphrase, or a changed byte: they can't be told apart.
    #[error("the passphrase is wrong, or the backup is damaged")]
    Sealed,
    /// It ends too early.
    #[error("the backup is cut off")]
    CutOff,
    /// Something follows its last frame.
    #[error("something follows the backup's end")]
    Trailing,
    /// The system has no random numbers or memory.
    #[error("the key can't be made now")]
    Unavailable,
}

/// Seals `plain`.
///
/// # Errors
/// [`Error::Unavailable`].
pub fn seal(plain: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, Error> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    for number in [VERSION, MEMORY_KIB, PASSES, LANES] {
        header.extend_from_slice(&number.to_be_bytes());
    }
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| Error::Unavailable)?;
    header.extend_from_slice(&salt);
    let key = derive(passphrase, &salt, MEMORY_KIB, PASSES, LANES)?;

    let frames = plain.len().div_ceil(FRAME_BYTES).max(1);
    let mut file = Vec::with_capacity(HEADER_BYTES + plain.len() + frames * (4 + MAX_TAG_LEN));
    file.extend_from_slice(&header);
    for number in 0..frames {
        let from = number * FRAME_BYTES;
        let mut frame = plain[from..plain.len().min(from + FRAME_BYTES)].to_vec();
        key.seal_in_place_append_tag(nonce(number, number + 1 == frames), Aad::from(&header), &mut frame)
            .map_err(|_| Error::Unavailable)?;
        let length = u32::try_from(frame.len()).map_err(|_| Error::Unavailable)?;
        file.extend_from_slice(&length.to_be_bytes());
        file.extend_from_slice(&frame);
    }
    Ok(file)
}

/// Opens a file.
///
/// # Errors
/// See [`Error`]; nothing of a file that is damaged anywhere is returned.
pub fn open(file: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    if !file.starts_with(MAGIC) {
        return Err(Error::Magic);
    }
    let (header, mut rest) = file.split_at_checked(HEADER_BYTES).ok_or(Error::CutOff)?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (version, memory, passes, lanes) = (number(16), number(20), number(24), number(28));
    if version != VERSION {
        return Err(Error::Version(version));
    }
    if memory > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
        return Err(Error::Header);
    }
    let key = derive(passphrase, &header[32..], memory, passes, lanes).map_err(|_| Error::Header)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(rest.len()));
    for frame_number in 0.. {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(Error::CutOff)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES + MAX_TAG_LEN {
            return Err(Error::Sealed);
        }
        let (sealed, after) = after.split_at_checked(length).ok_or(Error::CutOff)?;
        rest = after;
        // A file that was cut between two frames fails here: its last frame isn't marked as the last.
        let is_last = rest.is_empty();
        let mut frame = Zeroizing::new(sealed.to_vec());
        let opened = key.open_in_place(nonce(frame_number, is_last), Aad::from(header), &mut frame);
        match opened {
            Ok(opened) => plain.extend_from_slice(opened),
            Err(_) if is_last && frame_number > 0 => return Err(Error::CutOff),
            Err(_) => {
                let mut frame = Zeroizing::new(sealed.to_vec());
                let as_last = key.open_in_place(nonce(frame_number, true), Aad::from(header), &mut frame);
                return Err(if as_last.is_ok() { Error::Trailing } else { Error::Sealed });
            }
        }
        if is_last {
            break;
        }
    }
    Ok(plain)
}

fn nonce(frame: usize, is_last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[3..11].copy_from_slice(&(frame as u64).to_be_bytes());
    bytes[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

fn derive(passphrase: &[u8], salt: &[u8], memory: u32, passes: u32, lanes: u32) -> Result<LessSafeKey, Error> {
    let params = Params::new(memory, passes, lanes, Some(KEY_BYTES)).map_err(|_| Error::Unavailable)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, key.as_mut())
        .map_err(|_| Error::Unavailable)?;
    let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| Error::Unavailable)?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        for bytes in [0, 1, FRAME_BYTES, FRAME_BYTES + 1] {
            let plain = vec![7; bytes];
            let file = seal(&plain, b"correct horse battery").unwrap();
            assert_eq!(open(&file, b"correct horse battery").unwrap().as_slice(), plain);
            assert_eq!(open(&file, b"correct horse batterx"), Err(Error::Sealed));
        }
    }

    #[test]
    fn a_changed_file_doesnt_open() {
        let file = seal(&vec![7; 2 * FRAME_BYTES], b"correct horse battery").unwrap();
        let try_open = |file: &[u8]| open(file, b"correct horse battery").map(|_| ());
        assert_eq!(try_open(b"kind: Service"), Err(Error::Magic));
        assert_eq!(try_open(&file[..20]), Err(Error::CutOff));
        assert_eq!(try_open(&file[..file.len() - 1]), Err(Error::CutOff));
        let one = HEADER_BYTES + 4 + FRAME_BYTES + MAX_TAG_LEN;
        assert!(try_open(&file[..one]).is_err(), "cut between frames");
        let doubled = [&file[..], &file[HEADER_BYTES..]].concat();
        assert_eq!(try_open(&doubled), Err(Error::Trailing));
        let swapped = [&file[..HEADER_BYTES], &file[one..], &file[HEADER_BYTES..one]].concat();
        assert!(try_open(&swapped).is_err());
        for (at, expected) in [(19, Error::Version(0)), (20, Error::Header), (40, Error::Sealed), (60, Error::Sealed)] {
            let mut changed = file.clone();
            changed[at] ^= if at == 19 { 1 } else { 0x40 };
            assert_eq!(try_open(&changed), Err(expected), "byte {at}");
        }
    }
}
