//! What does one document declare?

use serde::Deserialize;
use smol_str::{SmolStr, ToSmolStr};

use super::arena::{Arena, Content};
use super::de::{Context, NodeDeserializer, Segment};
use super::kind::{Kind, Layout};
use super::resource::{Meta, Resource, Status, Timestamp};
use super::scalar::Resolved;
use crate::diagnostic::{Code, Diagnostic, Location, Place};
use crate::origin::ResourceId;

/// Keys of a document that do not belong to its kind's fields.
const ENVELOPE: &[&str] = &["apiVersion", "kind", "metadata", "status"];

/// A document's place in the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where<'a> {
    pub file: &'a SmolStr,
    pub line: u32,
}

/// A resource and, for a member of a list, the list's index path.
#[derive(Debug)]
pub(crate) struct Read {
    pub resource: Resource,
    pub items: Vec<u32>,
}

/// What a document holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub resources: Vec<Read>,
    pub diagnostics: Vec<Diagnostic>,
    /// Kinds that are not read: `apiVersion` and kind.
    pub unknown_kinds: Vec<(SmolStr, SmolStr)>,
}

struct Reader<'b, 'a> {
    arena: &'b Arena<'a>,
    place: Where<'b>,
    default_namespace: &'b str,
    out: Contents,
}

/// Reads a parsed document.
pub(crate) fn contents(arena: &Arena<'_>, place: Where<'_>, default_namespace: &str) -> Contents {
    let mut reader = Reader { arena, place, default_namespace, out: Contents::default() };
    for at in &arena.duplicates {
        if let Some(node) = arena.node(*at) {
            let key = arena.key_text(*at).unwrap_or_default();
            let diagnostic = Diagnostic::new(
                Code::DuplicateKey,
                format!("the key \"{key}\" stands twice in this mapping; the last one counts"),
            )
            .at(reader.position(node.line, node.column), "");
            reader.out.diagnostics.push(diagnostic);
        }
    }
    reader.object(0, &mut Vec::new());
    reader.out
}

impl Reader<'_, '_> {
    fn position(&self, line: u32, column: u32) -> Place {
        Place::Position(Location { file: self.place.file.clone(), line: line + self.place.line, column })
    }

    fn here(&self, at: u32) -> Place {
        let (line, column) = self.arena.node(at).map_or((1, 1), |n| (n.line, n.column));
        self.position(line, column)
    }

    fn field(&self, at: u32, name: &str) -> Option<u32> {
        let entries = self.arena.entries(self.arena.resolve(at));
        entries.into_iter().find(|(k, _)| self.arena.key_text(*k).is_some_and(|t| t == name)).map(|(_, v)| v)
    }

    fn text(&self, at: Option<u32>) -> Option<SmolStr> {
        match &self.arena.node(self.arena.resolve(at?))?.content {
            Content::Scalar(text, Resolved::Str) => Some(text.to_smolstr()),
            _ => None,
        }
    }

    fn object(&mut self, at: u32, items: &mut Vec<u32>) {
        let at = self.arena.resolve(at);
        match self.arena.node(at).map(|n| &n.content) {
            None | Some(Content::Scalar(_, Resolved::Null)) => return,
            Some(Content::Mapping(_)) => {}
            Some(_) => {
                let diagnostic = Diagnostic::new(Code::NotAResource, "this document is no Kubernetes object")
                    .at(self.here(at), "");
                self.out.diagnostics.push(diagnostic);
                return;
            }
        }
        let (kind, api_version) =
            (self.text(self.field(at, "kind")), self.text(self.field(at, "apiVersion")));
        let (Some(kind), Some(api_version)) = (kind, api_version) else {
            let diagnostic =
                Diagnostic::new(Code::NotAResource, "this document has no kind or no apiVersion")
                    .at(self.here(at), "");
            self.out.diagnostics.push(diagnostic);
            return;
        };
        if let Some(list) = self.field(at, "items").filter(|_| kind.ends_with("List")) {
            let list = self.arena.resolve(list);
            if let Some((Content::Sequence, end)) = self.arena.node(list).map(|n| (&n.content, n.end)) {
                let mut item = list + 1;
                let mut index = 0;
                while item < end {
                    items.push(index);
                    self.object(item, items);
                    items.pop();
                    index += 1;
                    item = self.arena.after(item);
                }
            }
            return;
        }
        match Kind::find(&api_version, &kind) {
            Some(kind) => self.resource(kind, api_version, at, items),
            None => self.out.unknown_kinds.push((api_version, kind)),
        }
    }

    fn resource(&mut self, kind: Kind, api_version: SmolStr, at: u32, items: &[u32]) {
        let Some(meta) = self.meta(kind, at, items) else { return };
        let prefix = prefix(items);
        let (target, context) = match kind.layout() {
            Layout::Top => (Some(at), Context::new(prefix.clone(), false, ENVELOPE)),
            Layout::Spec => {
                let mut path = prefix.clone();
                path.push(Segment::Key(SmolStr::new_static("spec")));
                (self.field(at, "spec"), Context::new(path, kind.is_istio(), &[]))
            }
        };
        let empty = Arena::parse("").unwrap_or_default();
        let de = match target {
            Some(target) => NodeDeserializer { arena: self.arena, context: &context, at: target },
            None => NodeDeserializer { arena: &empty, context: &context, at: 0 },
        };
        let spec = kind.read(de);
        for unknown in context.take_unknown() {
            let mut diagnostic =
                Diagnostic::new(Code::UnknownField, format!("{kind} has no field {}", unknown.path))
                    .field(unknown.path)
                    .at(self.position(unknown.line, unknown.column), "unknown field");
            if let Some(hint) = unknown.hint {
                diagnostic = diagnostic.help(format!("did you mean \"{hint}\"?"));
            }
            self.out.diagnostics.push(diagnostic);
        }
        match spec {
            Ok(spec) => {
                if kind.layout() == Layout::Spec {
                    self.unknown_top_level(kind, at, &prefix);
                }
                let status = self.status(kind, at);
                let resource = Resource { id: ResourceId(0), kind, api_version, meta, spec, status };
                self.out.resources.push(Read { resource, items: items.to_vec() });
            }
            Err(error) => {
                let path = context.path();
                let place = target.map_or_else(|| self.here(at), |_| self.here(context.last()));
                let diagnostic = Diagnostic::new(error.code, format!("{path}: {}", error.message))
                    .field(path)
                    .at(place, error.message)
                    .help(format!("{kind} {}/{} is left out", meta.namespace, meta.name));
                self.out.diagnostics.push(diagnostic);
            }
        }
    }

    fn unknown_top_level(&mut self, kind: Kind, at: u32, prefix: &[Segment]) {
        for (key, _) in self.arena.entries(at) {
            let Some(name) = self.arena.key_text(key) else { continue };
            if name == "spec" || ENVELOPE.contains(&name.as_ref()) {
                continue;
            }
            let mut path = prefix.to_vec();
            path.push(Segment::Key(name.as_ref().into()));
            let path = super::de::render(&path);
            let diagnostic = Diagnostic::new(Code::UnknownField, format!("{kind} has no field {path}"))
                .field(path)
                .at(self.here(key), "unknown field");
            self.out.diagnostics.push(diagnostic);
        }
    }

    fn meta(&mut self, kind: Kind, at: u32, items: &[u32]) -> Option<Meta> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Written {
            name: Option<SmolStr>,
            generate_name: Option<SmolStr>,
            namespace: Option<SmolStr>,
            labels: indexmap::IndexMap<SmolStr, SmolStr>,
            annotations: indexmap::IndexMap<SmolStr, SmolStr>,
            creation_timestamp: Option<SmolStr>,
            uid: Option<serde::de::IgnoredAny>,
            resource_version: Option<serde::de::IgnoredAny>,
            generation: Option<serde::de::IgnoredAny>,
            managed_fields: Option<serde::de::IgnoredAny>,
            owner_references: Option<serde::de::IgnoredAny>,
            finalizers: Option<serde::de::IgnoredAny>,
            self_link: Option<serde::de::IgnoredAny>,
            deletion_timestamp: Option<serde::de::IgnoredAny>,
            deletion_grace_period_seconds: Option<serde::de::IgnoredAny>,
        }
        let Some(metadata) = self.field(at, "metadata") else {
            if kind == Kind::IstioOperator {
                // `istioctl install -f` reads it from a file; it need not be an object of the cluster.
                return Some(Meta { namespace: self.default_namespace.into(), ..Meta::default() });
            }
            let diagnostic = Diagnostic::new(Code::InvalidName, format!("this {kind} has no metadata.name"))
                .at(self.here(at), "");
            self.out.diagnostics.push(diagnostic);
            return None;
        };
        let mut path = prefix(items);
        path.push(Segment::Key(SmolStr::new_static("metadata")));
        let context = Context::new(path, false, &[]);
        let written = match Written::deserialize(NodeDeserializer {
            arena: self.arena,
            context: &context,
            at: metadata,
        }) {
            Ok(written) => written,
            Err(error) => {
                let diagnostic =
                    Diagnostic::new(error.code, format!("{}: {}", context.path(), error.message))
                        .field(context.path())
                        .at(self.here(context.last()), error.message);
                self.out.diagnostics.push(diagnostic);
                return None;
            }
        };
        for unknown in context.take_unknown() {
            let mut diagnostic =
                Diagnostic::new(Code::UnknownField, format!("{kind} has no field {}", unknown.path))
                    .field(unknown.path)
                    .at(self.position(unknown.line, unknown.column), "unknown field");
            if let Some(hint) = unknown.hint {
                diagnostic = diagnostic.help(format!("did you mean \"{hint}\"?"));
            }
            self.out.diagnostics.push(diagnostic);
        }
        let name = written.name.filter(|n| !n.is_empty()).or(written.generate_name);
        let Some(name) = name.or((kind == Kind::IstioOperator).then(SmolStr::default)) else {
            let diagnostic = Diagnostic::new(Code::InvalidName, format!("this {kind} has no metadata.name"))
                .at(self.here(metadata), "");
            self.out.diagnostics.push(diagnostic);
            return None;
        };
        let namespace = if kind.is_namespaced() {
            written.namespace.filter(|n| !n.is_empty()).unwrap_or_else(|| self.default_namespace.into())
        } else {
            SmolStr::default()
        };
        Some(Meta {
            name,
            namespace,
            labels: written.labels,
            annotations: written.annotations,
            creation_timestamp: written.creation_timestamp.filter(|t| !t.is_empty()).map(Timestamp),
        })
    }

    /// A status that cannot be read says nothing; the cluster wrote it, not the user.
    fn status(&self, kind: Kind, at: u32) -> Status {
        let Some(status) = self.field(at, "status") else { return Status::None };
        let context = Context::new(Vec::new(), kind.is_istio(), &[]);
        let de = NodeDeserializer { arena: self.arena, context: &context, at: status };
        match kind {
            Kind::Pod => Deserialize::deserialize(de).map_or(Status::None, Status::Pod),
            Kind::Service => Deserialize::deserialize(de).map_or(Status::None, Status::Service),
            Kind::ServiceEntry => Deserialize::deserialize(de).map_or(Status::None, Status::ServiceEntry),
            _ => Status::None,
        }
    }
}

fn prefix(items: &[u32]) -> Vec<Segment> {
    items.iter().flat_map(|i| [Segment::Key(SmolStr::new_static("items")), Segment::Index(*i)]).collect()
}
