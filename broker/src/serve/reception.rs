//! What each request of a connection goes through before its router sees it, and its answer before HTTP does.
//!
//! Owns the order of that: what is left unread is heard out, browsers are told whose pages may ask, messages are counted while they
//! arrive, answers as they are written. It stands before the router and not in it: a layer there is a box for each of its routes,
//! in every connection, and one more for each request.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use fulmar_logging::Ends as Sockets;
use tower::util::service_fn;
use tower::{Layer, Service, ServiceExt};
use tower_http::cors::CorsLayer;

use super::inflow::Inflow;
use super::listen::{Caller, Limits, Requests};
use super::metered::metered;
use super::outflow::Outflow;
use super::unread;
use super::web::{self, Spoken};

/// Who is at the ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// The other one.
    pub(super) caller: Caller,
    /// Both sockets, where it matters from where somebody asks.
    pub(super) sockets: Option<Sockets>,
}

/// What the requests of one connection have in common.
pub(super) struct Reception {
    ends: Ends,
    outflow: Option<Outflow>,
    inflow: Option<Inflow>,
    cors: Option<CorsLayer>,
    /// Whether the rest of a request is read before its answer is written, which HTTP/2 does by itself.
    hears_out: bool,
    router: Router,
}

impl Reception {
    pub(super) fn new(ends: Ends, outflow: Option<Outflow>, limits: &Limits, router: Router) -> Self {
        let inflow = |Requests { all, connection_bytes, message_bytes_max }| {
            Inflow::new(all, connection_bytes, message_bytes_max)
        };
        Self {
            ends,
            outflow,
            inflow: limits.requests.clone().map(inflow),
            cors: limits.cors.clone(),
            hears_out: !limits.http2_only,
            router,
        }
    }

    /// Answers a request.
    ///
    /// Nearly all requests go straight to the router. The others go by a box: what they may have to remember would be moved about with
    /// each of the rest.
    pub(super) async fn answer(self: Arc<Self>, mut request: Request) -> Response {
        let extensions = request.extensions_mut();
        extensions.insert(self.ends.caller);
        if let Some(sockets) = self.ends.sockets {
            extensions.insert(sockets);
        }
        if let Some(outflow) = self.outflow.clone() {
            extensions.insert(outflow);
        }
        // An answer is counted as it is written: behind its translation.
        metered(if self.is_usual(&request) {
            self.routed(request).await
        } else {
            Box::pin(self.heard_out(request)).await
        })
    }

    /// Whether nothing but its messages is to be counted.
    fn is_usual(&self, request: &Request) -> bool {
        let is_left = self.hears_out && unread::may_be_left(request);
        let is_translated = self.inflow.is_some() && !matches!(web::spoken(request), Spoken::Grpc);
        self.cors.is_none() && !is_left && !is_translated
    }

    async fn heard_out(self: Arc<Self>, request: Request) -> Response {
        if !self.hears_out {
            return self.shared(request).await;
        }
        unread::heard_out(request, |request| self.shared(request)).await
    }

    /// Tells browsers whose pages may ask, where that is told of all paths.
    async fn shared(self: Arc<Self>, request: Request) -> Response {
        let Some(cors) = self.cors.clone() else { return self.spoken(request).await };
        let answering = service_fn(move |request| {
            let answering = self.clone().spoken(request);
            async move { Ok::<_, Infallible>(answering.await) }
        });
        let Ok(answer) = cors.layer(answering).oneshot(request).await;
        answer
    }

    /// Has what browsers send translated, where gRPC is spoken.
    async fn spoken(self: Arc<Self>, request: Request) -> Response {
        if self.inflow.is_none() {
            return self.routed(request).await;
        }
        match web::spoken(&request) {
            Spoken::Grpc => self.routed(request).await,
            Spoken::Web => {
                let routed = move |request| {
                    let reception = self.clone();
                    async move { reception.routed(request).await }
                };
                web::translated(request, routed).await
            }
            Spoken::Neither(answer) => *answer,
        }
    }

    /// The router's answer. A request's messages are counted while they arrive: as gRPC frames them, so behind their translation.
    async fn routed(&self, request: Request) -> Response {
        let (request, received) = match &self.inflow {
            Some(inflow) => {
                let (request, received) = inflow.counted(request);
                (request, Some(received))
            }
            None => (request, None),
        };
        let Ok(answer) = self.router.clone().call(request).await;
        if let Some(received) = received {
            received.answered();
        }
        answer
    }
}
