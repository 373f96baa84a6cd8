//! The form of tokens, and what makes one worthless.

use std::sync::Arc;

use octelium_consensus::SealingKey;
use octelium_control::{Token, TokenError, TokenKeys, TokenKind, seal};
use uuid::Uuid;

const NOW: i64 = 1_700_000_000;
const KINDS: [TokenKind; 3] = [TokenKind::Access, TokenKind::Refresh, TokenKind::Credential];

fn key(sealing: &SealingKey, id: u64) -> (String, Arc<[u8]>) {
    let name = format!("token-mac/{id:016x}");
    let bytes = [u8::try_from(id % 251).unwrap(); 32];
    let sealed = seal::seal_key(sealing, &name, &bytes);
    (name, sealed.into())
}

fn token(kind: TokenKind) -> Token {
    Token { kind, subject: Uuid::new_v4().as_u128(), id: Uuid::new_v4().as_u128(), expires_unix: NOW + 60 }
}

fn keys() -> TokenKeys {
    let sealing = SealingKey::generate();
    TokenKeys::open(&[key(&sealing, 1)], &sealing).unwrap()
}

#[test]
fn k_01_tokens_are_url_safe_and_say_what_they_said() {
    let keys = keys();
    for kind in KINDS {
        let token = token(kind);
        let text = keys.mint(&token);
        assert!(
            text.len() == 110 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
            "{text}"
        );
        assert_eq!(keys.verify(&text, kind, NOW), Ok(token));
    }
}

#[test]
fn k_02_k_03_any_other_character_is_refused() {
    let keys = keys();
    let text = keys.mint(&token(TokenKind::Access));
    for position in 0..text.len() {
        for other in ['A', 'B', 'z', '_', '=', '+', '/', '\n', ' ', 'ä'] {
            let mut changed = text.clone();
            changed.replace_range(position..=position, &other.to_string());
            if changed != text {
                assert!(keys.verify(&changed, TokenKind::Access, NOW).is_err(), "{position} {other:?}");
            }
        }
    }
}

#[test]
fn k_04_kinds_are_not_interchangeable() {
    let keys = keys();
    for is in KINDS {
        let text = keys.mint(&token(is));
        for wanted in KINDS.into_iter().filter(|wanted| *wanted != is) {
            assert_eq!(keys.verify(&text, wanted, NOW), Err(TokenError::WrongKind), "{is:?} {wanted:?}");
        }
    }
}

#[test]
fn k_05_k_06_the_newest_key_signs_and_all_verify() {
    let sealing = SealingKey::generate();
    let (old, new) = (key(&sealing, 1), key(&sealing, 2));
    let before = TokenKeys::open(std::slice::from_ref(&old), &sealing).unwrap();
    let first = before.mint(&token(TokenKind::Access));
    let both = TokenKeys::open(&[new.clone(), old, ("tls/ca".to_owned(), vec![1].into())], &sealing).unwrap();
    let second = both.mint(&token(TokenKind::Access));
    assert!(
        both.verify(&first, TokenKind::Access, NOW).is_ok() && both.verify(&second, TokenKind::Access, NOW).is_ok()
    );
    assert_eq!(before.verify(&second, TokenKind::Access, NOW), Err(TokenError::UnknownKey), "the newest signed it");
    let after = TokenKeys::open(&[new], &sealing).unwrap();
    assert_eq!(after.verify(&first, TokenKind::Access, NOW), Err(TokenError::UnknownKey));
    assert!(after.verify(&second, TokenKind::Access, NOW).is_ok());
}

#[test]
fn a_damaged_key_is_an_error() {
    let sealing = SealingKey::generate();
    let good = key(&sealing, 1);
    for (name, sealed) in [
        ("token-mac/0000000000000002".to_owned(), good.1.clone()),
        ("token-mac/1".to_owned(), good.1.clone()),
        (good.0.clone(), vec![0; 40].into()),
        (good.0.clone(), seal::seal_key(&sealing, &good.0, b"short").into()),
    ] {
        assert!(TokenKeys::open(&[(name.clone(), sealed)], &sealing).is_err(), "{name}");
    }
    assert!(TokenKeys::open(&[good], &SealingKey::generate()).is_err(), "sealed with another key");
}

#[test]
fn k_08_uids_are_random_ones() {
    let keys = keys();
    let v7 = Uuid::now_v7().as_u128();
    let good = token(TokenKind::Access);
    for wrong in [Token { subject: v7, ..good }, Token { id: v7, ..good }, Token { id: 0, ..good }] {
        assert_eq!(keys.verify(&keys.mint(&wrong), TokenKind::Access, NOW), Err(TokenError::Malformed));
    }
}

#[test]
fn k_10_expired_ones_are_refused() {
    let keys = keys();
    for kind in KINDS {
        let text = keys.mint(&token(kind));
        assert!(keys.verify(&text, kind, NOW + 59).is_ok());
        assert_eq!(keys.verify(&text, kind, NOW + 60), Err(TokenError::Expired));
        let endless = keys.mint(&Token { expires_unix: 0, ..token(kind) });
        assert_eq!(keys.verify(&endless, kind, NOW).is_ok(), kind == TokenKind::Credential, "{kind:?}");
        let negative = keys.mint(&Token { expires_unix: -5, ..token(kind) });
        assert_eq!(keys.verify(&negative, kind, -10), Err(TokenError::Malformed));
    }
}

#[test]
fn k_11_length_is_exact() {
    let keys = keys();
    let text = keys.mint(&token(TokenKind::Access));
    for wrong in ["", &text[..109], &format!("{text}A"), &format!("{text}="), &format!(" {text}"), &"A".repeat(1 << 20)]
    {
        assert_eq!(keys.verify(wrong, TokenKind::Access, NOW), Err(TokenError::Malformed), "{}", wrong.len());
    }
}

#[test]
fn without_keys_nothing_is_signed_or_verified() {
    let sealing = SealingKey::generate();
    let none = TokenKeys::open(&[], &sealing).unwrap();
    assert!(none.is_empty() && none.mint(&token(TokenKind::Access)).is_empty());
    let text = keys().mint(&token(TokenKind::Access));
    assert_eq!(none.verify(&text, TokenKind::Access, NOW), Err(TokenError::UnknownKey));
}
