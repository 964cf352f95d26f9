//! The certificates by which brokers and operator know each other: a CA for each Cluster, and what it signs.
//!
//! Owns when something is issued anew and what it says. Never: where it is kept; `cluster::build` makes Secrets of it. The
//! CA's key stays in a Secret that no pod mounts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The name in a broker's certificate.
pub const BROKER_NAME: &str = "broker.fulmar.internal";

/// The name in the operator's certificate.
pub const OPERATOR_NAME: &str = "operator.fulmar.internal";

/// How long the CA is good for. Brokers take several CAs at once, so that it can be replaced without a gap.
pub const CA_VALIDITY: Duration = Duration::from_hours(10 * 365 * 24);

/// How long a certificate is good for. After two thirds of it another one is issued.
pub const CERTIFICATE_VALIDITY: Duration = Duration::from_hours(90 * 24);

/// Clocks of machines differ: a certificate is good from a while ago.
const BACKDATING: Duration = Duration::from_hours(1);

/// At most so many CAs are trusted at once: the one that signs and the one before it.
const TRUSTED_MAX: usize = 2;

const CA_CERTIFICATE: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const CA_KEY: &str = "ca.key";
const GOSSIP_KEY: &str = "gossip.key";
const NOT_BEFORE: &str = "fulmar.dev/not-before";
const NOT_AFTER: &str = "fulmar.dev/not-after";
const SIGNED_BY: &str = "fulmar.dev/signed-by";

/// Why nothing could be issued.
#[derive(Debug, Error)]
#[error("cannot issue a certificate for {name}: {source}")]
pub struct IssueError {
    name: String,
    source: rcgen::Error,
}

/// What a Secret keeps: texts by key, and what is noted about them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// The contents.
    pub data: BTreeMap<String, String>,
    /// When it was issued, until when it is good, and by whom it was signed.
    pub annotations: BTreeMap<String, String>,
}

/// Both Secrets of a Cluster, good for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The CA with its key.
    pub ca: Kept,
    /// What brokers mount.
    pub brokers: Kept,
    /// When something has to be issued anew.
    pub renew_at: Timestamp,
}

/// What the operator shows to brokers, and whom it trusts: PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorIdentity {
    /// The CAs that are trusted.
    pub ca: String,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// When another one is due.
    pub renew_at: Timestamp,
}

impl Certificates {
    /// What is there, with what is missing, spoilt or old issued anew. What is good is left as it is, to the byte.
    ///
    /// # Errors
    /// The library cannot make a key or sign.
    pub fn current(ca: Option<Kept>, brokers: Option<Kept>, now: Timestamp) -> Result<Self, IssueError> {
        let ca = match ca.filter(|ca| is_good(ca, &[CA_CERTIFICATE, CA_KEY], now) && issuer(ca).is_ok()) {
            Some(ca) => ca,
            None => issue_ca(now)?,
        };
        let signer = fingerprint(&ca);
        let complete = [CA_CERTIFICATE, CERTIFICATE, KEY, GOSSIP_KEY];
        let good = |kept: &Kept| {
            kept.annotations.get(SIGNED_BY) == Some(&signer)
                && is_good(kept, &complete, now)
                && kept.data.get(GOSSIP_KEY).is_some_and(|key| is_gossip_key(key))
        };
        let brokers = match brokers {
            Some(kept) if good(&kept) => kept,
            before => issue_for_brokers(&ca, before.as_ref(), now)?,
        };
        let renew_at = renewal(&ca).min(renewal(&brokers));
        Ok(Self { ca, brokers, renew_at })
    }

    /// The operator's own certificate, kept in memory only.
    ///
    /// # Errors
    /// The library cannot make a key or sign.
    pub fn operator(&self, now: Timestamp) -> Result<OperatorIdentity, IssueError> {
        let (certificate, key, _) = issue(&self.ca, OPERATOR_NAME, now)?;
        Ok(OperatorIdentity {
            ca: self.trusted().to_owned(),
            certificate,
            key,
            renew_at: due(now, now + CERTIFICATE_VALIDITY),
        })
    }

    /// The CAs that brokers trust, PEM.
    pub fn trusted(&self) -> &str {
        self.brokers.data.get(CA_CERTIFICATE).map_or("", String::as_str)
    }
}

fn issue_ca(now: Timestamp) -> Result<Kept, IssueError> {
    let name = "Fulmar CA";
    let failed = |source| IssueError { name: name.to_owned(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let mut parameters = parameters(name, now, CA_VALIDITY);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    let data = [(CA_CERTIFICATE, certificate.pem()), (CA_KEY, key.serialize_pem())];
    Ok(Kept { data: owned(data), annotations: validity(now, CA_VALIDITY) })
}

fn issue_for_brokers(ca: &Kept, before: Option<&Kept>, now: Timestamp) -> Result<Kept, IssueError> {
    let (certificate, key, mut annotations) = issue(ca, BROKER_NAME, now)?;
    annotations.insert(SIGNED_BY.to_owned(), fingerprint(ca));
    let earlier = |key: &str| before.and_then(|kept| kept.data.get(key)).cloned();
    let gossip = earlier(GOSSIP_KEY).filter(|key| is_gossip_key(key));
    let data = [
        (CA_CERTIFICATE, trusted(ca, earlier(CA_CERTIFICATE).as_deref())),
        (CERTIFICATE, certificate),
        (KEY, key),
        (GOSSIP_KEY, gossip.map_or_else(gossip_key, Ok)?),
    ];
    Ok(Kept { data: owned(data), annotations })
}

/// The CA that signs, and the one before it: brokers that still show the old one's certificates stay trusted.
fn trusted(ca: &Kept, before: Option<&str>) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let current = ca.data.get(CA_CERTIFICATE).map_or("", String::as_str).trim();
    let earlier = before.unwrap_or_default().split_inclusive(END).map(str::trim);
    let earlier = earlier.filter(|pem| pem.ends_with(END) && *pem != current);
    let all: Vec<&str> = std::iter::once(current).chain(earlier).take(TRUSTED_MAX).collect();
    all.join("\n") + "\n"
}

fn issue(
    ca: &Kept,
    name: &str,
    now: Timestamp,
) -> Result<(String, String, BTreeMap<String, String>), IssueError> {
    let failed = |source| IssueError { name: name.to_owned(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let mut parameters = parameters(name, now, CERTIFICATE_VALIDITY);
    parameters.subject_alt_names =
        CertificateParams::new([name.to_owned()]).map_err(failed)?.subject_alt_names;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    parameters.use_authority_key_identifier_extension = true;
    let certificate = parameters.signed_by(&key, &issuer(ca).map_err(failed)?).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem(), validity(now, CERTIFICATE_VALIDITY)))
}

fn issuer(ca: &Kept) -> Result<Issuer<'static, KeyPair>, rcgen::Error> {
    let text = |key: &str| ca.data.get(key).map_or("", String::as_str);
    Issuer::from_ca_cert_pem(text(CA_CERTIFICATE), KeyPair::from_pem(text(CA_KEY))?)
}

fn parameters(name: &str, now: Timestamp, validity: Duration) -> CertificateParams {
    // The library's type of time, without its crate: days since 1970, and the rest of the seconds.
    let at = |time: Timestamp| {
        let seconds = u64::try_from(time.as_second()).expect("the clock shows a time after 1970");
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    let mut parameters = CertificateParams::default();
    parameters.not_before = at(now - BACKDATING);
    parameters.not_after = at(now + validity);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

/// 32 random bytes as 64 hexadecimal digits. A new key pair's secret is what the library's randomness gives; its hash is
/// as random, and of the right size.
fn gossip_key() -> Result<String, IssueError> {
    let failed = |source| IssueError { name: "gossip".to_owned(), source };
    let key = KeyPair::generate().map_err(failed)?;
    Ok(hexadecimal(&Sha256::digest(key.serialized_der())))
}

fn is_gossip_key(key: &str) -> bool {
    let key = key.trim();
    key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn fingerprint(ca: &Kept) -> String {
    let certificate = ca.data.get(CA_CERTIFICATE).map_or("", String::as_str);
    hexadecimal(&Sha256::digest(certificate.trim().as_bytes())[..16])
}

/// Two digits a byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

fn validity(now: Timestamp, validity: Duration) -> BTreeMap<String, String> {
    // Whole seconds: nobody renews by the nanosecond.
    let text = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time).to_string();
    owned([(NOT_BEFORE, text(now)), (NOT_AFTER, text(now + validity))])
}

fn is_good(kept: &Kept, keys: &[&str], now: Timestamp) -> bool {
    keys.iter().all(|key| kept.data.get(*key).is_some_and(|text| !text.trim().is_empty()))
        && now < renewal(kept)
}

/// When to issue anew; what is not noted, or not readable, is due.
fn renewal(kept: &Kept) -> Timestamp {
    let time = |key: &str| kept.annotations.get(key).and_then(|text| text.parse::<Timestamp>().ok());
    match (time(NOT_BEFORE), time(NOT_AFTER)) {
        (Some(from), Some(until)) => due(from, until),
        _ => Timestamp::UNIX_EPOCH,
    }
}

fn due(from: Timestamp, until: Timestamp) -> Timestamp {
    let third = (until.as_second() - from.as_second()) / 3;
    Timestamp::from_second(until.as_second() - third).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn owned<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
