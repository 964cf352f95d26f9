//! Keys and certificates for the ports between brokers and controller: made once, kept in the folder.
//!
//! Owns making them. Never lets a plain connection stand in: also on loopback it is mutual TLS, as in Kubernetes.

use std::fs;
use std::path::Path;

use fulmar_steward::Credentials;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use uuid::Uuid;

use super::folder::{Folder, replace};
use crate::exit::Failed;

/// The name that every broker's certificate carries.
const BROKER_NAME: &str = "broker.fulmar.internal";

/// The name that tells the controller from brokers.
const OPERATOR_NAME: &str = "operator.fulmar.internal";

/// Makes what is not there yet, and gives the controller's part.
pub(crate) fn prepare(folder: &Folder) -> Result<Credentials, Failed> {
    let (tls, controller) = (folder.tls(), folder.controller());
    // Written last: if it is there, everything is.
    let complete = controller.join("tls.key");
    if !complete.exists() {
        make(&tls, &controller)
            .map_err(|error| Failed::Failure(format!("cannot make certificates: {error}")))?;
    }
    let read = |path: &Path| {
        fs::read(path).map_err(|error| Failed::Failure(format!("cannot read {}: {error}", path.display())))
    };
    Ok(Credentials {
        ca: read(&tls.join("ca.crt"))?,
        certificate: read(&controller.join("tls.crt"))?,
        key: read(&complete)?,
    })
}

fn make(tls: &Path, controller: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut params = dated(CertificateParams::new(Vec::new())?);
    params.distinguished_name.push(DnType::CommonName, "fulmar dev");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_key_pem = ca_key.serialize_pem();
    let ca = CertifiedIssuer::self_signed(params, ca_key)?;
    let (broker_certificate, broker_key) = signed(&ca, BROKER_NAME)?;
    let (certificate, key) = signed(&ca, OPERATOR_NAME)?;
    replace(&tls.join("ca.crt"), ca.pem().as_bytes())?;
    replace(&tls.join("tls.crt"), broker_certificate.as_bytes())?;
    replace(&tls.join("tls.key"), broker_key.as_bytes())?;
    replace(&tls.join("gossip.key"), gossip_key().as_bytes())?;
    replace(&controller.join("ca.key"), ca_key_pem.as_bytes())?;
    replace(&controller.join("tls.crt"), certificate.as_bytes())?;
    replace(&controller.join("tls.key"), key.as_bytes())?;
    Ok(())
}

/// Nobody renews them: they hold as long as anybody will keep such a folder.
fn dated(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2124, 1, 1);
    params
}

fn signed(ca: &CertifiedIssuer<'_, KeyPair>, name: &str) -> Result<(String, String), rcgen::Error> {
    let mut params = dated(CertificateParams::new(vec![name.to_owned()])?);
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// 64 hexadecimal digits: 244 random bits and the marks of two UUIDs, which are known.
fn gossip_key() -> String {
    format!("{}{}\n", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
