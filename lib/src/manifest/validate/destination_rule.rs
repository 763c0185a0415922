//! DestinationRule, and the traffic policies that other kinds have too.
//!
//! istiod: `validation.go: ValidateDestinationRule, validateTrafficPolicy`, `agent/validation.go: ValidateTLS`.

use rustc_hash::FxHashSet;

use super::load_balancer::load_balancer;
use super::names;
use super::report::{At, Report};
use super::selector::{Exported, exports, workloads_at};
use super::virtual_service::tags;
use crate::manifest::schema::istio::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, H2UpgradePolicy, LoadBalancerSettings,
    OutlierDetection, PortTrafficPolicy, Subset, TlsMode, TrafficPolicy, TunnelSettings,
};

const MILLISECOND: i64 = 1_000_000;

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, rule: &DestinationRule) {
    report.check(&spec.field("host"), names::wildcard_domain(&rule.host));
    if let Some(policy) = &rule.traffic_policy {
        traffic_policy(report, &spec.field("trafficPolicy"), policy);
    }
    let at = spec.field("subsets");
    let mut seen = FxHashSet::default();
    for (index, subset) in rule.subsets.iter().enumerate() {
        let at = at.index(index);
        if !seen.insert(subset.name.as_str()) {
            report.refuse(&at.field("name"), format!("duplicate subset names: {}", subset.name));
        }
        subset_of(report, &at, subset);
    }
    let kind = if rule.workload_selector.is_some() { Exported::SelectingRule } else { Exported::Other };
    exports(report, spec, &rule.export_to, kind);
    workloads_at(report, &spec.field("workloadSelector"), rule.workload_selector.as_ref());
}

fn subset_of(report: &mut Report<'_>, at: &At<'_>, subset: &Subset) {
    report.check(&at.field("name"), names::subset(&subset.name));
    tags(report, &at.field("labels"), &subset.labels);
    if let Some(policy) = &subset.traffic_policy {
        // Istio drops what it would warn of in a subset.
        report.without_warnings(|report| traffic_policy(report, &at.field("trafficPolicy"), policy));
    }
}

fn traffic_policy(report: &mut Report<'_>, at: &At<'_>, policy: &TrafficPolicy) {
    if policy.outlier_detection.is_none()
        && policy.connection_pool.is_none()
        && policy.load_balancer.is_none()
        && policy.tls.is_none()
        && policy.port_level_settings.is_empty()
        && policy.tunnel.is_none()
        && policy.proxy_protocol.is_none()
        && policy.retry_budget.is_none()
    {
        report.refuse(at, "traffic policy must have at least one field");
        return;
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        report.refuse(&at.field("proxyProtocol"), "tunnel and proxyProtocol must not be set together");
        return;
    }
    settings(
        report,
        at,
        policy.outlier_detection.as_ref(),
        policy.connection_pool.as_ref(),
        policy.load_balancer.as_ref(),
        policy.tls.as_ref(),
    );
    let ports = at.field("portLevelSettings");
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        report.without_warnings(|report| port_policy(report, &ports.index(index), port));
    }
    if let Some(settings) = &policy.tunnel {
        tunnel(report, &at.field("tunnel"), settings);
    }
}

/// The settings that a policy and a port's policy share.
fn settings(
    report: &mut Report<'_>,
    at: &At<'_>,
    outlier: Option<&OutlierDetection>,
    pool: Option<&ConnectionPoolSettings>,
    balancer: Option<&LoadBalancerSettings>,
    tls: Option<&ClientTlsSettings>,
) {
    if let Some(outlier) = outlier {
        outlier_detection(report, &at.field("outlierDetection"), outlier);
    }
    if let Some(pool) = pool {
        connection_pool(report, &at.field("connectionPool"), pool);
    }
    if let Some(balancer) = balancer {
        load_balancer(report, &at.field("loadBalancer"), balancer, outlier);
    }
    if let Some(tls) = tls {
        client_tls(report, &at.field("tls"), tls);
    }
}

fn port_policy(report: &mut Report<'_>, at: &At<'_>, policy: &PortTrafficPolicy) {
    if policy.port.is_none() {
        report.refuse(at, "portTrafficPolicy must have valid port");
    }
    if policy.outlier_detection.is_none()
        && policy.connection_pool.is_none()
        && policy.load_balancer.is_none()
        && policy.tls.is_none()
    {
        report.refuse(at, "port traffic policy must have at least one field");
        return;
    }
    settings(
        report,
        at,
        policy.outlier_detection.as_ref(),
        policy.connection_pool.as_ref(),
        policy.load_balancer.as_ref(),
        policy.tls.as_ref(),
    );
}

fn tunnel(report: &mut Report<'_>, at: &At<'_>, tunnel: &TunnelSettings) {
    if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
        report.refuse(&at.field("protocol"), "tunnel protocol must be \"CONNECT\" or \"POST\"");
    }
    if let Err(reason) = names::fqdn(&tunnel.target_host)
        && !names::is_ip(&tunnel.target_host)
    {
        report.refuse(
            &at.field("targetHost"),
            format!(
                "tunnel target host must be valid FQDN or IP address: {reason}; {} is not a valid IP",
                tunnel.target_host
            ),
        );
    }
    if let Err(reason) = names::port(tunnel.target_port) {
        report.refuse(&at.field("targetPort"), format!("tunnel target port is invalid: {reason}"));
    }
}

fn outlier_detection(report: &mut Report<'_>, at: &At<'_>, outlier: &OutlierDetection) {
    if let Some(time) = outlier.base_ejection_time {
        report.check(&at.field("baseEjectionTime"), names::duration(time));
    }
    if outlier.consecutive_errors != 0 {
        report.warn(
            &at.field("consecutiveErrors"),
            "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors instead",
        );
    }
    if !outlier.split_external_local_origin_errors
        && outlier.consecutive_local_origin_failures.is_some_and(|n| n > 0)
    {
        report.refuse(
            &at.field("consecutiveLocalOriginFailures"),
            "outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false",
        );
    }
    if let Some(interval) = outlier.interval {
        report.check(&at.field("interval"), names::duration(interval));
    }
    report.check(&at.field("maxEjectionPercent"), names::percent(outlier.max_ejection_percent));
    report.check(&at.field("minHealthPercent"), names::percent(outlier.min_health_percent));
}

/// istiod: `validation.go: validateConnectionPool`.
pub(super) fn connection_pool(report: &mut Report<'_>, at: &At<'_>, pool: &ConnectionPoolSettings) {
    if pool.http.is_none() && pool.tcp.is_none() {
        report.refuse(at, "connection pool must have at least one field");
        return;
    }
    if let Some(http) = &pool.http {
        let at = at.field("http");
        for (field, value, name) in [
            ("http1MaxPendingRequests", http.http1_max_pending_requests, "http1 max pending requests"),
            ("http2MaxRequests", http.http2_max_requests, "http2 max requests"),
            ("maxRequestsPerConnection", http.max_requests_per_connection, "max requests per connection"),
            ("maxRetries", http.max_retries, "max retries"),
            ("maxConcurrentStreams", http.max_concurrent_streams, "max concurrent streams"),
        ] {
            not_negative(report, &at.field(field), value, name);
        }
        if let Some(timeout) = http.idle_timeout {
            report.check(&at.field("idleTimeout"), names::duration(timeout));
        }
        if http.h2_upgrade_policy == H2UpgradePolicy::Upgrade && http.use_client_protocol {
            report.refuse(
                &at.field("useClientProtocol"),
                "use client protocol must not be true when H2UpgradePolicy is UPGRADE",
            );
        }
        if let Some(keepalive) = &http.http2_keep_alive {
            let at = at.field("http2KeepAlive");
            for (field, value) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
                match value {
                    None => report.refuse(&at, format!("http2 keepalive {field} is required")),
                    Some(duration) => report.check(&at.field(field), names::duration(duration)),
                }
            }
        }
    }
    if let Some(tcp) = &pool.tcp {
        let at = at.field("tcp");
        not_negative(report, &at.field("maxConnections"), tcp.max_connections, "max connections");
        for (field, value) in
            [("connectTimeout", tcp.connect_timeout), ("maxConnectionDuration", tcp.max_connection_duration)]
        {
            if let Some(duration) = value {
                report.check(&at.field(field), names::duration(duration));
            }
        }
        // Zero turns the timeout off.
        if let Some(timeout) = tcp.idle_timeout.filter(|t| t.0 / MILLISECOND != 0) {
            report.check(&at.field("idleTimeout"), names::duration(timeout));
        }
        if let Some(keepalive) = &tcp.tcp_keepalive {
            let at = at.field("tcpKeepalive");
            for (field, value) in [("time", keepalive.time), ("interval", keepalive.interval)] {
                if let Some(duration) = value {
                    report.check(&at.field(field), names::duration(duration));
                }
            }
        }
    }
}

fn not_negative(report: &mut Report<'_>, at: &At<'_>, value: i32, name: &str) {
    if value < 0 {
        report.refuse(at, format!("{name} must be non-negative"));
    }
}

fn client_tls(report: &mut Report<'_>, at: &At<'_>, tls: &ClientTlsSettings) {
    let credential = at.field("credentialName");
    if let Some(rest) = tls.credential_name.strip_prefix("configmap://") {
        config_map(report, &credential, &tls.credential_name, rest);
    }
    if tls.insecure_skip_verify == Some(true) {
        let at = at.field("insecureSkipVerify");
        let verified = !tls.ca_certificates.is_empty() || !tls.subject_alt_names.is_empty();
        if tls.mode == TlsMode::Simple && (verified || !tls.credential_name.is_empty()) {
            report.refuse(
                &at,
                "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true",
            );
        }
        if tls.mode == TlsMode::Mutual && verified {
            report.refuse(
                &at,
                "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true",
            );
        }
    }
    if matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual) && !tls.credential_name.is_empty() {
        if [&tls.client_certificate, &tls.ca_certificates, &tls.private_key, &tls.ca_crl]
            .iter()
            .any(|file| !file.is_empty())
        {
            report.refuse(
                &credential,
                "cannot specify client certificates or CA certificate or CA CRL If credentialName is set",
            );
        }
        return;
    }
    if tls.mode == TlsMode::Mutual {
        if tls.client_certificate.is_empty() {
            report.refuse(at, "client certificate required for mutual tls");
        }
        if tls.private_key.is_empty() {
            report.refuse(at, "private key required for mutual tls");
        }
    }
}

/// A ConfigMap has to be one of the resource's own namespace.
fn config_map(report: &mut Report<'_>, at: &At<'_>, whole: &str, rest: &str) {
    let mut parts = rest.split('/');
    let namespace = parts.next().unwrap_or_default();
    let problem = match parts.next() {
        None => Some("namespace and name"),
        Some(_) if namespace.is_empty() => Some("namespace"),
        Some("") => Some("name"),
        Some(_) => None,
    };
    if let Some(expected) = problem {
        report.refuse(
            at,
            format!(
                "invalid configmap:// credentialName: invalid resource name \"{whole}\". Expected {expected}"
            ),
        );
        return;
    }
    let own = report.resource().meta.namespace.clone();
    if own != namespace {
        report.refuse(
            at,
            format!(
                "invalid configmap:// credentialName: namespace must match the configuration namespace \"{own}\""
            ),
        );
    }
}
