//! Which manifests are read?

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dryroute::diagnostic::{Code, Severity};
use dryroute::manifest::{LoadError, Loader, is_manifest};
use dryroute::mesh::{Features, Mesh, MeshOptions, StandIn};

use crate::error::{CliError, Exit, Output};
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
    /// The mesh configuration: a MeshConfig, Helm values or an IstioOperator with `meshConfig`, or the ConfigMap `istio`
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    /// A switch of istiod, by its environment variable, such as PILOT_HTTP10=true, before what its Deployment says; may be
    /// given several times
    #[arg(long = "feature", value_name = "NAME=VALUE")]
    features: Vec<String>,
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
    /// What cannot be read, and why.
    unreadable: String,
    /// How much else is wrong, in one line.
    summary: String,
}

impl Loaded {
    /// What a command answers, with what there is to say about the input, which is said in any case.
    pub(crate) fn finish(self, result: Result<Output, CliError>) -> Output {
        let result = result.map(|mut output| {
            output.stderr.insert_str(0, &self.summary);
            output
        });
        self.finish_told(result)
    }

    /// The same where the answer itself says how much is wrong.
    pub(crate) fn finish_told(self, result: Result<Output, CliError>) -> Output {
        let mut output = result.unwrap_or_else(|error| {
            // What was left out may be what was asked for.
            let mut output = error.into_output();
            output.stderr.insert_str(0, &self.left_out());
            output.stderr.insert_str(0, &self.summary);
            output
        });
        output.stderr.insert_str(0, &self.unreadable);
        let exit = if self.unreadable.is_empty() { Exit::Ok } else { Exit::Unusable };
        output.at_least(exit)
    }
}

/// How many errors are named where nothing could be answered.
const ERRORS_SHOWN: usize = 5;

impl Loaded {
    /// The first errors of what was left out, a line each.
    fn left_out(&self) -> String {
        let set = self.mesh.manifests();
        let errors = self.mesh.diagnostics().filter(|own| own.severity == Severity::Error);
        let mut out = String::new();
        for error in errors.filter(|own| !UNREADABLE.contains(&own.code)).take(ERRORS_SHOWN) {
            let _ = write!(out, "  {}", frame::line(set, error));
        }
        out
    }
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
        let mut failed: Vec<LoadError> = Vec::new();
        let mut read = 0;
        for path in &self.files {
            (loader, read) = add(loader, path, read, &mut failed);
        }
        if read == 0 && !failed.is_empty() {
            let all: Vec<String> = failed.iter().map(ToString::to_string).collect();
            return Err(CliError::new(all.join("; ")));
        }
        if let Some(path) = &self.mesh_config {
            loader = loader.mesh_config(path.to_string_lossy(), bytes(path)?)?;
        }
        let mut options = MeshOptions { switches: self.switches()?, ..MeshOptions::default() };
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

    /// istiod's switches that are given.
    fn switches(&self) -> Result<Vec<(String, String)>, CliError> {
        let mut switches = Vec::new();
        for text in &self.features {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            if !Features::NAMES.contains(&name) {
                let error =
                    CliError::new(format!("istiod's switch `{name}` is none that an answer depends on"));
                return Err(match Features::meant(name) {
                    Some(meant) => error.help(format!("did you mean {meant}?")),
                    None => error.help(format!("there is: {}", Features::NAMES.join(", "))),
                });
            }
            if !Features::default().set(name, value) {
                return Err(CliError::new(format!("`{text}` cannot be read"))
                    .help(format!("write it as {name}=true or {name}=false")));
            }
            if Features::NOT_YET.contains(&name) {
                return Err(CliError::new(format!("what {name} changes is not modelled")));
            }
            switches.push((name.to_owned(), value.to_owned()));
        }
        Ok(switches)
    }

    /// Reads everything; documents that cannot be read are reported, the others are used.
    pub(crate) fn load(&self) -> Result<Loaded, CliError> {
        let mesh = Arc::new(self.mesh()?);
        let (mut unreadable, mut errors, mut fields) = (String::new(), 0, 0);
        for diagnostic in mesh.diagnostics() {
            if UNREADABLE.contains(&diagnostic.code) {
                unreadable.push_str(&frame::diagnostic(mesh.manifests(), diagnostic));
            } else if diagnostic.severity == Severity::Error {
                errors += 1;
            } else if diagnostic.is_of_something_left_out() {
                fields += 1;
            }
        }
        let found = [(errors, "error"), (fields, "warning")];
        let found: Vec<String> = found
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, noun)| style::many(*count, noun))
            .collect();
        let mut summary = String::new();
        if !found.is_empty() {
            let _ = writeln!(
                summary,
                "{}: {} in the manifests; `dryroute check` shows them",
                style::paint(style::YELLOW, "warning"),
                found.join(" and "),
            );
        }
        Ok(Loaded { mesh, unreadable, summary })
    }
}

/// The codes of what nobody can read.
pub(crate) const UNREADABLE: [Code; 2] = [Code::InvalidYaml, Code::UnreadableFile];

/// Adds a file, a directory, or standard input to the `read` ones before; what cannot be read is noted.
fn add(mut loader: Loader, path: &Path, mut read: usize, failed: &mut Vec<LoadError>) -> (Loader, usize) {
    let files = if path.is_dir() { manifests(path) } else { vec![path.to_path_buf()] };
    let mut note = |loader: Loader, error: LoadError| {
        let loader = loader.without(&error);
        failed.push(error);
        loader
    };
    if files.is_empty() {
        return (note(loader, LoadError::Empty { path: path.into() }), read);
    }
    for file in files {
        loader = match bytes(&file) {
            Ok(bytes) => {
                read += 1;
                loader.bytes(file.to_string_lossy(), bytes)
            }
            Err(error) => note(loader, error),
        };
    }
    (loader, read)
}

/// The manifests below a directory, in the order of their names, without what `.gitignore` names.
fn manifests(directory: &Path) -> Vec<PathBuf> {
    // Outside of a repository, the files of the directory itself count and those of its parents do not: they are not its own.
    let in_repository = directory
        .canonicalize()
        .is_ok_and(|path| path.ancestors().any(|parent| parent.join(".git").exists()));
    let mut found: Vec<PathBuf> = ignore::WalkBuilder::new(directory)
        .require_git(in_repository)
        .parents(in_repository)
        .build()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .map(ignore::DirEntry::into_path)
        .filter(|file| is_manifest(file))
        .collect();
    found.sort();
    found
}

/// What a file holds; `-` is standard input.
fn bytes(path: &Path) -> Result<Vec<u8>, LoadError> {
    let read = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|source| LoadError::Unreadable { path: path.into(), source })
}
