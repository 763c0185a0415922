//! What an HTTP rule does with a request. istiod: `validation.go: validateCORSPolicy, validateHTTPFaultInjection,
//! validateHTTPRedirect, validateHTTPDirectResponse, validateHTTPRewrite`, `agent/validation.go: ValidateHTTPRetry`.

use super::super::names;
use super::super::report::{At, Report};
use super::http::required_regex;
use crate::manifest::schema::istio::{
    CorsPolicy, FaultAbort, FaultDelay, HttpBody, HttpDirectResponse, HttpFaultInjection, HttpMatchRequest,
    HttpRedirect, HttpRetry, HttpRewrite, Percent, StringMatch,
};

const KB: usize = 1024;
const SECOND: i64 = 1_000_000_000;

pub(super) fn cors(report: &mut Report<'_>, at: &At<'_>, policy: &CorsPolicy) {
    let origins = at.field("allowOrigins");
    for (index, origin) in policy.allow_origins.iter().enumerate() {
        let at = origins.index(index);
        match origin {
            StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Regex(text)
                if text.is_empty() =>
            {
                report.refuse(&at, "'' is not a valid match type for CORS allow origins");
            }
            StringMatch::Unset => {
                report.refuse(&at, "'' is not a valid match type for CORS allow origins");
            }
            StringMatch::Regex(regex) => {
                report.check(&at, required_regex(regex, "corsPolicy.allowOrigins"));
            }
            StringMatch::Exact(_) | StringMatch::Prefix(_) => {}
        }
    }
    let methods = at.field("allowMethods");
    for (index, method) in policy.allow_methods.iter().enumerate() {
        let known = matches!(
            method.as_str(),
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "*"
        );
        if !known {
            report.refuse(&methods.index(index), format!("\"{method}\" is not a supported HTTP method"));
        }
    }
    for (field, list) in [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)]
    {
        let at = at.field(field);
        for (index, name) in list.iter().enumerate() {
            report.check(&at.index(index), names::cors_header(name));
        }
    }
    if let Some(age) = policy.max_age {
        let at = at.field("maxAge");
        report.check(&at, names::duration(age));
        if age.0 % SECOND > 0 {
            report.refuse(&at, "max_age duration is accurate only to seconds precision");
        }
    }
}

pub(super) fn fault(report: &mut Report<'_>, at: &At<'_>, fault: &HttpFaultInjection) {
    if fault.abort.is_none() && fault.delay.is_none() {
        report.refuse(at, "HTTP fault injection must have an abort and/or a delay");
    }
    if let Some(abort) = &fault.abort {
        fault_abort(report, &at.field("abort"), abort);
    }
    if let Some(delay) = &fault.delay {
        fault_delay(report, &at.field("delay"), delay);
    }
}

fn fault_abort(report: &mut Report<'_>, at: &At<'_>, abort: &FaultAbort) {
    report.at_most_one(
        at,
        &[
            ("httpStatus", abort.http_status.is_some()),
            ("grpcStatus", abort.grpc_status.is_some()),
            ("http2Error", abort.http2_error.is_some()),
        ],
    );
    percentage(report, &at.field("percentage"), abort.percentage.as_ref());
    if let Some(status) = &abort.grpc_status {
        if crate::grpc::status_number(status).is_none() {
            report.refuse(
                &at.field("grpcStatus"),
                format!(
                    "gRPC status \"{status}\" is not supported. See https://github.com/grpc/grpc/blob/master/doc/statuscodes.md for a list of supported codes, for example 'NOT_FOUND'"
                ),
            );
        }
    } else if abort.http2_error.is_some() {
        report.refuse(&at.field("http2Error"), "HTTP/2 abort fault injection not supported yet");
    } else if let Some(status) = abort.http_status {
        report.check(&at.field("httpStatus"), names::http_status(i64::from(status)));
    } else {
        report.warn(at, "abort configured, but error type not set");
    }
}

fn fault_delay(report: &mut Report<'_>, at: &At<'_>, delay: &FaultDelay) {
    report.at_most_one(
        at,
        &[
            ("fixedDelay", delay.fixed_delay.is_some()),
            ("exponentialDelay", delay.exponential_delay.is_some()),
        ],
    );
    percentage(report, &at.field("percentage"), delay.percentage.as_ref());
    if let Some(fixed) = delay.fixed_delay {
        report.check(&at.field("fixedDelay"), names::duration(fixed));
    }
    if let Some(exponential) = delay.exponential_delay {
        report.check(&at.field("exponentialDelay"), names::duration(exponential));
        report.refuse(&at.field("exponentialDelay"), "exponentialDelay not supported yet");
    }
}

fn percentage(report: &mut Report<'_>, at: &At<'_>, percentage: Option<&Percent>) {
    let Some(Percent { value }) = percentage else { return };
    if *value < 0.0 || *value > 100.0 || (*value > 0.0 && *value < 0.0001) {
        report.refuse(at, format!("percentage {value} is neither 0.0, nor in range [0.0001, 100.0]"));
    }
}

pub(super) fn redirect(
    report: &mut Report<'_>,
    at: &At<'_>,
    redirect: &HttpRedirect,
    matches: &[HttpMatchRequest],
) {
    report.at_most_one(
        at,
        &[("port", redirect.port.is_some()), ("derivePort", redirect.derive_port.is_some())],
    );
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        report.refuse(at, "redirect may only specify one of uri or prefix_rewrite");
        return;
    }
    let other_than_prefix = matches
        .iter()
        .any(|condition| condition.uri.as_ref().is_some_and(|uri| !matches!(uri, StringMatch::Prefix(_))));
    if !redirect.prefix_rewrite.is_empty() && other_than_prefix {
        report.refuse(
            &at.field("prefixRewrite"),
            "redirect prefix_rewrite requires all URI matches to use prefix match type",
        );
        return;
    }
    if redirect.uri.is_empty()
        && redirect.prefix_rewrite.is_empty()
        && redirect.authority.is_empty()
        && redirect.port.is_none()
        && redirect.derive_port.is_none()
        && redirect.scheme.is_empty()
    {
        report.refuse(at, "redirect must specify URI, authority, scheme, or port");
        return;
    }
    let code = redirect.redirect_code;
    if code != 0 && !(300..=399).contains(&code) {
        report.refuse(&at.field("redirectCode"), format!("{code} is not a valid redirect code, must be 3xx"));
        return;
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        report.refuse(&at.field("scheme"), "invalid redirect scheme, must be \"http\" or \"https\"");
        return;
    }
    if let Some(port) = redirect.port.filter(|port| *port > 0) {
        report.check(&at.field("port"), names::port(port));
    }
}

pub(super) fn direct_response(report: &mut Report<'_>, at: &At<'_>, response: &HttpDirectResponse) {
    let size = match &response.body {
        Some(HttpBody::String(text)) => text.len(),
        // Bytes are written in base64.
        Some(HttpBody::Bytes(text)) => text.trim_end_matches('=').len() * 3 / 4,
        Some(HttpBody::Unset) | None => 0,
    };
    if size > KB * KB {
        report.refuse(
            &at.field("body"),
            "large direct_responses may impact control plane performance, must be less than 1MB",
        );
    } else if size > 100 * KB {
        report.warn(&at.field("body"), "large direct_responses may impact control plane performance");
    }
    report.check(&at.field("status"), names::http_status(i64::from(response.status)));
}

pub(super) fn rewrite(report: &mut Report<'_>, at: &At<'_>, rewrite: &HttpRewrite) {
    if !rewrite.uri.is_empty() && rewrite.uri_regex_rewrite.is_some() {
        report.refuse(at, "rewrite may only contain one of URI or UriRegexRewrite");
        return;
    }
    let Some(regex) = &rewrite.uri_regex_rewrite else {
        if rewrite.uri.is_empty() && rewrite.authority.is_empty() {
            report.refuse(
                at,
                "rewrite must specify at least one of URI, UriRegexRewrite, or authority. Only one of URI or UriRegexRewrite may be specified",
            );
        }
        return;
    };
    let at = at.field("uriRegexRewrite");
    if regex.match_.is_empty() || regex.rewrite.is_empty() {
        report.refuse(&at, "UriRegexRewrite requires both Rewrite and Match fields to be specified");
        return;
    }
    report.check(&at.field("match"), names::regex(&regex.match_, "HTTPRewrite.UriRegexRewrite.Match"));
}

pub(super) fn retries(report: &mut Report<'_>, at: &At<'_>, retries: &HttpRetry) {
    if retries.attempts < 0 {
        report.refuse(&at.field("attempts"), "attempts cannot be negative");
    }
    let configured = retries.per_try_timeout.is_some()
        || !retries.retry_on.is_empty()
        || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && configured {
        report.refuse(
            &at.field("attempts"),
            "http retry policy configured when attempts are set to 0 (disabled)",
        );
    }
    if let Some(timeout) = retries.per_try_timeout {
        report.check(&at.field("perTryTimeout"), names::duration(timeout));
    }
    if !retries.retry_on.is_empty() {
        for policy in retries.retry_on.split(',') {
            if !RETRY_POLICIES.contains(&policy) && !is_status(policy) {
                report.refuse(&at.field("retryOn"), format!("\"{policy}\" is not a valid retryOn policy"));
            }
        }
    }
    if let Some(backoff) = retries.backoff {
        report.check(&at.field("backoff"), names::duration(backoff));
    }
}

/// Whether a text is a status that has a name in Go's `net/http`.
fn is_status(text: &str) -> bool {
    matches!(
        text.parse::<i64>().unwrap_or(0),
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511
    )
}

/// What Envoy retries on. istiod: `agent/validation.go: supportedRetryOnPolicies`.
const RETRY_POLICIES: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
