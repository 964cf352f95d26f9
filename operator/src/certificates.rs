//! The certificates by which brokers and operator know each other: a CA for each Cluster, and what it signs.
//!
//! Owns when something is issued anew and what it says. Never: where it is kept; `cluster::build` makes Secrets of it. The
//! CA's key stays in a Secret that no pod mounts.
//!
//! Another CA (the one before is old, or its Secret is lost) takes its place in three steps, so that every broker believes
//! every other one throughout: both are trusted; certificates come from the new one; the old one is trusted no more. The next
//! step comes when every broker is known to use what the last one wrote, or when it has surely arrived. The old CA's key is
//! not needed for any of them.

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

/// At most so many CAs are trusted at once: the one that is to sign, the one that signed what is in use, and one more, if a CA
/// is lost while another one takes its place.
const TRUSTED_MAX: usize = 3;

/// A Secret that was written has reached every pod by then, also where kubelet could not be hastened: it looks about once a
/// minute, a broker each 10 s. A broker that is away takes it when it starts.
const ARRIVES: Duration = Duration::from_mins(15);

/// A certificate with less time left than this is replaced, whoever may not believe the new one yet.
const LAST_MOMENT: Duration = Duration::from_hours(24);

const CA_CERTIFICATE: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const CA_KEY: &str = "ca.key";
const GOSSIP_KEY: &str = "gossip.key";
const NOT_BEFORE: &str = "fulmar.dev/not-before";
const NOT_AFTER: &str = "fulmar.dev/not-after";
const SIGNED_BY: &str = "fulmar.dev/signed-by";
const CHANGED: &str = "fulmar.dev/changed-at";

/// What is noted on a Secret about what it keeps.
pub const NOTES: [&str; 4] = [NOT_BEFORE, NOT_AFTER, SIGNED_BY, CHANGED];

const PEM_END: &str = "-----END CERTIFICATE-----";

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
    /// `acknowledged`: every broker is known to use what `brokers` keeps.
    ///
    /// # Errors
    /// The library cannot make a key or sign.
    pub fn current(
        ca: Option<Kept>,
        brokers: Option<Kept>,
        acknowledged: bool,
        now: Timestamp,
    ) -> Result<Self, IssueError> {
        let ca = match ca.filter(|ca| is_good(ca, &[CA_CERTIFICATE, CA_KEY], now) && issuer(ca).is_ok()) {
            Some(ca) => ca,
            None => issue_ca(now)?,
        };
        let brokers = match brokers {
            Some(kept) if is_usable(&kept, now) => next_step(&ca, kept, acknowledged, now)?,
            // Nothing that could be believed: there is nobody to be careful for.
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

    /// By which CA the brokers' certificate is signed.
    pub fn signer(&self) -> &str {
        self.brokers.annotations.get(SIGNED_BY).map_or("", String::as_str)
    }

    /// Whether every CA of this list is still trusted.
    pub fn trusts_all_of(&self, list: &str) -> bool {
        let trusted = authorities(self.trusted());
        authorities(list).iter().all(|one| trusted.contains(one))
    }
}

/// What a broker calls the certificates that it uses: the beginning of the SHA-256 of `ca.crt` and `tls.crt`, in hexadecimal.
pub fn worn(brokers: &Kept) -> String {
    let text = |key: &str| brokers.data.get(key).map_or("", String::as_str);
    let hash = Sha256::new().chain_update(text(CA_CERTIFICATE)).chain_update(text(CERTIFICATE)).finalize();
    hexadecimal(&hash[..16])
}

/// When the Secret's contents changed last; `None`: it is not noted.
pub fn changed_at(brokers: &Kept) -> Option<Timestamp> {
    time(brokers, CHANGED)
}

/// Whether brokers can go on with it for now, whoever signed it.
fn is_usable(kept: &Kept, now: Timestamp) -> bool {
    let complete = [CA_CERTIFICATE, CERTIFICATE, KEY, GOSSIP_KEY];
    let present = |key: &&str| kept.data.get(*key).is_some_and(|text| !text.trim().is_empty());
    complete.iter().all(present)
        && kept.data.get(GOSSIP_KEY).is_some_and(|key| is_gossip_key(key))
        && time(kept, NOT_AFTER).is_some_and(|until| now + LAST_MOMENT < until)
}

/// The next step from what is in use to what this CA signs and nobody else.
fn next_step(ca: &Kept, kept: Kept, acknowledged: bool, now: Timestamp) -> Result<Kept, IssueError> {
    let ours = ca.data.get(CA_CERTIFICATE).map_or("", String::as_str).trim();
    let trusted = authorities(kept.data.get(CA_CERTIFICATE).map_or("", String::as_str));
    let is_ours = kept.annotations.get(SIGNED_BY) == Some(&fingerprint(ca));
    let arrived = acknowledged || time(&kept, CHANGED).is_none_or(|changed| now >= changed + ARRIVES);
    match (trusted.contains(&ours), is_ours) {
        (false, _) => {
            let in_use = kept.annotations.get(SIGNED_BY);
            let signed = |pem: &&&str| Some(&fingerprint_of(pem)) == in_use;
            let first = std::iter::once(ours).chain(trusted.iter().filter(signed).copied());
            let rest = trusted.iter().filter(|pem| !signed(pem)).copied();
            let all: Vec<&str> = first.chain(rest).take(TRUSTED_MAX).collect();
            Ok(trusting(&kept, &all, now))
        }
        (true, false) if arrived => issue_for_brokers(ca, Some(&kept), now),
        (true, true) if now >= renewal(&kept) => issue_for_brokers(ca, Some(&kept), now),
        (true, true) if trusted.len() > 1 && arrived => Ok(trusting(&kept, &[ours], now)),
        (true, _) => Ok(kept),
    }
}

/// The same certificate, other CAs.
fn trusting(kept: &Kept, authorities: &[&str], now: Timestamp) -> Kept {
    let mut next = kept.clone();
    next.data.insert(CA_CERTIFICATE.to_owned(), authorities.join("\n") + "\n");
    next.annotations.insert(CHANGED.to_owned(), seconds(now).to_string());
    next
}

/// The certificates of a file, each trimmed.
fn authorities(pem: &str) -> Vec<&str> {
    pem.split_inclusive(PEM_END).map(str::trim).filter(|one| one.ends_with(PEM_END)).collect()
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
    annotations.insert(CHANGED.to_owned(), seconds(now).to_string());
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

/// This CA, and those that were trusted before it: brokers that still show an older one's certificates stay trusted.
fn trusted(ca: &Kept, before: Option<&str>) -> String {
    let current = ca.data.get(CA_CERTIFICATE).map_or("", String::as_str).trim();
    let earlier = authorities(before.unwrap_or_default()).into_iter().filter(|pem| *pem != current);
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
    fingerprint_of(ca.data.get(CA_CERTIFICATE).map_or("", String::as_str))
}

fn fingerprint_of(certificate: &str) -> String {
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
    owned([(NOT_BEFORE, seconds(now).to_string()), (NOT_AFTER, seconds(now + validity).to_string())])
}

/// Whole seconds: nobody renews by the nanosecond.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn time(kept: &Kept, key: &str) -> Option<Timestamp> {
    kept.annotations.get(key).and_then(|text| text.parse().ok())
}

fn is_good(kept: &Kept, keys: &[&str], now: Timestamp) -> bool {
    keys.iter().all(|key| kept.data.get(*key).is_some_and(|text| !text.trim().is_empty()))
        && now < renewal(kept)
}

/// When to issue anew; what is not noted, or not readable, is due.
fn renewal(kept: &Kept) -> Timestamp {
    match (time(kept, NOT_BEFORE), time(kept, NOT_AFTER)) {
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
