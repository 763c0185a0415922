//! How are files read into one set?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::arena::Arena;
use super::read::{Contents, Where, contents};
use super::schema::mesh_config::MeshConfig;
use super::secret::{blank, masked};
use super::split::{Document, decode, documents, normalise, settle_tabs};
use super::{ManifestSet, Resource, Source, validate};
use crate::diagnostic::{Code, Diagnostic, Location, Place};
use crate::origin::ResourceId;
use crate::parallel;

/// Why nothing could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// Why it cannot be.
        source: std::io::Error,
    },
    /// A directory holds no manifest.
    #[error("no .yaml, .yml or .json file in {}", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// What is named as the mesh configuration holds none that can be used.
    #[error("{place}: no mesh configuration can be read: {reason}")]
    NoMeshConfig {
        /// The file, with line and column where one is to blame.
        place: String,
        /// Why.
        reason: String,
    },
}

/// Collects texts and files, and reads them into a [`ManifestSet`].
///
/// # Examples
///
/// ```
/// use dryroute::manifest::Loader;
///
/// let set = Loader::new().text("ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}").load();
/// assert_eq!(set.resources().count(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Loader {
    sources: Vec<Source>,
    diagnostics: Vec<Diagnostic>,
    default_namespace: SmolStr,
    admission: Admission,
    mesh_config: Option<(Source, MeshConfig, Vec<Diagnostic>)>,
}

/// Whether Istio's validation is asked about resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Yes, as when they are applied to a cluster: what it refuses takes no part.
    #[default]
    Validate,
    /// No: they are what istiod itself holds, generated ones with their internal annotations included.
    Admitted,
}

impl Admission {
    /// What validation says about a resource.
    pub(super) fn verdict(self, resource: &Resource) -> Vec<Diagnostic> {
        match self {
            Self::Validate => validate::validate(resource),
            Self::Admitted => Vec::new(),
        }
    }
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

impl Loader {
    /// A loader without sources; the default namespace is `default`.
    pub fn new() -> Self {
        Self {
            sources: Vec::new(),
            diagnostics: Vec::new(),
            default_namespace: SmolStr::new_static("default"),
            admission: Admission::Validate,
            mesh_config: None,
        }
    }

    /// Sets whether Istio's validation is asked.
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Sets the namespace of objects that name none.
    #[must_use]
    pub fn default_namespace(mut self, namespace: impl Into<SmolStr>) -> Self {
        self.default_namespace = namespace.into();
        self
    }

    /// Adds a text under the name it is shown by.
    #[must_use]
    pub fn text(mut self, name: impl Into<SmolStr>, text: impl Into<Arc<str>>) -> Self {
        let text: Arc<str> = text.into();
        let text = match normalise(&text) {
            std::borrow::Cow::Borrowed(same) if same.len() == text.len() => text,
            other => other.into(),
        };
        self.sources.push(Source { name: name.into(), text, broken: Vec::new() });
        self
    }

    /// Adds bytes; a document with bytes that are not UTF-8 becomes a diagnostic.
    #[must_use]
    pub fn bytes(self, name: impl Into<SmolStr>, bytes: Vec<u8>) -> Self {
        let (text, broken) = decode(bytes);
        let mut loader = self.text(name, text);
        if let Some(source) = loader.sources.last_mut() {
            source.broken = broken;
        }
        loader
    }

    /// Notes what cannot be read, as a diagnostic; everything else is used all the same.
    #[must_use]
    pub fn without(mut self, error: &LoadError) -> Self {
        self.diagnostics.push(Diagnostic::new(Code::UnreadableFile, error.to_string()));
        self
    }

    /// Sets the mesh configuration, in place of one among the manifests: a MeshConfig, `meshConfig` of Helm's values or of
    /// an IstioOperator, or the ConfigMap that istiod reads.
    ///
    /// # Errors
    ///
    /// The text holds no mesh configuration, or one that istiod refuses. Fields that are not known are diagnostics.
    ///
    /// # Examples
    ///
    /// ```
    /// use dryroute::manifest::Loader;
    ///
    /// let values = "meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";
    /// assert!(Loader::new().mesh_config("values.yaml", values).is_ok());
    /// assert!(Loader::new().mesh_config("values.yaml", "replicas: 2").is_err());
    /// ```
    pub fn mesh_config(
        mut self,
        name: impl Into<SmolStr>,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<Self, LoadError> {
        let (text, broken) = decode(bytes.into());
        let source = Source { name: name.into(), text: normalise(&text).into(), broken };
        let (config, said) = super::mesh_file::mesh_config(&source)?;
        self.mesh_config = Some((source, config, said));
        Ok(self)
    }

    /// Adds a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn file(self, path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| LoadError::Unreadable { path: path.into(), source })?;
        Ok(self.bytes(path.to_string_lossy(), bytes))
    }

    /// Adds a file, or every `.yaml`, `.yml` and `.json` file below a directory, in the order of their names.
    ///
    /// # Errors
    ///
    /// Something cannot be read, or a directory holds no manifest.
    pub fn path(mut self, path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        if !path.is_dir() {
            return self.file(path);
        }
        let mut files = Vec::new();
        collect(path, &mut files)?;
        if files.is_empty() {
            return Err(LoadError::Empty { path: path.into() });
        }
        files.sort();
        for file in files {
            self = self.file(file)?;
        }
        Ok(self)
    }

    /// Reads everything that was added.
    pub fn load(self) -> ManifestSet {
        let mut parts: Vec<(u32, Document<'_>)> = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            parts.extend(documents(&source.text).into_iter().map(|d| (index as u32, d)));
        }
        let read = |(file, document): &(u32, Document<'_>)| -> Contents {
            let Some(source) = self.sources.get(*file as usize) else { return Contents::default() };
            let place = Where { file: &source.name, line: document.line, column: document.column };
            let left_out = |diagnostic| {
                // Nobody can tell which lines of it are secret.
                let masked = document.text.contains("Secret").then(|| blank(document.text));
                Contents { diagnostics: vec![diagnostic], masked, ..Contents::default() }
            };
            if let Some((line, column)) = first_broken(source, document) {
                let at = Location { file: source.name.clone(), line, column };
                return left_out(
                    Diagnostic::new(Code::UnreadableFile, "what stands here is not UTF-8 text")
                        .at(Place::Position(at), "this document is left out")
                        .help("save the file as UTF-8"),
                );
            }
            let text = settle_tabs(document.text);
            match Arena::parse(&text) {
                Ok(arena) => {
                    let mut contents = contents(&arena, place, &self.default_namespace);
                    if !contents.secrets.is_empty() {
                        contents.masked = Some(masked(&text, &arena, &contents.secrets));
                    }
                    contents
                }
                Err(error) => left_out(
                    Diagnostic::new(Code::InvalidYaml, error.message)
                        .at(place.position(error.line, error.column), "this document is left out"),
                ),
            }
        };
        let mut results = parallel::map(&parts, read);
        // What is said about resources names them by their numbers.
        let mut next = 0;
        for contents in &mut results {
            for diagnostic in &mut contents.diagnostics {
                diagnostic.about = diagnostic.about.map(|ResourceId(own)| ResourceId(next + own));
            }
            for read in &mut contents.resources {
                read.resource.id = ResourceId(next);
                next += 1;
            }
        }
        let verdicts = parallel::map(&results, |contents| -> Vec<Vec<Diagnostic>> {
            contents.resources.iter().map(|read| self.admission.verdict(&read.resource)).collect()
        });

        let mut set = ManifestSet { diagnostics: self.diagnostics.clone(), ..ManifestSet::default() };
        let mut names: super::builder::Names = rustc_hash::FxHashMap::default();
        let mut unknown: IndexMap<(SmolStr, SmolStr), usize> = IndexMap::new();
        let mut masks: Vec<(u32, usize, String)> = Vec::new();
        for (((file, document), contents), verdicts) in parts.iter().zip(results).zip(verdicts) {
            if let Some(text) = contents.masked {
                masks.push((*file, document.offset, text));
            }
            set.diagnostics.extend(contents.diagnostics);
            for kind in contents.unknown_kinds {
                *unknown.entry(kind).or_default() += 1;
            }
            for (read, verdict) in contents.resources.into_iter().zip(verdicts) {
                let start = document.offset as u32;
                set.places.push(super::StoredPlace {
                    file: *file,
                    start,
                    end: start + document.text.len() as u32,
                    line: document.line,
                    column: document.column,
                    items: read.items,
                });
                let id = set.admit(read.resource, verdict, &mut names);
                set.not_yet.extend(read.not_yet.into_iter().map(|path| (id, path)));
            }
        }
        set.unknown_kinds = unknown;
        set.sources = self.sources;
        if let Some((source, config, said)) = self.mesh_config {
            set.sources.push(source);
            set.mesh_config = Some((config, said));
        }
        for masks in masks.chunk_by(|(a, ..), (b, ..)| a == b) {
            let Some(source) = masks.first().and_then(|(file, ..)| set.sources.get_mut(*file as usize))
            else {
                continue;
            };
            let mut text = String::with_capacity(source.text.len());
            for (_, offset, masked) in masks {
                text.push_str(source.text.get(text.len()..*offset).unwrap_or_default());
                text.push_str(masked);
            }
            text.push_str(source.text.get(text.len()..).unwrap_or_default());
            source.text = text.into();
        }
        set
    }
}

/// Line and column of the first bytes of a document that are no text.
fn first_broken(source: &Source, document: &Document<'_>) -> Option<(u32, u32)> {
    if source.broken.is_empty() {
        return None;
    }
    let lines = document.lines();
    let first = source.broken.partition_point(|(line, _)| line < lines.start());
    source.broken.get(first).copied().filter(|(line, _)| lines.contains(line))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: directory.into(), source };
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a file's name says that it holds manifests.
pub fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "yaml" | "yml" | "json"))
}
