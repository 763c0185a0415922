//! Which annotations of a pod does Istio's injector refuse?
//!
//! A pod with such a value is not created at all. Invariant: values are read as Go reads them, so what is refused here is
//! refused there; `proxy.istio.io/config` alone is not looked into.
//! istio: `pkg/kube/inject/validate.go: AnnotationValidation, validateAnnotations`.

use std::net::IpAddr;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

/// An annotation that the injector refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedAnnotation {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub value: SmolStr,
    /// What would be taken.
    pub expected: &'static str,
    /// The part of the value that is not.
    pub got: SmolStr,
}

/// A test of a value: the part that is refused, if there is one.
type Check = fn(&str) -> Option<SmolStr>;

const PORTS: &str = "ports between 0 and 65535, separated by commas";
const PORTS_OR_ALL: &str = "ports between 0 and 65535, separated by commas, or *";
const RANGES: &str = "ranges such as 10.0.0.0/8, separated by commas";
const RANGES_OR_ALL: &str = "ranges such as 10.0.0.0/8, separated by commas, or *";
const INTERFACES: &str = "names of network interfaces, separated by commas";
const NUMBER: &str = "a number between 0 and 4294967295";
const QUANTITY: &str = "a quantity such as 100m or 128Mi";

const CHECKS: [(&str, &str, Check); 18] = [
    ("sidecar.istio.io/interceptionMode", "REDIRECT, TPROXY or NONE", interception_mode),
    ("status.sidecar.istio.io/port", "a port between 0 and 65535", port),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", NUMBER, number),
    ("readiness.status.sidecar.istio.io/periodSeconds", NUMBER, number),
    ("readiness.status.sidecar.istio.io/failureThreshold", NUMBER, number),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", RANGES_OR_ALL, |text| unless_all(text, ranges)),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", RANGES, ranges),
    ("traffic.sidecar.istio.io/includeInboundPorts", PORTS_OR_ALL, |text| unless_all(text, ports)),
    ("traffic.sidecar.istio.io/excludeInboundPorts", PORTS, ports),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", PORTS, ports),
    ("traffic.sidecar.istio.io/excludeInterfaces", INTERFACES, interfaces),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", INTERFACES, interfaces),
    ("istio.io/reroute-virtual-interfaces", INTERFACES, interfaces),
    ("prometheus.istio.io/merge-metrics", "true or false", boolean),
    ("sidecar.istio.io/proxyCPU", QUANTITY, quantity),
    ("sidecar.istio.io/proxyMemory", QUANTITY, quantity),
    ("sidecar.istio.io/proxyCPULimit", QUANTITY, quantity),
    ("sidecar.istio.io/proxyMemoryLimit", QUANTITY, quantity),
];

/// The annotations among these that the injector refuses.
pub(super) fn refused(annotations: &IndexMap<SmolStr, SmolStr>) -> Vec<RefusedAnnotation> {
    let checked = CHECKS.iter().filter_map(|(name, expected, check)| {
        let value = annotations.get(*name)?;
        Some(RefusedAnnotation { name, value: value.clone(), expected, got: check(value)? })
    });
    checked.collect()
}

fn refuse_unless(fits: bool, part: &str) -> Option<SmolStr> {
    (!fits).then(|| part.into())
}

fn unless_all(text: &str, check: Check) -> Option<SmolStr> {
    if text == "*" { None } else { check(text) }
}

fn interception_mode(text: &str) -> Option<SmolStr> {
    refuse_unless(matches!(text, "REDIRECT" | "TPROXY" | "NONE"), text)
}

/// Go's `strconv.ParseUint` takes digits only, where Rust takes a sign.
fn is_number<T: std::str::FromStr>(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<T>().is_ok()
}

fn number(text: &str) -> Option<SmolStr> {
    refuse_unless(is_number::<u32>(text), text)
}

fn port(text: &str) -> Option<SmolStr> {
    refuse_unless(is_number::<u16>(text.trim()), text)
}

fn ports(text: &str) -> Option<SmolStr> {
    let text = text.trim();
    if text.is_empty() { None } else { text.split(',').find_map(port) }
}

/// Go's `netip.ParsePrefix`: no spaces, no zone, no number of bits with zeros before it.
fn ranges(text: &str) -> Option<SmolStr> {
    let is_range = |text: &str| {
        let Some((address, bits)) = text.split_once('/') else { return false };
        let most = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        is_number::<u8>(bits)
            && (bits == "0" || !bits.starts_with('0'))
            && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    };
    if text.is_empty() {
        return None;
    }
    text.split(',').find_map(|part| refuse_unless(is_range(part), part))
}

/// istio: `pkg/util/net/ip.go: ValidateInterfaceNames`.
fn interfaces(text: &str) -> Option<SmolStr> {
    let is_name = |name: &str| {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        first
            && name.len() <= 15
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    if text.is_empty() {
        return None;
    }
    text.split(',').find_map(|part| refuse_unless(is_name(part.trim()), part))
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<SmolStr> {
    let known = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
    refuse_unless(known.contains(&text), text)
}

/// A quantity of Kubernetes: a number, and a suffix of powers of ten or two, or an exponent.
fn quantity(text: &str) -> Option<SmolStr> {
    let unsigned = |text: &str| text.strip_prefix(['+', '-']).unwrap_or(text).to_owned();
    let rest = unsigned(text);
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (digits, suffix) = rest.split_at(end);
    let is_decimal = digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.bytes().filter(|byte| *byte == b'.').count() <= 1;
    let is_suffix = match suffix {
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" => true,
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => true,
        _ => suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| is_number::<u32>(&unsigned(exponent))),
    };
    refuse_unless(is_decimal && is_suffix, text)
}

impl RefusedAnnotation {
    /// What the injector says, in a sentence.
    pub fn message(&self) -> SmolStr {
        format_smolstr!("Istio's injector refuses the annotation {}: `{}`", self.name, self.got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(name: &str, value: &str) -> bool {
        !refused(&IndexMap::from([(SmolStr::from(name), SmolStr::from(value))])).is_empty()
    }

    #[test]
    fn values_are_read_as_go_reads_them() {
        for (name, good, bad) in [
            ("sidecar.istio.io/interceptionMode", &["NONE", "TPROXY"][..], &["none", "XX", ""][..]),
            (
                "traffic.sidecar.istio.io/excludeOutboundPorts",
                &["", " 80, 443 ", "0", "080"],
                &["70-90", "*", "80,", "+80", "65536", "80 443"],
            ),
            ("traffic.sidecar.istio.io/includeInboundPorts", &["*", "80", ""], &[" *", "*,80"]),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                &["", "10.96.1.1/32", "10.0.0.1/8,fd00::/8"],
                &["10.96.1.1", "*", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/8, 10.1.0.0/16", "a/8"],
            ),
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", &["*", ""], &["* ", "10.0.0.1"]),
            (
                "traffic.sidecar.istio.io/excludeInterfaces",
                &["", "eth0, eth1.100"],
                &["eth0,", "0eth", "a-name-that-is-long", "e/0"],
            ),
            ("status.sidecar.istio.io/port", &["15021", "0"], &["", "x"]),
            ("readiness.status.sidecar.istio.io/periodSeconds", &["4294967295"], &["-1", "1s", ""]),
            ("prometheus.istio.io/merge-metrics", &["True", "0"], &["yes", ""]),
            (
                "sidecar.istio.io/proxyCPU",
                &["100m", "1.5", ".5", "1e3", "-1", "128Mi", "1E"],
                &["", "m", "1..5", "1 Mi", "1mi", "1e", "abc"],
            ),
            ("another/annotation", &["x"], &[]),
        ] {
            for value in good {
                assert!(!is_refused(name, value), "{name}: {value:?}");
            }
            for value in bad {
                assert!(is_refused(name, value), "{name}: {value:?}");
            }
        }
    }
}
