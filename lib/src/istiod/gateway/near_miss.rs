//! Which VirtualServices were meant for a host, and what keeps them away from this gateway?
//!
//! Asked when a gateway has no route for a request. Invariant: each miss names the first condition that fails for one
//! VirtualService and one of its gateways; a repair is the whole new value of the field that the miss points to.

use std::sync::Arc;

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::binding::common_hosts;
use super::merge::{MergedServer, SkipReason, Skipped};
use crate::host::near;
use crate::istiod::proxy::Proxy;
use crate::mesh::gateway::{Server, without_namespace};
use crate::mesh::{Gateway, GatewaySelector, MESH_GATEWAY, VirtualService, host};
use crate::origin::Origin;

/// A condition that keeps a VirtualService away from a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindingCondition {
    /// It names no gateway of the proxy, but one of the same name in another namespace was probably meant.
    GatewayName,
    /// It names a Gateway that does not exist.
    GatewayMissing,
    /// Its own host is nearly the one that is asked for.
    OwnHost,
    /// It is not exported to the proxy's namespace.
    ExportTo,
    /// The Gateway that it names chooses other proxies.
    Selector,
    /// No server of the Gateway has the host.
    Host,
    /// A server of the Gateway has the host, but for VirtualServices of another namespace.
    HostNamespace,
    /// The server that has the host lost its port to another.
    Server,
    /// The server that has the host listens on another port.
    Port,
    /// None of its rules holds for the gateway: all ask for other gateways, ports or sources.
    Match,
    /// It holds for sidecars only.
    MeshOnly,
}

impl BindingCondition {
    /// The condition in a word or two.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayName | Self::GatewayMissing | Self::MeshOnly => "gateway",
            Self::ExportTo => "exportTo",
            Self::Selector => "selector",
            Self::OwnHost | Self::Host => "host",
            Self::HostNamespace => "namespace",
            Self::Server => "server",
            Self::Port => "port",
            Self::Match => "match",
        }
    }
}

/// A VirtualService that would have applied but for one condition.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingMiss {
    /// The VirtualService.
    pub virtual_service: Arc<VirtualService>,
    /// The condition that failed first.
    pub condition: BindingCondition,
    /// The field that decides it, of the VirtualService or of a Gateway.
    pub origin: Origin,
    /// What would have to be written there.
    pub expected: SmolStr,
    /// What is written there.
    pub got: SmolStr,
    /// What to write at the field, where one edit would do.
    pub repair: Option<SmolStr>,
}

/// The VirtualServices with a host that covers `host`, or that nearly is it, and why none of them gives the proxy a route on a port; the
/// likeliest first. Without a port, servers of every port count.
pub fn binding_misses(proxy: &Proxy, host: &str, port: Option<u16>) -> Vec<BindingMiss> {
    let host = host.to_lowercase();
    let search = Search { proxy, host: &host, port };
    let mut out: Vec<BindingMiss> = proxy
        .mesh()
        .virtual_services()
        .iter()
        .flat_map(|virtual_service| {
            let mut hosts = virtual_service.hosts.iter();
            if hosts.any(|own| host::subset_of(&host, &own.to_lowercase())) {
                search.misses(virtual_service)
            } else {
                search.slip(virtual_service).into_iter().collect()
            }
        })
        .collect();
    out.sort_by_key(|miss| miss.condition);
    out
}

struct Search<'a> {
    proxy: &'a Proxy,
    host: &'a str,
    port: Option<u16>,
}

impl Search<'_> {
    /// Servers of the proxy on the port that have the host for a namespace.
    fn fitting<'s>(&'s self, namespace: &'s str) -> impl Iterator<Item = &'s MergedServer> {
        self.servers().filter(move |merged| names_host(&merged.server, self.host, Some(namespace)))
    }

    /// Servers of the proxy on the port.
    fn servers(&self) -> impl Iterator<Item = &MergedServer> {
        let merged = &self.proxy.gateway().merged;
        merged
            .ports
            .iter()
            .filter(|port| self.port.is_none_or(|wanted| wanted == port.number))
            .flat_map(|port| merged.servers_of(port))
    }

    /// The slip in a VirtualService's own host that keeps it from a server that has the host.
    fn slip(&self, virtual_service: &Arc<VirtualService>) -> Option<BindingMiss> {
        let near = |own: &SmolStr| near::slip(self.host, &own.to_lowercase()).is_some();
        let at = virtual_service.hosts.iter().position(near)?;
        let is_bound = |merged: &MergedServer| virtual_service.is_bound_to(&merged.gateway.full_name);
        self.fitting(&virtual_service.namespace).find(|merged| is_bound(merged))?;
        Some(BindingMiss {
            virtual_service: Arc::clone(virtual_service),
            condition: BindingCondition::OwnHost,
            origin: virtual_service.origin(format_smolstr!("spec.hosts[{at}]")),
            expected: self.host.into(),
            got: virtual_service.hosts.get(at)?.clone(),
            repair: Some(self.host.into()),
        })
    }

    /// The ports of Services that lead to the port that was dialled; that port itself where none does.
    fn ports_to_write(&self) -> Vec<u16> {
        let Some(port) = self.port else { return Vec::new() };
        let targets = self.proxy.service_targets().iter().filter(|target| target.target_port == port);
        let mut out: Vec<u16> = targets.map(|target| target.port.number).collect();
        out.sort_unstable();
        out.dedup();
        if out.is_empty() { vec![port] } else { out }
    }

    fn misses(&self, virtual_service: &Arc<VirtualService>) -> Vec<BindingMiss> {
        let miss = |condition, origin, expected: SmolStr, got: SmolStr, repair| BindingMiss {
            virtual_service: Arc::clone(virtual_service),
            condition,
            origin,
            expected,
            got,
            repair,
        };
        let named = virtual_service.gateways.iter().enumerate().filter(|(_, name)| **name != MESH_GATEWAY);
        if named.clone().next().is_none() {
            let Some(meant) = self.fitting(&virtual_service.namespace).next() else { return Vec::new() };
            let expected = meant.gateway.full_name.clone();
            let origin = virtual_service.origin("spec.gateways");
            let repair = Some(flow([MESH_GATEWAY, expected.clone()]));
            return vec![miss(BindingCondition::MeshOnly, origin, expected, MESH_GATEWAY, repair)];
        }
        let mut out = Vec::new();
        for (index, name) in named {
            let origin = virtual_service.origin(format_smolstr!("spec.gateways[{index}]"));
            let found = self.proxy.mesh().gateways().iter().find(|gateway| gateway.full_name == *name);
            let Some(gateway) = found else {
                let Some((condition, meant)) = self.meant_gateway(virtual_service, name) else { continue };
                // Matches that name the gateway have to name the one that was meant, too.
                out.extend(
                    std::iter::once(origin).chain(matches_naming(virtual_service, name)).map(|origin| {
                        miss(condition, origin, meant.clone(), name.clone(), Some(meant.clone()))
                    }),
                );
                continue;
            };
            out.extend(self.miss_of(virtual_service, gateway).map(
                |(condition, origin, expected, got, repair)| miss(condition, origin, expected, got, repair),
            ));
        }
        out
    }

    /// The gateway of the proxy that was probably meant by a name that no Gateway has.
    fn meant_gateway(
        &self,
        virtual_service: &VirtualService,
        name: &str,
    ) -> Option<(BindingCondition, SmolStr)> {
        let bare = without_namespace(name);
        let same_name = self
            .proxy
            .gateway()
            .merged
            .gateways
            .iter()
            .filter(|gateway| gateway.name == bare)
            .map(|gateway| (BindingCondition::GatewayName, gateway.full_name.clone()));
        let same_host = self
            .fitting(&virtual_service.namespace)
            .map(|merged| (BindingCondition::GatewayMissing, merged.gateway.full_name.clone()));
        same_name.chain(same_host).next()
    }

    /// The first condition that fails for a Gateway that exists.
    fn miss_of(
        &self,
        virtual_service: &VirtualService,
        gateway: &Arc<Gateway>,
    ) -> Option<(BindingCondition, Origin, SmolStr, SmolStr, Option<SmolStr>)> {
        let node = self.proxy.node();
        let merged = &self.proxy.gateway().merged;
        if !merged.gateways.iter().any(|chosen| Arc::ptr_eq(chosen, gateway)) {
            return self.unchosen(gateway);
        }
        if !virtual_service.export_to.is_visible_in(&node.namespace) {
            let expected = node.namespace.clone();
            let got = format_smolstr!("{}", virtual_service.export_to);
            let origin = virtual_service.origin("spec.exportTo");
            return Some((BindingCondition::ExportTo, origin, expected, got, None));
        }
        let namespace = Some(virtual_service.namespace.as_str());
        let with_host: Vec<&Arc<Server>> =
            gateway.servers.iter().filter(|server| names_host(server, self.host, namespace)).collect();
        if with_host.is_empty() {
            return Some(self.unnamed(virtual_service, gateway));
        }
        let open = |server: &Arc<Server>| self.servers().any(|merged| Arc::ptr_eq(&merged.server, server));
        if let Some(server) = with_host.iter().find(|server| open(server)) {
            return unmatched(virtual_service, gateway, server);
        }
        let server = with_host.first()?;
        let skipped = merged.skipped.iter().find(|skipped| Arc::ptr_eq(&skipped.server, server));
        // A port that no Service has is another port than was dialled.
        let other_port = |skipped: &&Skipped| {
            matches!(skipped.reason, SkipReason::NoServicePort | SkipReason::Privileged)
                && self.port != Some(skipped.port)
        };
        Some(match skipped.filter(|skipped| !other_port(skipped)) {
            Some(skipped) => {
                let (expected, got) = ("a server that is opened", skipped.reason.as_str());
                (BindingCondition::Server, server.origin.clone(), expected.into(), got.into(), None)
            }
            None => {
                let ports: Vec<SmolStr> = self.ports_to_write().iter().map(ToSmolStr::to_smolstr).collect();
                let repair = ports.first().filter(|_| ports.len() == 1).cloned();
                let got = server.number.to_smolstr();
                (BindingCondition::Port, server.origin.part("port.number"), join(ports), got, repair)
            }
        })
    }

    /// Why a Gateway does not choose the proxy.
    fn unchosen(
        &self,
        gateway: &Gateway,
    ) -> Option<(BindingCondition, Origin, SmolStr, SmolStr, Option<SmolStr>)> {
        let GatewaySelector::Labels(labels) = &gateway.selector else { return None };
        if !gateway.servers.iter().any(|server| names_host(server, self.host, None)) {
            return None;
        }
        let node = self.proxy.node();
        // One label that differs is a slip; several are another gateway.
        let mut differing = labels.iter().filter(|(key, value)| node.labels.get(*key) != Some(*value));
        let (key, value) = differing.next()?;
        let own = node.labels.get(key);
        let repair = own.filter(|_| differing.next().is_none()).cloned();
        let expected =
            own.map_or_else(|| format_smolstr!("no label {key}"), |own| format_smolstr!("{key}: {own}"));
        let origin = gateway.origin("spec.selector").part(key);
        Some((BindingCondition::Selector, origin, expected, format_smolstr!("{key}: {value}"), repair))
    }

    /// Why no server of a Gateway has the host for a VirtualService.
    fn unnamed(
        &self,
        virtual_service: &VirtualService,
        gateway: &Gateway,
    ) -> (BindingCondition, Origin, SmolStr, SmolStr, Option<SmolStr>) {
        let other = gateway.servers.iter().find_map(|server| {
            let at = server.hosts.iter().position(|own| covers(without_namespace(own), self.host))?;
            Some((server.origin.element("hosts", at), server.hosts.get(at)?.clone()))
        });
        if let Some((origin, got)) = other {
            let expected = format_smolstr!("{}/{}", virtual_service.namespace, without_namespace(&got));
            return (BindingCondition::HostNamespace, origin, expected.clone(), got, Some(expected));
        }
        let slip = gateway.servers.iter().find_map(|server| {
            let near =
                |own: &SmolStr| near::slip(self.host, &without_namespace(own).to_lowercase()).is_some();
            let at = server.hosts.iter().position(near)?;
            Some((server.origin.element("hosts", at), server.hosts.get(at)?.clone()))
        });
        if let Some((origin, got)) = slip {
            let repair = match got.split_once('/') {
                Some((namespace, _)) => format_smolstr!("{namespace}/{}", self.host),
                None => self.host.into(),
            };
            return (BindingCondition::Host, origin, self.host.into(), got, Some(repair));
        }
        // The server that listens where the request came to, if it is one of the Gateway's.
        let open = |server: &&Arc<Server>| self.servers().any(|open| Arc::ptr_eq(&open.server, server));
        let Some(server) = gateway.servers.iter().find(open).or_else(|| gateway.servers.first()) else {
            let origin = gateway.origin("spec.servers");
            return (BindingCondition::Host, origin, self.host.into(), SmolStr::default(), None);
        };
        let repair = flow(server.hosts.iter().cloned().chain([self.host.into()]));
        let got = join(server.hosts.iter().cloned());
        (BindingCondition::Host, server.origin.part("hosts"), self.host.into(), got, Some(repair))
    }
}

/// Where matches of a VirtualService's rules name a gateway.
fn matches_naming<'a>(
    virtual_service: &'a VirtualService,
    name: &'a str,
) -> impl Iterator<Item = Origin> + 'a {
    let http = virtual_service.http.iter().flat_map(|rule| {
        rule.route.match_.iter().zip(&rule.match_origins).map(|(m, at)| (&m.gateways, at.clone()))
    });
    let tls = virtual_service.tls.iter().flat_map(|rule| {
        let matches = rule.route.match_.iter().enumerate();
        matches.map(|(i, m)| (&m.gateways, rule.origin.element("match", i)))
    });
    let tcp = virtual_service.tcp.iter().flat_map(|rule| {
        let matches = rule.route.match_.iter().enumerate();
        matches.map(|(i, m)| (&m.gateways, rule.origin.element("match", i)))
    });
    http.chain(tls).chain(tcp).filter_map(move |(gateways, at)| {
        Some(at.element("gateways", gateways.iter().position(|named| named == name)?))
    })
}

/// Why no rule of a VirtualService holds for a server that has its host.
fn unmatched(
    virtual_service: &VirtualService,
    gateway: &Gateway,
    server: &Server,
) -> Option<(BindingCondition, Origin, SmolStr, SmolStr, Option<SmolStr>)> {
    if common_hosts(server, virtual_service).is_empty() {
        return None;
    }
    let conditions =
        virtual_service.http.iter().flat_map(|rule| rule.route.match_.iter().zip(&rule.match_origins));
    if virtual_service.http.iter().any(|rule| rule.route.match_.is_empty()) {
        return None;
    }
    let name = &gateway.full_name;
    let mut first = None;
    for (condition, origin) in conditions {
        let miss = if !condition.gateways.is_empty() && !condition.gateways.contains(name) {
            // A rule for sidecars is not meant for gateways.
            let Some(at) = condition.gateways.iter().position(|named| *named != MESH_GATEWAY) else {
                continue;
            };
            let named = condition.gateways.get(at)?;
            (origin.element("gateways", at), name.clone(), named.clone(), Some(name.clone()))
        } else if condition.port != 0 && condition.port != u32::from(server.number) {
            let (expected, got) =
                (format_smolstr!("{}", server.number), format_smolstr!("{}", condition.port));
            (origin.part("port"), expected.clone(), got, Some(expected))
        } else if condition.gateways.is_empty()
            && (!condition.source_labels.is_empty() || !condition.source_namespace.is_empty())
        {
            let field = if condition.source_labels.is_empty() { "sourceNamespace" } else { "sourceLabels" };
            let expected = SmolStr::new_static("the gateway's own workload");
            (origin.part(field), expected, SmolStr::new_static("another source"), None)
        } else {
            return None;
        };
        first.get_or_insert(miss);
    }
    first.map(|(origin, expected, got, repair)| (BindingCondition::Match, origin, expected, got, repair))
}

impl SkipReason {
    /// The reason in a sentence without a full stop.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DuplicateHost => "another server of the port already has one of its hosts",
            Self::ProtocolConflict => "another server already has the port, and the two cannot share it",
            Self::DuplicatePortName => "another HTTPS server already has the port's name",
            Self::NoServicePort => "the Service that its Gateway names has no such port",
            Self::Privileged => "the proxy cannot open ports below 1024",
            Self::ForeignNamespace => {
                "the proxy belongs to a Gateway API gateway, and Gateways of other namespaces are left out there"
            }
        }
    }
}

/// Whether a server has a host, for VirtualServices of a namespace where one is given.
fn names_host(server: &Server, host: &str, namespace: Option<&str>) -> bool {
    server.hosts.iter().any(|own| {
        let for_namespace = match (own.split_once('/'), namespace) {
            (Some((owner, _)), Some(namespace)) => owner == namespace,
            _ => true,
        };
        for_namespace && covers(without_namespace(own), host)
    })
}

fn covers(own: &str, host: &str) -> bool {
    host::subset_of(host, &own.to_lowercase())
}

fn join(list: impl IntoIterator<Item = SmolStr>) -> SmolStr {
    list.into_iter().collect::<Vec<_>>().join(", ").into()
}

/// A list as YAML has it on one line.
pub(crate) fn flow(list: impl IntoIterator<Item = SmolStr>) -> SmolStr {
    let quoted: Vec<String> = list.into_iter().map(|text| format!("\"{text}\"")).collect();
    format_smolstr!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests;
