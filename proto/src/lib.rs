//! The services of Fulmar, generated from `fulmar/**/*.proto`: what programs meet ([`v1`]) and what brokers and the
//! operator say to each other ([`internal`]). No logic.

#![allow(missing_docs, clippy::pedantic, unreachable_pub, reason = "generated")]

/// What programs meet, on port 50051.
pub mod v1 {
    tonic::include_proto!("fulmar.v1");

    /// For gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fulmar.bin"));
}

/// Between brokers and operator, on port 50052, under mutual TLS.
pub mod internal {
    /// The first version.
    pub mod v1 {
        tonic::include_proto!("fulmar.internal.v1");
    }
}
