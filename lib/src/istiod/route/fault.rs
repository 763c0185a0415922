//! Which faults does a route inject?
//!
//! Invariant: a fault without a percentage never fires. istiod: `route.go: TranslateFault`.

use crate::envoy::config::{Fault, FaultAbort};
use crate::manifest::schema::istio::{HttpFaultInjection, Percent};
use crate::origin::Origin;

/// gRPC status names that an abort may carry, with their numbers.
const GRPC_STATUS: [(&str, u32); 17] = [
    ("OK", 0),
    ("CANCELLED", 1),
    ("UNKNOWN", 2),
    ("INVALID_ARGUMENT", 3),
    ("DEADLINE_EXCEEDED", 4),
    ("NOT_FOUND", 5),
    ("ALREADY_EXISTS", 6),
    ("PERMISSION_DENIED", 7),
    ("RESOURCE_EXHAUSTED", 8),
    ("FAILED_PRECONDITION", 9),
    ("ABORTED", 10),
    ("OUT_OF_RANGE", 11),
    ("UNIMPLEMENTED", 12),
    ("INTERNAL", 13),
    ("UNAVAILABLE", 14),
    ("DATA_LOSS", 15),
    ("UNAUTHENTICATED", 16),
];

/// Translates a `fault` block written at `origin`; `None` when nothing of it is supported.
pub fn translate_fault(fault: &HttpFaultInjection, origin: &Origin) -> Option<Fault> {
    let delay = fault.delay.as_ref().and_then(|delay| {
        let fixed = delay.fixed_delay?;
        let part = delay.percentage.as_ref().map_or_else(|| whole_percent(delay.percent), millionths);
        Some((super::duration(fixed), part, origin.part("delay")))
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        let part = abort.percentage.as_ref().map_or(0, millionths);
        let kind = if let Some(status) = abort.http_status {
            FaultAbort::HttpStatus(u16::try_from(status).unwrap_or(0))
        } else if let Some(status) = &abort.grpc_status {
            let code = GRPC_STATUS.iter().find(|(name, _)| name == status).map_or(0, |(_, code)| *code);
            FaultAbort::GrpcStatus(code)
        } else {
            return None;
        };
        Some((kind, part, origin.part("abort")))
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

/// A percentage in millionths. istiod: `route.go: translatePercentToFractionalPercent`.
pub fn millionths(percent: &Percent) -> u32 {
    // As in Go, the product is cut off, not rounded.
    (percent.value * 10_000.0) as u32
}

fn whole_percent(percent: i32) -> u32 {
    u32::try_from(percent).unwrap_or(0).saturating_mul(10_000)
}
