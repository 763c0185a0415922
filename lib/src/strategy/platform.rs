//! What generated resources stand on.

use std::net::{IpAddr, Ipv4Addr};

/// The workload whose sidecar sends requests.
pub const CLIENT: &str = "default/sleep";

/// The workload whose sidecar takes requests, one of `reviews`.
pub const SERVER: &str = "default/reviews-v1";

/// The workload of the ingress gateway.
pub const GATEWAY: &str = "istio-ingress/istio-ingressgateway";

/// The address of the only endpoint of `broken`, where nothing listens.
pub const CLOSED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 4, 10));

/// Namespaces, services, pods and endpoints: a client with a sidecar, a gateway, `reviews` in two versions, `ratings`,
/// `cart` in another namespace, `empty` without endpoints, and `broken` with an endpoint that refuses connections.
pub const fn platform() -> &'static str {
    include_str!("platform.yaml")
}
