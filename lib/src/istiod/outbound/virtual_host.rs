//! Which virtual hosts does a port have, and which domains does each keep?
//!
//! VirtualServices come first, in order, then services without one. A name or domain that is taken stays with whoever
//! came first. Invariant: [`resolve`] gives the virtual host of a domain the same content whether it looks at all
//! services and VirtualServices or only at those that [`claimants`] names.
//! istiod: `httproute.go: BuildSidecarOutboundVirtualHosts`; `route.go: BuildSidecarVirtualHostWrapper,
//! buildSidecarVirtualHostsForVirtualService, separateVSHostsAndServices`.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use super::domains::{self, DomainSource, PortSuffix, Speaker};
use super::listener::ListenerProtocol;
use crate::istiod::node::Node;
use crate::istiod::scope::EgressListener;
use crate::istiod::service::ScopedService;
use crate::mesh::host_index::suffixes;
use crate::mesh::{Generator, Protocol, Resolution, host};

/// What the virtual hosts of a port are resolved from.
pub struct PortContext<'a> {
    /// The egress listener that answers for the port.
    pub egress: &'a EgressListener,
    /// The proxy.
    pub node: &'a Node,
    /// Whether istiod's dual stack is on.
    pub dual_stack: bool,
    /// Who asks, which decides how names are abbreviated.
    pub speaker: Speaker<'a>,
    /// The port; 0 takes all ports of every service.
    pub port: u16,
    /// Whether a VirtualService has any route for this proxy and port.
    pub has_routes: &'a dyn Fn(u32) -> bool,
}

/// What a virtual host routes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// The VirtualService of this number.
    VirtualService(u32),
    /// The service of this number, which has none.
    Service(u32),
}

/// A virtual host without its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// Istio's name, `host:port`.
    pub name: SmolStr,
    /// The port of its routes.
    pub port: u16,
    /// The domains it keeps.
    pub domains: Vec<SmolStr>,
    /// Where its routes come from.
    pub source: RouteSource,
    /// The service it stands for, if any.
    pub service: Option<u32>,
}

/// Services and VirtualServices, by number, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// Services.
    pub services: Vec<u32>,
    /// VirtualServices.
    pub virtual_services: Vec<u32>,
}

struct Wrapper {
    port: u16,
    services: Vec<u32>,
    plain_hosts: Vec<SmolStr>,
    source: RouteSource,
}

impl PortContext<'_> {
    fn service(&self, number: u32) -> Option<ScopedService> {
        self.egress.service(number)
    }

    /// The ports of a service that count here.
    fn http_ports(&self, number: u32) -> Vec<u16> {
        let Some(service) = self.service(number) else { return Vec::new() };
        service
            .ports()
            .iter()
            .filter(|port| self.port == 0 || port.number == self.port)
            .filter(|port| is_http_or_sniffed(port.protocol))
            .map(|port| port.number)
            .take(if self.port == 0 { usize::MAX } else { 1 })
            .collect()
    }

    /// The service that is known under exactly this host on the port: of several, the last.
    pub fn registry(&self, host: &str) -> Option<u32> {
        let on_port = |number: &u32| {
            self.port == 0 || self.service(*number).is_some_and(|service| service.port(self.port).is_some())
        };
        self.egress.services_named(host).into_iter().rev().find(on_port)
    }

    /// All services that are known on the port.
    fn all_services(&self) -> Vec<u32> {
        let mut out = Vec::new();
        for number in self.egress.services() {
            let Some(service) = self.service(number) else { continue };
            if self.registry(&service.hostname().to_lowercase()) == Some(number) {
                out.push(number);
            }
        }
        out
    }

    /// Everything there is on the port.
    pub fn everything(&self) -> Closure {
        Closure { services: self.all_services(), virtual_services: self.egress.virtual_services() }
    }

    /// Whether any service on the port is covered by (or covers) a wildcard host.
    fn any_match(&self, wildcard: &str) -> bool {
        self.egress.matching_services(wildcard, self.port).any(|number| {
            self.service(number)
                .is_some_and(|service| self.registry(&service.hostname().to_lowercase()) == Some(number))
        })
    }

    /// Whether a VirtualService takes an HTTP service on the port through a wildcard host.
    fn takes_any(&self, virtual_service: u32, wildcard: &str) -> bool {
        self.egress.matching_services(wildcard, self.port).any(|number| {
            self.service(number).is_some_and(|service| {
                self.registry(&service.hostname().to_lowercase()) == Some(number)
                    && self.egress.most_specific(&service.hostname().to_lowercase()) == Some(virtual_service)
                    && !self.http_ports(number).is_empty()
            })
        })
    }
}

/// Whether the protocol is HTTP, or found out from the first bytes.
pub const fn is_http_or_sniffed(protocol: Protocol) -> bool {
    matches!(ListenerProtocol::of(protocol), Some(ListenerProtocol::Http | ListenerProtocol::Auto))
}

/// Everything that could claim `domain`, or take part in the virtual host that does.
pub fn claimants(context: &PortContext<'_>, domain: &str, into: &mut Closure) {
    let egress = context.egress;
    let mut services: Vec<u32> = Vec::new();
    for candidate in domains::candidates(domain, context.speaker.domain) {
        services.extend(context.registry(&candidate));
        services.extend(egress.services_with_alias(&candidate));
    }
    services.extend(egress.services_at(domain));
    services.extend(egress.oddly_named());
    for number in services {
        let Some(service) = context.service(number) else { continue };
        let hostname = service.hostname().to_lowercase();
        if context.registry(&hostname) != Some(number) {
            continue;
        }
        into.services.push(number);
        into.virtual_services.extend(egress.virtual_services_named(&hostname));
        into.virtual_services.extend(egress.most_specific(&hostname));
    }
    into.virtual_services.extend(egress.virtual_services_named(domain));
}

impl Closure {
    /// Puts both lists in istiod's order.
    fn normalise(&mut self, egress: &EgressListener) {
        self.services = egress.ordered(std::mem::take(&mut self.services));
        self.virtual_services = egress.imported_virtual_services(std::mem::take(&mut self.virtual_services));
    }
}

/// The virtual host that keeps `domain` (in lower case), with all of its domains.
pub fn find(context: &PortContext<'_>, domain: &str) -> Option<Skeleton> {
    let mut closure = Closure::default();
    claimants(context, domain, &mut closure);
    if closure.services.is_empty() && closure.virtual_services.is_empty() {
        return None;
    }
    closure.normalise(context.egress);
    let keeps = |skeleton: &Skeleton| skeleton.domains.iter().any(|own| own.eq_ignore_ascii_case(domain));
    let found = resolve(context, &closure).into_iter().find(keeps)?;
    // Its other domains may belong to others: look at everyone who claims one of them.
    for other in found.domains.iter().filter(|other| !other.eq_ignore_ascii_case(domain)) {
        claimants(context, &other.to_lowercase(), &mut closure);
    }
    closure.normalise(context.egress);
    resolve(context, &closure).into_iter().find(keeps)
}

/// The virtual host for a host (in lower case, without port): exact, else by the longest wildcard.
pub fn choose(context: &PortContext<'_>, host: &str) -> Option<Skeleton> {
    if let Some(found) = find(context, host) {
        return Some(found);
    }
    suffixes(host).skip(1).filter(|suffix| !suffix.is_empty()).find_map(|suffix| {
        let domain = smol_str::format_smolstr!("*{suffix}");
        // Only whole labels can come from a headless service; other wildcards are named somewhere.
        let named = suffix.starts_with('.')
            || !context.egress.services_named(&domain).is_empty()
            || !context.egress.virtual_services_named(&domain).is_empty();
        if named { find(context, &domain) } else { None }
    })
}

/// The virtual hosts of the given services and VirtualServices.
pub fn resolve(context: &PortContext<'_>, closure: &Closure) -> Vec<Skeleton> {
    let mut wrappers: Vec<Wrapper> = Vec::new();
    let mut taken: FxHashSet<u32> = FxHashSet::default();
    for &number in &closure.virtual_services {
        for wrapper in virtual_service_wrappers(context, number, &closure.services) {
            taken.extend(wrapper.services.iter().copied());
            wrappers.push(wrapper);
        }
    }
    for &number in &closure.services {
        let alias = context.service(number).is_none_or(|service| service.resolution() == Resolution::Alias);
        if alias || taken.contains(&number) {
            continue;
        }
        for port in context.http_ports(number) {
            let source = RouteSource::Service(number);
            wrappers.push(Wrapper { port, services: vec![number], plain_hosts: Vec::new(), source });
        }
    }
    let mut names: FxHashSet<SmolStr> = FxHashSet::default();
    let mut taken_domains: FxHashSet<SmolStr> = FxHashSet::default();
    let mut out = Vec::new();
    for wrapper in wrappers {
        let plain = wrapper.plain_hosts.iter().map(|host| (SmolStr::from(host.to_lowercase()), None));
        let services = wrapper
            .services
            .iter()
            .filter_map(|&number| Some((context.service(number)?.hostname().clone(), Some(number))));
        for (hostname, service) in plain.chain(services) {
            let hostname: SmolStr = if context.port == 0 { hostname } else { hostname.to_lowercase().into() };
            let name = domains::with_port(&hostname, wrapper.port);
            if !names.insert(name.clone()) {
                continue;
            }
            let domains = keep_domains(context, &wrapper, &hostname, service, &mut taken_domains);
            if !domains.is_empty() {
                out.push(Skeleton { name, port: wrapper.port, domains, source: wrapper.source, service });
            }
        }
    }
    out
}

/// The domains that are still free. istiod: `httproute.go: dedupeDomains`.
fn keep_domains(
    context: &PortContext<'_>,
    wrapper: &Wrapper,
    hostname: &SmolStr,
    service: Option<u32>,
    taken: &mut FxHashSet<SmolStr>,
) -> Vec<SmolStr> {
    let (all, alternatives) = match service.and_then(|number| context.service(number)).as_ref() {
        None => (vec![domains::plain(hostname)], Vec::new()),
        Some(service) => {
            let suffix = if context.port == 0 { PortSuffix::Also(wrapper.port) } else { PortSuffix::None };
            let source = DomainSource {
                hostname,
                aliases: service.aliases(),
                addresses: &service.addresses(context.node, context.dual_stack),
                headless: service.is_headless(),
            };
            let domains = domains::generate(source, suffix, context.speaker);
            (domains.all, domains.alternatives)
        }
    };
    let mut out = Vec::with_capacity(all.len());
    for domain in all {
        let lower = SmolStr::from(domain.to_lowercase());
        if taken.contains(&lower) || (alternatives.contains(&domain) && is_known(context, &domain)) {
            continue;
        }
        taken.insert(lower);
        out.push(domain);
    }
    out
}

/// Whether a virtual host stands for a service of exactly this name.
fn is_known(context: &PortContext<'_>, domain: &str) -> bool {
    let Some(number) = context.registry(domain) else { return false };
    // An ExternalName service has a virtual host of its own only through a VirtualService.
    let alias = context.service(number).is_some_and(|service| service.resolution() == Resolution::Alias);
    let stands =
        !alias || context.egress.virtual_services_named(domain).iter().any(|vs| (context.has_routes)(*vs));
    stands && !context.http_ports(number).is_empty()
}

/// What one VirtualService becomes on the port.
fn virtual_service_wrappers(context: &PortContext<'_>, number: u32, services: &[u32]) -> Vec<Wrapper> {
    let Some(virtual_service) = context.egress.virtual_service(number) else {
        return Vec::new();
    };
    if !(context.has_routes)(number) {
        return Vec::new();
    }
    let mut plain_hosts: Vec<SmolStr> = Vec::new();
    let mut matched: Vec<u32> = Vec::new();
    let mut wildcards: Vec<SmolStr> = Vec::new();
    for name in virtual_service.hosts.iter().filter(|name| !host::is_wildcard(name)) {
        match context.registry(&name.to_lowercase()) {
            Some(service) => matched.push(service),
            None => plain_hosts.push(name.clone()),
        }
    }
    for name in virtual_service.hosts.iter().filter(|name| host::is_wildcard(name)) {
        let name = SmolStr::from(name.to_lowercase());
        if virtual_service.generator == Generator::GatewayApi {
            plain_hosts.push(name);
            continue;
        }
        for &service in services {
            let Some(hostname) = context.service(service).map(|service| service.hostname().to_lowercase())
            else {
                continue;
            };
            if host::matches(&hostname, &name) && context.egress.most_specific(&hostname) == Some(number) {
                matched.push(service);
            }
        }
        if !context.any_match(&name) {
            plain_hosts.push(name.clone());
        }
        wildcards.push(name);
    }
    if virtual_service.generator == Generator::GatewayApi {
        let own = |service: &ScopedService| {
            *service.namespace() == virtual_service.namespace
                || context.node.namespace == virtual_service.namespace
        };
        if !matched.iter().any(|&service| context.service(service).is_some_and(|service| own(&service))) {
            return Vec::new();
        }
    }
    let mut by_port: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    for &service in &matched {
        for port in context.http_ports(service) {
            by_port.entry(port).or_default().push(service);
        }
    }
    // Hosts that no service backs exist on port 80 only, or beside a service of the same VirtualService.
    let elsewhere = || wildcards.iter().any(|name| context.takes_any(number, name));
    if by_port.is_empty() && (context.port == 80 || (context.port != 0 && elsewhere())) {
        by_port.insert(context.port, Vec::new());
    }
    by_port
        .into_iter()
        .filter(|(port, _)| context.port == 0 || *port == context.port)
        .map(|(port, services)| Wrapper {
            port,
            services,
            plain_hosts: plain_hosts.clone(),
            source: RouteSource::VirtualService(number),
        })
        .collect()
}
