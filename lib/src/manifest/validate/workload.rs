//! WorkloadEntry and WorkloadGroup. istiod: `validation.go: validateWorkloadEntry, ValidateWorkloadGroup`.

use indexmap::IndexMap;
use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use super::report::{At, Report};
use super::{names, virtual_service::tags};
use crate::manifest::schema::istio::{ReadinessProbe, WorkloadEntry, WorkloadGroup};

pub(super) fn entry(report: &mut Report<'_>, spec: &At<'_>, entry: &WorkloadEntry) {
    entry_of(report, spec, entry, None, true);
}

/// A WorkloadEntry, or an endpoint of a ServiceEntry with the names of its ports.
pub(super) fn entry_of(
    report: &mut Report<'_>,
    at: &At<'_>,
    entry: &WorkloadEntry,
    service_ports: Option<&FxHashSet<&str>>,
    names_allowed: bool,
) {
    let address = entry.address.as_str();
    let place = at.field("address");
    if address.is_empty() {
        if entry.network.is_empty() {
            report.refuse(at, "address is required");
            return;
        }
        report.warn(at, format!("address is unset with network \"{}\"", entry.network));
    }
    let unix = address.strip_prefix("unix://");
    if let Some(path) = unix {
        report.check(&place, names::unix_address(path));
        if !entry.ports.is_empty() {
            report.refuse(&at.field("ports"), format!("unix endpoint {address} must not include ports"));
        }
    } else if !address.is_empty() && names_allowed {
        address_or_name(report, at, address);
    } else if !address.is_empty() && !names::is_ip(address) {
        report.refuse(&place, format!("endpoint address \"{address}\" is not a valid IP address"));
    }
    ports(report, at, &entry.ports, service_ports);
    tags(report, &at.field("labels"), &entry.labels);
    if unix.is_some() && service_ports.is_some_and(|ports| ports.len() != 1) {
        report.refuse(&place, "exactly 1 service port required for unix endpoints");
    }
}

/// An address that may be a DNS name.
pub(super) fn address_or_name(report: &mut Report<'_>, at: &At<'_>, address: &str) {
    if !names::is_ip(address) && names::fqdn(address).is_err() {
        report.refuse(
            &at.field("address"),
            format!("endpoint address \"{address}\" is not a valid FQDN or an IP address"),
        );
    }
}

/// The ports of an endpoint.
pub(super) fn ports(
    report: &mut Report<'_>,
    at: &At<'_>,
    ports: &IndexMap<SmolStr, u32>,
    service_ports: Option<&FxHashSet<&str>>,
) {
    let at = at.field("ports");
    for (name, port) in ports {
        let at = at.key(name);
        if service_ports.is_some_and(|known| !known.contains(name.as_str())) {
            report.refuse(&at, format!("endpoint port {port} is not defined by the service entry"));
        }
        report.check(&at, names::port_name(name));
        report.check(&at, names::port(*port));
    }
}

pub(super) fn group(report: &mut Report<'_>, spec: &At<'_>, group: &WorkloadGroup) {
    if group.template.is_none() {
        report.refuse(spec, "template is required");
        return;
    }
    if let Some(metadata) = &group.metadata {
        tags(report, &spec.field("metadata").field("labels"), &metadata.labels);
    }
    if let Some(probe) = &group.probe {
        readiness(report, &spec.field("probe"), probe);
    }
}

fn readiness(report: &mut Report<'_>, at: &At<'_>, probe: &ReadinessProbe) {
    for (field, value) in [
        ("periodSeconds", probe.period_seconds),
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if value < 0 {
            report.refuse(&at.field(field), format!("{field} must be non-negative"));
        }
    }
    report.at_most_one(
        at,
        &[
            ("httpGet", probe.http_get.is_some()),
            ("tcpSocket", probe.tcp_socket.is_some()),
            ("exec", probe.exec.is_some()),
            ("grpc", probe.grpc.is_some()),
        ],
    );
    if let Some(http) = &probe.http_get {
        let at = at.field("httpGet");
        report.check(&at.field("port"), names::port(http.port));
        if !matches!(http.scheme.as_str(), "" | "HTTP" | "HTTPS") {
            report.refuse(&at.field("scheme"), "httpGet.scheme must be one of \"HTTPS\", \"HTTP\"");
        }
        let headers = at.field("httpHeaders");
        for (index, header) in http.http_headers.iter().enumerate() {
            report.check(&headers.index(index).field("name"), names::probe_header(&header.name));
        }
    } else if let Some(tcp) = &probe.tcp_socket {
        report.check(&at.field("tcpSocket").field("port"), names::port(tcp.port));
    } else if let Some(exec) = &probe.exec {
        if exec.command.is_empty() {
            report.refuse(&at.field("exec"), "exec.command is required");
        }
    } else {
        // The webhook knows no gRPC probes either.
        report.refuse(at, "unknown health check method");
    }
}
