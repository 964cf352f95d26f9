//! The Secrets: the CA with its key, and what the brokers mount.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::certificates::{Certificates, Kept, NOTES};
use crate::cluster::validate::Wanted;

/// The CA. No pod mounts it.
pub(super) fn ca(wanted: &Wanted, certificates: &Certificates) -> Secret {
    secret(wanted, wanted.key.ca_secret(), &certificates.ca)
}

/// What the brokers mount: the CAs that they trust, their certificate and key, the key of gossip.
pub(super) fn tls(wanted: &Wanted, certificates: &Certificates) -> Secret {
    secret(wanted, wanted.key.tls_secret(), &certificates.brokers)
}

/// What a Secret keeps, back from the API server.
pub fn kept(secret: &Secret) -> Kept {
    let text = |bytes: &ByteString| String::from_utf8(bytes.0.clone()).unwrap_or_default();
    let data = secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), text(bytes)));
    Kept { data: data.collect(), annotations: secret.metadata.annotations.clone().unwrap_or_default() }
}

fn secret(wanted: &Wanted, name: String, kept: &Kept) -> Secret {
    let mut metadata = wanted.key.child_metadata(name, &wanted.uid);
    // Only what was noted at issue: not what the operator or others noted on the Secret since.
    let ours = |key: &String| NOTES.contains(&key.as_str());
    let noted: BTreeMap<_, _> = kept
        .annotations
        .iter()
        .filter(|(key, _)| ours(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    metadata.annotations = Some(noted);
    let data = kept.data.iter().map(|(key, text)| (key.clone(), ByteString(text.clone().into_bytes())));
    Secret { metadata, type_: Some("Opaque".to_owned()), data: Some(data.collect()), ..Secret::default() }
}
