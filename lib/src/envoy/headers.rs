//! How are the lines of a message kept and changed?
//!
//! Envoy's header map: lines in order, names in lower case. Headers that Envoy knows have one line; further lines of
//! them are joined to it by a comma. Measured with Envoy 1.40 (`envoy-semantics`, repeated lines).

use smol_str::{SmolStr, format_smolstr};

use super::ledger::{By, HeaderChange, HeaderValue, Ledger, Op};
use crate::origin::Origin;

/// The lines of a message.
pub(crate) type Headers = Vec<(SmolStr, SmolStr)>;

/// The first line's value.
pub(crate) fn get<'a>(headers: &'a [(SmolStr, SmolStr)], name: &str) -> Option<&'a SmolStr> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Whether there is a line.
pub(crate) fn has(headers: &[(SmolStr, SmolStr)], name: &str) -> bool {
    get(headers, name).is_some()
}

/// All lines, joined by commas; `None` when there is none.
pub(crate) fn joined(headers: &[(SmolStr, SmolStr)], name: &str) -> Option<SmolStr> {
    let mut lines = headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
    let first = lines.next()?;
    let mut rest = lines.peekable();
    if rest.peek().is_none() {
        return Some(first.clone());
    }
    if is_inline(name) {
        return Some(rest.fold(first.clone(), |all, line| join(&all, line)));
    }
    let mut all = first.to_string();
    for line in rest {
        all.push(',');
        all.push_str(line);
    }
    Some(all.into())
}

/// Whether Envoy keeps one line of this header.
///
/// `envoy: http/header_map.h: INLINE_REQ_STRING_HEADERS` and its siblings, and the custom inline headers that filters register.
pub(crate) fn is_inline(name: &str) -> bool {
    const INLINE: &[&str] = &[
        "accept",
        "accept-encoding",
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "access-control-max-age",
        "access-control-request-headers",
        "access-control-request-method",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "etag",
        "expect",
        "grpc-accept-encoding",
        "grpc-message",
        "grpc-status",
        "grpc-timeout",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "last-modified",
        "location",
        "origin",
        "pragma",
        "proxy-connection",
        "proxy-status",
        "referer",
        "server",
        "te",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "vary",
        "via",
        "x-client-trace-id",
        "x-envoy-attempt-count",
        "x-envoy-decorator-operation",
        "x-envoy-downstream-service-cluster",
        "x-envoy-downstream-service-node",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-external-address",
        "x-envoy-force-trace",
        "x-envoy-internal",
        "x-envoy-ip-tags",
        "x-envoy-original-path",
        "x-envoy-original-url",
        "x-envoy-retry-on",
        "x-envoy-upstream-service-time",
        "x-forwarded-client-cert",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    ];
    INLINE.binary_search(&name).is_ok()
}

/// Joins further lines of the headers that Envoy keeps in one line.
pub(crate) fn join_inline(headers: &mut Headers) {
    let mut i = 1;
    while i < headers.len() {
        let (before, rest) = headers.split_at_mut(i);
        let Some((name, value)) = rest.first() else { break };
        let earlier = before.iter_mut().find(|(key, _)| key == name);
        match earlier {
            Some((key, first)) if is_inline(key) => {
                *first = join(first, value);
                headers.remove(i);
            }
            _ => i += 1,
        }
    }
}

/// Two lines as one; an empty one leaves no comma. Envoy: `header_map_impl.cc: HeaderMapImpl::appendToHeader`.
pub(crate) fn join(first: &SmolStr, more: &str) -> SmolStr {
    match (first.is_empty(), more.is_empty()) {
        (_, true) => first.clone(),
        (true, false) => more.into(),
        (false, false) => format_smolstr!("{first},{more}"),
    }
}

/// Who makes a change.
#[derive(Clone, Copy)]
pub(crate) struct Hand<'a> {
    /// The program.
    pub(crate) by: By,
    /// Where it is written.
    pub(crate) origin: &'a Origin,
}

/// Envoy, by a rule of its own.
macro_rules! envoy {
    ($rule:literal) => {{
        static ORIGIN: $crate::origin::Origin = $crate::origin::Origin::default($rule);
        $crate::envoy::headers::Hand { by: $crate::envoy::ledger::By::Envoy, origin: &ORIGIN }
    }};
}
pub(crate) use envoy;

/// Sets a header in the place of its first line, or at the end; further lines go.
pub(crate) fn set(
    headers: &mut Headers,
    ledger: &mut Ledger,
    name: &'static str,
    value: HeaderValue,
    hand: Hand<'_>,
) {
    let old = ledger_old(headers, ledger, name);
    let text = value.text().clone();
    match headers.iter().position(|(key, _)| key == name) {
        None => headers.push((SmolStr::new_static(name), text)),
        Some(place) => {
            let mut at = 0;
            headers.retain(|(key, _)| {
                at += 1;
                at <= place + 1 || key != name
            });
            if let Some(line) = headers.get_mut(place) {
                line.1 = text;
            }
        }
    }
    ledger.note(|| HeaderChange {
        op: if old.is_some() { Op::Set } else { Op::Add },
        name: SmolStr::new_static(name),
        old,
        new: Some(value),
        by: hand.by,
        origin: hand.origin.clone(),
    });
}

/// Removes all lines and adds one at the end.
pub(crate) fn replace(
    headers: &mut Headers,
    ledger: &mut Ledger,
    name: &SmolStr,
    value: HeaderValue,
    hand: Hand<'_>,
) {
    let old = ledger_old(headers, ledger, name);
    headers.retain(|(key, _)| key != name);
    headers.push((name.clone(), value.text().clone()));
    ledger.note(|| HeaderChange {
        op: if old.is_some() { Op::Set } else { Op::Add },
        name: name.clone(),
        old,
        new: Some(value),
        by: hand.by,
        origin: hand.origin.clone(),
    });
}

/// Adds a line, or joins it to the one line of a header that Envoy knows.
pub(crate) fn append(
    headers: &mut Headers,
    ledger: &mut Ledger,
    name: &SmolStr,
    value: HeaderValue,
    hand: Hand<'_>,
) {
    let old = ledger_old(headers, ledger, name);
    match headers.iter_mut().find(|(key, _)| key == name) {
        Some((_, line)) if is_inline(name) => {
            *line = join(line, value.as_str());
        }
        _ => headers.push((name.clone(), value.as_str().into())),
    }
    ledger.note(|| HeaderChange {
        op: if old.is_some() { Op::Append } else { Op::Add },
        name: name.clone(),
        old,
        new: Some(value),
        by: hand.by,
        origin: hand.origin.clone(),
    });
}

/// Removes all lines.
pub(crate) fn remove(headers: &mut Headers, ledger: &mut Ledger, name: &str, hand: Hand<'_>) {
    if !has(headers, name) {
        return;
    }
    let old = ledger_old(headers, ledger, name);
    headers.retain(|(key, _)| key != name);
    ledger.note(|| HeaderChange {
        op: Op::Remove,
        name: name.into(),
        old,
        new: None,
        by: hand.by,
        origin: hand.origin.clone(),
    });
}

/// Notes a change of the path or the host.
pub(crate) fn note_pseudo(
    ledger: &mut Ledger,
    name: &'static str,
    old: &SmolStr,
    new: &SmolStr,
    hand: Hand<'_>,
) {
    if old == new {
        return;
    }
    ledger.note(|| HeaderChange {
        op: Op::Set,
        name: SmolStr::new_static(name),
        old: Some(HeaderValue::Literal(old.clone())),
        new: Some(HeaderValue::Literal(new.clone())),
        by: hand.by,
        origin: hand.origin.clone(),
    });
}

/// The value of a text.
pub(crate) fn literal(text: impl Into<SmolStr>) -> HeaderValue {
    HeaderValue::Literal(text.into())
}

fn ledger_old(headers: &Headers, ledger: &Ledger, name: &str) -> Option<HeaderValue> {
    if ledger.is_on() { joined(headers, name).map(HeaderValue::Literal) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(list: &[(&str, &str)]) -> Headers {
        list.iter().map(|(k, v)| (SmolStr::new(k), SmolStr::new(v))).collect()
    }

    #[test]
    fn further_lines_of_known_headers_are_joined() {
        let mut headers =
            lines(&[("accept", "a"), ("x-a", "1"), ("accept", "b"), ("x-a", "2"), ("accept", "c")]);
        join_inline(&mut headers);
        assert_eq!(headers, lines(&[("accept", "a,b,c"), ("x-a", "1"), ("x-a", "2")]));
        let mut headers = lines(&[("accept", ""), ("accept", "b"), ("accept", "")]);
        join_inline(&mut headers);
        assert_eq!(headers, lines(&[("accept", "b")]));
    }

    #[test]
    fn set_keeps_the_place_and_replace_moves_to_the_end() {
        let mut ledger = Ledger::new(true);
        let mut headers = lines(&[("x-b", "0"), ("x-a", "1"), ("x-c", "2"), ("x-a", "3")]);
        set(&mut headers, &mut ledger, "x-a", literal("n"), envoy!("rule"));
        assert_eq!(headers, lines(&[("x-b", "0"), ("x-a", "n"), ("x-c", "2")]));
        replace(&mut headers, &mut ledger, &"x-a".into(), literal("m"), envoy!("rule"));
        assert_eq!(headers, lines(&[("x-b", "0"), ("x-c", "2"), ("x-a", "m")]));
        assert_eq!(ledger.changes.first().and_then(|c| c.old.clone()), Some(literal("1,3")));
    }

    #[test]
    fn the_list_of_known_headers_is_sorted() {
        assert!(is_inline("x-request-id") && is_inline("accept") && !is_inline("x-user"));
        assert!(is_inline("x-forwarded-client-cert") && is_inline("date") && is_inline("vary"));
    }
}
