//! What does Istio call its clusters?
//!
//! Names are compared with `istioctl proxy-config`, so they are built in one place only.
//! istiod: `pilot/pkg/model/service.go: BuildSubsetKey, BuildDNSSrvSubsetKey, ParseSubsetKey`.

use smol_str::{SmolStr, format_smolstr};

/// The cluster that closes every connection.
pub const BLACK_HOLE_CLUSTER: SmolStr = SmolStr::new_static("BlackHoleCluster");
/// The cluster that connects to the original destination.
pub const PASSTHROUGH_CLUSTER: SmolStr = SmolStr::new_static("PassthroughCluster");
/// The cluster that connects to the own workload at the original destination port.
pub const INBOUND_PASSTHROUGH_CLUSTER: SmolStr = SmolStr::new_static("InboundPassthroughCluster");
/// The cluster that resolves the request's host (`ALLOW_ANY_DYNAMIC_DNS`).
pub const ALLOW_ANY_DYNAMIC_DNS_CLUSTER: SmolStr = SmolStr::new_static("AllowAnyDynamicDNSCluster");
/// The gateway name that stands for all sidecars.
pub const MESH_GATEWAY: &str = "mesh";

/// The name of the cluster for a port and subset of a host: `outbound|80|v1|reviews.default.svc.cluster.local`.
pub fn outbound_cluster(host: &str, port: u16, subset: &str) -> SmolStr {
    format_smolstr!("outbound|{port}|{subset}|{host}")
}

/// The name of the cluster for a port of the own workload: `inbound|8080||`.
pub fn inbound_cluster(port: u16) -> SmolStr {
    format_smolstr!("inbound|{port}||")
}

/// The SNI of Istio's mutual TLS to a cluster: `outbound_.80_.v1_.reviews.default.svc.cluster.local`.
pub fn outbound_sni(host: &str, port: u16, subset: &str) -> SmolStr {
    format_smolstr!("outbound_.{port}_.{subset}_.{host}")
}

/// The parts of an outbound cluster's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubsetKey<'a> {
    /// `outbound` or `inbound`.
    pub direction: &'a str,
    /// The service's port.
    pub port: u16,
    /// The subset; empty for the whole service.
    pub subset: &'a str,
    /// The service's host.
    pub host: &'a str,
}

impl<'a> SubsetKey<'a> {
    /// Takes `name` apart; `None` for a name of another form.
    pub fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.split('|');
        let (direction, port, subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self { direction, port: port.parse().ok()?, subset, host })
    }

    /// Takes the SNI of Istio's mutual TLS to a cluster apart; `None` for a name of another form.
    pub fn parse_sni(name: &'a str) -> Option<Self> {
        let mut parts = name.splitn(4, "_.");
        let (direction, port, subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self { direction, port: port.parse().ok()?, subset, host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_come_apart_as_they_were_put_together() {
        let name = outbound_cluster("a.b", 80, "v1");
        assert_eq!(name, "outbound|80|v1|a.b");
        assert_eq!(
            SubsetKey::parse(&name),
            Some(SubsetKey { direction: "outbound", port: 80, subset: "v1", host: "a.b" })
        );
        assert_eq!(SubsetKey::parse("PassthroughCluster"), None);
        let sni = outbound_sni("a.b", 80, "");
        assert_eq!(sni, "outbound_.80_._.a.b");
        let whole = SubsetKey { direction: "outbound", port: 80, subset: "", host: "a.b" };
        assert_eq!(SubsetKey::parse_sni(&sni), Some(whole));
        assert_eq!(SubsetKey::parse_sni("a.b"), None);
    }
}
