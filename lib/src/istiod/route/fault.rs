//! Which faults does a route inject?
//!
//! Invariant: a fault without a percentage never fires. istiod: `route.go: TranslateFault`.

use crate::envoy::config::{Fault, FaultAbort};
use crate::grpc;
use crate::manifest::schema::istio::{HttpFaultInjection, Percent};
use crate::origin::Origin;

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
            FaultAbort::GrpcStatus(grpc::status_number(status).unwrap_or(0))
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
