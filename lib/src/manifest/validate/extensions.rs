//! WasmPlugin and TrafficExtension. istiod: `validation.go: ValidateWasmPlugin, ValidateTrafficExtension`.

use rustc_hash::FxHashSet;

use super::names;
use super::report::{At, Report};
use super::selector;
use crate::manifest::schema::istio::{
    EnvValueSource, TrafficExtension, TrafficSelector, VmConfig, WasmPlugin,
};

const LONGEST_SCRIPT: usize = 65_536;

pub(super) fn wasm_plugin(report: &mut Report<'_>, spec: &At<'_>, plugin: &WasmPlugin) {
    selector::targets(
        report,
        spec,
        plugin.selector.as_ref(),
        plugin.target_ref.as_ref(),
        &plugin.target_refs,
    );
    let module = Module {
        url: &plugin.url,
        sha256: &plugin.sha256,
        image_pull_secret: &plugin.image_pull_secret,
        name: &plugin.plugin_name,
        vm: plugin.vm_config.as_ref(),
    };
    wasm_module(report, spec, &module);
    matches(report, &spec.field("match"), &plugin.match_);
}

pub(super) fn traffic_extension(report: &mut Report<'_>, spec: &At<'_>, extension: &TrafficExtension) {
    if extension.wasm.is_some() == extension.lua.is_some() {
        report.refuse(spec, "exactly one of wasm or lua must be set");
    }
    selector::targets(report, spec, extension.selector.as_ref(), None, &extension.target_refs);
    if let Some(lua) = &extension.lua {
        let at = spec.field("lua");
        let at = at.field("inlineCode");
        if lua.inline_code.is_empty() {
            report.refuse(&at, "lua.inlineCode cannot be empty");
        }
        if lua.inline_code.len() > LONGEST_SCRIPT {
            report.refuse(&at, "lua.inlineCode exceeds maximum size of 64KB");
        }
    }
    if let Some(wasm) = &extension.wasm {
        let module = Module {
            url: &wasm.url,
            sha256: &wasm.sha256,
            image_pull_secret: &wasm.image_pull_secret,
            name: &wasm.plugin_name,
            vm: wasm.vm_config.as_ref(),
        };
        wasm_module(report, &spec.field("wasm"), &module);
    }
    matches(report, &spec.field("match"), &extension.match_);
}

/// What both kinds say about a module.
struct Module<'p> {
    url: &'p str,
    sha256: &'p str,
    image_pull_secret: &'p str,
    name: &'p str,
    vm: Option<&'p VmConfig>,
}

fn wasm_module(report: &mut Report<'_>, at: &At<'_>, module: &Module<'_>) {
    report.check(&at.field("url"), url(module.url));
    let sha256 = at.field("sha256");
    if !module.sha256.is_empty() && module.sha256.len() != 64 {
        report.refuse(&sha256, "sha256 field must be 64 characters long");
    } else if !module.sha256.bytes().all(|b| matches!(b, b'a'..=b'f' | b'0'..=b'9')) {
        report.refuse(&sha256, "sha256 field must match [a-f0-9]{64} pattern");
    }
    if module.image_pull_secret.len() > 253 {
        report.refuse(
            &at.field("imagePullSecret"),
            "imagePullSecret field must be less than 253 characters long",
        );
    }
    if module.name.len() > 256 {
        report.refuse(&at.field("pluginName"), "pluginName field must be less than 255 characters long");
    }
    if let Some(vm) = module.vm {
        environment(report, &at.field("vmConfig"), vm);
    }
}

/// A URL with a scheme that istiod fetches from; none means `oci`.
fn url(text: &str) -> names::Checked {
    if text.is_empty() {
        return Err("url field needs to be set".into());
    }
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err("failed to parse url: invalid control character in URL".into());
    }
    let scheme = match text.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                // `host:port/path` has no scheme: with one it would be no request URI.
                && rest.starts_with('/') =>
        {
            scheme
        }
        _ => "",
    };
    if !matches!(scheme.to_ascii_lowercase().as_str(), "" | "file" | "http" | "https" | "oci") {
        return Err(format!("url contains unsupported scheme: {scheme}"));
    }
    let rest = text.strip_prefix(scheme).unwrap_or(text).trim_start_matches("://");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    if !authority.starts_with('[') && port.is_some_and(|p| !p.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("failed to parse url: invalid port in \"{authority}\""));
    }
    let mut percent = text.split('%').skip(1);
    if !percent.all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit())) {
        return Err("failed to parse url: invalid URL escape".into());
    }
    Ok(())
}

fn environment(report: &mut Report<'_>, at: &At<'_>, vm: &VmConfig) {
    let at = at.field("env");
    let mut seen = FxHashSet::default();
    for (index, variable) in vm.env.iter().enumerate() {
        let at = at.index(index);
        let problem = if variable.name.is_empty() {
            "spec.vmConfig.env invalid"
        } else if variable.name.len() > 256 {
            "env.name field must be less than 255 characters long"
        } else if !seen.insert(variable.name.as_str()) {
            "duplicate env"
        } else if variable.value_from != EnvValueSource::Inline && !variable.value.is_empty() {
            "value may only be set when valueFrom is INLINE"
        } else {
            continue;
        };
        report.refuse(&at, problem);
        return;
    }
}

fn matches(report: &mut Report<'_>, at: &At<'_>, selectors: &[TrafficSelector]) {
    for (index, selector) in selectors.iter().enumerate() {
        let at = at.index(index);
        let at = at.field("ports");
        for (port_index, port) in selector.ports.iter().enumerate() {
            if names::port(port.number).is_err() {
                report.refuse(
                    &at.index(port_index),
                    format!("spec.Match[{index}].Ports[{port_index}] is out of range: {}", port.number),
                );
            }
        }
    }
}
