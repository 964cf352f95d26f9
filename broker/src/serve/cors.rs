//! Whose pages browsers let use this broker: cross-origin resource sharing, off unless origins are named.
//!
//! Owns what an origin is, and what browsers are told of those that were named. Never guards anything: it keeps browsers from
//! giving answers to other pages, and nobody else from asking.
//!
//! The protocol: <https://fetch.spec.whatwg.org/#http-cors-protocol>.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

/// Every request of a browser is compared with all of them. What is a good origin here is one in `spec.cors` of a Cluster too.
const ORIGINS_MAX: usize = 32;
/// A name of DNS, a scheme and a port.
const ORIGIN_LENGTH_MAX: usize = 300;
/// How long a browser remembers what it was told: as long as a removed origin may still be taken for allowed.
const REMEMBERED: Duration = Duration::from_mins(10);

/// The origins that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Whatever page it is.
    Any,
    /// These, as browsers write them.
    List(Vec<HeaderValue>),
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let origins = text.split(',').map(origin).collect::<Result<Vec<_>, _>>()?;
        if origins.len() > ORIGINS_MAX {
            return Err(format!("at most {ORIGINS_MAX} origins, these are {}", origins.len()));
        }
        Ok(Self::List(origins))
    }
}

/// As browsers send it in `Origin`: <https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin>. One
/// that they would write in another way would never match.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = |why: &str| {
        Err(format!(
            "{text:?} is no origin: {why}. Allowed are SCHEME://HOST and SCHEME://HOST:PORT in lower case, without a path or a slash at its end, such as https://shop.example or http://localhost:3000; or * alone, for all"
        ))
    };
    match text {
        "*" => return wrong("* stands alone"),
        "null" => return wrong("any page can have itself called so"),
        _ if text.len() > ORIGIN_LENGTH_MAX => return wrong("it is too long"),
        _ => {}
    }
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return wrong("it does not begin with a scheme such as https://");
    };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    if !is_host(host) {
        return wrong("its host is none");
    }
    match port {
        Some(port) if !is_port(port) => return wrong("its port is none"),
        Some("80") if scheme == "http" => return wrong("browsers leave :80 out"),
        Some("443") if scheme == "https" => return wrong("browsers leave :443 out"),
        Some(_) | None => {}
    }
    HeaderValue::from_str(text).or_else(|_| wrong("it has bytes that no header may have"))
}

fn is_scheme(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte);
    text.len() <= 32 && text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(rest)
}

/// A name, or an IPv4 address. Pages of IPv6 addresses without a name are nobody's.
fn is_host(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    let at_the_ends =
        |byte: Option<u8>| byte.is_some_and(|byte| inside(byte) && byte != b'.' && byte != b'-');
    let (first, last) = (text.bytes().next(), text.bytes().last());
    text.len() <= 253 && at_the_ends(first) && at_the_ends(last) && text.bytes().all(inside)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0 && port.to_string() == text)
}

/// What HTTP's paths for programs tell.
pub(super) fn of_http(origins: &Origins) -> CorsLayer {
    layer(origins)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .expose_headers([header::ALLOW, header::RETRY_AFTER])
}

/// What gRPC's port tells. How a call ended stands in headers when nothing was answered.
pub fn of_grpc_web(origins: &Origins) -> CorsLayer {
    let ends = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    layer(origins).allow_methods([Method::POST]).expose_headers(ends)
}

/// No cookies and no passwords of the browser: brokers know none. So any header may be sent; a program's own are its metadata.
fn layer(origins: &Origins) -> CorsLayer {
    let allowed = match origins {
        Origins::Any => AllowOrigin::from(Any),
        Origins::List(list) => AllowOrigin::list(list.iter().cloned()),
    };
    CorsLayer::new().allow_origin(allowed).allow_headers(AllowHeaders::mirror_request()).max_age(REMEMBERED)
}

#[cfg(test)]
#[path = "cors_tests.rs"]
mod tests;
