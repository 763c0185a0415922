//! Which endpoints come first?
//!
//! Priorities and weights of a cluster's groups as its client's locality and labels give them. Invariant: priorities count
//! from 0 without gaps, and no endpoint is in two groups. istiod: `loadbalancer.go: GetEffectiveLbSetting,
//! ApplyLocalityLoadBalancer, ApplyZoneAwareLoadBalancer`; `util.go: LbPriority, LocalityMatch`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::traffic_policy::Placed;
use crate::envoy::config::{LbEndpoint, LoadAssignment, LocalityEndpoints, Preference};
use crate::istiod::node::{Node, NodeType};
use crate::istiod::proxy::Proxy;
use crate::manifest::schema::istio::{
    Distribute, Failover, LoadBalancerSettings, LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting,
};
use crate::mesh::{Endpoint, Features, Health, Locality, Service, TrafficDistribution, locality};
use crate::origin::Origin;

/// The endpoints of one locality, and of one priority once that is known.
pub struct Group<'m> {
    /// `region/zone/subzone`, as endpoints are put together by it.
    pub locality: SmolStr,
    /// 0 is used first.
    pub priority: u32,
    /// The weight of all.
    pub weight: u32,
    /// The endpoints, as the mesh and as Envoy has them.
    pub members: Vec<(&'m Endpoint, LbEndpoint)>,
}

/// The setting that holds for a cluster.
pub struct Preferred<'a> {
    setting: Setting<'a>,
    origin: Origin,
}

enum Setting<'a> {
    Locality {
        setting: Cow<'a, LocalityLoadBalancerSetting>,
        /// Whether it holds without outlier detection.
        forced: bool,
    },
    ZoneAware(&'a ZoneAwareLoadBalancerSetting),
}

impl<'a> Preferred<'a> {
    /// The setting that holds: the DestinationRule's, else the service's own wish, else the mesh's; zone awareness comes
    /// first in each. A DestinationRule or MeshConfig that turns it off ends the search.
    pub fn of(
        proxy: &'a Proxy,
        service: &'a Service,
        load_balancer: Option<&'a Placed<LoadBalancerSettings>>,
    ) -> Option<Self> {
        if let Some((settings, origin)) = load_balancer {
            if let Some(zone_aware) = &settings.zone_aware_lb_setting {
                let origin = origin.part("zoneAwareLbSetting");
                return Some(Self { setting: Setting::ZoneAware(zone_aware), origin });
            }
            if let Some(setting) = &settings.locality_lb_setting {
                return Self::of_locality(setting, || origin.part("localityLbSetting"));
            }
        }
        if let Some((wanted, origin)) = &service.traffic_distribution {
            let setting = Setting::Locality { setting: Cow::Owned(wish(*wanted)), forced: true };
            return Some(Self { setting, origin: origin.clone() });
        }
        let config = proxy.mesh().config();
        if let Some(zone_aware) = &config.written.zone_aware_lb_setting {
            let origin = Origin::default("MeshConfig zoneAwareLbSetting");
            return Some(Self { setting: Setting::ZoneAware(zone_aware), origin });
        }
        let written = config.written.locality_lb_setting.is_some();
        Self::of_locality(&config.locality_lb_setting, || {
            Origin::default(if written {
                "MeshConfig localityLbSetting"
            } else {
                "with outlier detection, near endpoints come first (MeshConfig localityLbSetting)"
            })
        })
    }

    fn of_locality(
        setting: &'a LocalityLoadBalancerSetting,
        origin: impl FnOnce() -> Origin,
    ) -> Option<Self> {
        (setting.enabled != Some(false)).then(|| Self {
            setting: Setting::Locality { setting: Cow::Borrowed(setting), forced: false },
            origin: origin(),
        })
    }

    /// Whether the weights of localities count by this setting.
    fn weighs_localities(&self, outlier_detection: bool) -> bool {
        match &self.setting {
            Setting::Locality { setting, forced } => {
                let ranked = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
                !setting.distribute.is_empty() || (ranked && (*forced || outlier_detection))
            }
            Setting::ZoneAware(_) => false,
        }
    }
}

/// Whether the weights of localities count in a cluster. istiod: `loadbalancer.go: LocalityLBSettings.ApplyToCluster,
/// ZoneAwareLBSettings.ApplyToCluster`.
pub fn weighs_localities(
    features: &Features,
    preferred: Option<&Preferred<'_>>,
    outlier_detection: bool,
) -> bool {
    let zone_aware = preferred.is_some_and(|it| matches!(it.setting, Setting::ZoneAware(_)));
    (features.locality_weighted_lb_config && !zone_aware)
        || preferred.is_some_and(|preferred| preferred.weighs_localities(outlier_detection))
}

/// What a service's wish for near endpoints is short for.
fn wish(wanted: TrafficDistribution) -> LocalityLoadBalancerSetting {
    let mut labels = vec![locality::NETWORK, locality::REGION, locality::ZONE];
    if wanted == TrafficDistribution::PreferSameNode {
        labels.extend([locality::SUBZONE, locality::HOSTNAME]);
    }
    LocalityLoadBalancerSetting {
        enabled: Some(true),
        failover_priority: labels,
        ..LocalityLoadBalancerSetting::default()
    }
}

/// What istiod knows when it ranks the endpoints of a cluster.
#[derive(Clone, Copy)]
pub struct Given {
    /// Whether outlier detection is on: without it, nobody would notice that an endpoint has failed.
    pub outlier_detection: bool,
    /// Whose labels can be compared.
    pub labelled: Labelled,
}

/// Whose labels `failoverPriority` is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// Every endpoint's.
    All,
    /// The endpoints' of one locality: istiod looks for those of others at places that do not exist.
    OneLocality,
    /// Nobody's: subsets of names that Envoy resolves.
    None,
}

/// Gives the groups of a cluster their priorities and weights.
pub fn assign(
    proxy: &Proxy,
    preferred: Option<&Preferred<'_>>,
    given: Given,
    mut groups: Vec<Group<'_>>,
) -> LoadAssignment {
    let node = proxy.node();
    let mut ranking = Ranking { node, given, ranked: false, by_place: false, undefined: false };
    match preferred.map(|preferred| &preferred.setting) {
        Some(Setting::Locality { setting, .. }) if !setting.distribute.is_empty() => {
            ranking.distribute(&setting.distribute, &mut groups);
        }
        Some(Setting::Locality { setting, forced }) if *forced || given.outlier_detection => {
            if !setting.failover_priority.is_empty() {
                ranking.by_labels(&setting.failover_priority, &mut groups);
            }
            if setting.failover_priority.is_empty() || !setting.failover.is_empty() {
                ranking.by_locality(&setting.failover, &mut groups);
            }
        }
        Some(Setting::ZoneAware(setting))
            if setting.enabled != Some(false) && node.node_type != NodeType::Waypoint =>
        {
            if !setting.failover_priority.is_empty() {
                ranking.by_labels(&setting.failover_priority, &mut groups);
            }
            ranking.by_region(&setting.failover, &mut groups);
        }
        _ => {}
    }
    let client: SmolStr = node.metadata.locality.trim_end_matches('/').into();
    let mut preference = preferred.filter(|_| ranking.ranked).map(|preferred| Preference {
        origin: preferred.origin.clone(),
        client: client.clone(),
        assumption: ranking.assumption(&groups),
    });
    if node.metadata.self_discovery
        && !weighs_localities(proxy.mesh().features(), preferred, given.outlier_detection)
        && may_route_by_zone(preferred, &groups)
    {
        let origin = Origin::default("proxies that know their likes share requests by zone");
        let assumption = "requests are shared evenly among zones; how many proxies run in each is not known";
        preference.get_or_insert(Preference { origin, client, assumption: None }).assumption =
            Some(SmolStr::new_static(assumption));
    }
    let assumption = other_network(proxy, &groups);
    let endpoints = groups.into_iter().map(Group::finish).collect();
    LoadAssignment { endpoints, preference, assumption }
}

/// What is assumed about endpoints of another network than the client's. istiod sends the gateways of that network in their
/// place, where it knows any. istiod: `ep_filters.go: EndpointsByNetworkFilter`.
fn other_network(proxy: &Proxy, groups: &[Group<'_>]) -> Option<SmolStr> {
    let (node, gateways) = (proxy.node(), proxy.mesh().network_gateways());
    let networks = || groups.iter().flat_map(|group| &group.members).map(|(known, _)| &known.network);
    if let Some((network, name)) =
        gateways.unresolved().iter().find(|(to, _)| networks().any(|own| own == to))
    {
        return Some(format_smolstr!(
            "the gateway {name} to network {network} is left out: istiod resolves its name"
        ));
    }
    let mut members = groups.iter().flat_map(|group| &group.members).map(|(known, _)| *known);
    let is_gateway =
        |known: &&Endpoint| gateways.to(&known.network).iter().any(|to| std::ptr::eq(to, *known));
    if let Some(gateway) = members.find(is_gateway) {
        let network = &gateway.network;
        return Some(format_smolstr!(
            "the gateway to network {network} passes requests on to an endpoint there"
        ));
    }
    let own = node.labels.get(&locality::NETWORK).filter(|network| !network.is_empty())?;
    let is_other =
        |network: &&SmolStr| !network.is_empty() && *network != own && gateways.to(network).is_empty();
    let other = networks().find(is_other)?;
    Some(format_smolstr!("endpoints in network {other} are reached without a gateway between networks"))
}

/// Whether Envoy may look at zones by itself: in the first priority only, with at least two localities and a number of
/// endpoints that are healthy. Envoy: `load_balancer_impl.cc: ZoneAwareLoadBalancerBase::earlyExitNonLocalityRouting`.
fn may_route_by_zone(preferred: Option<&Preferred<'_>>, groups: &[Group<'_>]) -> bool {
    let (enabled, least) = match preferred.map(|preferred| &preferred.setting) {
        Some(Setting::ZoneAware(setting)) => (setting.enabled != Some(false), setting.min_cluster_size),
        _ => (true, None),
    };
    if !enabled {
        return false;
    }
    let healthy =
        |group: &Group<'_>| group.members.iter().filter(|(known, _)| known.health == Health::Healthy).count();
    let counts: Vec<usize> =
        groups.iter().filter(|group| group.priority == 0).map(healthy).filter(|count| *count > 0).collect();
    counts.len() > 1 && counts.iter().sum::<usize>() as u64 >= least.unwrap_or(6)
}

impl Group<'_> {
    fn finish(self) -> LocalityEndpoints {
        LocalityEndpoints {
            locality: self.locality.trim_end_matches('/').into(),
            priority: self.priority,
            load_balancing_weight: self.weight,
            lb_endpoints: self.members.into_iter().map(|(_, endpoint)| endpoint).collect(),
        }
    }
}

/// A ranking in progress.
struct Ranking<'p> {
    node: &'p Node,
    given: Given,
    /// Whether anything was ranked.
    ranked: bool,
    /// Whether that depends on where client and endpoints run.
    by_place: bool,
    /// Whether istiod itself fails.
    undefined: bool,
}

impl Ranking<'_> {
    /// Shares by locality: the first entry for the client's counts; groups that it does not name lose their endpoints.
    fn distribute(&mut self, distribute: &[Distribute], groups: &mut [Group<'_>]) {
        let client = Locality::new(&self.node.metadata.locality);
        self.by_place = true;
        self.ranked = true;
        let Some(entry) = distribute.iter().find(|entry| matches(client, &entry.from)) else { return };
        let mut left: Vec<&mut Group<'_>> = groups.iter_mut().collect();
        for (to, share) in &entry.to {
            let (chosen, rest): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|group| matches(Locality::new(&group.locality), to));
            left = rest;
            let total = chosen.iter().fold(0_u32, |sum, group| sum.wrapping_add(group.weight));
            for group in chosen {
                let weight = f64::from(group.weight.wrapping_mul(*share)) / f64::from(total);
                if weight > 0.0 {
                    // At most the larger of two numbers of 32 bits.
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    let whole = weight.ceil() as u32;
                    group.weight = whole;
                }
            }
        }
        for group in left {
            group.members.clear();
        }
    }

    /// Splits groups by how many of the labels, from the first, an endpoint shares with the client. Endpoints of another
    /// network come last, where the network is the first label.
    fn by_labels<'m>(&mut self, priority: &[SmolStr], groups: &mut Vec<Group<'m>>) {
        match self.given.labelled {
            Labelled::All => {}
            Labelled::OneLocality => self.undefined |= groups.len() > 1,
            Labelled::None => return,
        }
        if self.node.labels.is_empty() {
            return;
        }
        let wanted = Wanted::new(priority, &self.node.labels);
        self.ranked = true;
        self.by_place |= wanted.labels.iter().any(|(name, _)| {
            [locality::REGION, locality::ZONE, locality::SUBZONE, locality::HOSTNAME]
                .iter()
                .any(|l| l == name)
        });
        for group in std::mem::take(groups) {
            let mut split: BTreeMap<u32, Vec<(&'m Endpoint, LbEndpoint)>> = BTreeMap::new();
            for member in group.members {
                split.entry(wanted.priority(member.0)).or_default().push(member);
            }
            groups.extend(split.into_iter().map(|(priority, members)| Group {
                locality: group.locality.clone(),
                priority,
                weight: weight(&members),
                members,
            }));
        }
        compact(groups);
    }

    /// The nearer, the earlier; among other regions, the one to fail over to comes first.
    fn by_locality(&mut self, failover: &[Failover], groups: &mut [Group<'_>]) {
        let client = Locality::new(&self.node.metadata.locality);
        let refuge = failover.iter().find(|entry| entry.from == client.region).map(|entry| &entry.to);
        self.rank(5, groups, |place| {
            if place.region != client.region {
                if refuge.is_some_and(|refuge| place.region != refuge) { 4 } else { 3 }
            } else if place.zone != client.zone {
                2
            } else {
                u32::from(place.subzone != client.subzone)
            }
        });
    }

    /// The client's region, then the one to fail over to, then the others.
    fn by_region(&mut self, failover: &[Failover], groups: &mut [Group<'_>]) {
        let client = Locality::new(&self.node.metadata.locality);
        let refuge = failover.iter().find(|entry| entry.from == client.region).map(|entry| &entry.to);
        self.rank(3, groups, |place| match place.region {
            region if region == client.region => 0,
            region if refuge.is_some_and(|refuge| region == refuge) => 1,
            _ => 2,
        });
    }

    /// Ranks within the priorities that are already there.
    fn rank(&mut self, ranks: u32, groups: &mut [Group<'_>], rank: impl Fn(Locality<'_>) -> u32) {
        self.by_place = true;
        self.ranked = true;
        for group in groups.iter_mut() {
            group.priority = group.priority * ranks + rank(Locality::new(&group.locality));
        }
        compact(groups);
    }

    /// What the ranking rests on besides the input.
    fn assumption(&self, groups: &[Group<'_>]) -> Option<SmolStr> {
        if self.undefined {
            return Some(SmolStr::new_static(
                "istiod ranks endpoints in several localities by failoverPriority, which it fails to do for names that \
                 Envoy resolves",
            ));
        }
        if !self.by_place {
            return None;
        }
        let nowhere = |who: &str| {
            format_smolstr!(
                "{who} is taken to run in no locality: it has no label topology.istio.io/locality, and its Node is not given"
            )
        };
        if self.node.metadata.locality_assumed {
            return Some(nowhere(&format!("{}/{}", self.node.namespace, self.node.name)));
        }
        let unknown =
            groups.iter().flat_map(|group| &group.members).find(|(known, _)| !known.locality_known)?;
        Some(nowhere(&unknown.1.workload))
    }
}

/// The values of labels that an endpoint should have.
struct Wanted<'a> {
    labels: Vec<(&'a str, &'a str)>,
    network_first: bool,
}

impl<'a> Wanted<'a> {
    /// `name=value` asks for a value, a name for the client's own.
    fn new(priority: &'a [SmolStr], client: &'a IndexMap<SmolStr, SmolStr>) -> Self {
        let own = |name: &str| client.get(name).map_or("", SmolStr::as_str);
        let mut fixed: IndexMap<&str, &str> = IndexMap::new();
        let mut names = Vec::new();
        for entry in priority {
            let mut parts = entry.split('=');
            let name = parts.next().unwrap_or_default();
            names.push(name);
            if let (Some(value), None) = (parts.next(), parts.next()) {
                fixed.insert(name, value);
            }
        }
        let labels =
            names.into_iter().map(|name| (name, fixed.get(name).copied().unwrap_or_else(|| own(name))));
        Self {
            labels: labels.collect(),
            network_first: priority.first().is_some_and(|first| *first == locality::NETWORK),
        }
    }

    /// 0 when all labels fit, more the earlier one does not.
    fn priority(&self, endpoint: &Endpoint) -> u32 {
        let count = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        let mut other_network = 0;
        for (place, (name, value)) in (0_u32..).zip(&self.labels) {
            if endpoint.label(name).unwrap_or_default() == *value {
                continue;
            }
            if place == 0 && self.network_first {
                other_network = count;
                continue;
            }
            return other_network + count - place;
        }
        other_network
    }
}

/// Whether a locality is among those that a rule names; `*` or nothing stands for any part.
fn matches(place: Locality<'_>, rule: &str) -> bool {
    let rule = Locality::new(rule);
    let part = |rule: &str, own: &str| rule == "*" || rule.is_empty() || rule == own;
    (rule.region == "*" || rule.region == place.region)
        && part(rule.zone, place.zone)
        && part(rule.subzone, place.subzone)
}

/// Closes the gaps between priorities.
fn compact(groups: &mut [Group<'_>]) {
    let mut used: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    used.sort_unstable();
    used.dedup();
    for group in groups {
        let at = used.partition_point(|priority| *priority < group.priority);
        group.priority = u32::try_from(at).unwrap_or(u32::MAX);
    }
}

/// The weight of all.
pub fn weight(members: &[(&Endpoint, LbEndpoint)]) -> u32 {
    members.iter().fold(0, |sum, (_, endpoint)| sum.saturating_add(endpoint.load_balancing_weight))
}
