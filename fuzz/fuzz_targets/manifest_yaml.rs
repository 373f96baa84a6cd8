//! No text brings the reader of manifests down, and what it accepts is written so that it reads the same.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use octelium_api::{
    manifest::{self, Limits},
    validate,
};

fuzz_target!(|text: &str| {
    let documents = match manifest::parse("fuzz", text, &Limits::default()) {
        Ok(documents) => documents,
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal has a reason");
            return errors.iter().for_each(|error| assert!(!error.to_string().is_empty()));
        }
    };
    for document in documents {
        let violations = validate::check(&document.object, UNIX_EPOCH + Duration::from_secs(1_769_860_800));
        for violation in violations.into_iter().chain(validate::unsupported(&document.object)) {
            assert!(!document.locate(&violation.path).to_string().is_empty());
        }
        validate::references(&document.object);
        let yaml = manifest::to_yaml(&document.object);
        match manifest::parse("again", &yaml, &Limits::default()) {
            Ok(again) => assert_eq!(again[0].object, document.object, "{yaml}"),
            Err(errors) => panic!("{errors:#?}\n{yaml}"),
        }
    }
});
