//! Connections to the brokers that requests are passed on to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use fulmar_core::id::Ordinal;
use parking_lot::Mutex;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use super::FORWARDED;
use super::error::Failure;
use crate::brokers::Brokers;
use crate::dial;
use crate::tls::Tls;

/// One connection to each broker, made when it is first needed.
#[derive(Debug)]
pub(super) struct Channels {
    brokers: Brokers,
    tls: Tls,
    open: Arc<Mutex<BTreeMap<Ordinal, (SocketAddr, Channel)>>>,
}

impl Channels {
    pub(super) fn new(brokers: Brokers, tls: Tls) -> Self {
        Self { brokers, tls, open: Arc::default() }
    }

    /// Connected. An error: nothing was sent.
    pub(super) async fn to(&self, ordinal: Ordinal) -> Result<Channel, Failure> {
        let addresses = self.brokers.internal(ordinal);
        let known = self.open.lock().get(&ordinal).cloned();
        if let Some((address, channel)) = known
            && addresses.contains(&address)
        {
            return Ok(channel);
        }
        for address in addresses {
            if let Ok(channel) = dial::broker(&self.tls, address).await {
                self.open.lock().insert(ordinal, (address, channel.clone()));
                return Ok(channel);
            }
        }
        Err(Failure::not_leader(
            format!("broker {ordinal}, which leads, is not reached"),
            self.brokers.client(ordinal),
        ))
    }

    /// A call failed without an answer of the broker: the next one connects anew.
    pub(super) fn forget(&self, ordinal: Ordinal) {
        self.open.lock().remove(&ordinal);
    }
}

/// Marks a request as passed on.
pub(super) fn marked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    request
}
