//! Which rules do HTTPRoutes and GRPCRoutes become?
//!
//! Each match of a rule becomes a rule of its own, in the Gateway API's order of precedence; routes of one listener (in the
//! mesh: of one namespace and port) and host become one VirtualService, the oldest first. Invariant: one rule that istiod
//! refuses takes all rules of its route with it. istiod: `pilot/pkg/config/kube/gateway/route_collections.go:
//! HTTPRouteCollection, GRPCRouteCollection, mergeHTTPRoutes`; `conversion.go: convertHTTPRoute, convertGRPCRoute,
//! augmentPortMatch`.

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::super::{HttpRule, VirtualService};
use super::backend::{Backend as _, Referrer, Resolved, weight_sum, weighted};
use super::parent::{Listener, attachments};
use super::reference::RouteKind;
use super::{Findings, GENERATED, Refusal, Source, Surroundings, defaults, filter, matching};
use crate::manifest::schema::Duration;
use crate::manifest::schema::gateway_api::{
    BackendRef, GrpcRouteSpec, HttpBackendRef, HttpRouteFilter, HttpRouteRetry, HttpRouteRule, HttpRouteSpec,
    HttpRouteTimeouts, RequestMirrorFilter,
};
use crate::manifest::schema::istio::{
    Headers, HttpDirectResponse, HttpMatchRequest, HttpMirrorPolicy, HttpRetry, HttpRoute,
    HttpRouteDestination,
};
use crate::origin::Origin;

/// What a rule with `retry` is retried on besides the statuses that it names.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";
/// How often a rule with `retry` is retried that does not say so.
const RETRY_ATTEMPTS: i32 = 2;

/// A VirtualService before those of one key are merged.
struct Base {
    key: SmolStr,
    virtual_service: VirtualService,
}

/// The VirtualServices of all HTTPRoutes and GRPCRoutes, and what istiod refuses.
pub(super) fn virtual_services(
    listeners: &[Listener],
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Vec<VirtualService> {
    let mut bases: Vec<Base> = Vec::new();
    for route in around.policies.http_routes.iter() {
        let spec = defaults::http_route(&route.spec, around.api_defaults);
        let source = Source::new(RouteKind::Http, route, &spec.parent_refs, &spec.hostnames);
        let convert = |referrer: Referrer<'_>| http_rules(&source, &spec, referrer);
        bases.extend(unmerged(&source, &convert, listeners, around, findings));
    }
    for route in around.policies.grpc_routes.iter() {
        let spec = &route.spec;
        let source = Source::new(RouteKind::Grpc, route, &spec.parent_refs, &spec.hostnames);
        let convert = |referrer: Referrer<'_>| grpc_rules(&source, spec, referrer);
        bases.extend(unmerged(&source, &convert, listeners, around, findings));
    }
    merge(bases)
}

/// The VirtualServices of one route, one for each parent and host.
fn unmerged(
    source: &Source<'_>,
    convert: &dyn Fn(Referrer<'_>) -> Result<Vec<HttpRule>, Refusal>,
    listeners: &[Listener],
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Vec<Base> {
    let mut out = Vec::new();
    let mut converted: [Option<Vec<HttpRule>>; 2] = [None, None];
    for attachment in attachments(source.attached(), listeners, around, findings) {
        let in_mesh = attachment.kind.is_mesh();
        let [mesh, gateway] = &mut converted;
        let rules = if in_mesh { mesh } else { gateway }.get_or_insert_with(|| {
            convert(source.referrer(around, !in_mesh)).unwrap_or_else(|refusal| {
                findings.refused.push((source.origin(""), refusal));
                Vec::new()
            })
        });
        if rules.is_empty() {
            continue;
        }
        let mut key = if in_mesh { source.namespace.clone() } else { attachment.gateway.clone() };
        let rules = match attachment.reference.port.filter(|_| in_mesh) {
            Some(port) => {
                key = format_smolstr!("{key}/{port}");
                let mut rules: Vec<HttpRule> = rules.iter().map(|rule| with_port(rule, port)).collect();
                matching::sort(&mut rules);
                rules
            }
            None => {
                matching::sort(rules);
                rules.clone()
            }
        };
        for host in attachment.hosts(source.namespace, source.hostnames, around) {
            if !attachment.keeps(&host) {
                continue;
            }
            let key = format_smolstr!("{key}/{host}");
            let name = format_smolstr!("{}~{}~{GENERATED}", source.name, out.len());
            let mut virtual_service = source.virtual_service(name, host, attachment.gateway.clone(), around);
            virtual_service.http.clone_from(&rules);
            out.push(Base { key, virtual_service });
        }
    }
    out
}

/// A rule of a parent of which the route names a port.
fn with_port(rule: &HttpRule, port: u32) -> HttpRule {
    let mut rule = rule.clone();
    if rule.route.match_.is_empty() {
        rule.route.match_.push(HttpMatchRequest::default());
        rule.match_origins.push(rule.origin.clone());
    }
    for condition in &mut rule.route.match_ {
        condition.port = port;
    }
    rule
}

/// Makes one VirtualService of those with one key: the oldest route gives its namespace, and its rules come first.
fn merge(bases: Vec<Base>) -> Vec<VirtualService> {
    let mut by_key: IndexMap<SmolStr, Vec<VirtualService>> = IndexMap::new();
    for Base { key, virtual_service } in bases {
        by_key.entry(key).or_default().push(virtual_service);
    }
    let merged = by_key.into_iter().filter_map(|(key, mut parts)| {
        parts.sort_by(|a, b| (&a.creation, &a.namespace, &a.name).cmp(&(&b.creation, &b.namespace, &b.name)));
        let alone = parts.len() == 1;
        let mut parts = parts.into_iter();
        let mut out = parts.next()?;
        out.http.extend(parts.flat_map(|part| part.http));
        if !alone {
            matching::sort(&mut out.http);
        }
        out.name = key.replace('/', "~").into();
        Some(out)
    });
    merged.collect()
}

fn http_rules(
    source: &Source<'_>,
    spec: &HttpRouteSpec,
    referrer: Referrer<'_>,
) -> Result<Vec<HttpRule>, Refusal> {
    let mut out = Vec::new();
    for (n, rule) in spec.rules.iter().flatten().enumerate() {
        let parts = Parts { name: rule.name.as_ref(), filters: &rule.filters, backends: &rule.backend_refs };
        let mut draft = Draft::new(source, n, &parts, referrer)?;
        draft.times(rule);
        let matches = rule.matches.iter().flatten();
        let matches = matches.map(matching::http).collect::<Result<Vec<_>, _>>()?;
        out.extend(draft.with_matches(matches));
    }
    Ok(out)
}

fn grpc_rules(
    source: &Source<'_>,
    spec: &GrpcRouteSpec,
    referrer: Referrer<'_>,
) -> Result<Vec<HttpRule>, Refusal> {
    let mut out = Vec::new();
    for (n, rule) in spec.rules.iter().enumerate() {
        let parts = Parts { name: rule.name.as_ref(), filters: &rule.filters, backends: &rule.backend_refs };
        let draft = Draft::new(source, n, &parts, referrer)?;
        let matches = rule.matches.iter().map(matching::grpc).collect::<Result<Vec<_>, _>>()?;
        out.extend(draft.with_matches(matches));
    }
    Ok(out)
}

/// What rules of HTTPRoutes and GRPCRoutes have in common.
struct Parts<'a> {
    name: Option<&'a SmolStr>,
    filters: &'a [HttpRouteFilter],
    backends: &'a [HttpBackendRef],
}

/// A rule that is being translated, without its matches.
struct Draft {
    rule: HttpRule,
}

impl Draft {
    /// The rule numbered `n`, with what all kinds of routes have.
    fn new(
        source: &Source<'_>,
        n: usize,
        parts: &Parts<'_>,
        referrer: Referrer<'_>,
    ) -> Result<Self, Refusal> {
        let name = parts.name.cloned();
        let name = name.unwrap_or_else(|| format_smolstr!("{}.{}.{n}", source.namespace, source.name));
        let rule = HttpRule {
            route: HttpRoute { name, ..HttpRoute::default() },
            origin: source.origin(format_smolstr!("spec.rules[{n}]")),
            match_origins: Vec::new(),
            places: Vec::new(),
        };
        let mut draft = Self { rule };
        draft.filters(parts.filters, referrer)?;
        draft.destinations(parts.backends, referrer)?;
        Ok(draft)
    }

    /// Remembers where a field of the VirtualService's rule is written.
    fn place(&mut self, field: impl Into<SmolStr>, origin: Origin) {
        self.rule.places.push((field.into(), origin));
    }

    fn filters(&mut self, filters: &[HttpRouteFilter], referrer: Referrer<'_>) -> Result<(), Refusal> {
        for (i, filter) in filters.iter().enumerate() {
            let at = self.rule.origin.element("filters", i);
            let http = referrer.kind == RouteKind::Http;
            match filter.type_.as_str() {
                "RequestHeaderModifier" | "ResponseHeaderModifier" => {
                    if let Some(field) = header_modifier(filter, &mut self.rule.route.headers)? {
                        self.place(format_smolstr!("headers.{}", field.of), at.part(field.filter));
                    }
                }
                "RequestMirror" => {
                    let Some(mirror) = &filter.request_mirror else { continue };
                    match mirror_policy(mirror, referrer) {
                        Ok(policy) => {
                            let field = format_smolstr!("mirrors[{}]", self.rule.route.mirrors.len());
                            self.place(field, at.part("requestMirror"));
                            self.rule.route.mirrors.push(policy);
                        }
                        // In an HTTPRoute only the mirror is left out.
                        Err(_) if http => {}
                        Err(refusal) => return Err(refusal),
                    }
                }
                "RequestRedirect" if http => {
                    self.rule.route.redirect = filter.request_redirect.as_ref().map(filter::redirect);
                    self.place("redirect", at.part("requestRedirect"));
                }
                "URLRewrite" if http => {
                    self.rule.route.rewrite = filter.url_rewrite.as_ref().and_then(filter::rewrite);
                    let at = at.part("urlRewrite");
                    for field in ["rewrite.uri", "rewrite.uriRegexRewrite"] {
                        self.place(field, at.part("path"));
                    }
                    self.place("rewrite.authority", at.part("hostname"));
                }
                "CORS" if http => {
                    self.rule.route.cors_policy = filter.cors.as_ref().map(filter::cors);
                    self.place("corsPolicy", at.part("cors"));
                }
                other => return Err(Refusal::new(format!("istiod has no filter of type \"{other}\" here"))),
            }
        }
        Ok(())
    }

    /// Retries and time limits.
    fn times(&mut self, rule: &HttpRouteRule) {
        let at = self.rule.origin.clone();
        if let Some(retry) = &rule.retry {
            self.rule.route.retries = Some(retries(retry));
            self.place("retries", at.part("retry"));
        }
        let Some(HttpRouteTimeouts { request, backend_request }) = &rule.timeouts else { return };
        let limit = |duration: &Option<Duration>| duration.filter(|duration| duration.0 != 0);
        if let Some(limit) = limit(request) {
            self.rule.route.timeout = Some(limit);
            self.place("timeout", at.part("timeouts.request"));
        }
        if let Some(limit) = limit(backend_request) {
            if let Some(retries) = &mut self.rule.route.retries {
                retries.per_try_timeout = Some(limit);
            } else {
                // Without retries a try is all there is; its limit replaces the request's.
                self.rule.route.timeout = Some(limit);
                self.rule.places.retain(|(field, _)| field != "timeout");
                self.place("timeout", at.part("timeouts.backendRequest"));
            }
        }
    }

    fn destinations(&mut self, backends: &[HttpBackendRef], referrer: Referrer<'_>) -> Result<(), Refusal> {
        let at = self.rule.origin.clone();
        if weight_sum(backends) == 0 && self.rule.route.redirect.is_none() {
            self.rule.route.direct_response = Some(HttpDirectResponse { status: 500, body: None });
            self.place("directResponse", at.part("backendRefs"));
            return Ok(());
        }
        for (n, (i, backend, weight)) in weighted(backends).into_iter().enumerate() {
            let at = at.element("backendRefs", i);
            let field = format_smolstr!("route[{n}]");
            let mut headers = None;
            for (k, filter) in backend.filters.iter().enumerate() {
                match filter.type_.as_str() {
                    "RequestHeaderModifier" | "ResponseHeaderModifier" => {
                        if let Some(modifier) = header_modifier(filter, &mut headers)? {
                            let place = at.element("filters", k).part(modifier.filter);
                            self.place(format_smolstr!("{field}.headers.{}", modifier.of), place);
                        }
                    }
                    other => {
                        return Err(Refusal::new(format!("a backend has no filter of type \"{other}\"")));
                    }
                }
            }
            let destination = Some(referrer.resolve(backend.reference())?.destination);
            self.rule.route.route.push(HttpRouteDestination { destination, weight, headers });
            self.place(field, at);
        }
        Ok(())
    }

    /// One rule for each match; one without any when there is none.
    fn with_matches(self, matches: Vec<HttpMatchRequest>) -> Vec<HttpRule> {
        if matches.is_empty() {
            return vec![self.rule];
        }
        let rules = matches.into_iter().enumerate().map(|(m, condition)| {
            let mut rule = self.rule.clone();
            rule.match_origins.push(rule.origin.element("matches", m));
            rule.route.match_.push(condition);
            rule
        });
        rules.collect()
    }
}

/// Which of a rule's header operations a filter writes, and the filter's field.
struct HeaderField {
    of: &'static str,
    filter: &'static str,
}

/// Puts a header modifier into a `headers` block; a later one of its kind takes the place of an earlier one.
fn header_modifier(
    filter: &HttpRouteFilter,
    headers: &mut Option<Headers>,
) -> Result<Option<HeaderField>, Refusal> {
    if filter.type_ == "RequestHeaderModifier" {
        let Some(modifier) = &filter.request_header_modifier else { return Ok(None) };
        headers.get_or_insert_default().request = Some(filter::headers(modifier)?);
        return Ok(Some(HeaderField { of: "request", filter: "requestHeaderModifier" }));
    }
    let Some(modifier) = &filter.response_header_modifier else { return Ok(None) };
    headers.get_or_insert_default().response = Some(filter::headers(modifier)?);
    Ok(Some(HeaderField { of: "response", filter: "responseHeaderModifier" }))
}

/// The mirror of a filter, whose backend has to exist.
fn mirror_policy(mirror: &RequestMirrorFilter, referrer: Referrer<'_>) -> Result<HttpMirrorPolicy, Refusal> {
    let backend: BackendRef = mirror.backend_ref.clone().unwrap_or_default();
    let Resolved { destination, fault } = referrer.resolve(backend.reference())?;
    match fault {
        Some(fault) => Err(fault),
        None => {
            Ok(HttpMirrorPolicy { destination: Some(destination), percentage: filter::mirror_share(mirror) })
        }
    }
}

fn retries(retry: &HttpRouteRetry) -> HttpRetry {
    let attempts = retry.attempts.unwrap_or(RETRY_ATTEMPTS);
    let codes = retry.codes.iter().map(|code| format!(",{code}"));
    // Without attempts there is nothing to retry on.
    let retry_on = if attempts == 0 {
        SmolStr::default()
    } else {
        format_smolstr!("{RETRY_ON}{}", codes.collect::<String>())
    };
    HttpRetry { attempts, retry_on, backoff: retry.backoff, ..HttpRetry::default() }
}
