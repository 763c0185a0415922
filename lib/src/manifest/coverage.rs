//! Which fields does a trace take into account?
//!
//! Every field of every kind is one of three: *translated* (it shapes what a proxy is told, or which resources take part),
//! *without effect* on where a request goes and what becomes of it, or *not yet* translated. The list of fields comes from
//! the schemas themselves; only what is not translated is named here.
//!
//! Whoever makes a trace asks [`not_yet`] about the resources that took part, and names what it returns.
//!
//! Invariant: a field that could change a trace and is not translated is listed as not yet.
#![doc = include_str!("../../docs/coverage.md")]

use std::cell::RefCell;

use smol_str::SmolStr;

use super::arena::{Arena, Content};
use super::kind::Layout;
use super::{Kind, ManifestSet, Resource};
use crate::origin::ResourceId;

mod probe;
mod table;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It shapes what proxies are told, or which resources take part.
    Translated,
    /// No trace depends on it.
    None,
    /// A trace could depend on it, and does not say so by itself.
    NotYet,
}

impl Effect {
    /// The effect in the table's words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::None => "affects nothing in a trace",
            Self::NotYet => "not yet",
        }
    }
}

/// A field of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    path: String,
    /// Whether its value is kept.
    read: bool,
}

/// The fields of a kind as paths such as `spec.http[].match[].uri.exact`, with their effects; `[]` is any element, `*` any
/// key.
pub fn fields(kind: Kind) -> Vec<(String, Effect)> {
    listed(kind)
        .unwrap_or_default()
        .into_iter()
        .map(|field| {
            let effect = effect(kind, &field.path);
            let unread = !field.read && effect == Effect::Translated;
            (field.path, if unread { Effect::None } else { effect })
        })
        .collect()
}

/// The fields of a kind's schema; `None` for a schema that asks for more than a schema may, which a test excludes.
fn listed(kind: Kind) -> Option<Vec<Field>> {
    let out = RefCell::new(Vec::new());
    let path = match kind.layout() {
        Layout::Spec => "spec".to_owned(),
        Layout::Top => String::new(),
    };
    kind.read(probe::Probe { path, out: &out }).ok()?;
    Some(out.into_inner())
}

/// The effect of a field by the table: the longest entry that leads to it counts.
fn effect(kind: Kind, path: &str) -> Effect {
    let longest = |entries: &[(Kind, &str)]| {
        entries
            .iter()
            .filter(|(k, entry)| *k == kind && leads_to(entry, path))
            .map(|(_, entry)| entry.len() + 1)
            .max()
    };
    match (longest(table::NOT_YET), longest(table::WITHOUT_EFFECT)) {
        (None, None) => Effect::Translated,
        (not_yet, without) if not_yet > without => Effect::NotYet,
        _ => Effect::None,
    }
}

/// Whether `path` is the field `entry` or lies below it; an empty entry is the whole resource.
fn leads_to(entry: &str, path: &str) -> bool {
    path.strip_prefix(entry)
        .is_some_and(|rest| entry.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The fields of a resource that are written, could change a trace, and are not translated yet.
///
/// An empty path means the whole resource: its kind is not translated.
///
/// # Examples
///
/// ```
/// use dryroute::manifest::{Loader, coverage};
///
/// let set = Loader::new()
///     .text("a.yaml", "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: UDPRoute\nmetadata: {name: a}\nspec: {rules: []}")
///     .load();
/// let route = set.resources().next().unwrap();
/// assert_eq!(coverage::not_yet(&set, route.id).collect::<Vec<_>>(), [""]);
/// ```
pub fn not_yet(set: &ManifestSet, resource: ResourceId) -> impl Iterator<Item = &str> {
    let start = set.not_yet.partition_point(|(id, _)| *id < resource);
    set.not_yet
        .get(start..)
        .unwrap_or_default()
        .iter()
        .take_while(move |(id, _)| *id == resource)
        .map(|(_, path)| path.as_str())
}

/// The resources of a kind that is not translated, as far as they take part.
pub fn untranslated_of(set: &ManifestSet, kind: Kind) -> impl Iterator<Item = &Resource> {
    let whole = set.not_yet.iter().filter(|(_, path)| path.is_empty());
    let active = |id: &ResourceId| set.active.get(id.0 as usize) == Some(&true);
    whole
        .filter_map(move |(id, _)| set.get(*id).filter(|_| active(id)))
        .filter(move |resource| resource.kind == kind)
}

/// The not-yet fields that the object at `at` has.
pub(super) fn used(arena: &Arena<'_>, kind: Kind, at: u32) -> Vec<SmolStr> {
    let mut out = Vec::new();
    for (_, entry) in table::NOT_YET.iter().filter(|(k, _)| *k == kind) {
        find(arena, at, entry, &mut String::new(), &mut out);
    }
    out
}

/// How many fields of one resource are named.
const MOST_NAMED: usize = 20;

/// Follows the rest of an entry and notes the paths where it leads.
fn find(arena: &Arena<'_>, at: u32, rest: &str, path: &mut String, out: &mut Vec<SmolStr>) {
    if out.len() >= MOST_NAMED {
        return;
    }
    if rest.is_empty() {
        out.push(path.as_str().into());
        return;
    }
    let length = path.len();
    let at = arena.resolve(at);
    if let Some(rest) = rest.strip_prefix("[]") {
        let Some((Content::Sequence, end)) = arena.node(at).map(|n| (&n.content, n.end)) else { return };
        let (mut item, mut index) = (at + 1, 0_usize);
        while item < end {
            use std::fmt::Write as _;
            let _ = write!(path, "[{index}]");
            find(arena, item, rest.strip_prefix('.').unwrap_or(rest), path, out);
            path.truncate(length);
            item = arena.after(item);
            index += 1;
        }
        return;
    }
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let Some((name, rest)) = rest.split_at_checked(end) else { return };
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    for (key, value) in arena.entries(at) {
        let Some(text) = arena.key_text(key) else { continue };
        let null = matches!(
            arena.node(arena.resolve(value)).map(|n| &n.content),
            Some(Content::Scalar(_, super::scalar::Resolved::Null))
        );
        if null || !(name == "*" || super::locate::same_key(&text, name)) {
            continue;
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&text);
        find(arena, value, rest, path, out);
        path.truncate(length);
    }
}

/// The table of all fields, as Markdown.
pub fn markdown() -> String {
    use std::fmt::Write as _;
    let mut out = String::from("\n# Fields\n\n");
    for kind in Kind::ALL {
        let group = if kind.group().is_empty() { "core" } else { kind.group() };
        let _ = writeln!(out, "## {kind} ({group})\n");
        if effect(*kind, "") == Effect::NotYet {
            out.push_str("The kind is not translated yet; a trace that it could affect says so.\n\n");
        }
        out.push_str("| field | effect |\n|---|---|\n");
        for (path, effect) in fields(*kind) {
            let _ = writeln!(out, "| `{path}` | {} |", effect.as_str());
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;

    #[test]
    fn every_schema_is_listed_to_its_end() {
        for kind in Kind::ALL {
            assert!(listed(*kind).is_some_and(|fields| !fields.is_empty()), "{kind}");
        }
    }

    #[test]
    fn every_entry_of_the_table_is_a_field() {
        for (kind, entry) in table::NOT_YET.iter().chain(table::WITHOUT_EFFECT) {
            let known = entry.is_empty() || fields(*kind).iter().any(|(path, _)| path == entry);
            assert!(known, "{kind} has no field {entry}");
        }
    }

    #[test]
    fn fields_that_are_not_translated_are_found_where_they_are_written() {
        let set = Loader::new()
            .text(
                "a.yaml",
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n  servers:\n  \
                 - {hosts: [a.example], port: {number: 80, name: a, protocol: HTTP}}\n  - hosts: [b.example]\n    port: {number: 443, name: b, \
                 protocol: HTTPS}\n    tls: {mode: SIMPLE, credential_name: c, ca_crl: /etc/crl.pem}\n---\n\
                 apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: b}\nspec: {host: b.example}\n",
            )
            .load();
        let found: Vec<Vec<&str>> = set.resources().map(|r| not_yet(&set, r.id).collect()).collect();
        assert_eq!(found, [vec!["spec.servers[1].tls.ca_crl"], vec![]]);
    }
}
