//! PeerAuthentication. istiod: `validation.go: ValidatePeerAuthentication`.

use super::report::{At, Report};
use super::selector;
use crate::manifest::schema::istio::PeerAuthentication;

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, policy: &PeerAuthentication) {
    let selects_all = policy.selector.as_ref().is_none_or(|s| s.match_labels.is_empty());
    let at = spec.field("portLevelMtls");
    let ports = policy.port_level_mtls.as_ref();
    if selects_all && ports.is_some_and(|ports| !ports.is_empty()) {
        report.refuse(&at, "mesh/namespace peer authentication cannot have port level mTLS");
    }
    if ports.is_some_and(indexmap::IndexMap::is_empty) {
        report.refuse(&at, "port level mTLS, if defined, must have at least one element");
    }
    for port in ports.into_iter().flat_map(indexmap::IndexMap::keys) {
        match port.parse::<u32>() {
            Ok(1..=65535) => {}
            Ok(_) => report.refuse(&at.key(port), "port must be in range 1..65535"),
            Err(_) => report.refuse(&at.key(port), format!("port \"{port}\" is not a number")),
        }
    }
    selector::workloads(report, spec, policy.selector.as_ref());
}
