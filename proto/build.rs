//! Generates the Rust code of all services, and the descriptor set that reflection serves, without a `protoc`.

use std::{env, fs, path::PathBuf};

const FILES: &[&str] = &[
    "fulmar/v1/admin.proto",
    "fulmar/v1/log.proto",
    "fulmar/v1/pubsub.proto",
    "fulmar/internal/v1/control.proto",
    "fulmar/internal/v1/replica.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let public = protox::compile(&FILES[..3], ["."])?;
    fs::write(out.join("fulmar.bin"), prost_message(&public))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=fulmar");
    Ok(())
}

fn prost_message(set: &impl protox::prost::Message) -> Vec<u8> {
    set.encode_to_vec()
}
