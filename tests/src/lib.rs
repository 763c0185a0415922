//! Shared parts of the test suites.
//!
//! Third-party data lies beside a checkout of the project, under `../shared/conformance`; where it is absent, the suites
//! that need it say so and pass.

pub mod conformance;
pub mod generator;
pub mod live;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A namespace `shop` whose pods are injected, and a client in it.
pub const CLIENT: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: shop}
spec:
  selector: {matchLabels: {app: client}}
  template: {metadata: {labels: {app: client}}, spec: {containers: [{name: app}]}}
";

/// The proxy of an ingress gateway, by the label `istio: ingressgateway`.
pub const INGRESS_GATEWAY: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: igw, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata:
      labels: {istio: ingressgateway, sidecar.istio.io/inject: 'true'}
      annotations: {inject.istio.io/templates: gateway}
    spec: {containers: [{name: istio-proxy, image: auto}]}
";

/// The folder of a third-party suite, or a loud note that it is not there.
pub fn conformance(suite: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance").join(suite);
    if folder.exists() {
        return Some(folder);
    }
    not_run(&format!("third-party suite {suite}: ../shared/conformance/{suite} is absent"));
    None
}

/// Says that something was not run, and why; once for all tests of a process that say the same.
///
/// Not by `eprintln!`, which the test runner hides when a test passes.
pub fn not_run(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(why.to_owned()) {
        let _ = writeln!(std::io::stderr(), "NOT RUN: {why}");
    }
}
