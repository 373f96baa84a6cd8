//! Compiles the `.proto` files without a `protoc` binary and keeps their descriptors for the JSON and YAML forms.

use std::{env, error::Error, fs, path::PathBuf};

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
    fs::write(out.join("descriptors.bin"), prost_reflect::prost::Message::encode_to_vec(&descriptors))?;

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
