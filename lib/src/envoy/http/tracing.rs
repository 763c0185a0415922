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

/// What Envoy's Datadog tracer writes, in its order; measured with Envoy 1.40.
const DATADOG: [&str; 6] = [
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "traceparent",
    "tracestate",
];
/// In place of a value that only sampled requests carry; measured with Envoy 1.40's SkyWalking tracer.
const GENERATED_WHEN_SAMPLED: &str = "<generated when sampled>";

/// Writes the trace context that the upstream gets.
pub(crate) fn inject(manager: &HttpConnectionManager, lines: &mut Headers, ledger: &mut Ledger) {
    if let Some(tracing) = manager.tracing.as_ref().filter(|tracing| !tracing.disable_context_propagation) {
        context(tracing, lines, ledger);
    }
}

/// Whether requests have spans.
pub(crate) fn makes_spans(manager: &HttpConnectionManager) -> bool {
    manager.tracing.as_ref().is_some_and(|tracing| tracing.provider.is_some())
}

/// The context in the provider's format.
fn context(tracing: &Tracing, lines: &mut Headers, ledger: &mut Ledger) {
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
        Some(TracingProvider::Datadog) => {
            let hand = Hand { by: By::Istio, origin: &tracing.origin };
            for name in DATADOG {
                headers::set(lines, ledger, name, generated(), hand);
            }
        }
        Some(TracingProvider::SkyWalking) if tracing.random_sampling > 0 => {
            let hand = Hand { by: By::Istio, origin: &tracing.origin };
            let always = tracing.random_sampling >= ALWAYS;
            let text = if always { GENERATED } else { GENERATED_WHEN_SAMPLED };
            let value = HeaderValue::Generated(Generated::TraceContext, SmolStr::new_static(text));
            headers::set(lines, ledger, "sw8", value, hand);
        }
        Some(TracingProvider::SkyWalking) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    /// The names of the headers that a provider adds to a request without any.
    fn added(provider: TracingProvider, random_sampling: u32, spawn_upstream_span: bool) -> Vec<String> {
        let tracing = Tracing {
            random_sampling,
            provider: Some(provider),
            spawn_upstream_span,
            disable_context_propagation: false,
            origin: Origin::default("a test"),
        };
        let mut lines = Headers::default();
        context(&tracing, &mut lines, &mut Ledger::default());
        lines.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn every_provider_writes_its_own_headers() {
        assert_eq!(
            added(TracingProvider::Zipkin, 100, true),
            ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"]
        );
        assert_eq!(added(TracingProvider::OpenTelemetry, 100, false), ["traceparent", "tracestate"]);
        assert_eq!(added(TracingProvider::Datadog, 0, false), DATADOG);
        assert!(added(TracingProvider::Other, 100, false).is_empty());
    }

    #[test]
    fn skywalking_tells_the_upstream_only_about_sampled_requests() {
        assert!(added(TracingProvider::SkyWalking, 0, true).is_empty());
        assert_eq!(added(TracingProvider::SkyWalking, 1, true), ["sw8"]);
        assert_eq!(added(TracingProvider::SkyWalking, 10_000, true), ["sw8"]);
    }
}
