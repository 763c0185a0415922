//! What address does a name have for this client?
//!
//! The pod's resolver (search domains, five dots), the cluster's DNS, the agent's where DNS is captured, and the world's.
//! Invariant: a name of the cluster is settled by the input, or not known, where each cluster has it; a name of the world
//! resolves by a named assumption.
//! istio: `pkg/dns/server/name_table.go: BuildNameTable`, `pkg/dns/client/dns.go: lookupHost`.

mod pods;

use std::net::{IpAddr, Ipv4Addr};

use smol_str::{SmolStr, format_smolstr};

use crate::istiod::Proxy;
use crate::mesh::{Mesh, Registry, Resolution, Service, UNSPECIFIED};
use crate::origin::Origin;

pub(super) use pods::Pod;

/// What a name resolves to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Addresses.
    Found(Found),
    /// None, and why.
    NotFound(String),
    /// Some that the input does not name, and why.
    Unsettled(String),
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// The addresses; the first is used, unless they are pods'.
    pub(super) addresses: Vec<IpAddr>,
    /// The pods whose addresses they are, when each is as likely to come first.
    pub(super) pods: Vec<Pod>,
    /// Who made it.
    pub(super) origin: Origin,
    /// What it is, in a few words.
    pub(super) note: String,
    /// What is assumed.
    pub(super) assumption: Option<String>,
}

/// A resolver.
#[derive(Clone, Copy)]
pub(super) struct Resolver<'a> {
    /// The mesh.
    pub(super) mesh: &'a Mesh,
    /// The namespace whose search domains are used; `None` outside of the cluster.
    pub(super) namespace: Option<&'a str>,
    /// The proxy whose agent answers, where it does.
    pub(super) agent: Option<&'a Proxy>,
}

impl Resolver<'_> {
    /// Resolves a name.
    pub(super) fn resolve(&self, host: &str) -> Answer {
        if host == "localhost" {
            return found(
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                Origin::default("the resolver's own name"),
                "loopback",
            );
        }
        let Some(namespace) = self.namespace else { return self.world(host, 0) };
        let domain = self.mesh.cluster_domain();
        let (name, rooted) = match host.strip_suffix('.') {
            Some(name) => (name, true),
            None => (host, false),
        };
        let absolute = std::iter::once(SmolStr::new(name));
        let search = [
            format_smolstr!("{name}.{namespace}.svc.{domain}"),
            format_smolstr!("{name}.svc.{domain}"),
            format_smolstr!("{name}.{domain}"),
        ];
        // `options ndots:5`: a name with fewer dots is searched for first.
        let dots = name.bytes().filter(|b| *b == b'.').count();
        let names: Vec<SmolStr> = if rooted {
            absolute.collect()
        } else if dots < 5 {
            search.into_iter().chain(absolute).collect()
        } else {
            absolute.chain(search).collect()
        };
        names.iter().find_map(|name| self.known(name, 0)).unwrap_or_else(|| self.world(name, dots))
    }

    /// The answer of the agent or the cluster's DNS; `None` when neither knows the name.
    fn known(&self, name: &str, depth: usize) -> Option<Answer> {
        if let Some(answer) = self.agent.and_then(|proxy| self.agent_answer(proxy, name)) {
            return Some(answer);
        }
        if let Some(service) = self.mesh.cluster_service(name) {
            return Some(self.service(service, depth));
        }
        if let Some(answer) = self.pod(name) {
            return Some(answer);
        }
        let api_server = format_smolstr!("kubernetes.default.svc.{}", self.mesh.cluster_domain());
        (name == api_server).then(|| {
            Answer::Unsettled(format!(
                "every cluster has the Service default/kubernetes, and no manifest says which addresses and ports {name} has"
            ))
        })
    }

    fn agent_answer(&self, proxy: &Proxy, name: &str) -> Option<Answer> {
        let mut host = SmolStr::new(name);
        let mut rest = name;
        loop {
            if let Some(service) = proxy.scope().service(&host)
                && let Some(answer) = self.table_entry(service.service(), proxy)
            {
                return Some(answer);
            }
            let (_, shorter) = rest.split_once('.')?;
            rest = shorter;
            host = format_smolstr!("*.{rest}");
        }
    }

    /// An entry of the agent's name table; `None` when the service has no address to tell.
    fn table_entry(&self, service: &Service, proxy: &Proxy) -> Option<Answer> {
        if service.registry == Registry::Kubernetes {
            return None;
        }
        let v6 = !proxy.node().supports_ipv4() && proxy.node().supports_ipv6();
        let automatic = if v6 { &service.auto_allocated_ipv6 } else { &service.auto_allocated_ipv4 };
        // Each address of a ServiceEntry is a service of its own; ranges are no answer.
        let written = self
            .mesh
            .services_of(&service.hostname)
            .filter(|s| s.namespace == service.namespace && s.registry == Registry::External);
        let mut addresses: Vec<IpAddr> = written
            .filter(|s| s.default_address != UNSPECIFIED)
            .filter_map(|s| s.default_address.parse().ok())
            .collect();
        let allocated = addresses.is_empty();
        if allocated {
            addresses.extend(automatic.parse::<IpAddr>());
        }
        if addresses.is_empty() {
            return None;
        }
        Some(Answer::Found(Found {
            addresses,
            pods: Vec::new(),
            origin: service.origin.clone(),
            note: if allocated { "automatic address, told by the agent" } else { "told by the agent" }.into(),
            assumption: (allocated && service.assumed_address)
                .then(|| format!("istiod gives {} the address {automatic}", service.hostname)),
        }))
    }

    fn service(&self, service: &Service, depth: usize) -> Answer {
        match service.resolution {
            Resolution::Alias => {
                let target = service.external_name.as_deref().unwrap_or_default();
                if depth > 8 {
                    return Answer::NotFound(format!("{} leads back to itself", service.hostname));
                }
                self.known(target, depth + 1).unwrap_or_else(|| self.world(target, 1))
            }
            Resolution::Passthrough => self.pods(service),
            _ => match service.default_address.parse() {
                Ok(ip) if service.has_address() => {
                    let mut answer = found(ip, service.origin.clone(), "cluster address of the Service");
                    if let Answer::Found(found) = &mut answer
                        && service.assumed_address
                    {
                        found.note.push_str(", assumed");
                    }
                    answer
                }
                _ => Answer::NotFound(format!("{} has no cluster address", service.hostname)),
            },
        }
    }

    /// A name that neither the agent nor the cluster knows.
    fn world(&self, name: &str, dots: usize) -> Answer {
        let domain = self.mesh.cluster_domain().as_str();
        let last = name.rsplit('.').next().unwrap_or(name);
        let of_cluster = name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
            || last == "svc"
            // `service.namespace` is no name of the world.
            || (dots == 1 && self.mesh.namespaces().contains_key(last));
        if of_cluster || !name.contains('.') || last == "invalid" {
            return Answer::NotFound(format!("no Service is called {name}"));
        }
        let entries = || self.mesh.services_of(name).filter(|s| s.registry == Registry::External);
        if let Some(entry) = entries().find(|s| s.has_address()) {
            let ip = match entry.default_address.parse::<IpAddr>() {
                Ok(ip) => Some(ip),
                Err(_) => {
                    entry.default_address.parse::<ipnet::IpNet>().ok().and_then(|net| net.hosts().next())
                }
            };
            if let Some(ip) = ip {
                return Answer::Found(Found {
                    addresses: vec![ip],
                    pods: Vec::new(),
                    origin: entry.origin.clone(),
                    note: "an address of the ServiceEntry".into(),
                    assumption: Some(format!(
                        "DNS gives {name} an address that its ServiceEntry names: {ip}"
                    )),
                });
            }
        }
        let ip = documentation_address(name);
        Answer::Found(Found {
            addresses: vec![ip],
            pods: Vec::new(),
            origin: Origin::default("DNS outside of the mesh"),
            note: "stands for the address that DNS gives".into(),
            assumption: Some(format!("{name} can be resolved; {ip} stands for its address")),
        })
    }
}

fn found(ip: IpAddr, origin: Origin, note: &str) -> Answer {
    Answer::Found(Found {
        addresses: vec![ip],
        pods: Vec::new(),
        origin,
        note: note.to_owned(),
        assumption: None,
    })
}

/// Whether an address is the one that stands for what DNS outside of the mesh would give for a name.
pub(super) fn stands_for(address: IpAddr, name: &str) -> bool {
    address == documentation_address(name)
}

/// An address of the range for documentation (RFC 5737), the same for the same name.
fn documentation_address(name: &str) -> IpAddr {
    let sum = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, (sum % 254 + 1) as u8))
}
