//! Which of istiod's switches are on?
//!
//! Defaults are those of Istio 1.32. istiod: `pilot/pkg/features`.

use crate::manifest::schema::kubernetes::PodTemplateSpec;
use crate::manifest::{ManifestSet, Spec, nearest};

/// A boolean as istiod reads one.
///
/// Go: `strconv: ParseBool`, by istiod's `pkg/env: RegisterBoolVar`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// istiod's container, and the revision that it serves by default.
const CONTAINER: &str = "discovery";
const DEFAULT_REVISION: &str = "default";

impl Features {
    /// Switches that are known and change nothing yet.
    pub const NOT_YET: &'static [&'static str] =
        &["ENABLE_100_CONTINUE_HEADERS", "ENABLE_WILDCARD_HOST_SERVICE_ENTRIES_FOR_TLS"];

    /// The switch that a name which is none was probably meant to be.
    pub fn meant(name: &str) -> Option<&'static str> {
        let name = name.to_uppercase();
        let part = Self::NAMES.iter().copied().find(|known| !name.is_empty() && known.contains(&name));
        nearest(&name, Self::NAMES).or(part)
    }

    /// Takes over what the environment of istiod says, where its Deployment is among the manifests; of several, that of the
    /// default revision counts.
    pub(super) fn read(&mut self, manifests: &ManifestSet) {
        let templates = manifests.resources().filter_map(|resource| match &resource.spec {
            Spec::Deployment(spec) => Some(&spec.template).filter(|template| is_istiod(template)),
            _ => None,
        });
        let revision = |template: &PodTemplateSpec| {
            let revision = template.metadata.labels.get("istio.io/rev");
            revision.is_some_and(|revision| revision != DEFAULT_REVISION)
        };
        let Some(istiod) = templates.min_by_key(|template| revision(template)) else { return };
        for variable in istiod.spec.containers.iter().filter(|c| c.name == CONTAINER).flat_map(|c| &c.env) {
            if let Some(value) = &variable.value {
                // What is not known, or no boolean, keeps its default, as in istiod.
                self.set(&variable.name, value);
            }
        }
    }
}

fn is_istiod(template: &PodTemplateSpec) -> bool {
    template.metadata.labels.get("app").is_some_and(|app| app == "istiod")
        && template.spec.containers.iter().any(|container| container.name == CONTAINER)
}

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
            ///
            /// ```
            /// let mut features = dryroute::mesh::Features::default();
            /// assert!(features.set("PILOT_HTTP10", "1") && features.http10);
            /// assert!(!features.set("PILOT_HTTP10", "yes"));
            /// ```
            pub fn set(&mut self, name: &str, value: &str) -> bool {
                let Some(value) = boolean(value) else { return false };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;
    use crate::mesh::{Mesh, MeshOptions};

    fn istiod(revision: &str, env: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: istiod-{revision}, namespace: istio-system}}\n\
             spec: {{template: {{metadata: {{labels: {{app: istiod, istio.io/rev: {revision}}}}},\n  spec: {{containers: [\n  \
             {{name: discovery, env: [{env}]}}]}}}}}}\n---\n"
        )
    }

    fn features(text: &str, switches: &[(&str, &str)]) -> Features {
        let own = switches.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options = MeshOptions { switches: own.collect(), ..MeshOptions::default() };
        Mesh::new(Loader::new().text("m.yaml", text).load(), options).features().clone()
    }

    #[test]
    fn the_environment_of_istiod_counts_and_a_switch_that_is_given_counts_more() {
        let written = istiod(
            "default",
            "{name: PILOT_HTTP10, value: '1'}, {name: PILOT_ENABLE_GATEWAY_API, value: 'no'}, {name: ISTIO_DUAL_STACK, valueFrom: {}}",
        );
        assert_eq!(features(&written, &[]), Features { http10: true, ..Features::default() });
        assert_eq!(features(&written, &[("PILOT_HTTP10", "false")]), Features::default());
    }

    #[test]
    fn of_several_istiods_that_of_the_default_revision_counts() {
        let canary = istiod("canary", "{name: PILOT_HTTP10, value: 'true'}");
        assert!(features(&canary, &[]).http10);
        assert!(!features(&format!("{canary}{}", istiod("default", "")), &[]).http10);
    }

    #[test]
    fn a_name_that_is_none_is_told_what_is_near() {
        for (name, meant) in [
            ("PILOT_HTPT10", Some("PILOT_HTTP10")),
            ("dual_stack", Some("ISTIO_DUAL_STACK")),
            ("PILOT_TRACE_SAMPLING_OF_EVERYTHING", None),
        ] {
            assert_eq!(Features::meant(name), meant, "{name}");
        }
    }
}
