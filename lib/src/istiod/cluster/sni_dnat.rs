//! Which clusters can the SNI of Istio's mutual TLS name at a gateway that passes it through?
//!
//! One for each port and subset of every service inside the mesh, without TLS of the gateway's own. Invariant: only
//! endpoints that speak Istio's mutual TLS are among them, so that nobody gets past it. istiod: `cluster.go:
//! buildOutboundSniDnatClusters`; `endpoint_builder.go: EndpointsWithMTLSFilter`.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::envoy::config::{Cluster, LoadAssignment, UpstreamTransport};
use crate::istiod::name::{SubsetKey, outbound_cluster, outbound_sni};
use crate::istiod::node::NodeType;
use crate::istiod::proxy::Proxy;

/// The names of all clusters that an SNI can name, if the proxy passes any through.
pub fn names(proxy: &Proxy) -> Vec<SmolStr> {
    if !passes_through(proxy) {
        return Vec::new();
    }
    super::names(proxy)
        .iter()
        .filter_map(|name| {
            let key = SubsetKey::parse(name)?;
            let external = proxy.scope().service(key.host)?.service().mesh_external;
            (!external).then(|| outbound_sni(key.host, key.port, key.subset))
        })
        .collect()
}

/// Builds the cluster `name`; `None` when no SNI names it.
pub fn build(proxy: &Proxy, name: &str) -> Option<Cluster> {
    let key = SubsetKey::parse_sni(name).filter(|key| key.direction == "outbound")?;
    if !passes_through(proxy) || proxy.scope().service(key.host)?.service().mesh_external {
        return None;
    }
    let mut out = super::build(proxy, &outbound_cluster(key.host, key.port, key.subset))?;
    out.name = name.into();
    out.transport = UpstreamTransport::Plaintext;
    out.proxy_protocol = None;
    let mut assignment = LoadAssignment::clone(&out.load_assignment);
    for group in &mut assignment.endpoints {
        group.lb_endpoints.retain(|endpoint| endpoint.istio_mutual);
        // What is left counts; a group stays even without endpoints.
        group.load_balancing_weight =
            group.lb_endpoints.iter().map(|endpoint| endpoint.load_balancing_weight).sum();
    }
    out.load_assignment = Arc::new(assignment);
    Some(out)
}

fn passes_through(proxy: &Proxy) -> bool {
    proxy.node().node_type == NodeType::Router && proxy.gateway().merged.auto_passthrough
}
