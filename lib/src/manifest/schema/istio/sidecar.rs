//! Sidecar (networking/v1alpha3/sidecar.proto).

use smol_str::SmolStr;

use super::{ConnectionPoolSettings, Destination, LabelSelector, ServerTlsSettings};
use crate::manifest::schema::scalar::{proto_enum, schema};

schema! {
    /// What sidecars of a namespace see and accept.
    Sidecar {
        workload_selector: Option<LabelSelector>, ingress: Vec<IstioIngressListener>, egress: Vec<IstioEgressListener>,
        outbound_traffic_policy: Option<OutboundTrafficPolicy>, inbound_connection_pool: Option<ConnectionPoolSettings>,
    }
    /// An inbound listener.
    IstioIngressListener {
        port: Option<SidecarPort>, bind: SmolStr, capture_mode: CaptureMode, default_endpoint: SmolStr,
        tls: Option<ServerTlsSettings>, connection_pool: Option<ConnectionPoolSettings>,
    }
    /// An outbound listener.
    IstioEgressListener { port: Option<SidecarPort>, bind: SmolStr, capture_mode: CaptureMode, hosts: Vec<SmolStr> }
    /// A port.
    SidecarPort { number: u32, protocol: SmolStr, name: SmolStr, target_port: u32 }
    /// What happens to unknown destinations.
    OutboundTrafficPolicy { mode: OutboundTrafficPolicyMode, egress_proxy: Option<Destination> }
}

proto_enum! {
    /// What happens to unknown destinations.
    OutboundTrafficPolicyMode {
        #[default] RegistryOnly = 0 "REGISTRY_ONLY", AllowAny = 1 "ALLOW_ANY",
        AllowAnyDynamicDns = 2 "ALLOW_ANY_DYNAMIC_DNS",
    }
}

proto_enum! {
    /// Whether traffic is captured by iptables.
    CaptureMode { #[default] Default = 0 "DEFAULT", Iptables = 1 "IPTABLES", None = 2 "NONE" }
}
