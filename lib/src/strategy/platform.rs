//! What generated resources stand on.

/// The workload whose sidecar sends requests.
pub const CLIENT: &str = "default/sleep";

/// The workload of the ingress gateway.
pub const GATEWAY: &str = "istio-ingress/istio-ingressgateway";

/// Namespaces, services, pods and endpoints: a client with a sidecar, a gateway, `reviews` in two versions, `ratings`,
/// `cart` in another namespace, and `empty` without endpoints.
pub const fn platform() -> &'static str {
    include_str!("platform.yaml")
}
