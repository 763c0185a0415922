//! Requests that have a chance to meet the conditions of generated rules.

use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use smol_str::SmolStr;

use super::matching::{HEADERS, VALUES};
use crate::envoy::{ApplicationProtocol, Capture, Connection, HttpRequest, Transport};

/// Which proxy a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// The client's sidecar, captured on its way out.
    Sidecar,
    /// The ingress gateway.
    Gateway,
    /// The server's sidecar, captured on its way in.
    Server,
}

/// A request, and how it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedRequest {
    /// Where it goes.
    pub door: Door,
    /// The destination's address.
    pub destination: IpAddr,
    /// The destination's port.
    pub port: u16,
    /// The request.
    pub request: HttpRequest,
}

impl GeneratedRequest {
    /// How its connection reaches the proxy.
    pub fn capture(&self) -> Capture {
        match self.door {
            Door::Sidecar => Capture::Outbound,
            Door::Gateway => Capture::Direct,
            Door::Server => Capture::Inbound,
        }
    }

    /// Its connection: HTTP/1.1 without TLS.
    pub fn connection(&self) -> Connection {
        let source = match self.door {
            Door::Sidecar | Door::Server => Ipv4Addr::new(10, 244, 0, 10),
            Door::Gateway => Ipv4Addr::new(203, 0, 113, 9),
        };
        Connection {
            destination: self.destination,
            port: self.port,
            source: source.into(),
            transport: Transport::Plaintext,
            protocol: ApplicationProtocol::Http11,
            preface: crate::envoy::request::Preface::default(),
        }
    }
}

const AUTHORITIES: &[&str] = &[
    "reviews",
    "reviews",
    "reviews:80",
    "REVIEWS",
    "reviews.default",
    "reviews.default.svc.cluster.local",
    "ratings",
    "ratings.default.svc.cluster.local:80",
    "cart.shop",
    "cart.shop.svc.cluster.local",
    "empty",
    "broken",
    "broken.default:80",
    "api.example.com",
    "api.example.com:80",
    "API.example.com",
    "www.wild.example.com",
    "a.b.wild.example.com",
    "wild.example.com",
    "static.example.com",
    "unknown.example.org",
    "10.96.1.1",
];

const TARGETS: &[&str] = &[
    "/",
    "/api",
    "/api/",
    "/api/v1/users",
    "/api/v1",
    "/API/v1",
    "/apiary",
    "/static/a.css",
    "/static",
    "/b",
    "/b/c",
    "//b",
    "/api/../b",
    "/api/%2e%2e/b",
    "/a%20b",
    "/%61pi",
    "/api;v=1",
    "/api//v1",
    "/api#frag",
    "/api%2Fv1",
    "/api/..;x/b",
];

const QUERIES: &[&str] =
    &["", "", "", "?q=1", "?q", "?q=jason&v=2", "?Q=1", "?q=%31", "?v=v1.2&v=1", "?", "?a=b?c"];

const EXTRA: &[(&str, &str)] = &[
    ("origin", "http://a.example"),
    ("origin", "https://b.example"),
    ("origin", "null"),
    ("access-control-request-method", "GET"),
    ("x-forwarded-for", "198.51.100.1, 203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "front.example"),
    ("x-request-id", "not-a-uuid"),
    ("x-envoy-retry-on", "5xx"),
    ("x-envoy-upstream-rq-timeout-ms", "50"),
    ("x-envoy-original-path", "/was"),
    ("x-envoy-attempt-count", "7"),
    ("x-envoy-decorator-operation", "client"),
    ("x-envoy-internal", "true"),
    ("x-envoy-external-address", "1.2.3.4"),
    ("x-envoy-custom", "kept"),
    ("x-forwarded-client-cert", "By=spiffe://a"),
    ("referer", "http://ref.example/x"),
    ("referer", "not a url"),
    ("referer", "http://ref.example/#x"),
    ("te", "trailers"),
    ("te", "deflate"),
    ("connection", "x-a"),
    ("connection", "keep-alive"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("grpc-timeout", "1S"),
    ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("via", "1.1 client"),
    ("early-data", "1"),
    ("expect", "100-continue"),
    ("upgrade", "h2c"),
    ("content-type", "application/grpc"),
    ("content-type", "application/json"),
    ("accept", "text/html"),
    ("accept", "*/*"),
    ("x_under", "score"),
    ("x-reply", "own"),
    ("x-reply", "service-time"),
    ("x-reply", "cors"),
    ("x-reply", "cookies"),
    ("x-reply", "404"),
    ("x-reply", "500"),
    ("x-reply", "503"),
    ("x-reply", "409"),
    ("x-reply", "429"),
    ("x-reply", "grpc"),
    ("x-reply", "chunked"),
    ("x-reply", "204"),
    ("x-reply", "304"),
    ("x-reply", "redirect"),
    ("x-reply", "close"),
    ("x-reply", "upgrade"),
];

/// A request to a sidecar or the gateway.
pub fn request() -> impl Strategy<Value = GeneratedRequest> {
    let method =
        select(&["GET", "GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "QUERY"][..]);
    let common = vec((select(HEADERS), select(VALUES)), 0..3);
    let extra = vec(select(EXTRA), 0..3);
    let place = prop_oneof![
        3 => Just((Door::Sidecar, [10, 96, 1, 1], 80)),
        1 => Just((Door::Sidecar, [192, 0, 2, 77], 80)),
        2 => Just((Door::Gateway, [10, 244, 0, 20], 8080)),
        1 => Just((Door::Server, [10, 244, 1, 10], 8080)),
    ];
    (
        place,
        method,
        select(AUTHORITIES),
        select(TARGETS),
        select(QUERIES),
        common,
        extra,
        option::weighted(0.2, Just(())),
        option::weighted(0.05, Just(())),
    )
        .prop_map(
            |((door, address, port), method, authority, target, query, common, extra, preflight, upgrade)| {
                let mut headers: Vec<(SmolStr, SmolStr)> = common
                    .into_iter()
                    .chain(extra)
                    .map(|(name, value)| (SmolStr::new_static(name), SmolStr::new_static(value)))
                    .collect();
                if preflight.is_some() && method == "OPTIONS" {
                    headers.push((SmolStr::new_static("origin"), SmolStr::new_static("http://a.example")));
                    let name = SmolStr::new_static("access-control-request-method");
                    headers.push((name, SmolStr::new_static("POST")));
                }
                if upgrade.is_some() {
                    let both = [("connection", "Upgrade"), ("upgrade", "websocket")];
                    let both =
                        both.map(|(name, value)| (SmolStr::new_static(name), SmolStr::new_static(value)));
                    headers.extend(both);
                }
                if matches!(method, "POST" | "PUT" | "QUERY") {
                    headers.push((SmolStr::new_static("content-length"), SmolStr::new_static("3")));
                }
                // A fragment is a part of the path, so it comes after the query.
                let (path, fragment) = target.split_once('#').map_or((target, ""), |(p, _)| (p, "#frag"));
                GeneratedRequest {
                    door,
                    destination: IpAddr::V4(Ipv4Addr::from(address)),
                    port,
                    request: HttpRequest {
                        method: SmolStr::new_static(method),
                        path: format!("{path}{query}{fragment}").into(),
                        authority: SmolStr::new_static(authority),
                        scheme: None,
                        headers,
                        no_host: false,
                        body: crate::envoy::Body::Declared,
                    },
                }
            },
        )
}
