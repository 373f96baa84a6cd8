//! Compiles the `.proto` files without a `protoc` binary and keeps their descriptors for the JSON and YAML forms.

use std::{env, error::Error, fmt::Write, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, FileDescriptor, prost::Message, prost_types::FileDescriptorSet};

const PROTOS: &[&str] = &[
    "octelium/api/main/meta/v1/meta.proto",
    "octelium/api/main/core/v1/core.proto",
    "octelium/api/main/auth/v1/auth.proto",
    "octelium/api/main/user/v1/user.proto",
    "octelium/control/v1/control.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), without_sources(&descriptors).encode_to_vec())?;
    fs::write(out.join("docs.txt"), docs(&DescriptorPool::from_file_descriptor_set(descriptors.clone())?)?)?;

    // Messages, and servers that refuse what they don't know. Maps are ordered, so that equal messages have equal bytes.
    let mut messages = prost_build::Config::new();
    messages.enable_type_names();
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .generate_default_stubs(true)
        .btree_map(".")
        .codec_path("crate::strict::StrictCodec")
        .include_file("pb.rs")
        .compile_fds_with_config(descriptors.clone(), messages)?;

    // Clients over the same messages: lenient, since a newer server may answer with more than they know.
    let clients = out.join("clients");
    fs::create_dir_all(&clients)?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .out_dir(&clients)
        .extern_path(".octelium", "crate::pb::octelium")
        .include_file("clients.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

/// What every program carries: names, numbers and types. Comments and positions are most of the size.
fn without_sources(descriptors: &FileDescriptorSet) -> FileDescriptorSet {
    let mut descriptors = descriptors.clone();
    descriptors.file.iter_mut().for_each(|file| file.source_code_info = None);
    descriptors
}

/// The comments above messages, their fields, enums and their values: a line for each, `full.name<tab>comment`.
fn docs(pool: &DescriptorPool) -> Result<String, std::fmt::Error> {
    let mut lines = String::new();
    for message in pool.all_messages().filter(|message| message.full_name().starts_with("octelium.")) {
        let file = message.parent_file();
        line(&mut lines, &file, message.path(), message.full_name())?;
        for field in message.fields() {
            line(&mut lines, &file, field.path(), field.full_name())?;
        }
    }
    for choices in pool.all_enums().filter(|choices| choices.full_name().starts_with("octelium.")) {
        let file = choices.parent_file();
        line(&mut lines, &file, choices.path(), choices.full_name())?;
        for value in choices.values() {
            // Protocol Buffers put values beside their enum; here they stand in it.
            line(&mut lines, &file, value.path(), &format!("{}.{}", choices.full_name(), value.name()))?;
        }
    }
    Ok(lines)
}

fn line(lines: &mut String, file: &FileDescriptor, path: &[i32], name: &str) -> std::fmt::Result {
    let locations = file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location);
    let comment =
        locations.filter(|location| location.path == path).find_map(|location| location.leading_comments.as_deref());
    match comment {
        Some(comment) => writeln!(lines, "{name}\t{}", comment.split_whitespace().collect::<Vec<_>>().join(" ")),
        None => Ok(()),
    }
}
