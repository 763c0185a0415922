//! Which manifests are read?

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dryroute::diagnostic::{Code, Severity};
use dryroute::manifest::schema::mesh_config::MeshConfig;
use dryroute::manifest::{LoadError, Loader, is_manifest, parse_mesh_config};
use dryroute::mesh::{Mesh, MeshOptions, StandIn};

use crate::error::{CliError, Exit};
use crate::{frame, scenarios, style};

/// Manifests to read.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Input")]
#[command(group(clap::ArgGroup::new("manifests").required(true).multiple(true).args(["files", "scenario"])))]
pub(crate) struct Input {
    /// File or directory of manifests, `-` for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// A scenario that comes with this program (see `dryroute scenarios`)
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    scenario: Option<String>,
    /// The mesh configuration: a MeshConfig, or the ConfigMap `istio` that holds it
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    /// Make up what repositories of rules leave out, each as a named assumption: a client, and the gateways that Gateways
    /// select, with the names and ports of Istio's own
    #[arg(long)]
    assume_platform: bool,
    /// Namespace of objects and names that name none [default: default]
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// A mesh that was read.
pub(crate) struct Loaded {
    /// The mesh.
    pub(crate) mesh: Arc<Mesh>,
    /// What standard error has to say about the input.
    pub(crate) stderr: String,
    /// Whether a part of the input cannot be read.
    pub(crate) exit: Exit,
}

impl Input {
    /// The namespace of names that name none.
    pub(crate) fn namespace(&self) -> Result<String, CliError> {
        if let Some(namespace) = &self.namespace {
            return Ok(namespace.clone());
        }
        let of_scenario = match &self.scenario {
            Some(name) => scenarios::find(name)?.parse()?.namespace,
            None => None,
        };
        Ok(of_scenario.map_or_else(|| "default".to_owned(), |namespace| namespace.to_string()))
    }

    /// Reads everything, without a word about it.
    pub(crate) fn mesh(&self) -> Result<Mesh, CliError> {
        let namespace = self.namespace()?;
        let mut loader = Loader::new().default_namespace(namespace.as_str());
        if let Some(name) = &self.scenario {
            for (file, text) in scenarios::find(name)?.manifests() {
                loader = loader.text(format!("{name}/{file}"), text);
            }
        }
        for path in &self.files {
            loader = add(loader, path)?;
        }
        let mut options = MeshOptions::default();
        if let Some(path) = &self.mesh_config {
            match mesh_config(path)? {
                Some(config) => options.mesh_config = Some(config),
                None => loader = loader.file(path)?,
            }
        }
        if self.assume_platform {
            let mesh = Mesh::new(loader.clone().load(), options.clone());
            let missing = StandIn::for_missing(&mesh, &namespace);
            if missing.is_empty() {
                return Ok(mesh);
            }
            for part in missing {
                options.assumptions.push(part.assumption);
                loader = loader.text(part.file, part.text);
            }
        }
        Ok(Mesh::new(loader.load(), options))
    }

    /// Reads everything; documents that cannot be read are reported, the others are used.
    pub(crate) fn load(&self) -> Result<Loaded, CliError> {
        let mesh = self.mesh()?;
        let mut loaded = Loaded { mesh: Arc::new(mesh), stderr: String::new(), exit: Exit::Ok };
        let mut left_out = 0;
        for diagnostic in loaded.mesh.diagnostics() {
            if matches!(diagnostic.code, Code::InvalidYaml | Code::UnreadableFile) {
                loaded.stderr.push_str(&frame::diagnostic(loaded.mesh.manifests(), diagnostic));
                loaded.exit = Exit::Unusable;
            } else if diagnostic.severity == Severity::Error {
                left_out += 1;
            }
        }
        if left_out > 0 {
            let noun = if left_out == 1 { "error" } else { "errors" };
            let _ = writeln!(
                loaded.stderr,
                "{}: {left_out} {noun} in the manifests; `dryroute check` shows them",
                style::paint(style::YELLOW, "warning")
            );
        }
        Ok(loaded)
    }
}

/// Adds a file, a directory, or standard input.
fn add(loader: Loader, path: &Path) -> Result<Loader, CliError> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|source| LoadError::Unreadable { path: path.into(), source })?;
        return Ok(loader.bytes("-", bytes));
    }
    if !path.is_dir() {
        return Ok(loader.file(path)?);
    }
    // Respects .gitignore, as ripgrep does.
    let mut found: Vec<PathBuf> = ignore::Walk::new(path)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .map(ignore::DirEntry::into_path)
        .filter(|file| is_manifest(file))
        .collect();
    if found.is_empty() {
        return Err(LoadError::Empty { path: path.into() }.into());
    }
    found.sort();
    found.into_iter().try_fold(loader, |loader, file| Ok(loader.file(file)?))
}

/// Reads a mesh configuration; `None` when the file holds an object, which is read as a manifest.
fn mesh_config(path: &Path) -> Result<Option<MeshConfig>, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LoadError::Unreadable { path: path.into(), source })?;
    if text.lines().any(|line| line.starts_with("apiVersion:")) {
        return Ok(None);
    }
    let name = path.to_string_lossy();
    let (config, said) = parse_mesh_config(&name, &text);
    let config = config.ok_or_else(|| {
        let why = said.iter().find(|d| d.severity == Severity::Error).map(|d| d.message.as_str());
        CliError::new(format!("{name} holds no mesh configuration: {}", why.unwrap_or("it cannot be read")))
    })?;
    Ok(Some(config))
}
