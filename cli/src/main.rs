//! `dryroute`: what would my Istio mesh do with this request, and why, without sending it.

mod check;
mod export;
mod proxy_config;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dryroute::manifest::{LoadError, Loader, ManifestSet, is_manifest};

/// Reads Istio, Kubernetes and Gateway API manifests and tells what proxies would be told.
#[derive(Debug, Parser)]
#[command(name = "dryroute", version = VERSION, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (models Istio 1.32, Envoy 1.40)");

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads manifests and reports what is wrong with them.
    Check(check::Args),
    /// Prints what a sidecar would be told, as `istioctl proxy-config` does.
    ProxyConfig(proxy_config::Args),
    /// Writes the Envoy configuration of a proxy, ready to run.
    Export(export::Args),
}

/// Manifests to read.
#[derive(Debug, clap::Args)]
struct Input {
    /// File or directory of manifests, `-` for standard input; may be given several times.
    #[arg(short = 'f', long = "filename", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short = 'n', long, default_value = "default")]
    namespace: String,
}

impl Input {
    fn load(&self) -> Result<ManifestSet, LoadError> {
        let mut loader = Loader::new().default_namespace(self.namespace.as_str());
        for path in &self.files {
            if path.as_os_str() == "-" {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)
                    .map_err(|source| LoadError::Unreadable { path: path.clone(), source })?;
                loader = loader.bytes("-", bytes);
            } else if path.is_dir() {
                // Respects .gitignore, as ripgrep does.
                let mut found: Vec<PathBuf> = ignore::Walk::new(path)
                    .filter_map(Result::ok)
                    .filter(|entry| entry.file_type().is_some_and(|t| t.is_file()))
                    .map(ignore::DirEntry::into_path)
                    .filter(|file| is_manifest(file))
                    .collect();
                if found.is_empty() {
                    return Err(LoadError::Empty { path: path.clone() });
                }
                found.sort();
                for file in found {
                    loader = loader.file(file)?;
                }
            } else {
                loader = loader.file(path)?;
            }
        }
        Ok(loader.load())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Check(args) => check::run(args),
        Command::ProxyConfig(args) => proxy_config::run(args),
        Command::Export(args) => export::run(args),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            anstream::eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
