//! How does the request leave its client?

use std::net::{IpAddr, Ipv4Addr};

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::{Flight, Walk};
use crate::envoy::request::{ApplicationProtocol, Body, HttpRequest, Preface, Transport};
use crate::envoy::xds::Capture;
use crate::mesh::ProxyKind;
use crate::origin::Origin;
use crate::trace::capture::{OutboundCapture, Outgoing};
use crate::trace::contract::{HopKind, Source, StepKind};
use crate::trace::dns::{Answer, Found, Resolver};
use crate::trace::error::TraceError;
use crate::trace::query::{HttpVersion, OUTSIDE_ADDRESS, Query};
use crate::trace::source::{self, Arrival, Client, Entrance, OUTSIDE};

/// Where a client connects to.
enum Destination {
    /// An address of an answer, and a port.
    Found(Found, u16),
    /// Nowhere, and why.
    Nowhere(String),
    /// The input does not say, and why.
    Unsettled(String),
}

impl Destination {
    fn at(ip: IpAddr, port: u16) -> Self {
        let found = Found {
            addresses: vec![ip],
            pods: Vec::new(),
            origin: Origin::default("the address itself"),
            note: String::new(),
            assumption: None,
        };
        Self::Found(found, port)
    }
}

impl Walk<'_> {
    /// Starts at the client.
    pub(super) fn start(&mut self) -> Result<Source, TraceError> {
        let client = source::client(self.tracer, self.query)?;
        let workload = client.workload.and_then(|index| self.mesh.workloads().get(index));
        let mut out = Source {
            workload: workload.map_or(SmolStr::new_static(OUTSIDE), crate::mesh::Workload::full_name),
            container: client.container.clone(),
            uid: client.uid,
            captured: false,
            chosen: client.chosen,
        };
        let entrance = match &self.query.to_gateway {
            Some(wanted) => Some(source::named_gateway(self.mesh, self.query, wanted)?),
            None => None,
        };
        let arrival = match &entrance {
            _ if client.workload.is_some() => None,
            Some(entrance) => Some(Arrival::By(entrance.clone())),
            None => {
                let (host, port) = self.connects_to(&self.query.target.host, self.query.target.port);
                let told = self.told_address(&host, port).map(|ip| ip.to_smolstr());
                let dialled = told.as_ref().unwrap_or(&host);
                Some(source::arrival(self.tracer, self.query, (dialled, port))?)
            }
        };
        let mut flight = self.flight(&client);
        self.enter(HopKind::Client, "client", client.workload, &flight);
        // The program itself changes nothing, and what it sends is shown also where TLS hides it.
        if self.explain
            && let Some(visit) = self.path.last_mut()
        {
            let lines = super::request_lines(flight.message.as_ref());
            visit.hop.request.arrived.clone_from(&lines);
            visit.hop.request.left = lines;
        }
        if client.chosen {
            self.rest_on(format!("the client is {}, as nobody named one", out.workload));
        }
        for text in self.mesh.assumptions() {
            self.rest_on(text.clone());
        }
        match arrival {
            None => {}
            Some(Arrival::By(entrance)) => {
                self.enter_by(&entrance, flight);
                return Ok(out);
            }
            Some(Arrival::AtNode(ip)) => {
                flight.address = ip;
                self.dial(flight);
                return Ok(out);
            }
            Some(Arrival::Unreachable(reason)) => {
                self.unresolved(reason);
                return Ok(out);
            }
            Some(Arrival::Unsettled(reason)) => {
                self.unknown(reason);
                return Ok(out);
            }
        }
        match self.destination(&client, entrance.as_ref()) {
            Destination::Found(answer, port) => {
                flight.port = port;
                self.each_address(&answer, |walk, ip| {
                    let mut flight = flight.clone();
                    flight.address = ip;
                    out.captured |= walk.leave(&client, flight);
                });
            }
            // Its ztunnel answers DNS as well, for the hosts of ServiceEntries.
            Destination::Nowhere(reason) if self.is_told_hosts(&client) => self.unknown(reason),
            Destination::Nowhere(reason) => self.unresolved(reason),
            Destination::Unsettled(reason) => self.unknown(reason),
        }
        Ok(out)
    }

    /// What the client sends, with nothing known of where to.
    fn flight(&self, client: &Client) -> Flight {
        let query = self.query;
        let target = &query.target;
        let workload = client.workload.and_then(|index| self.mesh.workloads().get(index));
        let source = workload.and_then(|w| w.ips.first().copied()).unwrap_or(OUTSIDE_ADDRESS);
        let http2 = query.http_version == HttpVersion::Http2;
        let layers = if target.scheme.is_tls() {
            let alpn = query.alpn.clone().unwrap_or_else(|| match (target.scheme.is_http(), http2) {
                (true, true) => vec![SmolStr::new_static("h2"), SmolStr::new_static("http/1.1")],
                (true, false) => vec![SmolStr::new_static("http/1.1")],
                (false, _) => Vec::new(),
            });
            let sni = match &query.sni {
                Some(sni) => sni.clone(),
                // Server names are names: none is sent for an address.
                None if target.ip().is_some() => SmolStr::default(),
                None => target.host.trim_end_matches('.').into(),
            };
            let client_certificate = query.client_certificate.clone();
            vec![Transport::Tls { sni, alpn, client_certificate, mesh_certificate: false }]
        } else {
            Vec::new()
        };
        let protocol = match (target.scheme.is_http(), query.http_version) {
            (false, _) => ApplicationProtocol::Tcp,
            (true, HttpVersion::Http10) => ApplicationProtocol::Http10,
            (true, HttpVersion::Http11) => ApplicationProtocol::Http11,
            (true, HttpVersion::Http2) => ApplicationProtocol::Http2,
        };
        Flight {
            address: target.ip().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: target.port,
            source,
            layers,
            tls_origin: None,
            protocol,
            message: target.scheme.is_http().then(|| message(query)),
            name: target.host.clone(),
            // In front of the mesh stands what speaks to its gateways as they want it.
            preface: if workload.is_some() { Preface::Nothing } else { Preface::AsExpected },
            announced_by: None,
            unread: None,
            tunnel: None,
        }
    }

    /// Where the client connects to.
    fn destination(&mut self, client: &Client, entrance: Option<&Entrance<'_>>) -> Destination {
        let target = &self.query.target;
        let (mut host, mut port) = (target.host.clone(), target.port);
        if let Some(entrance) = entrance {
            host = entrance.service.hostname.clone();
            port = entrance.port;
        }
        (host, port) = self.connects_to(&host, port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Destination::at(ip, port);
        }
        if let Some(ip) = self.told_address(&host, port) {
            let origin = Origin::default("--resolve");
            self.step(StepKind::Dns, &ip.to_smolstr(), &origin, Some(format!("{host}, told by --resolve")));
            return Destination::at(ip, port);
        }
        let workload = client.workload.and_then(|index| self.mesh.workloads().get(index));
        let member = client.workload.and_then(|index| self.member(index));
        // What the proxy's user asks is not answered by the agent.
        let agent = member.as_deref().filter(|member| {
            member.capture.as_ref().is_some_and(|rules| {
                let outgoing = Outgoing {
                    destination: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
                    port: 53,
                    source: None,
                    uid: client.uid,
                    gid: client.gid,
                    interface: SmolStr::new_static("eth0"),
                };
                matches!(rules.outbound(&outgoing), OutboundCapture::ToDns(_))
            })
        });
        let resolver = Resolver {
            mesh: self.mesh,
            namespace: workload.map(|w| w.namespace.as_str()),
            agent: agent.map(|member| &member.proxy),
        };
        match resolver.resolve(&host) {
            Answer::Found(found) => {
                let note = format!("{host}: {}", found.note);
                let all: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
                let name = SmolStr::from(all.join(", "));
                self.assumed_step(StepKind::Dns, &name, &found.origin, Some(note), found.assumption.clone());
                Destination::Found(found, port)
            }
            Answer::NotFound(reason) => {
                let origin = Origin::default("the cluster's DNS");
                self.step(StepKind::Dns, &SmolStr::new_static("NXDOMAIN"), &origin, Some(reason.clone()));
                Destination::Nowhere(format!("{host} cannot be resolved: {reason}"))
            }
            Answer::Unsettled(reason) => {
                let origin = Origin::default("the cluster's DNS");
                let name = SmolStr::new_static("an address that is not known");
                self.step(StepKind::Dns, &name, &origin, None);
                Destination::Unsettled(reason)
            }
        }
    }

    /// Whether a ztunnel answers the client's questions for the host, because a ServiceEntry has it.
    fn is_told_hosts(&self, client: &Client) -> bool {
        let workload = client.workload.and_then(|index| self.mesh.workloads().get(index));
        workload.is_some_and(|workload| workload.ambient.is_some())
            && self.mesh.services_of(&self.query.target.host).next().is_some()
    }

    /// Where the client connects for a host and port: elsewhere when `--connect-to` says so.
    fn connects_to(&self, host: &SmolStr, port: u16) -> (SmolStr, u16) {
        let other = self.query.connect_to.iter().find(|other| {
            (other.host.is_empty() || other.host == *host) && other.port.is_none_or(|own| own == port)
        });
        let Some(other) = other else { return (host.clone(), port) };
        let host = if other.to_host.is_empty() { host } else { &other.to_host };
        (host.clone(), other.to_port.unwrap_or(port))
    }

    /// The address that `--resolve` gives a host.
    fn told_address(&self, host: &str, port: u16) -> Option<IpAddr> {
        let told =
            self.query.resolve.iter().rev().find(|r| (r.host == host || r.host == "*") && r.port == port);
        told.and_then(|told| told.addresses.first()).copied()
    }

    /// Leaves the pod; whether the sidecar takes the connection.
    fn leave(&mut self, client: &Client, flight: Flight) -> bool {
        let Some(index) = client.workload else {
            self.dial(flight);
            return false;
        };
        let Some(workload) = self.mesh.workloads().get(index) else { return false };
        let member = self.member(index);
        let own = workload.ips.contains(&flight.address) || flight.address.is_loopback();
        let has_no_rules = member.as_deref().is_some_and(|member| !member.captures(flight.address));
        let capture = match member.as_deref().map(|member| member.capture.as_ref()) {
            None => Err("it has no sidecar"),
            Some(None) if workload.proxy == ProxyKind::Gateway => Err("a gateway's pod captures nothing"),
            Some(None) => Err("the interception mode is NONE"),
            Some(Some(_)) if has_no_rules => Ok(OutboundCapture::Bypassed(
                "its pod has no rules for IPv6, as the pod's own address is one of IPv4",
            )),
            Some(Some(rules)) => Ok(rules.outbound(&Outgoing {
                destination: flight.address,
                port: flight.port,
                source: None,
                uid: client.uid,
                gid: client.gid,
                interface: SmolStr::new_static(if own { "lo" } else { "eth0" }),
            })),
        };
        let explained = match capture {
            Ok(OutboundCapture::Redirected(rule)) => ("captured", rule.to_owned()),
            Ok(other) => ("not captured", other.rule().to_owned()),
            Err("it has no sidecar") => ("not captured", format!("no sidecar: {}", workload.proxy_reason)),
            Err(reason) => ("not captured", reason.to_owned()),
        };
        let explained = match workload.ambient {
            Some(_) if !own => ("captured", "its node's ztunnel takes what leaves it".to_owned()),
            _ => explained,
        };
        let origin = match client.uid {
            Some(_) if capture.is_ok() => Origin::default("istio-init: iptables"),
            _ => workload.origin.clone(),
        };
        let name = SmolStr::new_static(explained.0);
        self.step(StepKind::Capture, &name, &origin, Some(explained.1));
        self.rest_on_proxy(workload);
        let has_ipv6 = !workload.assumed && workload.ips.iter().any(IpAddr::is_ipv6);
        if has_no_rules && capture.is_ok() && !has_ipv6 && !own {
            let (client, ip) = (workload.full_name(), flight.address);
            self.rest_on(format!("{client} has no address of IPv6, and reaches {ip} all the same"));
        }
        match capture {
            Ok(OutboundCapture::Redirected(_)) => {
                self.at_proxy(HopKind::SidecarOutbound, index, Capture::Outbound, flight);
                true
            }
            Ok(OutboundCapture::ToInbound(_)) => {
                self.at_proxy(HopKind::SidecarInbound, index, Capture::Inbound, flight);
                false
            }
            Err("the interception mode is NONE") if own => {
                self.at_proxy(HopKind::SidecarOutbound, index, Capture::Direct, flight);
                false
            }
            _ if own => {
                self.application(index, flight);
                false
            }
            _ if workload.ambient.is_some() => {
                self.at_ztunnel(index, &flight);
                false
            }
            _ => {
                self.dial(flight);
                false
            }
        }
    }

    /// Enters the cluster by a gateway's Service.
    fn enter_by(&mut self, entrance: &Entrance<'_>, mut flight: Flight) {
        let service = entrance.service;
        let name = format_smolstr!("{}/{}:{}", service.namespace, service.name, entrance.port);
        self.assumed_step(
            StepKind::Dns,
            &name,
            &service.origin,
            Some(entrance.what.to_owned()),
            entrance.assumption.clone(),
        );
        flight.port = entrance.port;
        self.kubernetes_service(service, flight);
    }
}

/// The request that curl would send.
fn message(query: &Query) -> HttpRequest {
    let target = &query.target;
    let mut authority = None;
    let mut headers: Vec<(SmolStr, SmolStr)> = Vec::new();
    headers.extend(query.authorization().map(|value| (SmolStr::new_static("authorization"), value)));
    headers.push((SmolStr::new_static("user-agent"), SmolStr::new_static("curl/8.5.0")));
    headers.push((SmolStr::new_static("accept"), SmolStr::new_static("*/*")));
    if let Some(bytes) = query.body_bytes {
        headers.push((SmolStr::new_static("content-length"), bytes.to_smolstr()));
        let form = SmolStr::new_static("application/x-www-form-urlencoded");
        headers.push((SmolStr::new_static("content-type"), form));
    }
    // A header that is given takes the place of curl's own; lines of one name that are all given stay.
    for (name, _) in &query.headers {
        headers.retain(|(own, _)| own != name);
    }
    for (name, value) in &query.headers {
        match value {
            // Of several hosts, curl sends the first.
            Some(value) if name == "host" => authority = authority.or(Some(value)),
            Some(value) => headers.push((name.clone(), value.clone())),
            None => {}
        }
    }
    let removed = query.headers.iter().any(|(name, value)| name == "host" && value.is_none());
    let (authority, no_host) = match authority {
        Some(given) => (given.clone(), false),
        None if removed => (SmolStr::default(), true),
        None => (target.authority.clone(), false),
    };
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked"));
    if chunked && query.headers.iter().all(|(name, _)| name != "content-length") {
        // Chunks tell the length by themselves.
        headers.retain(|(name, _)| name != "content-length");
    }
    if query.http_version == HttpVersion::Http2 {
        headers = headers.into_iter().filter_map(over_http2).collect();
    }
    HttpRequest {
        method: query.method.clone(),
        path: query.request_target.clone().unwrap_or_else(|| target.path.clone()),
        authority,
        scheme: (query.http_version == HttpVersion::Http2)
            .then(|| SmolStr::new_static(if target.scheme.is_tls() { "https" } else { "http" })),
        headers,
        no_host,
        body: Body::Bytes(query.body_bytes.unwrap_or_default()),
    }
}

/// A header as curl sends it over HTTP/2, which has none of the connection's own. curl: `http.c: Curl_http_req_to_h2`.
fn over_http2((name, value): (SmolStr, SmolStr)) -> Option<(SmolStr, SmolStr)> {
    let is_trailers = |token: &str| {
        token.split(';').next().is_some_and(|token| token.trim().eq_ignore_ascii_case("trailers"))
    };
    match name.as_str() {
        "upgrade" | "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" => None,
        "te" => value.split(',').any(is_trailers).then(|| (name, SmolStr::new_static("trailers"))),
        _ => Some((name, value)),
    }
}
