//! Which trace headers does a proxy write?
//!
//! Envoy: the tracers' `injectContext`. Measured with Envoy 1.40 (`envoy-semantics`, tracing providers): without a provider none is
//! written; a zipkin tracer writes its context even when the request is not sampled.

use smol_str::SmolStr;

use crate::envoy::config::{HttpConnectionManager, Tracing, TracingProvider};
use crate::envoy::headers::{self, Hand, Headers, literal};
use crate::envoy::ledger::{By, GENERATED, Generated, HeaderValue, Ledger};

/// Percentages of `random_sampling` are in hundredths.
const ALWAYS: u32 = 10_000;

/// Writes the trace context that the upstream gets.
pub(crate) fn inject(manager: &HttpConnectionManager, lines: &mut Headers, ledger: &mut Ledger) {
    let Some(tracing) = manager.tracing.as_ref().filter(|tracing| !tracing.disable_context_propagation)
    else {
        return;
    };
    match tracing.provider {
        None | Some(TracingProvider::Other) => {}
        Some(TracingProvider::Zipkin) => b3(tracing, lines, ledger),
        Some(TracingProvider::ZipkinWithW3c) => {
            b3(tracing, lines, ledger);
            traceparent(tracing, lines, ledger);
        }
        Some(TracingProvider::OpenTelemetry) => {
            traceparent(tracing, lines, ledger);
            if !headers::has(lines, "tracestate") {
                let hand = Hand { by: By::Istio, origin: &tracing.origin };
                headers::set(lines, ledger, "tracestate", literal(SmolStr::default()), hand);
            }
        }
    }
}

fn generated() -> HeaderValue {
    HeaderValue::Generated(Generated::TraceContext, SmolStr::new_static(GENERATED))
}

fn b3(tracing: &Tracing, lines: &mut Headers, ledger: &mut Ledger) {
    let hand = Hand { by: By::Istio, origin: &tracing.origin };
    let continued = headers::has(lines, "x-b3-traceid") && headers::has(lines, "x-b3-spanid");
    if !continued {
        headers::set(lines, ledger, "x-b3-traceid", generated(), hand);
    }
    headers::set(lines, ledger, "x-b3-spanid", generated(), hand);
    if continued || tracing.spawn_upstream_span {
        headers::set(lines, ledger, "x-b3-parentspanid", generated(), hand);
    }
    if !headers::has(lines, "x-b3-sampled") {
        let sampled = match tracing.random_sampling {
            0 => literal(SmolStr::new_static("0")),
            ALWAYS.. => literal(SmolStr::new_static("1")),
            _ => generated(),
        };
        headers::set(lines, ledger, "x-b3-sampled", sampled, hand);
    }
}

fn traceparent(tracing: &Tracing, lines: &mut Headers, ledger: &mut Ledger) {
    let hand = Hand { by: By::Istio, origin: &tracing.origin };
    headers::set(lines, ledger, "traceparent", generated(), hand);
}
