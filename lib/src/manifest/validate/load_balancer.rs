//! Load balancing and localities.
//!
//! istiod: `validation.go: validateLoadBalancer`, `agent/validation.go: ValidateLocalityLbSetting,
//! ValidateZoneAwareLbSetting`.

use indexmap::IndexMap;
use rustc_hash::FxHashSet;

use super::names;
use super::report::{At, Report};
use crate::manifest::schema::istio::{
    ConsistentHashLb, Failover, LoadBalancerSettings, LocalityLoadBalancerSetting, OutlierDetection,
    ZoneAwareLoadBalancerSetting,
};

/// Envoy's largest table for Maglev hashing.
const MAGLEV_LIMIT: u64 = 5_000_011;

pub(super) fn load_balancer(
    report: &mut Report<'_>,
    at: &At<'_>,
    settings: &LoadBalancerSettings,
    outlier: Option<&OutlierDetection>,
) {
    report.at_most_one(
        at,
        &[("simple", settings.simple.is_some()), ("consistentHash", settings.consistent_hash.is_some())],
    );
    if let Some(hash) = &settings.consistent_hash {
        consistent_hash(report, &at.field("consistentHash"), hash);
    }
    if settings.locality_lb_setting.is_some() && settings.zone_aware_lb_setting.is_some() {
        report.refuse(
            &at.field("zoneAwareLbSetting"),
            "only one of localityLbSetting and zoneAwareLbSetting can be set",
        );
    }
    if let Some(locality) = &settings.locality_lb_setting {
        locality_setting(report, &at.field("localityLbSetting"), locality, outlier);
    }
    if let Some(zone) = &settings.zone_aware_lb_setting {
        zone_aware_setting(report, &at.field("zoneAwareLbSetting"), zone, outlier);
    }
    if let Some(warmup) = &settings.warmup {
        let at = at.field("warmup");
        match warmup.duration {
            None => report.refuse(&at, "duration is required"),
            Some(duration) => report.check(&at.field("duration"), names::duration(duration)),
        }
        if warmup.minimum_percent.is_some_and(|p| p > 100.0) {
            report.refuse(
                &at.field("minimumPercent"),
                "minimumPercent value should be less than or equal to 100",
            );
        }
        if warmup.aggression.is_some_and(|a| a <= 0.0) {
            report.refuse(&at.field("aggression"), "aggression should be greater than 0");
        }
    }
}

fn consistent_hash(report: &mut Report<'_>, at: &At<'_>, hash: &ConsistentHashLb) {
    report.at_most_one(
        at,
        &[
            ("httpHeaderName", hash.http_header_name.is_some()),
            ("httpCookie", hash.http_cookie.is_some()),
            ("useSourceIp", hash.use_source_ip.is_some()),
            ("httpQueryParameterName", hash.http_query_parameter_name.is_some()),
        ],
    );
    report.at_most_one(at, &[("ringHash", hash.ring_hash.is_some()), ("maglev", hash.maglev.is_some())]);
    if let Some(cookie) = &hash.http_cookie {
        let at = at.field("httpCookie");
        if cookie.name.is_empty() {
            report.refuse(&at, "name required for HttpCookie");
        }
        let mut seen = FxHashSet::default();
        for (index, attribute) in cookie.attributes.iter().enumerate() {
            let at = at.field("attributes");
            if attribute.name.is_empty() {
                report.refuse(&at.index(index), "cookie attribute name cannot be empty");
            } else if !seen.insert(attribute.name.as_str()) {
                report
                    .refuse(&at.index(index), format!("duplicate cookie attribute name: {}", attribute.name));
            }
        }
    }
    if hash.minimum_ring_size.is_some_and(|size| size != 0) {
        let at = at.field("minimumRingSize");
        report.warn(
            &at,
            "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash configuration instead",
        );
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            report.refuse(&at, "only one of MinimumRingSize or Maglev/Ringhash can be specified");
        }
    }
    if let Some(maglev) = &hash.maglev {
        let at = at.field("maglev");
        let at = at.field("tableSize");
        if maglev.table_size == 0 {
            report.refuse(&at, "tableSize must be set for maglev");
        }
        if maglev.table_size >= MAGLEV_LIMIT {
            report.refuse(&at, "tableSize must be less than 5000011 for maglev");
        } else if !is_prime(maglev.table_size) {
            report.refuse(&at, "tableSize must be a prime number for maglev");
        }
    }
}

/// Whether a number below Maglev's limit is prime; Envoy counts 1 as one.
fn is_prime(number: u64) -> bool {
    match number {
        0 => false,
        1..=3 => true,
        _ if number.is_multiple_of(2) => false,
        _ => (3..).step_by(2).take_while(|f| f * f <= number).all(|f| !number.is_multiple_of(f)),
    }
}

/// Labels that say where an endpoint is.
fn is_topology(label: &str) -> bool {
    matches!(
        label,
        "topology.kubernetes.io/region" | "topology.kubernetes.io/zone" | "topology.istio.io/subzone"
    )
}

fn locality_setting(
    report: &mut Report<'_>,
    at: &At<'_>,
    setting: &LocalityLoadBalancerSetting,
    outlier: Option<&OutlierDetection>,
) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        report.refuse(&at.field("failover"), "can not simultaneously specify 'distribute' and 'failover'");
        return;
    }
    let priorities = &setting.failover_priority;
    if !setting.failover.is_empty()
        && let Some(index) = priorities.iter().position(|label| is_topology(label))
    {
        let label = priorities.get(index).map(smol_str::SmolStr::as_str).unwrap_or_default();
        report.refuse(
            &at.field("failoverPriority").index(index),
            format!(
                "can not simultaneously set 'failover' and topology label '{label}' in 'failover_priority'"
            ),
        );
        return;
    }
    let distribute = at.field("distribute");
    for (index, rule) in setting.distribute.iter().enumerate() {
        let at = distribute.index(index);
        let to = at.field("to");
        if let Some((locality, _)) = rule.to.iter().find(|(_, weight)| !(1..=100).contains(*weight)) {
            report.refuse(&to.key(locality), "locality weight must be in range [1, 100]");
            return;
        }
        let total = rule.to.values().fold(0_u32, |sum, weight| sum.wrapping_add(*weight));
        if total != 100 {
            report.refuse(&to, format!("total locality weight {total} != 100"));
            return;
        }
        report.check(&to, localities(rule.to.keys().map(smol_str::SmolStr::as_str)));
    }
    report.check(&distribute, localities(setting.distribute.iter().map(|rule| rule.from.as_str())));
    needs_outlier(report, at, !setting.failover.is_empty() || !priorities.is_empty(), outlier);
    failovers(report, at, &setting.failover, "locality lb failover");
}

fn zone_aware_setting(
    report: &mut Report<'_>,
    at: &At<'_>,
    setting: &ZoneAwareLoadBalancerSetting,
    outlier: Option<&OutlierDetection>,
) {
    for (index, label) in setting.failover_priority.iter().enumerate() {
        if is_topology(label) {
            report.refuse(
                &at.field("failoverPriority").index(index),
                format!(
                    "'failover_priority' for zone aware lb must not use topology label '{label}'; region- and zone-level routing are handled automatically"
                ),
            );
        }
    }
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    needs_outlier(report, at, fails_over, outlier);
    failovers(report, at, &setting.failover, "zone aware lb failover");
}

fn needs_outlier(report: &mut Report<'_>, at: &At<'_>, fails_over: bool, outlier: Option<&OutlierDetection>) {
    if fails_over && outlier.is_none() {
        report.warn(at, "outlier detection policy must be provided for failover");
    }
}

fn failovers(report: &mut Report<'_>, at: &At<'_>, failovers: &[Failover], name: &str) {
    let at = at.field("failover");
    for (index, failover) in failovers.iter().enumerate() {
        let at = at.index(index);
        let either = |c: char| failover.from.contains(c) || failover.to.contains(c);
        if failover.from == failover.to {
            report.refuse(&at, format!("{name} settings must specify different regions"));
        }
        if either('/') {
            report.refuse(&at, format!("{name} only specify region"));
        }
        if either('*') {
            report.refuse(&at, format!("{name} region should not contain '*' wildcard"));
        }
    }
}

/// What is named below a region or zone.
#[derive(Default)]
struct Named<'l> {
    all: bool,
    parts: IndexMap<&'l str, Named<'l>>,
}

/// Whether localities (`region/zone/subzone`, `*` at the end) do not overlap. istiod: `validateLocalities`.
fn localities<'l>(localities: impl Iterator<Item = &'l str>) -> names::Checked {
    let mut world = Named::default();
    for locality in localities {
        let stars = locality.matches('*').count();
        if stars > 1 || (stars == 1 && !locality.ends_with('*')) {
            return Err(format!(
                "locality {locality} wildcard '*' number can not exceed 1 and must be in the end"
            ));
        }
        let overlap = || Err(format!("locality {locality} overlap with previous specified ones"));
        if world.parts.contains_key("*") {
            return overlap();
        }
        if locality.splitn(3, '/').any(str::is_empty) {
            return Err(format!("locality {locality} must not contain empty region/zone/subzone info"));
        }
        let mut place = &mut world;
        let mut parts = locality.splitn(3, '/').peekable();
        let mut depth = 0;
        while let Some(part) = parts.next() {
            if depth > 0 && (place.all || place.parts.contains_key("*")) {
                return overlap();
            }
            let last = parts.peek().is_none();
            if last && place.parts.contains_key(part) {
                return overlap();
            }
            place = place.parts.entry(part).or_default();
            place.all |= last;
            depth += 1;
        }
    }
    Ok(())
}
