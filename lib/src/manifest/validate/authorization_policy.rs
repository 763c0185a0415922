//! AuthorizationPolicy. istiod: `validation.go: ValidateAuthorizationPolicy`, `pkg/config/security/security.go`.

use smol_str::SmolStr;

use super::report::{At, Report};
use super::{names, selector};
use crate::manifest::schema::istio::{
    AuthorizationAction, AuthorizationPolicy, Condition, Operation, Rule, Source,
};

/// Why a value of the annotation `istio.io/dry-run` is refused.
pub(super) fn dry_run(action: AuthorizationAction, value: &str) -> Option<String> {
    if !matches!(action, AuthorizationAction::Allow | AuthorizationAction::Deny) {
        return Some(format!(
            "the annotation istio.io/dry-run currently only supports action ALLOW/DENY, found action {}",
            action.as_str()
        ));
    }
    // Go's ParseBool.
    let boolean = matches!(
        value,
        "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False"
    );
    (!boolean).then(|| format!("annotation istio.io/dry-run with invalid value ({value})"))
}

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, policy: &AuthorizationPolicy) {
    selector::targets(
        report,
        spec,
        policy.selector.as_ref(),
        policy.target_ref.as_ref(),
        &policy.target_refs,
    );
    let rules = spec.field("rules");
    if policy.action == AuthorizationAction::Custom {
        custom(report, spec, policy);
    } else if policy.provider.is_some() {
        report.refuse(
            &spec.field("provider"),
            format!("`provider` must not be with non CUSTOM action, found {}", policy.action.as_str()),
        );
    }
    if policy.action == AuthorizationAction::Deny && policy.rules.is_empty() {
        never(report, spec, "DENY");
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        rule_of(report, &rules.index(index), index, rule, policy.action);
    }
}

fn never(report: &mut Report<'_>, spec: &At<'_>, action: &str) {
    report.refuse(
        spec,
        format!(
            "{action} action without `rules` is meaningless as it will never be triggered, add an empty rule `{{}}` if you want it be triggered for every request"
        ),
    );
}

/// What a custom action needs, and the conditions that it may not have.
fn custom(report: &mut Report<'_>, spec: &At<'_>, policy: &AuthorizationPolicy) {
    if policy.rules.is_empty() {
        never(report, spec, "CUSTOM");
    } else if policy.provider.as_ref().is_none_or(|provider| provider.name.is_empty()) {
        report.refuse(spec, "`provider.name` must not be empty");
    }
    let unsupported = |report: &mut Report<'_>, at: &At<'_>, name: &str| {
        report.refuse(at, format!("{name} is currently not supported with CUSTOM action"));
    };
    let at = spec.field("rules");
    for (index, rule) in policy.rules.iter().enumerate() {
        let at = at.index(index);
        let from_at = at.field("from");
        for (index, source) in rule.from.iter().enumerate() {
            let Some(source) = &source.source else { continue };
            for (field, name, values) in [
                ("namespaces", "From.Namespaces", &source.namespaces),
                ("notNamespaces", "From.NotNamespaces", &source.not_namespaces),
                ("serviceAccounts", "From.ServiceAccounts", &source.service_accounts),
                ("notServiceAccounts", "From.NotServiceAccounts", &source.not_service_accounts),
                ("trustDomains", "From.TrustDomains", &source.trust_domains),
                ("notTrustDomains", "From.NotTrustDomains", &source.not_trust_domains),
                ("principals", "From.Principals", &source.principals),
                ("notPrincipals", "From.NotPrincipals", &source.not_principals),
                ("requestPrincipals", "From.RequestPrincipals", &source.request_principals),
                ("notRequestPrincipals", "From.NotRequestPrincipals", &source.not_request_principals),
            ] {
                if !values.is_empty() {
                    unsupported(report, &from_at.index(index).field("source").field(field), name);
                }
            }
        }
        let when_at = at.field("when");
        for (index, condition) in rule.when.iter().enumerate() {
            let key = condition.key.as_str();
            let forbidden = matches!(
                key,
                "source.namespace" | "source.serviceAccount" | "source.trustDomain" | "source.principal"
            ) || key.starts_with("request.auth.");
            if forbidden {
                unsupported(report, &when_at.index(index).field("key"), key);
            }
        }
    }
}

fn rule_of(report: &mut Report<'_>, at: &At<'_>, number: usize, rule: &Rule, action: AuthorizationAction) {
    let (mut has_from, mut has_to, mut tcp_from, mut tcp_to) = (false, false, false, false);
    let from_at = at.field("from");
    for (index, from) in rule.from.iter().enumerate() {
        let at = from_at.index(index);
        let Some(source) = &from.source else {
            report.refuse(&at, format!("`from.source` must not be nil, found at rule {number}"));
            continue;
        };
        has_from = true;
        source_of(report, &at.field("source"), number, source);
        tcp_from |= [
            &source.principals,
            &source.not_principals,
            &source.ip_blocks,
            &source.not_ip_blocks,
            &source.namespaces,
            &source.not_namespaces,
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
            &source.service_accounts,
            &source.not_service_accounts,
        ]
        .iter()
        .any(|values| !values.is_empty());
    }
    let to_at = at.field("to");
    for (index, to) in rule.to.iter().enumerate() {
        let at = to_at.index(index);
        let Some(operation) = &to.operation else {
            report.refuse(&at, format!("`to.operation` must not be nil, found at rule {number}"));
            continue;
        };
        has_to = true;
        operation_of(report, &at.field("operation"), number, operation);
        tcp_to |= !operation.ports.is_empty() || !operation.not_ports.is_empty();
    }
    let when_at = at.field("when");
    for (index, condition) in rule.when.iter().enumerate() {
        condition_of(report, &when_at.index(index), condition);
    }
    let http_only = (has_from && !has_to && !tcp_from) || (has_to && !tcp_to);
    if http_only && action == AuthorizationAction::Deny {
        report.warn(
            at,
            "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to the use of only HTTP attributes in a DENY rule; it is recommended to explicitly specify the port",
        );
    }
}

fn source_of(report: &mut Report<'_>, at: &At<'_>, number: usize, source: &Source) {
    let named = [
        ("principals", "Principals", &source.principals),
        ("requestPrincipals", "RequestPrincipals", &source.request_principals),
        ("namespaces", "Namespaces", &source.namespaces),
        ("ipBlocks", "IpBlocks", &source.ip_blocks),
        ("remoteIpBlocks", "RemoteIpBlocks", &source.remote_ip_blocks),
        ("notPrincipals", "NotPrincipals", &source.not_principals),
        ("notRequestPrincipals", "NotRequestPrincipals", &source.not_request_principals),
        ("notNamespaces", "NotNamespaces", &source.not_namespaces),
        ("notIpBlocks", "NotIpBlocks", &source.not_ip_blocks),
        ("notRemoteIpBlocks", "NotRemoteIpBlocks", &source.not_remote_ip_blocks),
    ];
    let accounts = [
        ("serviceAccounts", "ServiceAccounts", &source.service_accounts),
        ("notServiceAccounts", "NotServiceAccounts", &source.not_service_accounts),
    ];
    let domains = [
        ("trustDomains", "TrustDomains", &source.trust_domains),
        ("notTrustDomains", "NotTrustDomains", &source.not_trust_domains),
    ];
    let identities = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    if accounts.iter().any(|(.., values)| !values.is_empty())
        && identities.iter().any(|values| !values.is_empty())
    {
        report.refuse(
            at,
            format!("cannot set serviceAccounts with namespaces or principals, found at rule {number}"),
        );
    }
    if named.iter().chain(&accounts).chain(&domains).all(|(.., values)| values.is_empty()) {
        report.refuse(at, format!("`from.source` must not be empty, found at rule {number}"));
    }
    for (field, name, values) in named {
        report.check(&at.field(field), not_empty(name, values));
        if name.ends_with("IpBlocks") {
            report.check(&at.field(field), ips(values));
        }
    }
    for (field, name, values) in accounts {
        report.check(&at.field(field), service_accounts(name, values));
    }
    for (field, name, values) in domains {
        report.check(&at.field(field), trust_domains(name, values));
    }
}

fn operation_of(report: &mut Report<'_>, at: &At<'_>, number: usize, operation: &Operation) {
    let all = [
        ("ports", "Ports", &operation.ports),
        ("methods", "Methods", &operation.methods),
        ("paths", "Paths", &operation.paths),
        ("hosts", "Hosts", &operation.hosts),
        ("notPorts", "NotPorts", &operation.not_ports),
        ("notMethods", "NotMethods", &operation.not_methods),
        ("notPaths", "NotPaths", &operation.not_paths),
        ("notHosts", "NotHosts", &operation.not_hosts),
    ];
    if all.iter().all(|(.., values)| values.is_empty()) {
        report.refuse(at, format!("`to.operation` must not be empty, found at rule {number}"));
    }
    for (field, name, values) in all {
        let at = at.field(field);
        report.check(&at, not_empty(name, values));
        match name {
            "Ports" | "NotPorts" => report.check(&at, ports(values)),
            "Paths" | "NotPaths" => {
                for (index, path) in values.iter().enumerate() {
                    report.check(&at.index(index), path_template(name, path));
                }
            }
            _ => {}
        }
    }
}

fn condition_of(report: &mut Report<'_>, at: &At<'_>, condition: &Condition) {
    let key = condition.key.as_str();
    if key.is_empty() {
        report.refuse(at, "`key` must not be empty");
        return;
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        report.refuse(at, format!("at least one of `values` or `notValues` must be set for key {key}"));
        return;
    }
    for (field, name, values) in
        [("values", "value", &condition.values), ("notValues", "notValue", &condition.not_values)]
    {
        if let Err(reason) = attribute(key, values) {
            report.refuse(&at.field(field), format!("invalid `{name}` for `key` {key}: {reason}"));
        }
    }
}

/// istiod: `security.go: ValidateAttribute`.
fn attribute(key: &str, values: &[SmolStr]) -> names::Checked {
    not_empty(key, values)?;
    match key {
        _ if key.starts_with("request.headers") || key.starts_with("request.auth.claims") => map_key(key),
        "source.ip" | "remote.ip" | "destination.ip" => ips(values),
        "source.serviceAccount" => service_accounts(key, values),
        "source.trustDomain" => wildcards(key, values),
        "destination.port" => ports(values),
        "source.namespace"
        | "source.principal"
        | "request.auth.principal"
        | "request.auth.audiences"
        | "request.auth.presenter"
        | "connection.sni" => Ok(()),
        _ if key.starts_with("experimental.envoy.filters.") => map_key(key),
        "destination.namespace" => Err(format!("attribute {key} is replaced by the metadata.namespace")),
        _ if key.starts_with("destination.labels") => {
            Err(format!("attribute {key} is replaced by the workload selector"))
        }
        "destination.name" | "destination.user" => {
            Err(format!("deprecated attribute {key}: only supported in v1alpha1"))
        }
        _ => Err(format!("unknown attribute: {key}")),
    }
}

/// `a[b]` with something before and inside the brackets.
fn map_key(key: &str) -> names::Checked {
    match key.find('[') {
        Some(open) if key.ends_with(']') && open > 0 && open + 2 < key.len() => Ok(()),
        _ => Err(format!("bad key ({key}): should have format a[b]")),
    }
}

fn not_empty(name: &str, values: &[SmolStr]) -> names::Checked {
    if values.iter().any(SmolStr::is_empty) {
        return Err(format!("empty value not allowed, found in {name}"));
    }
    Ok(())
}

fn wildcards(name: &str, values: &[SmolStr]) -> names::Checked {
    not_empty(name, values)?;
    for value in values {
        match value.matches('*').count() {
            0 => {}
            1 if value.starts_with('*') || value.ends_with('*') => {}
            1 => {
                return Err(format!(
                    "wildcard is only allowed at the start or end, found in {name}: \"{value}\""
                ));
            }
            _ => return Err(format!("at most one wildcard is allowed, found in {name}: \"{value}\"")),
        }
    }
    Ok(())
}

fn trust_domains(name: &str, values: &[SmolStr]) -> names::Checked {
    wildcards(name, values)?;
    match values.iter().find(|value| value.contains('/')) {
        Some(value) => Err(format!("trust domain must not contain '/', found in {name}: \"{value}\"")),
        None => Ok(()),
    }
}

fn service_accounts(name: &str, values: &[SmolStr]) -> names::Checked {
    const MOST: usize = 16;
    const LONGEST: usize = 320;
    if values.len() > MOST {
        return Err(format!("may not have more than {MOST} values"));
    }
    not_empty(name, values)?;
    for value in values {
        if value.contains('*') {
            return Err(format!("wildcard not allowed, found in {name}"));
        }
        let mut parts = value.split('/');
        let well_formed = match (parts.next(), parts.next(), parts.next()) {
            (Some(_), None, _) => true,
            (Some(namespace), Some(account), None) => !namespace.is_empty() && !account.is_empty(),
            _ => false,
        };
        if !well_formed {
            return Err(format!(
                "expected format 'serviceAccount' or 'namespace/serviceAccount', found \"{value}\" in {name}"
            ));
        }
        if value.len() > LONGEST {
            return Err(format!("value cannot exceed {LONGEST} characters, found \"{value}\" in {name}"));
        }
    }
    Ok(())
}

fn ips(values: &[SmolStr]) -> names::Checked {
    for value in values {
        if value.contains('/') {
            if !names::is_cidr(value) {
                return Err(format!("bad CIDR range ({value})"));
            }
        } else if !names::is_ip(value) {
            return Err(format!("bad IP address ({value})"));
        }
    }
    Ok(())
}

fn ports(values: &[SmolStr]) -> names::Checked {
    let is_port = |text: &str| {
        text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|port| port <= 65535)
    };
    match values.iter().find(|value| !is_port(value)) {
        Some(value) => Err(format!("bad port ({value})")),
        None => Ok(()),
    }
}

/// Whether `{*}` and `{**}` stand for whole segments, and `{**}` for the last of them.
///
/// istiod: `security.go: CheckValidPathTemplate`.
fn path_template(name: &str, path: &str) -> names::Checked {
    let template = path.contains("{*}") || path.contains("{**}");
    let literal = |segment: &str| {
        !segment.is_empty()
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&b))
    };
    let mut any = false;
    let trimmed = path.trim_matches('/');
    for segment in trimmed.split('/') {
        let problem = match segment {
            "{*}" | "{**}" if any => "{**} is not the last operator".to_owned(),
            "{*}" => continue,
            "{**}" => {
                any = true;
                continue;
            }
            _ if segment.contains(['{', '}']) => {
                "Contains '{' or '}' beyond a supported path template".to_owned()
            }
            _ if template && !literal(segment) => {
                format!("Contains segment {segment} with invalid string literal")
            }
            _ => continue,
        };
        return Err(format!("invalid or unsupported path {trimmed}, found in {name}. {problem}"));
    }
    Ok(())
}
