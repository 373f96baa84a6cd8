//! No JSON brings the reader of resources down, and what it accepts is written so that it reads the same.
//!
//! The first byte is the kind, the rest is JSON.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use octelium_api::{Kind, manifest, validate};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(first) % Kind::ALL.len()];
    let Ok(value) = serde_json::from_slice(rest) else { return };
    let object = match manifest::from_json(kind, &value) {
        Ok(object) => object,
        Err(errors) => return assert!(!errors.is_empty(), "a refusal has a reason"),
    };
    validate::check(&object, UNIX_EPOCH + Duration::from_secs(1_769_860_800));
    validate::unsupported(&object);
    validate::references(&object);
    assert_eq!(kind.decode_strictly(&object.encode()).as_ref(), Ok(&object));
    let json = manifest::to_json(&object);
    assert_eq!(manifest::from_json(kind, &json).as_ref(), Ok(&object), "{json}");
});
