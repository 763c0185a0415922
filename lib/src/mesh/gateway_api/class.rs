//! Who serves a Gateway, and behind which Services?
//!
//! istiod: `pilot/pkg/config/kube/gatewaycommon/{classinfo,gatewayclass_collection,gateway_utils}.go`;
//! `pilot/pkg/config/kube/gateway/conversion.go: extractGatewayServices`.

use smol_str::{SmolStr, format_smolstr};

use super::super::Policies;
use super::super::policy::Config;
use super::Surroundings;
use crate::manifest::schema::gateway_api::GatewaySpec;

/// Names the Service and Deployment of a gateway that istiod deploys.
const NAME_OVERRIDE: &str = "gateway.istio.io/name-override";
/// Names the service account of a gateway that istiod deploys.
const SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";
/// The controller of Istio's gateways. istiod: `PILOT_GATEWAY_API_CONTROLLER_NAME`.
pub(super) const GATEWAY_CONTROLLER: &str = "istio.io/gateway-controller";
/// The controller of gateways in other clusters, which istiod does not program.
const REMOTE_CONTROLLER: &str = "istio.io/unmanaged-gateway";
/// The controller of waypoints, which take no part unless ambient mode is on.
pub(super) const WAYPOINT_CONTROLLER: &str = "istio.io/mesh-controller";

/// Whether istiod programs Gateways of a class: classes of Istio's controller, and the built-in one without any object.
pub(super) fn is_served(class: &str, policies: &Policies) -> bool {
    let known = policies.gateway_classes.iter().find(|object| {
        let controller = object.spec.controller_name.as_str();
        object.name == class && matches!(controller, GATEWAY_CONTROLLER | REMOTE_CONTROLLER)
    });
    known.map_or(class == "istio", |object| object.spec.controller_name == GATEWAY_CONTROLLER)
}

/// Whether istiod deploys the proxies of a Gateway: it names no address, or one that is an IP address.
pub(super) fn is_managed(gateway: &GatewaySpec) -> bool {
    match gateway.addresses.as_slice() {
        [] => true,
        [address] => address.type_.as_ref().is_none_or(|kind| kind == "IPAddress"),
        _ => false,
    }
}

/// The hosts of the Services whose proxies serve a Gateway; `None` where it names only what istiod does not take.
pub(super) fn services(gateway: &Config<GatewaySpec>, around: &Surroundings<'_>) -> Option<Vec<SmolStr>> {
    let in_namespace =
        |name: &str| format_smolstr!("{name}.{}.svc.{}", gateway.namespace, around.cluster_domain);
    if is_managed(&gateway.spec) {
        return Some(vec![in_namespace(&deployed_name(gateway))]);
    }
    let hosts: Vec<SmolStr> = gateway
        .spec
        .addresses
        .iter()
        // The API server's default is an IP address.
        .filter(|address| address.type_.as_deref().map_or(!around.api_defaults, |kind| kind == "Hostname"))
        .map(
            |address| {
                if address.value.contains('.') { address.value.clone() } else { in_namespace(&address.value) }
            },
        )
        .collect();
    (!hosts.is_empty()).then_some(hosts)
}

/// Whether istiod knows the service account of a Gateway's proxies, since it deploys them.
pub(super) fn has_service_account(gateway: &Config<GatewaySpec>) -> bool {
    is_managed(&gateway.spec) && !service_account(gateway).is_empty()
}

/// The name of the Deployment and Service that istiod makes for a Gateway.
pub(super) fn deployed_name(gateway: &Config<GatewaySpec>) -> SmolStr {
    annotated(gateway, NAME_OVERRIDE)
}

/// The service account of the proxies that istiod deploys for a Gateway.
pub(super) fn service_account(gateway: &Config<GatewaySpec>) -> SmolStr {
    annotated(gateway, SERVICE_ACCOUNT)
}

/// The name that an annotation has, else the default. istiod: `gateway_utils.go: GetDefaultName`.
fn annotated(gateway: &Config<GatewaySpec>, annotation: &str) -> SmolStr {
    let written = gateway.annotations.get(annotation).filter(|name| !name.is_empty());
    let default = || format_smolstr!("{}-{}", gateway.name, gateway.spec.gateway_class_name);
    written.cloned().unwrap_or_else(default)
}
