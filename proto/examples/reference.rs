//! Writes `docs/grpc.md`.

use std::path::Path;
use std::{fs, io};

#[path = "../tests/support/reference.rs"]
mod reference;

fn main() -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grpc.md");
    fs::write(path, reference::page())
}
