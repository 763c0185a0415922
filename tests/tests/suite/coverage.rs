//! The table of fields is complete and up to date.

use dryroute::manifest::Kind;
use dryroute::manifest::coverage::{Effect, fields, markdown};

/// Writes the table with `DRYROUTE_RENEW=1 cargo test -p dryroute-tests --test suite coverage`.
#[test]
fn the_table_of_fields_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../lib/docs/coverage.md");
    let table = markdown();
    if std::env::var_os("DRYROUTE_RENEW").is_some() {
        std::fs::write(file, &table).unwrap();
    }
    assert!(
        std::fs::read_to_string(file).unwrap() == table,
        "lib/docs/coverage.md is stale; renew it: DRYROUTE_RENEW=1 cargo test -p dryroute-tests --test suite coverage"
    );
}

#[test]
fn every_kind_lists_its_fields() {
    for kind in Kind::ALL {
        assert!(!fields(*kind).is_empty(), "{kind}");
    }
    let total: usize = Kind::ALL.iter().map(|kind| fields(*kind).len()).sum();
    let translated: usize = Kind::ALL
        .iter()
        .map(|kind| fields(*kind).iter().filter(|(_, effect)| *effect == Effect::Translated).count())
        .sum();
    eprintln!("{total} fields, {translated} translated");
}
