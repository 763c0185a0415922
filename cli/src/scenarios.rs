//! `dryroute scenarios`: which stories come with this program?

use std::fmt::Write as _;

use dryroute::scenario::Scenario;

use crate::error::{CliError, Output};
use crate::{style, table};

/// A scenario that is a part of this program.
pub(crate) struct Embedded {
    /// The name of its folder.
    pub(crate) name: &'static str,
    /// Its files and their texts, in the order of their names.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

macro_rules! scenarios {
    ($($name:literal: $($file:literal),+;)+) => {
        /// All scenarios; a test holds this list equal to the folder.
        static ALL: &[Embedded] = &[$(Embedded {
            name: $name,
            files: &[$(($file, include_str!(concat!("../../scenarios/", $name, "/", $file)))),+],
        }),+];
    };
}

scenarios! {
    "bookinfo-ingress": "bookinfo.yaml", "gateway.yaml", "platform.yaml", "scenario.yaml", "virtualservice.yaml";
    "canary": "canary.yaml", "platform.yaml", "scenario.yaml";
    "egress-gateway": "lab.yaml", "platform.yaml", "scenario.yaml";
    "egress-gateway-fixed": "gateway.yaml", "platform.yaml", "scenario.yaml", "service-entry.yaml", "virtual-service.yaml";
    "ingress-tls": "gateway.yaml", "platform.yaml", "scenario.yaml";
    "multi-namespace": "billing.yaml", "platform.yaml", "scenario.yaml", "shop.yaml";
    "no-sidecar": "platform.yaml", "scenario.yaml", "virtual-service.yaml";
    "registry-only": "allowed.yaml", "platform.yaml", "scenario.yaml";
    "service-entry-resolution": "platform.yaml", "scenario.yaml", "service-entries.yaml";
    "tls-origination": "egress.yaml", "platform.yaml", "scenario.yaml";
}

impl Embedded {
    /// The manifests, without the file that says what should happen.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.files.iter().copied().filter(|(file, _)| *file != "scenario.yaml")
    }

    /// The story.
    pub(crate) fn parse(&self) -> Result<Scenario, CliError> {
        let text = self.files.iter().find(|(file, _)| *file == "scenario.yaml").map_or("", |(_, text)| text);
        Scenario::parse(text).map_err(|error| CliError::new(format!("scenario {}: {error}", self.name)))
    }
}

/// The scenario of a name.
pub(crate) fn find(name: &str) -> Result<&'static Embedded, CliError> {
    ALL.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
        CliError::new(format!("there is no scenario `{name}`"))
            .candidates(ALL.iter().map(|scenario| scenario.name))
    })
}

/// Arguments of `scenarios`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scenario to show; without one, all are listed
    name: Option<String>,
    /// Print its manifests as one stream of YAML
    #[arg(long, requires = "name")]
    manifests: bool,
}

pub(crate) fn run(args: &Args) -> Result<Output, CliError> {
    match &args.name {
        None => list(),
        Some(name) if args.manifests => {
            let texts =
                find(name)?.manifests().map(|(file, text)| format!("# {name}/{file}\n{}\n", text.trim_end()));
            Ok(Output::answer(texts.collect::<Vec<_>>().join("---\n")))
        }
        Some(name) => show(find(name)?),
    }
}

fn list() -> Result<Output, CliError> {
    let mut rows = Vec::new();
    for scenario in ALL {
        rows.push(vec![scenario.name.to_owned(), scenario.parse()?.title]);
    }
    Ok(Output::answer(table::render(&["NAME", "STORY"], rows)))
}

fn show(scenario: &Embedded) -> Result<Output, CliError> {
    let story = scenario.parse()?;
    let mut out = String::new();
    let _ = writeln!(out, "{}\n", style::paint(style::BOLD, &story.title));
    let _ = writeln!(out, "{}\n", story.story.trim_end());
    for request in &story.requests {
        let mut words = vec!["dryroute trace".to_owned()];
        words.extend(request.method.iter().map(ToString::to_string));
        words.push(quoted(&request.url));
        words.push(format!("--scenario {}", scenario.name));
        words.extend(request.from.iter().map(|from| format!("--from {from}")));
        words.extend(request.container.iter().map(|container| format!("--container {container}")));
        words.extend(request.uid.iter().map(|uid| format!("--uid {uid}")));
        words.extend(request.to_gateway.iter().map(|gateway| format!("--to-gateway {gateway}")));
        words.extend(request.resolve.iter().map(|resolve| format!("--resolve {resolve}")));
        words.extend(request.headers.iter().map(|header| format!("-H {}", quoted(header))));
        let _ = writeln!(out, "{}", style::paint(style::DIM, &format!("# {}", request.name)));
        let _ = writeln!(out, "{}", words.join(" "));
    }
    Ok(Output::answer(out))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":/._-@%+=,".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_folder_is_embedded_with_all_its_files() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let mut folder: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            for file in std::fs::read_dir(&path).unwrap() {
                let name = path.file_name().unwrap().to_string_lossy();
                folder.push(format!("{name}/{}", file.unwrap().file_name().to_string_lossy()));
            }
        }
        folder.sort();
        let mut embedded: Vec<String> = ALL
            .iter()
            .flat_map(|s| s.files.iter().map(move |(file, _)| format!("{}/{file}", s.name)))
            .collect();
        embedded.sort();
        assert_eq!(embedded, folder);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("http://a/b"), "http://a/b");
        assert_eq!(quoted("x: it's"), "'x: it'\\''s'");
    }
}
