//! ServiceEntry. istiod: `validation.go: ValidateServiceEntry`.

use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use super::report::{At, Report};
use super::selector::{Exported, alpha, exports};
use super::workload::{address_or_name, entry_of, ports};
use super::{names, virtual_service::tags};
use crate::host;
use crate::manifest::schema::istio::{Location, Resolution, ServiceEntry, ServicePort};
use crate::protocol::Protocol;

/// The label with which a ServiceEntry refuses an allocated address.
const AUTO_ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";
/// The label that names a waypoint.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, entry: &ServiceEntry) {
    if !alpha(report, spec, entry.workload_selector.as_ref(), "service entry") {
        return;
    }
    if entry.workload_selector.is_some() && !entry.endpoints.is_empty() {
        report.refuse(
            &spec.field("endpoints"),
            "only one of WorkloadSelector or Endpoints is allowed in Service Entry",
        );
    }
    hosts(report, spec, entry);
    addresses(report, spec, entry);
    let at = spec.field("ports");
    let mut port_names = FxHashSet::default();
    let mut numbers = FxHashSet::default();
    let addressed = !entry.addresses.is_empty() || allocates(report, entry);
    for (index, port) in entry.ports.iter().enumerate() {
        let at = at.index(index);
        if !port_names.insert(port.name.as_str()) {
            report.refuse(
                &at.field("name"),
                format!("service entry port name \"{}\" already defined", port.name),
            );
        }
        if !numbers.insert(port.number) {
            report.refuse(&at.field("number"), format!("service entry port {} already defined", port.number));
        }
        port_of(report, &at, port, addressed);
    }
    match entry.resolution {
        Resolution::None => none(report, spec, entry),
        Resolution::Static => {
            let at = spec.field("endpoints");
            for (index, endpoint) in entry.endpoints.iter().enumerate() {
                entry_of(report, &at.index(index), endpoint, Some(&port_names), false);
            }
        }
        Resolution::Dns | Resolution::DnsRoundRobin => dns(report, spec, entry, &port_names),
        Resolution::DynamicDns => dynamic_dns(report, spec, entry),
    }
    // Only by their bytes, hosts behind one TCP port cannot be told apart.
    let tellable =
        |port: &ServicePort| names::known_protocol(&port.protocol).is_some_and(|p| p.is_http() || p.is_tls());
    if entry.resolution != Resolution::None
        && entry.hosts.len() > 1
        && let Some(index) = entry.ports.iter().position(|port| !tellable(port))
    {
        report.refuse(&at.index(index), "multiple hosts provided with non-HTTP, non-TLS ports");
    }
    exports(report, spec, &entry.export_to, Exported::ServiceEntry);
}

fn hosts(report: &mut Report<'_>, spec: &At<'_>, entry: &ServiceEntry) {
    if entry.hosts.is_empty() {
        report.refuse(spec, "service entry must have at least one host");
    }
    let at = spec.field("hosts");
    for (index, host) in entry.hosts.iter().enumerate() {
        let at = at.index(index);
        if host == "*" {
            report.refuse(&at, format!("invalid host {host}"));
            continue;
        }
        report.check(&at, names::wildcard_domain(host));
        if entry.resolution != Resolution::DynamicDns
            && let Err(reason) = names::no_partial_wildcard(host)
        {
            report.warn(&at, reason);
        }
    }
}

fn addresses(report: &mut Report<'_>, spec: &At<'_>, entry: &ServiceEntry) {
    let at = spec.field("addresses");
    for (index, address) in entry.addresses.iter().enumerate() {
        report.check(&at.index(index), names::subnet(address));
    }
    if !matches!(entry.resolution, Resolution::None | Resolution::Static)
        && let Some(index) = entry.addresses.iter().position(|address| address.contains('/'))
    {
        report.refuse(&at.index(index), "CIDR addresses are allowed only for NONE/STATIC resolution types");
    }
}

/// Whether istiod gives it an address. istiod: `serviceentry: shouldV2AutoAllocateIPFromPieces`.
fn allocates(report: &Report<'_>, entry: &ServiceEntry) -> bool {
    let refused = report.resource().meta.labels.get(AUTO_ALLOCATE);
    entry.resolution != Resolution::None && !refused.is_some_and(|v| v.eq_ignore_ascii_case("false"))
}

fn port_of(report: &mut Report<'_>, at: &At<'_>, port: &ServicePort, addressed: bool) {
    if port.target_port != 0 {
        report.check(&at.field("targetPort"), names::port(port.target_port));
    }
    if !addressed && matches!(port.protocol.as_str(), "" | "TCP") {
        report.warn(
            at,
            "addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is not enabled",
        );
    }
    report.check(&at.field("name"), names::port_name(&port.name));
    report.check(&at.field("protocol"), names::protocol(&port.protocol));
    report.check(&at.field("number"), names::port(port.number));
}

fn none(report: &mut Report<'_>, spec: &At<'_>, entry: &ServiceEntry) {
    if !entry.endpoints.is_empty() {
        report.refuse(&spec.field("endpoints"), "no endpoints should be provided for resolution type none");
    }
    if entry.workload_selector.is_some() {
        report.warn(
            &spec.field("workloadSelector"),
            "workloadSelector should not be set when resolution mode is NONE",
        );
    }
}

fn dns(report: &mut Report<'_>, spec: &At<'_>, entry: &ServiceEntry, port_names: &FxHashSet<&str>) {
    let mode = entry.resolution.as_str();
    let endpoints = spec.field("endpoints");
    if entry.endpoints.is_empty()
        && let Some((index, reason)) =
            entry.hosts.iter().enumerate().find_map(|(i, host)| names::fqdn(host).err().map(|r| (i, r)))
    {
        report.refuse(
            &spec.field("hosts").index(index),
            format!(
                "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode {mode}, {reason}"
            ),
        );
    }
    if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
        report.refuse(&endpoints, format!("there must only be 0 or 1 endpoint for resolution mode {mode}"));
    }
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        let at = endpoints.index(index);
        address_or_name(report, &at, &endpoint.address);
        tags(report, &at.field("labels"), &endpoint.labels);
        ports(report, &at, &endpoint.ports, Some(port_names));
    }
    let is_tcp = |port: &ServicePort| {
        names::known_protocol(&port.protocol).is_some_and(|p| !p.is_http() && p != Protocol::Udp)
    };
    if !entry.addresses.is_empty() && entry.hosts.len() > 1 && entry.ports.iter().any(is_tcp) {
        report.warn(
            &spec.field("hosts"),
            "service entry can not have more than one host specified simultaneously with address and tcp port",
        );
    }
}

fn dynamic_dns(report: &mut Report<'_>, spec: &At<'_>, entry: &ServiceEntry) {
    let mode = entry.resolution.as_str();
    if entry.hosts.is_empty() {
        report
            .refuse(spec, format!("at least one wildcard host must be provided for resolution type {mode}"));
    }
    let at = spec.field("hosts");
    for (index, name) in entry.hosts.iter().enumerate() {
        if !host::is_wildcard(name) {
            report.refuse(&at.index(index), format!("host must be wildcarded for resolution mode {mode}"));
        }
    }
    if !entry.addresses.is_empty() {
        report.refuse(
            &spec.field("addresses"),
            format!(
                "addresses cannot be set for resolution type {mode}. HTTP route domains will only be generated from the hosts field values"
            ),
        );
    }
    if !entry.endpoints.is_empty() {
        report.refuse(
            &spec.field("endpoints"),
            format!(
                "endpoints cannot be set for resolution type {mode}. Destination IP address determined from hosts field values"
            ),
        );
    }
    let at = spec.field("ports");
    for (index, port) in entry.ports.iter().enumerate() {
        let supported = matches!(
            names::known_protocol(&port.protocol),
            Some(Protocol::Http | Protocol::Tls | Protocol::Grpc | Protocol::Http2)
        );
        if !supported {
            report.refuse(
                &at.index(index).field("protocol"),
                format!("only HTTP, TLS, GRPC, and HTTP2 protocols are supported for resolution type {mode}"),
            );
        }
    }
    let waypoint: Option<&SmolStr> = report.resource().meta.labels.get(USE_WAYPOINT);
    if entry.location == Location::MeshInternal
        && waypoint.is_some_and(|w| !w.is_empty() && !w.eq_ignore_ascii_case("none"))
    {
        report.refuse(
            &spec.field("location"),
            format!(
                "location MESH_INTERNAL with resolution type {mode} is not supported when using waypoints"
            ),
        );
    }
}
