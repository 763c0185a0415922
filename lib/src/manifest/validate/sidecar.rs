//! Sidecar. istiod: `validation.go: ValidateSidecar`.

use rustc_hash::{FxHashMap, FxHashSet};

use super::destination_rule::connection_pool;
use super::gateway::tls_settings;
use super::names;
use super::report::{At, Report};
use super::selector::alpha;
use super::virtual_service::destination;
use crate::manifest::schema::istio::{
    CaptureMode, IstioEgressListener, IstioIngressListener, OutboundTrafficPolicy, OutboundTrafficPolicyMode,
    ServerTlsMode, ServerTlsSettings, Sidecar, SidecarPort,
};
use crate::protocol::Protocol;

const UNIX: &str = "unix://";

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, sidecar: &Sidecar) {
    if !alpha(report, spec, sidecar.workload_selector.as_ref(), "sidecar") {
        return;
    }
    if sidecar.egress.is_empty()
        && sidecar.ingress.is_empty()
        && sidecar.outbound_traffic_policy.is_none()
        && sidecar.inbound_connection_pool.is_none()
    {
        report.refuse(spec, "sidecar: empty configuration provided");
        return;
    }
    let at = spec.field("ingress");
    let mut ports = FxHashSet::default();
    for (index, listener) in sidecar.ingress.iter().enumerate() {
        ingress(report, &at.index(index), listener, &mut ports);
    }
    if let Some(pool) = &sidecar.inbound_connection_pool {
        connection_pool(report, &spec.field("inboundConnectionPool"), pool);
    }
    egress_listeners(report, &spec.field("egress"), &sidecar.egress);
    if let Some(policy) = &sidecar.outbound_traffic_policy {
        outbound_traffic_policy(report, &spec.field("outboundTrafficPolicy"), policy);
    }
}

fn ingress(
    report: &mut Report<'_>,
    at: &At<'_>,
    listener: &IstioIngressListener,
    ports: &mut FxHashSet<u32>,
) {
    let Some(port) = &listener.port else {
        report.refuse(at, "sidecar: port is required for ingress listeners");
        return;
    };
    let port_at = at.field("port");
    if port.target_port > 0 {
        report.refuse(&port_at.field("targetPort"), "targetPort has no impact on Sidecars");
    }
    numbered_port(report, at, port, &listener.bind);
    if !ports.insert(port.number) {
        report.refuse(&port_at.field("number"), "sidecar: ports on IP bound listeners must be unique");
    }
    default_endpoint(report, &at.field("defaultEndpoint"), &listener.default_endpoint);
    let protocol = names::known_protocol(&port.protocol);
    if let Some(tls) = &listener.tls {
        ingress_tls(report, &at.field("tls"), tls);
        if !protocol.is_some_and(Protocol::is_tls) {
            report.refuse(&at.field("tls"), "server cannot have TLS settings for non HTTPS/TLS ports");
        }
        tls_settings(report, &at.field("tls"), tls);
    }
    if let Some(pool) = &listener.connection_pool {
        let at = at.field("connectionPool");
        connection_pool(report, &at, pool);
        if pool.http.is_some() && !protocol.is_some_and(Protocol::is_http) {
            report.warn(
                &at.field("http"),
                format!(
                    "sidecar: HTTP connection pool settings are configured for port {} (\"{}\") but its protocol is not HTTP ({}); only TCP settings will apply",
                    port.number, port.name, port.protocol
                ),
            );
        }
    }
}

/// A port with a number, and the address it is bound to.
fn numbered_port(report: &mut Report<'_>, at: &At<'_>, port: &SidecarPort, bind: &str) {
    let port_at = at.field("port");
    if !port.name.is_empty() {
        report.check(&port_at.field("name"), names::port_name(&port.name));
    }
    report.check(&port_at.field("protocol"), names::protocol(&port.protocol));
    report.check(&port_at.field("number"), names::port(port.number));
    if !bind.is_empty() {
        report.check(&at.field("bind"), names::ip(bind));
    }
}

/// `127.0.0.1:port`, `[::1]:port`, `:port` or a socket.
fn default_endpoint(report: &mut Report<'_>, at: &At<'_>, endpoint: &str) {
    if endpoint.is_empty() {
        return;
    }
    if let Some(path) = endpoint.strip_prefix(UNIX) {
        report.check(at, names::unix_address(path));
        return;
    }
    let split = endpoint.rsplit_once(':').and_then(|(host, port)| {
        match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => Some((inner, port)),
            None => (!host.contains([':', '[', ']'])).then_some((host, port)),
        }
    });
    let Some((host, port)) = split else {
        report.refuse(at, format!("address {endpoint}: missing port in address"));
        return;
    };
    if !matches!(host, "" | "127.0.0.1" | "0.0.0.0" | "::1" | "::") {
        report.refuse(
            at,
            "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath or unset",
        );
    }
    match port.parse::<i64>() {
        Ok(number) => report.check(at, names::port(u32::try_from(number).unwrap_or(0))),
        Err(_) => {
            report.refuse(at, format!("sidecar: defaultEndpoint port ({port}) is not a number"));
        }
    }
}

fn ingress_tls(report: &mut Report<'_>, at: &At<'_>, tls: &ServerTlsSettings) {
    for (field, set, reason) in [
        (
            "subjectAltNames",
            !tls.subject_alt_names.is_empty(),
            "sidecar: subjectAltNames is not supported in ingress tls",
        ),
        ("httpsRedirect", tls.https_redirect, "sidecar: httpsRedirect is not supported"),
        (
            "credentialName",
            !tls.credential_name.is_empty(),
            "sidecar: credentialName is not currently supported",
        ),
        (
            "credentialNames",
            !tls.credential_names.is_empty(),
            "sidecar: credentialNames is not currently supported",
        ),
        (
            "tlsCertificates",
            !tls.tls_certificates.is_empty(),
            "sidecar: tls_certificates is not currently supported",
        ),
    ] {
        if set {
            report.refuse(&at.field(field), reason);
        }
    }
    if matches!(tls.mode, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
        report.refuse(
            &at.field("mode"),
            format!(
                "configuration is invalid: cannot set mode to {} in sidecar ingress tls",
                tls.mode.as_str()
            ),
        );
    }
}

fn egress_listeners(report: &mut Report<'_>, at: &At<'_>, listeners: &[IstioEgressListener]) {
    let mut ports = FxHashSet::default();
    let mut sockets = FxHashSet::default();
    for (index, listener) in listeners.iter().enumerate() {
        let place = at.index(index);
        match &listener.port {
            None if index + 1 < listeners.len() => report.refuse(
                &place,
                "sidecar: the egress listener with empty port should be the last listener in the list",
            ),
            None => {}
            Some(port) => {
                egress_port(report, &place, port, listener);
                let unique = if port.number == 0 {
                    sockets.insert(listener.bind.as_str())
                } else {
                    ports.insert(port.number)
                };
                if !unique && port.number == 0 {
                    report.refuse(
                        &place.field("bind"),
                        "sidecar: unix domain socket values for listeners must be unique",
                    );
                } else if !unique {
                    report.refuse(
                        &place.field("port").field("number"),
                        "sidecar: ports on IP bound listeners must be unique",
                    );
                }
            }
        }
        egress_hosts(report, &place, listener);
    }
}

fn egress_port(report: &mut Report<'_>, at: &At<'_>, port: &SidecarPort, listener: &IstioEgressListener) {
    if port.target_port > 0 {
        report.refuse(&at.field("port").field("targetPort"), "targetPort has no impact on Sidecars");
    }
    if port.number != 0 {
        numbered_port(report, at, port, &listener.bind);
        return;
    }
    let port_at = at.field("port");
    if !port.name.is_empty() {
        report.check(&port_at.field("name"), names::port_name(&port.name));
    }
    report.check(&port_at.field("protocol"), names::protocol(&port.protocol));
    match listener.bind.strip_prefix(UNIX) {
        Some(path) => report.check(&at.field("bind"), names::unix_address(path)),
        None => {
            report
                .refuse(&port_at, "sidecar: ports with 0 value must have a unix domain socket bind address");
        }
    }
    if listener.capture_mode == CaptureMode::Iptables {
        report.refuse(
            &at.field("captureMode"),
            "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners",
        );
    }
}

fn egress_hosts(report: &mut Report<'_>, at: &At<'_>, listener: &IstioEgressListener) {
    if listener.hosts.is_empty() {
        report.refuse(at, "sidecar: egress listener must contain at least one host");
        return;
    }
    let own = report.resource().meta.namespace.clone();
    let hosts = at.field("hosts");
    let mut seen: FxHashMap<&str, FxHashSet<&str>> = FxHashMap::default();
    for (index, host) in listener.hosts.iter().enumerate() {
        let at = hosts.index(index);
        if let Some((namespace, name)) = host.split_once('/').filter(|(ns, _)| !ns.starts_with('~')) {
            let namespace = if namespace == "." { own.as_str() } else { namespace };
            let names = seen.entry(namespace).or_default();
            let again =
                if name == "*" { !names.is_empty() } else { names.contains(name) || names.contains("*") };
            if again {
                report.warn(&at, format!("duplicated egress host: {host}"));
            }
            names.insert(name);
        }
        report.check(&at, names::namespaced_host(host, false, false));
    }
    if seen.get("*").is_some_and(|names| names.contains("*")) && seen.len() != 1 {
        report.warn(&hosts, "`*/*` host select all resources, no other hosts can be added");
    }
}

fn outbound_traffic_policy(report: &mut Report<'_>, at: &At<'_>, policy: &OutboundTrafficPolicy) {
    if policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns {
        report.refuse(
            &at.field("mode"),
            "sidecar: ALLOW_ANY_DYNAMIC_DNS mode is only supported in MeshConfig, not in Sidecar resource",
        );
        return;
    }
    let Some(proxy) = &policy.egress_proxy else { return };
    let at = at.field("egressProxy");
    if policy.mode != OutboundTrafficPolicyMode::AllowAny {
        report.refuse(
            &at,
            "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode",
        );
        return;
    }
    report.check(&at.field("host"), names::fqdn(&proxy.host));
    if proxy.port.is_none() {
        report.refuse(&at, "sidecar: egress_proxy port must be non-nil");
        return;
    }
    destination(report, &at, proxy);
}
