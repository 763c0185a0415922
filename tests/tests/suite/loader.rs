//! What users hand in: line ends, marks, tabs, anchors, lists, JSON, and the forms that protobuf's JSON allows.

use std::fmt::Write;

use dryroute::diagnostic::Place;
use dryroute::manifest::schema::istio::{Location, Resolution};
use dryroute::manifest::{Kind, Loader, ManifestSet, Spec};
use dryroute::origin::Origin;

const ROUTE: &str = "spec:\n  hosts: [a.example]\n  http:\n  - route:\n    - destination: {host: b}\n";

fn virtual_service(name: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n{ROUTE}")
}

fn load(text: impl Into<String>) -> ManifestSet {
    Loader::new().text("m.yaml", text.into()).load()
}

fn names(set: &ManifestSet) -> Vec<&str> {
    set.resources().map(|resource| resource.meta.name.as_str()).collect()
}

/// Codes with line and column, in order.
fn said(set: &ManifestSet) -> Vec<(&'static str, u32, u32)> {
    let place = |place: &Place| match place {
        Place::Position(at) => (at.line, at.column),
        Place::Origin(origin) => set.locate(origin).map_or((0, 0), |at| (at.line, at.column)),
    };
    set.diagnostics()
        .iter()
        .map(|own| {
            let (line, column) = own.labels.first().map_or((0, 0), |label| place(&label.at));
            (own.code.as_str(), line, column)
        })
        .collect()
}

#[test]
fn lines_that_end_in_two_characters_are_counted_once_and_leave_no_trace() {
    let text = virtual_service("crlf") + "    bogus: 1\n";
    let set = load(text.replace('\n', "\r\n"));
    assert_eq!(names(&set), ["crlf"]);
    assert_eq!(said(&set), [("unknown-field", 9, 5)]);
    let Spec::VirtualService(spec) = &set.resources().next().unwrap().spec else { panic!() };
    assert_eq!(spec.hosts, ["a.example"]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let set = load(format!("\u{feff}{}", virtual_service("bom")));
    assert_eq!(names(&set), ["bom"]);
    assert_eq!(said(&set), []);
    let id = set.resources().next().unwrap().id;
    let at = set.locate(&Origin::field(id, "apiVersion")).unwrap();
    assert_eq!((at.line, at.column), (1, 1));
}

#[test]
fn tabs_may_stand_between_values_and_before_comments() {
    let text = "# a\tcomment\napiVersion:\tv1\t# tab\nkind: Namespace\nmetadata: {name:\ttab}\n";
    let set = load(text);
    assert_eq!(names(&set), ["tab"]);
    assert_eq!(said(&set), []);
}

#[test]
fn a_tab_that_indents_is_an_error_with_its_line_and_hides_no_neighbour() {
    let broken = "apiVersion: v1\nkind: Namespace\nmetadata:\n\tname: a\n";
    let set = load(format!("{}---\n{broken}---\n{}", virtual_service("before"), virtual_service("after")));
    assert_eq!(names(&set), ["before", "after"]);
    let codes: Vec<_> = said(&set).into_iter().map(|(code, line, _)| (code, line)).collect();
    assert_eq!(codes, [("invalid-yaml", 13)]);
}

#[test]
fn anchors_aliases_and_merged_mappings_are_written_out() {
    let text = virtual_service("anchors").replace(
        "  - route:\n    - destination: {host: b}\n",
        "  - &one\n    name: one\n    route: [{destination: {host: b}}]\n  - <<: *one\n    name: two\n  - *one\n",
    );
    let set = load(text);
    let Spec::VirtualService(spec) = &set.resources().next().unwrap().spec else { panic!() };
    let rules: Vec<_> = spec
        .http
        .iter()
        .map(|rule| (rule.name.as_str(), rule.route[0].destination.as_ref().unwrap().host.as_str()))
        .collect();
    assert_eq!(rules, [("one", "b"), ("two", "b"), ("one", "b")]);
}

#[test]
fn aliases_that_grow_without_bound_are_refused() {
    let mut text = String::from(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: bomb}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n",
    );
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
        writeln!(text, "a{i}: &a{i} [{aliases}]").unwrap();
    }
    let set = load(format!("{text}---\n{}", virtual_service("beside")));
    assert_eq!(names(&set), ["beside"]);
    assert_eq!(said(&set)[0].0, "invalid-yaml");
}

#[test]
fn items_of_lists_are_resources_with_positions_of_their_own() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n\
                - apiVersion: v1\n  kind: NamespaceList\n  items:\n  - metadata: {name: b, bogus: 1}\n";
    let set = load(text);
    assert_eq!(names(&set), ["a", "b"], "items of a list of one kind need not name it");
    assert_eq!(said(&set), [("unknown-field", 10, 25)]);
}

#[test]
fn json_is_read_like_yaml() {
    let text = "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Service\",\n  \"metadata\": {\"name\": \"j\"},\n  \
                \"spec\": {\"portz\": [], \"ports\": [{\"port\": \"x\"}]}\n}\n";
    let set = Loader::new().text("m.json", text).load();
    assert_eq!(said(&set), [("unknown-field", 5, 12), ("wrong-type", 5, 44)]);
    assert!(set.diagnostics()[0].help.iter().any(|help| help.contains("\"ports\"")));
}

#[test]
fn enums_are_read_by_name_and_number_and_fields_in_both_spellings() {
    let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\n\
                spec: {hosts: [a.example], location: 1, resolution: STATIC, workload_selector: {labels: {a: b}}, \
                ports: [{number: 80, name: http, protocol: HTTP, target_port: 8080}]}\n";
    let set = load(text);
    assert_eq!(said(&set), []);
    let Spec::ServiceEntry(spec) = &set.resources().next().unwrap().spec else { panic!() };
    assert_eq!((spec.location, spec.resolution), (Location::MeshInternal, Resolution::Static));
    assert_eq!(spec.ports[0].target_port, 8080);
    assert!(spec.workload_selector.is_some());
}

#[test]
fn values_that_protobuf_refuses_are_told_with_what_was_expected() {
    let refused = |from: &str, to: &str| {
        let text = virtual_service("bad").replace(from, to);
        let set = load(format!("{text}---\n{}", virtual_service("beside")));
        assert_eq!(names(&set), ["beside"], "{to}");
        let diagnostic = &set.diagnostics()[0];
        (diagnostic.code.as_str(), diagnostic.message.clone())
    };
    assert_eq!(
        refused("  - route:", "  - timeout: 5 seconds\n    route:"),
        (
            "unknown-value",
            "spec.http[0].timeout: expected a duration such as \"10s\", found the string \"5 seconds\""
                .to_owned()
        )
    );
    assert_eq!(
        refused("  - route:", "  - match: [{uri: {exact: /a, prefix: /b}}]\n    route:"),
        (
            "oneof-conflict",
            "spec.http[0].match[0].uri: of \"exact\" \"prefix\" \"regex\" only one may be set".to_owned()
        )
    );
    let (code, message) = refused("  http:", "  exportTo: 7\n  http:");
    assert_eq!(
        (code, message.as_str()),
        ("wrong-type", "spec.exportTo: expected a sequence, found the number 7")
    );
}

#[test]
fn of_two_resources_of_one_name_the_later_counts_as_kubectl_would_have_it() {
    let later = virtual_service("twice").replace("a.example", "later.example");
    let set = load(format!("{}---\n{later}", virtual_service("twice")));
    assert_eq!(said(&set)[0].0, "duplicate-resource");
    let Spec::VirtualService(spec) = &set.resources().next().unwrap().spec else { panic!() };
    assert_eq!(spec.hosts, ["later.example"]);
    assert_eq!(set.counts()[&Kind::VirtualService], 1);
}

#[test]
fn empty_documents_ends_and_comments_are_nothing() {
    let text = format!(
        "---\n# only a comment\n---\n{}...\n---\n---\n{}",
        virtual_service("a"),
        virtual_service("b")
    );
    let set = load(text);
    assert_eq!(names(&set), ["a", "b"]);
    assert_eq!(said(&set), []);
}

#[test]
fn unknown_kinds_are_counted_and_hide_nothing() {
    let unknown = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n---\n";
    let set = load(format!("{unknown}{unknown}{}", virtual_service("a")));
    assert_eq!(names(&set), ["a"]);
    assert_eq!(set.unknown_kinds().values().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn istios_own_test_data_loads_without_an_error() {
    let Some(folder) = dryroute_tests::conformance("istio-testdata") else { return };
    let set = Loader::new().path(&folder).unwrap().load();
    let errors: Vec<_> = set
        .diagnostics()
        .iter()
        .filter(|own| own.severity == dryroute::diagnostic::Severity::Error)
        .map(|own| format!("{}: {}", own.code.as_str(), own.message))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(set.resources().count() > 50, "there is something to read");
}

#[test]
fn a_byte_that_is_no_text_leaves_out_its_own_document_alone() {
    let mut bytes = format!("{}# ok\n---\n", virtual_service("before")).into_bytes();
    bytes.extend(b"apiVersion: v1\nkind: Namespace\n# caf\xe9\nmetadata: {name: latin}\n---\n");
    bytes.extend(virtual_service("after").into_bytes());
    let set = Loader::new().bytes("m.yaml", bytes).load();
    assert_eq!(names(&set), ["before", "after"]);
    assert_eq!(said(&set), [("unreadable-file", 13, 6)]);
}

#[test]
fn utf_16_with_its_mark_is_read_as_other_text_is() {
    let text = format!("\u{feff}{}    bogus: é\n", virtual_service("wide"));
    for bytes in [
        text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
        text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    ] {
        let set = Loader::new().bytes("m.yaml", bytes).load();
        assert_eq!(names(&set), ["wide"]);
        assert_eq!(said(&set), [("unknown-field", 9, 5)]);
    }
}

#[test]
fn a_stream_of_json_holds_a_document_for_each_value() {
    let namespace = |name: &str, more: &str| {
        format!(r#"{{"apiVersion": "v1", "kind": "Namespace", "metadata": {{"name": "{name}"}}{more}}}"#)
    };
    let (a, b, c) = (namespace("a", ""), namespace("b", ", \"x\": 1"), namespace("c", ", \"y\": 1"));
    let set = load(format!("{a}\n{b}{c}\n---\n{}", virtual_service("d")));
    assert_eq!(names(&set), ["a", "b", "c", "d"]);
    let columns = [b.find("\"x\"").unwrap() + 1, b.len() + c.find("\"y\"").unwrap() + 1];
    let expected = columns.map(|column| ("unknown-field", 2, column as u32));
    assert_eq!(said(&set), expected);
    let third = set.resources().nth(2).unwrap().id;
    let at = set.locate(&Origin::field(third, "kind")).unwrap();
    assert_eq!((at.line, at.column), (2, (b.len() + c.find("\"kind\"").unwrap() + 1) as u32));
    let broken = load(format!("{a}\n{{\"kind\": \n"));
    assert_eq!(names(&broken), ["a"]);
    assert_eq!(said(&broken).first().map(|own| own.0), Some("invalid-yaml"));
}

#[test]
fn a_version_that_never_was_is_left_out_and_a_kind_that_is_misspelt_is_named() {
    let object = |version: &str, kind: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {}}}\nspec: {{}}\n",
            kind.to_lowercase()
        )
    };
    let told = |version: &str, kind: &str| {
        let set = load(object(version, kind));
        let own =
            set.diagnostics().first().map(|own| (own.code.as_str(), own.help.clone().unwrap_or_default()));
        (set.resources().count(), own)
    };
    for (version, kind) in [
        ("networking.istio.io/v2", "VirtualService"),
        ("networking.istio.io/v1", "EnvoyFilter"),
        ("v1beta1", "Service"),
    ] {
        let (count, own) = told(version, kind);
        assert_eq!((count, own.map(|own| own.0)), (0, Some("unknown-kind")), "{version} {kind}");
    }
    for (version, kind, help) in [
        ("networking.istio.io/v1", "Gatewy", "did you mean \"Gateway\"?"),
        ("v1", "Deployment", "did you mean apiVersion \"apps/v1\"?"),
        ("networking.istio.oi/v1", "VirtualService", "did you mean apiVersion \"networking.istio.io/v1\"?"),
    ] {
        assert_eq!(told(version, kind).1, Some(("unknown-kind", help.to_owned())), "{version} {kind}");
    }
    for (version, kind) in [("serving.knative.dev/v1", "Service"), ("v1", "PersistentVolumeClaim")] {
        assert_eq!(told(version, kind).1, None, "{version} {kind}");
    }
}
