//! Who shows which certificate at a broker's internal port (50052), and how far that brings him.

use anyhow::{Context, Result};
use fulmar_proto::internal::v1::control_client::ControlClient;
use fulmar_proto::internal::v1::replica_client::ReplicaClient;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Status};

use crate::brokers::{Brokers, NAME};

/// The name of every broker.
pub const BROKER: &str = "broker.fulmar.internal";

/// The name of the operator.
pub const OPERATOR: &str = "operator.fulmar.internal";

/// What is asked of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// To be told what to hold and to lead, as the operator does.
    ToAttend,
    /// To be sent what is replicated, as brokers do.
    ToFollow,
}

/// How far somebody comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Comes {
    /// He is let in.
    In,
    /// He is believed to be who his certificate says, and told that this is another's work.
    Known,
    /// He is nobody: no answer of the broker, but what the connection came to.
    Nowhere(String),
}

impl Brokers {
    /// A part of one of the Cluster's Secrets, `orders-tls` or `orders-ca`.
    pub fn pem(&self, secret: &str, key: &str) -> Result<String> {
        let template = format!("go-template={{{{index .data {key:?} | base64decode}}}}");
        self.kubectl(&["get", "secret", &format!("{NAME}-{secret}"), "-o", &template])
    }

    /// The certificate of the brokers now, with its key.
    pub fn identity(&self) -> Result<Identity> {
        Ok(Identity::from_pem(self.pem("tls", "tls.crt")?, self.pem("tls", "tls.key")?))
    }

    /// A certificate of this name that the Cluster's CA has signed.
    pub fn signed(&self, name: &str) -> Result<Identity> {
        sign(name, &self.pem("ca", "ca.crt")?, KeyPair::from_pem(&self.pem("ca", "ca.key")?)?)
    }

    /// The same in every word, but that somebody else has signed it.
    pub fn forged(&self, name: &str) -> Result<Identity> {
        sign(name, &self.pem("ca", "ca.crt")?, KeyPair::generate()?)
    }

    /// One that its holder has signed himself.
    pub fn self_signed(name: &str) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.self_signed(&key)?;
        Ok(Identity::from_pem(certificate.pem(), key.serialize_pem()))
    }

    /// How far one comes at a broker who believes this CA of it, and shows this certificate.
    pub async fn comes(&self, ordinal: u32, (ca, shown): (&str, &Identity), asks: Asks) -> Result<Comes> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name(BROKER)
            .identity(shown.clone());
        let endpoint = Channel::from_shared(format!("https://{}:50052", self.pod_ip(ordinal)?))?;
        let said = match endpoint.tls_config(tls).context("a certificate and its key")?.connect().await {
            Ok(channel) => ask(channel, asks).await,
            Err(error) => Err(Status::from_error(error.into())),
        };
        Ok(match said {
            Ok(()) => Comes::In,
            Err(status) if status.code() == Code::PermissionDenied => Comes::Known,
            Err(status) => Comes::Nowhere(status.to_string()),
        })
    }
}

async fn ask(channel: Channel, asks: Asks) -> Result<(), Status> {
    match asks {
        Asks::ToAttend => ControlClient::new(channel).attend(tokio_stream::pending()).await.map(drop),
        Asks::ToFollow => ReplicaClient::new(channel).follow(tokio_stream::pending()).await.map(drop),
    }
}

fn sign(name: &str, ca: &str, key_of_ca: KeyPair) -> Result<Identity> {
    let issuer = Issuer::from_ca_cert_pem(ca, key_of_ca)?;
    let mut parameters = CertificateParams::new([name.to_owned()])?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, &issuer)?;
    Ok(Identity::from_pem(certificate.pem(), key.serialize_pem()))
}
