//! Does the sidecar take this connection?
//!
//! The iptables rules that injection writes, as data, and their answer for one connection. Invariant: the rules are tried in
//! the order of the chains `ISTIO_OUTPUT` and `ISTIO_INBOUND`, the first that fits decides.
//! istio: `tools/istio-iptables/pkg/capture/run.go: Run, handleOutboundPortsInclude, handleOutboundIncludeRules`.

use std::net::IpAddr;

use ipnet::IpNet;
use smol_str::SmolStr;

use crate::mesh::Workload;

/// The user and group that the proxy runs as.
pub const PROXY_ID: i64 = 1337;

/// A list, or everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Include<T> {
    /// Everything (`*`).
    All,
    /// These.
    Only(Vec<T>),
}

impl<T> Include<T> {
    /// Whether some entry fits.
    fn any(&self, fits: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Only(list) => list.iter().any(fits),
        }
    }
}

/// The capture rules of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureRules {
    /// Users whose traffic is the proxy's own.
    pub proxy_uids: Vec<i64>,
    /// Groups whose traffic is the proxy's own.
    pub proxy_gids: Vec<i64>,
    /// Interfaces that are left alone.
    pub exclude_interfaces: Vec<SmolStr>,
    /// Destination ports that are left alone.
    pub exclude_outbound_ports: Vec<u16>,
    /// Destination ports that are taken whatever the address.
    pub include_outbound_ports: Vec<u16>,
    /// Destination addresses that are left alone.
    pub exclude_outbound_ranges: Vec<IpNet>,
    /// Destination addresses that are taken.
    pub include_outbound_ranges: Include<IpNet>,
    /// Groups whose traffic is taken.
    pub owner_groups: Include<i64>,
    /// Groups whose traffic is left alone.
    pub exclude_owner_groups: Vec<i64>,
    /// Ports on which connections are taken on their way in.
    pub include_inbound_ports: Include<u16>,
    /// Ports that are left alone on their way in, where all others are taken.
    pub exclude_inbound_ports: Vec<u16>,
    /// Servers whose DNS traffic the agent takes; `None` when it takes none.
    pub dns: Option<Include<IpAddr>>,
    /// Loopback addresses of IPv4 that are left alone.
    pub loopback: IpNet,
}

impl Default for CaptureRules {
    fn default() -> Self {
        Self {
            proxy_uids: vec![PROXY_ID],
            proxy_gids: vec![PROXY_ID],
            exclude_interfaces: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            include_outbound_ports: Vec::new(),
            exclude_outbound_ranges: Vec::new(),
            include_outbound_ranges: Include::All,
            owner_groups: Include::All,
            exclude_owner_groups: Vec::new(),
            include_inbound_ports: Include::All,
            exclude_inbound_ports: vec![15090, 15021, 15020],
            dns: None,
            loopback: IpNet::from(IpAddr::from([127, 0, 0, 1])),
        }
    }
}

/// A TCP connection on its way out of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub destination: IpAddr,
    /// The port it goes to.
    pub port: u16,
    /// Where it comes from, where that is not the pod's own address.
    pub source: Option<IpAddr>,
    /// The user that opened it, where known.
    pub uid: Option<i64>,
    /// The group that opened it, where known.
    pub gid: Option<i64>,
    /// The interface it leaves by; `lo` for the pod's own addresses.
    pub interface: SmolStr,
}

/// Where a connection on its way out goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundCapture {
    /// To the proxy's outbound listeners (15001).
    Redirected(&'static str),
    /// To the proxy's inbound listeners (15006): the proxy calls its own pod.
    ToInbound(&'static str),
    /// To the agent's DNS server (15053).
    ToDns(&'static str),
    /// Past the proxy.
    Bypassed(&'static str),
}

impl OutboundCapture {
    /// The rule that decided, in a few words.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Redirected(rule) | Self::ToInbound(rule) | Self::ToDns(rule) | Self::Bypassed(rule) => rule,
        }
    }
}

impl CaptureRules {
    /// The rules that injection gives a workload by its annotations. istio: `injection-template.yaml: -i, -x, -b, -d, -o, -q`.
    pub fn of(workload: &Workload, dns_capture: bool) -> Self {
        let annotation = |name: &str| {
            workload.annotations.get(format!("traffic.sidecar.istio.io/{name}").as_str()).map(SmolStr::as_str)
        };
        let mut rules = Self::default();
        if let Some(text) = annotation("includeOutboundIPRanges") {
            rules.include_outbound_ranges = ranges(text);
        }
        if let Some(text) = annotation("excludeOutboundIPRanges") {
            rules.exclude_outbound_ranges = list(text);
        }
        if let Some(text) = annotation("includeOutboundPorts") {
            rules.include_outbound_ports = list(text);
        }
        if let Some(text) = annotation("excludeOutboundPorts") {
            rules.exclude_outbound_ports = list(text);
        }
        if let Some(text) = annotation("includeInboundPorts") {
            rules.include_inbound_ports = if text == "*" { Include::All } else { Include::Only(list(text)) };
        }
        if let Some(text) = annotation("excludeInboundPorts") {
            rules.exclude_inbound_ports.extend(list::<u16>(text));
        }
        if let Some(text) = annotation("excludeInterfaces") {
            rules.exclude_interfaces = list(text);
        }
        if dns_capture {
            rules.dns = Some(Include::All);
        }
        rules
    }

    /// Where a TCP connection on its way out goes.
    pub fn outbound(&self, flow: &Outgoing) -> OutboundCapture {
        use OutboundCapture::{Bypassed, Redirected, ToDns, ToInbound};

        let loopback_out = flow.interface == "lo";
        let loopback_to = match flow.destination {
            IpAddr::V4(_) => self.loopback.contains(&flow.destination),
            IpAddr::V6(ip) => ip.is_loopback(),
        };
        let dns_port = self.dns.is_some() && flow.port == 53;
        if self.exclude_interfaces.contains(&flow.interface) {
            return Bypassed("its interface is excluded (traffic.sidecar.istio.io/excludeInterfaces)");
        }
        if self.exclude_outbound_ports.contains(&flow.port) {
            return Bypassed("its port is excluded (traffic.sidecar.istio.io/excludeOutboundPorts)");
        }
        let from_proxy = match flow.source {
            Some(IpAddr::V4(ip)) => ip.octets() == [127, 0, 0, 6],
            Some(IpAddr::V6(ip)) => ip.segments() == [0, 0, 0, 0, 0, 0, 0, 6],
            None => false,
        };
        if loopback_out && from_proxy {
            return Bypassed("the proxy passes it on to its own application");
        }
        // A loopback address that is asked for is not left alone on its interface.
        let loopback_included = match &self.include_outbound_ranges {
            Include::All => false,
            Include::Only(list) => list.iter().any(|range| range.addr().is_loopback()),
        };
        let owners = [(&self.proxy_uids, flow.uid, dns_port), (&self.proxy_gids, flow.gid, false)];
        for (ids, id, dns_of_proxy) in owners {
            for own in ids.iter().map(|own| id == Some(*own)) {
                if own && loopback_out && !loopback_to && flow.port != 15008 && !dns_of_proxy {
                    return ToInbound("the proxy calls its own pod");
                }
                if !own && loopback_out && !loopback_included && !dns_port {
                    return Bypassed("it stays inside the pod");
                }
                if own {
                    return Bypassed(
                        "user or group 1337 is the proxy's own, whose traffic is never captured",
                    );
                }
            }
        }
        let excluded_group = flow.gid.is_some_and(|gid| self.exclude_owner_groups.contains(&gid));
        let included_group = self.owner_groups.any(|group| Some(*group) == flow.gid);
        if excluded_group || !included_group {
            return Bypassed("its group is not captured");
        }
        if dns_port && self.dns.as_ref().is_some_and(|dns| dns.any(|server| *server == flow.destination)) {
            return ToDns("the agent answers DNS");
        }
        if loopback_to {
            return Bypassed("its destination is loopback");
        }
        if self.exclude_outbound_ranges.iter().any(|range| range.contains(&flow.destination)) {
            return Bypassed("its address is excluded (traffic.sidecar.istio.io/excludeOutboundIPRanges)");
        }
        if self.include_outbound_ports.contains(&flow.port) {
            return Redirected("its port is included (traffic.sidecar.istio.io/includeOutboundPorts)");
        }
        match &self.include_outbound_ranges {
            Include::All => Redirected("all outbound TCP is redirected to port 15001"),
            Include::Only(list) if list.iter().any(|range| range.contains(&flow.destination)) => {
                Redirected("its address is included (traffic.sidecar.istio.io/includeOutboundIPRanges)")
            }
            Include::Only(_) => {
                Bypassed("its address is not included (traffic.sidecar.istio.io/includeOutboundIPRanges)")
            }
        }
    }

    /// Whether a TCP connection on its way in to a port goes to the proxy.
    pub fn inbound(&self, port: u16) -> bool {
        if port == 15008 {
            return false;
        }
        match &self.include_inbound_ports {
            Include::All => !self.exclude_inbound_ports.contains(&port),
            Include::Only(list) => list.contains(&port),
        }
    }
}

/// The entries of a comma-separated list that can be read.
fn list<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split(',').filter_map(|entry| entry.trim().parse().ok()).collect()
}

fn ranges(text: &str) -> Include<IpNet> {
    if text.trim() == "*" { Include::All } else { Include::Only(list(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(destination: &str, port: u16) -> Outgoing {
        Outgoing {
            destination: destination.parse().unwrap(),
            port,
            source: None,
            uid: None,
            gid: None,
            interface: "eth0".into(),
        }
    }

    #[test]
    fn everything_is_captured_but_the_proxys_own_traffic() {
        let rules = CaptureRules::default();
        assert!(matches!(rules.outbound(&flow("192.0.2.1", 80)), OutboundCapture::Redirected(_)));
        let own = Outgoing { uid: Some(1337), ..flow("192.0.2.1", 80) };
        assert!(matches!(rules.outbound(&own), OutboundCapture::Bypassed(_)));
        let group = Outgoing { gid: Some(1337), ..flow("192.0.2.1", 80) };
        assert!(matches!(rules.outbound(&group), OutboundCapture::Bypassed(_)));
    }

    #[test]
    fn the_proxy_that_calls_its_own_pod_meets_its_inbound_listener() {
        let rules = CaptureRules::default();
        let own = Outgoing { uid: Some(1337), interface: "lo".into(), ..flow("10.0.0.1", 80) };
        assert!(matches!(rules.outbound(&own), OutboundCapture::ToInbound(_)));
        let app = Outgoing { uid: Some(0), ..own };
        assert!(matches!(rules.outbound(&app), OutboundCapture::Bypassed(_)));
    }

    #[test]
    fn excluded_ports_beat_included_addresses_and_excluded_addresses_beat_included_ports() {
        let rules = CaptureRules {
            exclude_outbound_ports: vec![81],
            include_outbound_ports: vec![82],
            exclude_outbound_ranges: vec!["192.0.2.0/24".parse().unwrap()],
            include_outbound_ranges: Include::Only(vec!["198.51.100.0/24".parse().unwrap()]),
            ..CaptureRules::default()
        };
        assert!(matches!(rules.outbound(&flow("198.51.100.1", 81)), OutboundCapture::Bypassed(_)));
        assert!(matches!(rules.outbound(&flow("192.0.2.1", 82)), OutboundCapture::Bypassed(_)));
        assert!(matches!(rules.outbound(&flow("203.0.113.1", 82)), OutboundCapture::Redirected(_)));
        assert!(matches!(rules.outbound(&flow("203.0.113.1", 80)), OutboundCapture::Bypassed(_)));
    }

    #[test]
    fn excluded_inbound_ports_count_only_where_all_others_are_included() {
        let mut rules = CaptureRules::default();
        assert!(rules.inbound(8080) && !rules.inbound(15090) && !rules.inbound(15008));
        rules.include_inbound_ports = Include::Only(vec![8080, 15090]);
        assert!(rules.inbound(15090) && !rules.inbound(8081));
    }
}
