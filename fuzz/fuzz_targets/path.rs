//! A path that is accepted has one reading: made canonical again it stays, and no dot segment is left in it.

#![no_main]

#[allow(dead_code, reason = "the file of the node, as it is")]
#[path = "../../node/src/proxy/canonicalize.rs"]
mod canonicalize;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['?', '#']) || text == "*" {
        return; // the engine refuses these before
    }
    let Ok(canonical) = canonicalize::path(text, false) else { return };
    if text.is_empty() {
        return;
    }
    assert!(canonical.path.starts_with('/'));
    assert!(canonical.path.bytes().all(|byte| byte >= 0x20 && byte != 0x7f));
    assert!(canonical.path.split('/').all(|segment| segment != "." && segment != ".."), "{canonical:?}");
    let decoded = percent_encoding::percent_decode_str(&canonical.escaped).decode_utf8().expect("it was UTF-8");
    assert_eq!(decoded, canonical.path, "policy and upstream see one path");
    let again = canonicalize::path(&canonical.escaped, false).expect("what was accepted is accepted again");
    assert_eq!(again, canonical, "once is enough");
});
