//! Which of istiod's switches are on?
//!
//! Defaults are those of Istio 1.32. istiod: `pilot/pkg/features`.

macro_rules! features {
    ($($(#[$doc:meta])* $field:ident: $env:literal = $default:literal,)+) => {
        /// istiod's switches that change an answer.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Features { $($(#[$doc])* pub $field: bool,)+ }

        impl Default for Features {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Features {
            /// The environment variables of all switches.
            pub const NAMES: &'static [&'static str] = &[$($env,)+];

            /// Sets a switch by its environment variable; `false` when there is no such switch or the value is no boolean.
            pub fn set(&mut self, name: &str, value: &str) -> bool {
                let Ok(value) = value.parse() else { return false };
                match name {
                    $($env => self.$field = value,)+
                    _ => return false,
                }
                true
            }
        }
    };
}

features! {
    /// Only Gateways of the pod's own namespace apply.
    scope_gateway_to_namespace: "PILOT_SCOPE_GATEWAY_TO_NAMESPACE" = false,
    /// Istio Gateways of other namespaces are dropped on managed Gateway API gateways.
    strict_gateway_merging: "PILOT_ENABLE_STRICT_GATEWAY_MERGING" = true,
    /// Hosts with the same routes share a virtual host on gateways.
    route_collapse: "PILOT_ENABLE_ROUTE_COLLAPSE_OPTIMIZATION" = true,
    /// Gateways get only the clusters that their routes name.
    filter_gateway_cluster_config: "PILOT_FILTER_GATEWAY_CLUSTER_CONFIG" = false,
    /// HTTP/3 listeners.
    quic_listeners: "PILOT_ENABLE_QUIC_LISTENERS" = false,
    /// The Gateway API.
    gateway_api: "PILOT_ENABLE_GATEWAY_API" = true,
    /// One scope for all egress listeners, Kubernetes Services first.
    unified_sidecar_scope: "PILOT_UNIFIED_SIDECAR_SCOPE" = true,
    /// The best namespace is chosen for a destination's service.
    sidecar_pick_best_service_namespace: "PILOT_SIDECAR_PICK_BEST_SERVICE_NAMESPACE" = true,
    /// DestinationRules are merged by their exportTo.
    enhanced_destination_rule_merge: "ENABLE_ENHANCED_DESTINATIONRULE_MERGE" = true,
    /// ServiceEntries get automatic addresses.
    ip_autoallocate: "PILOT_ENABLE_IP_AUTOALLOCATE" = true,
    /// Domains with a dot at their end.
    absolute_fqdn_vhost_domain: "PILOT_ENABLE_ABSOLUTE_FQDN_VHOST_DOMAIN" = true,
    /// HTTP/1.0.
    http10: "PILOT_HTTP10" = false,
    /// One listener for all pods of a headless service.
    headless_filter_chain_listener: "PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER" = false,
    /// Endpoints of headless services come from istiod.
    eds_for_headless_services: "PILOT_ENABLE_EDS_FOR_HEADLESS_SERVICES" = false,
    /// Endpoints that are not ready are sent as unhealthy.
    send_unhealthy_endpoints: "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS" = true,
    /// Endpoints that are not ready are sent as unhealthy, whatever a DestinationRule says about health.
    always_send_unhealthy_endpoints: "PILOT_SEND_UNHEALTHY_ENDPOINTS" = false,
    /// The weights of localities count everywhere.
    locality_weighted_lb_config: "ENABLE_LOCALITY_WEIGHTED_LB_CONFIG" = false,
    /// Sidecar ingress listeners are added to those of services.
    sidecar_service_inbound_listener_merge: "PILOT_ALLOW_SIDECAR_SERVICE_INBOUND_LISTENER_MERGE" = false,
    /// TLS settings of Sidecar ingress are used.
    tls_on_sidecar_ingress: "ENABLE_TLS_ON_SIDECAR_INGRESS" = false,
    /// Mirrored requests keep their host.
    disable_shadow_host_suffix: "DISABLE_SHADOW_HOST_SUFFIX" = true,
    /// Listeners on both address families.
    dual_stack: "ISTIO_DUAL_STACK" = false,
    /// Sidecars take the peer's address as the client's.
    sidecar_use_remote_address: "PILOT_SIDECAR_USE_REMOTE_ADDRESS" = false,
    /// Istio's own headers between proxies.
    metadata_exchange: "PILOT_ENABLE_METADATA_EXCHANGE" = true,
    /// ServiceEntries select pods.
    service_entry_select_pods: "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS" = true,
    /// Services select WorkloadEntries.
    k8s_select_workload_entries: "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES" = true,
    /// Informational `100 Continue` responses are proxied.
    continue_headers: "ENABLE_100_CONTINUE_HEADERS" = true,
    /// TLS with wildcard ServiceEntries at waypoints.
    wildcard_host_service_entries_for_tls: "ENABLE_WILDCARD_HOST_SERVICE_ENTRIES_FOR_TLS" = false,
}
