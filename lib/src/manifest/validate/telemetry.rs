//! Telemetry. istiod: `validation.go: ValidateTelemetry`.

use super::report::{At, Report};
use super::selector;
use crate::manifest::schema::istio::{
    CustomTag, MetricsOverrides, ProviderRef, TagOperation, Telemetry, TelemetryTracing,
};

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, telemetry: &Telemetry) {
    selector::targets(
        report,
        spec,
        telemetry.selector.as_ref(),
        telemetry.target_ref.as_ref(),
        &telemetry.target_refs,
    );
    let at = spec.field("metrics");
    for (index, metrics) in telemetry.metrics.iter().enumerate() {
        let at = at.index(index);
        providers(report, &at, &metrics.providers);
        let overrides = at.field("overrides");
        for (index, change) in metrics.overrides.iter().enumerate() {
            metric_override(report, &overrides.index(index), change);
        }
    }
    let at = spec.field("tracing");
    if telemetry.tracing.len() > 1 {
        report.warn(&at, "multiple tracing is not currently supported");
    }
    for (index, tracing) in telemetry.tracing.iter().enumerate() {
        tracing_of(report, &at.index(index), tracing);
    }
    let at = spec.field("accessLogging");
    for (index, logging) in telemetry.access_logging.iter().enumerate() {
        let at = at.index(index);
        if let Some(filter) = &logging.filter {
            // Istio compiles the expression with CEL; only what no CEL reads is refused here.
            report.check(&at.field("filter").field("expression"), cel(&filter.expression));
        }
        providers(report, &at, &logging.providers);
    }
}

/// Whether the brackets and quotes of a CEL expression close, and it does not end in an operator.
fn cel(expression: &str) -> Result<(), String> {
    let mut open = Vec::new();
    let mut characters = expression.chars();
    while let Some(c) = characters.next() {
        match c {
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(c) => {
                return Err(format!("failed to parse expression: unexpected '{c}'"));
            }
            '"' | '\'' => loop {
                match characters.next() {
                    Some('\\') => {
                        characters.next();
                    }
                    Some(end) if end == c => break,
                    Some(_) => {}
                    None => return Err("failed to parse expression: unterminated string".into()),
                }
            },
            _ => {}
        }
    }
    if !open.is_empty() {
        return Err("failed to parse expression: missing closing bracket".into());
    }
    let text = expression.trim();
    if text.is_empty() || text.ends_with(['=', '&', '|', '<', '>', '!', '+', '-', '*', '/', '.', ',']) {
        return Err("failed to parse expression: unexpected end".into());
    }
    Ok(())
}

fn providers(report: &mut Report<'_>, at: &At<'_>, providers: &[ProviderRef]) {
    if let Some(index) = providers.iter().position(|provider| provider.name.is_empty()) {
        report.refuse(&at.field("providers").index(index), "providers.name may not be empty");
    }
}

fn tracing_of(report: &mut Report<'_>, at: &At<'_>, tracing: &TelemetryTracing) {
    if tracing.providers.len() > 1 {
        report.warn(&at.field("providers"), "multiple providers is not currently supported");
    }
    providers(report, at, &tracing.providers);
    if tracing.random_sampling_percentage.is_some_and(|p| !(0.0..=100.0).contains(&p)) {
        report.refuse(
            &at.field("randomSamplingPercentage"),
            "randomSamplingPercentage must be in range [0.0, 100.0]",
        );
    }
    let at = at.field("customTags");
    for (name, tag) in &tracing.custom_tags {
        if name.is_empty() {
            report.refuse(&at, "tag name may not be empty");
        }
        custom_tag(report, &at.key(name), tag);
    }
}

fn custom_tag(report: &mut Report<'_>, at: &At<'_>, tag: &CustomTag) {
    report.at_most_one(
        at,
        &[
            ("literal", tag.literal.is_some()),
            ("environment", tag.environment.is_some()),
            ("header", tag.header.is_some()),
            ("formatter", tag.formatter.is_some()),
        ],
    );
    if tag.literal.as_ref().is_some_and(|literal| literal.value.is_empty()) {
        report.refuse(&at.field("literal"), "literal tag value may not be empty");
    }
    if tag.header.as_ref().is_some_and(|header| header.name.is_empty()) {
        report.refuse(&at.field("header"), "header tag name may not be empty");
    }
    if tag.environment.as_ref().is_some_and(|variable| variable.name.is_empty()) {
        report.refuse(&at.field("environment"), "environment tag name may not be empty");
    }
}

fn metric_override(report: &mut Report<'_>, at: &At<'_>, change: &MetricsOverrides) {
    let tags = at.field("tagOverrides");
    for (name, tag) in &change.tag_overrides {
        let at = tags.key(name);
        if name.is_empty() {
            report.warn(&at, "tagOverrides.name may not be empty");
        }
        match tag.operation {
            TagOperation::Upsert if tag.value.is_empty() => {
                report.refuse(&at, "tagOverrides.value must be set when operation is UPSERT");
            }
            TagOperation::Remove if !tag.value.is_empty() => {
                report.refuse(&at, "tagOverrides.value may only be set when operation is UPSERT");
            }
            _ => {}
        }
    }
    let Some(selector) = &change.match_ else { return };
    let at = at.field("match");
    report.at_most_one(
        &at,
        &[("metric", selector.metric.is_some()), ("customMetric", selector.custom_metric.is_some())],
    );
    if selector.custom_metric.as_ref().is_some_and(smol_str::SmolStr::is_empty) {
        report.refuse(&at.field("customMetric"), "customMetric may not be empty");
    }
}
