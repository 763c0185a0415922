//! What does one document declare?

use serde::Deserialize;
use smol_str::{SmolStr, ToSmolStr};

use super::arena::{Arena, Content};
use super::de::{Context, FieldError, NodeDeserializer, Segment, UnknownField};
use super::kind::{Kind, Layout};
use super::resource::{Meta, Resource, Status, Timestamp};
use super::scalar::Resolved;
use crate::diagnostic::{Code, Diagnostic, Location, Place, Severity};
use crate::origin::ResourceId;

/// Keys of a document that do not belong to its kind's fields.
const ENVELOPE: &[&str] = &["apiVersion", "kind", "metadata", "status"];

/// A document's place in the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where<'a> {
    pub file: &'a SmolStr,
    pub line: u32,
    pub column: u32,
}

impl Where<'_> {
    /// A position in the document as one in the file.
    pub(super) fn position(&self, line: u32, column: u32) -> Place {
        let column = if line == 1 { column + self.column } else { column };
        Place::Position(Location { file: self.file.clone(), line: line + self.line, column })
    }
}

/// A resource and, for a member of a list, the list's index path.
#[derive(Debug)]
pub(crate) struct Read {
    pub resource: Resource,
    pub items: Vec<u32>,
    /// Fields that are not translated yet.
    pub not_yet: Vec<SmolStr>,
}

/// What a document holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub resources: Vec<Read>,
    /// What is about a resource names it by its place in `resources`.
    pub diagnostics: Vec<Diagnostic>,
    /// Kinds that are not read: `apiVersion` and kind.
    pub unknown_kinds: Vec<(SmolStr, SmolStr)>,
    /// Nodes of the Secrets, whose contents are not kept.
    pub secrets: Vec<u32>,
    /// The document's text to keep instead of what was read, where it holds Secrets.
    pub masked: Option<String>,
}

/// Times that a resource is read in search of more errors.
const MAX_ERRORS: usize = 16;

/// Remarks about one document that are kept; errors are all kept.
const MAX_REMARKS: usize = 200;

/// An annotation in which `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

struct Reader<'b, 'a> {
    arena: &'b Arena<'a>,
    place: Where<'b>,
    default_namespace: &'b str,
    /// The nodes of the first diagnostics, which were made before resources were known.
    said_of: Vec<u32>,
    out: Contents,
}

/// Reads a parsed document.
pub(crate) fn contents(arena: &Arena<'_>, place: Where<'_>, default_namespace: &str) -> Contents {
    let said_of = Vec::new();
    let mut reader = Reader { arena, place, default_namespace, said_of, out: Contents::default() };
    for at in arena.duplicates.iter().take(MAX_REMARKS) {
        if let Some(node) = arena.node(*at) {
            let key = arena.key_text(*at).unwrap_or_default();
            let diagnostic = Diagnostic::new(
                Code::DuplicateKey,
                format!("the key \"{key}\" stands twice in this mapping; the last one counts"),
            )
            .at(reader.position(node.line, node.column), "");
            reader.out.diagnostics.push(diagnostic);
            reader.said_of.push(*at);
        }
    }
    if let Some(line) = arena.trailing {
        let mut diagnostic = Diagnostic::new(
            Code::NotAResource,
            "Kubernetes does not read what follows the end of the document here",
        )
        .at(reader.position(line, 1), "not read")
        .help("begin a document with a line \"---\"");
        diagnostic.severity = Severity::Warning;
        reader.out.diagnostics.push(diagnostic);
    }
    reader.object(0, &mut Vec::new(), None);
    reader.limit();
    reader.out
}

impl Reader<'_, '_> {
    fn position(&self, line: u32, column: u32) -> Place {
        self.place.position(line, column)
    }

    fn here(&self, at: u32) -> Place {
        let (line, column) = self.arena.node(at).map_or((1, 1), |n| (n.line, n.column));
        self.position(line, column)
    }

    /// Keeps what is said about a document in proportion to it.
    fn limit(&mut self) {
        let mut remarks = 0;
        self.out.diagnostics.retain(|d| {
            remarks += usize::from(d.severity != Severity::Error);
            d.severity == Severity::Error || remarks <= MAX_REMARKS
        });
        if remarks > MAX_REMARKS {
            let more = remarks - MAX_REMARKS;
            let diagnostic =
                Diagnostic::new(Code::UnknownField, format!("{more} more remarks about this document"))
                    .at(self.position(1, 1), "");
            self.out.diagnostics.push(diagnostic);
        }
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

    /// Reads an object; an item of a list of one kind need not say what it is.
    ///
    /// Kubernetes: `apimachinery unstructured: decodeToList`.
    fn object(&mut self, at: u32, items: &mut Vec<u32>, listed: Option<(&str, &SmolStr)>) {
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
            match (self.text(self.field(at, "kind")), self.text(self.field(at, "apiVersion")), listed) {
                (None, _, Some((kind, api_version))) => (Some(kind.into()), Some(api_version.clone())),
                (kind, api_version, _) => (kind, api_version),
            };
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
                let listed = kind.strip_suffix("List").filter(|one| !one.is_empty());
                let listed = listed.map(|one| (one, &api_version));
                let mut item = list + 1;
                let mut index = 0;
                while item < end {
                    items.push(index);
                    self.object(item, items, listed);
                    items.pop();
                    index += 1;
                    item = self.arena.after(item);
                }
            }
            return;
        }
        match Kind::find(&api_version, &kind) {
            Some(kind) if self.has_version(kind, &api_version, at) => {
                self.resource(kind, api_version, at, items);
            }
            Some(_) => {}
            None => {
                self.suggest_kind(&api_version, &kind, at);
                self.out.unknown_kinds.push((api_version, kind));
            }
        }
    }

    /// Whether there is that version of a kind; one that there never was is refused, as by the API server.
    fn has_version(&mut self, kind: Kind, api_version: &str, at: u32) -> bool {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let known = kind.versions();
        if known.contains(&version) {
            return true;
        }
        let of = if group.is_empty() { String::new() } else { format!("{group}/") };
        let mut diagnostic =
            Diagnostic::new(Code::UnknownKind, format!("there is no {kind} of apiVersion \"{api_version}\""))
                .at(
                    self.here(self.field(at, "apiVersion").unwrap_or(at)),
                    "left out, as a cluster refuses it",
                )
                .help(format!(
                    "write {}",
                    known.iter().map(|v| format!("\"{of}{v}\"")).collect::<Vec<_>>().join(" or ")
                ));
        diagnostic.severity = Severity::Error;
        self.out.diagnostics.push(diagnostic);
        false
    }

    /// Says which kind was probably meant by one that is not known.
    fn suggest_kind(&mut self, api_version: &str, kind: &str, at: u32) {
        let Some(meant) = Kind::meant(api_version, kind) else { return };
        let (version, field) = match meant.group() {
            _ if meant.as_str() != kind => (format!("\"{meant}\""), "kind"),
            "" => ("apiVersion \"v1\"".to_owned(), "apiVersion"),
            group => (
                format!("apiVersion \"{group}/{}\"", meant.versions().first().unwrap_or(&"v1")),
                "apiVersion",
            ),
        };
        let mut diagnostic = Diagnostic::new(
            Code::UnknownKind,
            format!("no kind \"{kind}\" of apiVersion \"{api_version}\" is known"),
        )
        .at(self.here(self.field(at, field).unwrap_or(at)), "passed by")
        .help(format!("did you mean {version}?"));
        diagnostic.severity = Severity::Warning;
        self.out.diagnostics.push(diagnostic);
    }

    fn resource(&mut self, kind: Kind, api_version: SmolStr, at: u32, items: &[u32]) {
        if kind == Kind::Secret {
            self.out.secrets.push(at);
        }
        let before = self.out.diagnostics.len();
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
        let mut spec = None;
        let mut errors = Vec::new();
        let mut unknown = (Vec::new(), 0);
        for _ in 0..MAX_ERRORS {
            let read = kind.read(de);
            unknown = context.take_unknown();
            let error = match read {
                Ok(read) => {
                    spec = Some(read);
                    break;
                }
                Err(error) => error,
            };
            // A value that does not fit even as null ends the search.
            let Some((path, node)) = context.settle(target.unwrap_or(at)) else { break };
            errors.push((error, path, node));
        }
        self.unknown_fields(kind, unknown);
        if kind.layout() == Layout::Spec {
            self.unknown_top_level(kind, at, &prefix);
        }
        if errors.is_empty() {
            if let Some(spec) = spec {
                let status = self.status(kind, at);
                let resource = Resource { id: ResourceId(0), kind, api_version, meta, spec, status };
                let not_yet = super::coverage::used(self.arena, kind, at);
                self.tell_whom_it_is_about(before, at);
                self.out.resources.push(Read { resource, items: items.to_vec(), not_yet });
            }
            return;
        }
        let name = if meta.namespace.is_empty() {
            meta.name.to_string()
        } else {
            format!("{}/{}", meta.namespace, meta.name)
        };
        for (error, path, node) in errors {
            let diagnostic = self.wrong(kind, error, path, node).help(format!("{kind} {name} is left out"));
            self.out.diagnostics.push(diagnostic);
        }
    }

    /// Gives the number of the next resource, the one at `at`, to what was said since `before` and to its duplicate keys.
    fn tell_whom_it_is_about(&mut self, before: usize, at: u32) {
        let own = Some(ResourceId(self.out.resources.len() as u32));
        for diagnostic in self.out.diagnostics.iter_mut().skip(before) {
            diagnostic.about = own;
        }
        let inside = at..self.arena.after(at);
        for (diagnostic, key) in self.out.diagnostics.iter_mut().zip(&self.said_of) {
            if inside.contains(key) {
                diagnostic.about = own;
            }
        }
    }

    fn wrong(&self, kind: Kind, error: FieldError, path: String, node: u32) -> Diagnostic {
        let error = if kind == Kind::Secret { error.without_value() } else { error };
        Diagnostic::new(error.code, format!("{path}: {}", error.message))
            .field(path)
            .at(self.here(node), error.message)
    }

    fn unknown_fields(&mut self, kind: Kind, (unknown, more): (Vec<UnknownField>, usize)) {
        for unknown in unknown {
            let mut diagnostic =
                Diagnostic::new(Code::UnknownField, format!("{kind} has no field {}", unknown.path))
                    .field(unknown.path)
                    .at(self.position(unknown.line, unknown.column), "unknown field");
            if let Some(hint) = unknown.hint {
                diagnostic = diagnostic.help(format!("did you mean \"{hint}\"?"));
            }
            self.out.diagnostics.push(diagnostic);
        }
        if more > 0 {
            let diagnostic =
                Diagnostic::new(Code::UnknownField, format!("{more} more fields that {kind} does not have"))
                    .at(self.position(1, 1), "");
            self.out.diagnostics.push(diagnostic);
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
        let mut written = match Written::deserialize(NodeDeserializer {
            arena: self.arena,
            context: &context,
            at: metadata,
        }) {
            Ok(written) => written,
            Err(error) => {
                let (path, node) = context.settle(metadata).unwrap_or_default();
                let diagnostic = self.wrong(kind, error, path, node).help(format!("this {kind} is left out"));
                self.out.diagnostics.push(diagnostic);
                return None;
            }
        };
        self.unknown_fields(kind, context.take_unknown());
        if kind == Kind::Secret {
            written.annotations.shift_remove(LAST_APPLIED);
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
