//! Nothing is taken for a token but what the cluster's key has signed, whole and for one kind.
//!
//! Even first byte: the rest is the text of a token. Odd: what a token says, and how its text is damaged.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use octelium_consensus::SealingKey;
use octelium_control::{Token, TokenKeys, TokenKind, seal};

const KINDS: [TokenKind; 3] = [TokenKind::Access, TokenKind::Refresh, TokenKind::Credential];
const NOW: i64 = 1_769_860_800;

/// The same key in every run, so that findings are found again.
static KEYS: LazyLock<TokenKeys> = LazyLock::new(|| {
    let sealing = SealingKey::generate();
    let name = "token-mac/0000000000000001";
    let sealed: Arc<[u8]> = seal::seal_key(&sealing, name, &[7; 32]).into();
    TokenKeys::open(&[(name.to_owned(), sealed)], &sealing).expect("the key was sealed just now")
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    if first % 2 == 0 {
        let Ok(text) = std::str::from_utf8(rest) else { return };
        for kind in KINDS {
            if let Ok(token) = KEYS.verify(text, kind, NOW) {
                assert_eq!(KEYS.mint(&token), text, "each token has one text");
                assert_eq!(token.kind, kind);
            }
        }
        return;
    }
    let Some((said, damage)) = rest.split_at_checked(41) else { return };
    let number = |at: usize| u128::from_be_bytes(said[at..at + 16].try_into().expect("sixteen bytes"));
    let kind = KINDS[usize::from(said[0]) % KINDS.len()];
    // Uids are random UUIDs; other numbers are refused.
    let uid = |number: u128| number & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let expires_unix = i64::from_be_bytes(said[33..41].try_into().expect("eight bytes"));
    let token = Token { kind, subject: uid(number(1)), id: uid(number(17)), expires_unix };
    let text = KEYS.mint(&token);
    for other in KINDS {
        let lives = expires_unix > NOW || (expires_unix == 0 && kind == TokenKind::Credential);
        assert_eq!(KEYS.verify(&text, other, NOW).ok(), (other == kind && lives).then_some(token));
    }
    if let [at, with, ..] = damage {
        let mut damaged = text.clone().into_bytes();
        let at = usize::from(*at) % damaged.len();
        damaged[at] = *with;
        if let Ok(damaged) = String::from_utf8(damaged)
            && damaged != text
        {
            KINDS.iter().for_each(|kind| assert!(KEYS.verify(&damaged, *kind, NOW).is_err(), "{damaged}"));
        }
    }
});
