//! Istio's own sample manifests load without a field that the schemas do not know.

use dryroute::diagnostic::{Code, Severity};
use dryroute::manifest::Loader;

#[test]
fn no_field_of_istios_samples_is_unknown() {
    let Some(folder) = dryroute_tests::conformance("istio-samples") else { return };
    let set = Loader::new().path(folder).unwrap().load();
    let complaints: Vec<String> = set
        .diagnostics()
        .iter()
        .filter(|d| d.code == Code::UnknownField || (d.severity == Severity::Error))
        .map(|d| format!("{}: {} {:?}", d.code.as_str(), d.message, d.labels.first().map(|l| &l.at)))
        .collect();
    assert!(set.resources().count() > 100, "{:?}", set.counts());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
