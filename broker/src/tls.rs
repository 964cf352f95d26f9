//! Keys and certificates of the port between brokers and of gossip: read from a folder, checked, and read again when
//! they change.
//!
//! Owns who is believed to be whom. Never speaks without TLS, and never writes a key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;
use tracing::{info, warn};

/// The name in every broker's certificate.
pub const BROKER_NAME: &str = "broker.fulmar.internal";
/// The name in the operator's certificate.
pub const OPERATOR_NAME: &str = "operator.fulmar.internal";

/// Secrets are mounted files that change without a notice: they are compared this often.
const RELOAD_EVERY: Duration = Duration::from_secs(10);

/// Bytes of a gossip key.
pub const GOSSIP_KEY_BYTES: usize = 32;

/// Why the folder of keys cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {what}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong and what is wanted.
        what: String,
    },
}

/// One reading of the folder.
struct Loaded {
    files: [Vec<u8>; 4],
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    gossip: GossipKeys,
    worn: String,
}

/// The key that gossip is sealed with, and the one before it: brokers do not change theirs in the same second.
#[derive(Clone)]
pub struct GossipKeys {
    /// Seals, and opens.
    pub current: [u8; GOSSIP_KEY_BYTES],
    /// Opens.
    pub previous: Option<[u8; GOSSIP_KEY_BYTES]>,
}

/// The keys in use; a handle that can be cloned.
#[derive(Clone)]
pub struct Tls {
    dir: PathBuf,
    loaded: Arc<ArcSwap<Loaded>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads and checks the folder.
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        let loaded = Loaded::new(dir, read(dir)?, None)?;
        Ok(Self { dir: dir.to_owned(), loaded: Arc::new(ArcSwap::from_pointee(loaded)) })
    }

    /// For the port between brokers: wants a certificate of the CA from whoever calls.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.loaded.load().server.clone()
    }

    /// For calling other brokers.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.loaded.load().client.clone()
    }

    /// A name for the certificates in use, which the operator makes from the same files: the first 16 bytes of the SHA-256 of
    /// `ca.crt` and `tls.crt`, in hexadecimal.
    pub fn worn(&self) -> String {
        self.loaded.load().worn.clone()
    }

    /// For gossip.
    pub fn gossip(&self) -> GossipKeys {
        self.loaded.load().gossip.clone()
    }

    /// Reads the folder again; `true` if something changed. What is in use stays in use if the new files are no good.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = read(&self.dir)?;
        let before = self.loaded.load();
        if files == before.files {
            return Ok(false);
        }
        let loaded = Loaded::new(&self.dir, files, Some(&before.gossip))?;
        self.loaded.store(Arc::new(loaded));
        Ok(true)
    }

    /// Reads the folder again and again.
    pub async fn watch(self) {
        let mut every = tokio::time::interval(RELOAD_EVERY);
        every.tick().await;
        loop {
            every.tick().await;
            let tls = self.clone();
            // Four small reads, but of a network volume perhaps.
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(true)) => info!(dir = %self.dir.display(), "keys and certificates were replaced"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => warn!(%error, "the new keys are no good, the old ones stay in use"),
                Err(_) => return,
            }
        }
    }
}

/// Whether the certificate carries this name. That the CA signed it was verified when the connection was made.
pub fn carries_name(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    let Ok(name) = ServerName::try_from(name) else { return false };
    verify_server_name(&parsed, &name).is_ok()
}

/// ca.crt, tls.crt, tls.key, gossip.key.
const FILES: [&str; 4] = ["ca.crt", "tls.crt", "tls.key", "gossip.key"];

fn read(dir: &Path) -> Result<[Vec<u8>; 4], TlsError> {
    let one = |name: &str| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(|source| TlsError::Read { path, source })
    };
    Ok([one(FILES[0])?, one(FILES[1])?, one(FILES[2])?, one(FILES[3])?])
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Loaded {
    fn new(dir: &Path, files: [Vec<u8>; 4], before: Option<&GossipKeys>) -> Result<Self, TlsError> {
        let content = |at: usize, what: String| TlsError::Content { path: dir.join(FILES[at]), what };
        let authorities = certificates(&files[0]).map_err(|what| content(0, what))?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots
                .add(authority)
                .map_err(|error| content(0, format!("not a certificate authority: {error}")))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files[1]).map_err(|what| content(1, what))?;
        if !chain.first().is_some_and(|certificate| carries_name(certificate, BROKER_NAME)) {
            return Err(content(1, format!("the certificate does not carry the name {BROKER_NAME}")));
        }
        let key = PrivateKeyDer::from_pem_slice(&files[2])
            .map_err(|error| content(2, format!("no private key in PEM form: {error}")))?;
        let unusable = |error: rustls::Error| content(2, format!("does not go with {}: {error}", FILES[1]));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| content(0, format!("not usable for verification: {error}")))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(unusable)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        let current = gossip_key(&files[3]).map_err(|what| content(3, what))?;
        let previous =
            before.map(|keys| if keys.current == current { keys.previous } else { Some(keys.current) });
        let gossip = GossipKeys { current, previous: previous.flatten() };
        let worn = worn(&files);
        Ok(Self { files, server: Arc::new(server), client: Arc::new(client), gossip, worn })
    }
}

fn worn(files: &[Vec<u8>; 4]) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(&files[0]);
    hash.update(&files[1]);
    let first: [u8; 16] = hash.finish().as_ref()[..16].try_into().expect("32 bytes have 16");
    format!("{:032x}", u128::from_be_bytes(first))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("holds no certificate in PEM form".to_owned()),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

fn gossip_key(text: &[u8]) -> Result<[u8; GOSSIP_KEY_BYTES], String> {
    let digits = text.trim_ascii();
    let wrong =
        || format!("must hold {} hexadecimal digits, has {} characters", 2 * GOSSIP_KEY_BYTES, digits.len());
    if digits.len() != 2 * GOSSIP_KEY_BYTES {
        return Err(wrong());
    }
    let mut key = [0; GOSSIP_KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(key)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
