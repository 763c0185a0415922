//! What does the mesh configuration say, with Istio's defaults?
//!
//! istiod: `pkg/config/mesh/mesh.go: DefaultMeshConfig, ApplyMeshConfig`: a message that is written replaces the default
//! message as a whole, so `outboundTrafficPolicy: {}` means `REGISTRY_ONLY`.

use smol_str::SmolStr;

use crate::manifest::schema::istio::{LocalityLoadBalancerSetting, OutboundTrafficPolicyMode};
use crate::manifest::schema::mesh_config::{
    DefaultProviders, InboundTrafficPolicyMode, IngressControllerMode, MeshConfig, NormalizationType,
    OutboundTrafficPolicy,
};
use crate::manifest::schema::{Duration, mesh_config};

/// The mesh configuration, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveConfig {
    /// As written, for the messages whose absence has a meaning.
    pub written: MeshConfig,
    /// The namespace of mesh-wide resources.
    pub root_namespace: SmolStr,
    /// The trust domain.
    pub trust_domain: SmolStr,
    /// What happens to unknown destinations.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// Where inbound traffic goes.
    pub inbound_traffic_policy: InboundTrafficPolicyMode,
    /// Whether mutual TLS is used where both sides can.
    pub enable_auto_mtls: bool,
    /// Default visibility of services.
    pub default_service_export_to: Vec<SmolStr>,
    /// Default visibility of VirtualServices.
    pub default_virtual_service_export_to: Vec<SmolStr>,
    /// Default visibility of DestinationRules.
    pub default_destination_rule_export_to: Vec<SmolStr>,
    /// Preferences by locality.
    pub locality_lb_setting: LocalityLoadBalancerSetting,
    /// The outbound port.
    pub proxy_listen_port: i32,
    /// The inbound port.
    pub proxy_inbound_listen_port: i32,
    /// The port of the explicit HTTP proxy; 0 is none.
    pub proxy_http_port: i32,
    /// Time limit for connecting.
    pub connect_timeout: Duration,
    /// Path normalization.
    pub path_normalization: NormalizationType,
    /// Whether requests are traced.
    pub enable_tracing: bool,
    /// The class of Ingress resources.
    pub ingress_class: SmolStr,
    /// The Service of the ingress gateway.
    pub ingress_service: SmolStr,
    /// The `istio` label of the ingress gateway.
    pub ingress_selector: SmolStr,
    /// Which Ingress resources are taken.
    pub ingress_controller_mode: IngressControllerMode,
    /// Proxy configuration.
    pub default_config: mesh_config::ProxyConfig,
}

impl EffectiveConfig {
    /// Completes a configuration with Istio's defaults.
    pub fn new(mut written: MeshConfig) -> Self {
        if let Some(aliases) = &mut written.trust_domain_aliases {
            aliases.sort();
            aliases.dedup();
        }
        let all = || vec![SmolStr::new_static("*")];
        let or = |value: &Option<SmolStr>, default: &'static str| {
            value.clone().filter(|v| !v.is_empty()).unwrap_or(SmolStr::new_static(default))
        };
        Self {
            root_namespace: or(&written.root_namespace, "istio-system"),
            trust_domain: or(&written.trust_domain, "cluster.local"),
            outbound_traffic_policy: written
                .outbound_traffic_policy
                .clone()
                .unwrap_or(OutboundTrafficPolicy { mode: OutboundTrafficPolicyMode::AllowAny, tls: None }),
            inbound_traffic_policy: written
                .inbound_traffic_policy
                .as_ref()
                .map(|p| p.mode)
                .unwrap_or_default(),
            enable_auto_mtls: written.enable_auto_mtls.unwrap_or(true),
            default_service_export_to: written.default_service_export_to.clone().unwrap_or_else(all),
            default_virtual_service_export_to: written
                .default_virtual_service_export_to
                .clone()
                .unwrap_or_else(all),
            default_destination_rule_export_to: written
                .default_destination_rule_export_to
                .clone()
                .unwrap_or_else(all),
            locality_lb_setting: written
                .locality_lb_setting
                .clone()
                .unwrap_or(LocalityLoadBalancerSetting { enabled: Some(true), ..Default::default() }),
            proxy_listen_port: written.proxy_listen_port.unwrap_or(15001),
            proxy_inbound_listen_port: written.proxy_inbound_listen_port.unwrap_or(15006),
            proxy_http_port: written.proxy_http_port.unwrap_or(0),
            connect_timeout: written.connect_timeout.unwrap_or(Duration(10_000_000_000)),
            path_normalization: written
                .path_normalization
                .as_ref()
                .map(|p| p.normalization)
                .unwrap_or_default(),
            enable_tracing: written.enable_tracing.unwrap_or(true),
            ingress_class: or(&written.ingress_class, "istio"),
            ingress_service: or(&written.ingress_service, "istio-ingressgateway"),
            ingress_selector: or(&written.ingress_selector, "ingressgateway"),
            ingress_controller_mode: written.ingress_controller_mode.unwrap_or(IngressControllerMode::Strict),
            default_config: written.default_config.clone().unwrap_or_default(),
            written,
        }
    }

    /// The providers used when a Telemetry resource names none.
    pub fn default_providers(&self) -> Option<&DefaultProviders> {
        self.written.default_providers.as_ref()
    }
}
