//! The table of routes and the description have the same operations.

use std::collections::BTreeSet;

use crate::harness::Description;

/// Method and path of every route, read from the source.
fn routed() -> BTreeSet<(String, String)> {
    let source = include_str!("../../../src/routes.rs");
    let mut routed = BTreeSet::new();
    for call in source.split("routes.").skip(1) {
        let call = call.split(";\n").next().unwrap_or_default();
        let Some(path) = call.split('"').nth(1) else { continue };
        let paths: Vec<String> = match call.split_once('(') {
            Some(("at", _)) => vec![path.to_owned()],
            Some(("client", arguments)) => {
                let prefixes = prefixes(source, arguments.split(',').next().unwrap_or_default().trim());
                prefixes.iter().map(|prefix| format!("/_matrix/client/{prefix}/{path}")).collect()
            }
            _ => continue,
        };
        for method in ["get", "post", "put", "delete"] {
            if call.contains(&format!("{method}(")) {
                routed.extend(paths.iter().map(|path| (method.to_owned(), path.clone())));
            }
        }
    }
    routed
}

/// What is in a constant of prefixes.
fn prefixes<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let declared = source.split_once(&format!("const {name}: &[&str] = &["));
    let (_, after) = declared.unwrap_or_else(|| panic!("no constant {name}"));
    after.split(']').next().unwrap_or_default().split('"').skip(1).step_by(2).collect()
}

fn described() -> BTreeSet<(String, String)> {
    let paths = Description::get().document["paths"].as_object().expect("paths");
    let mut described = BTreeSet::new();
    for (path, item) in paths {
        let methods = item.as_object().expect("a path item").keys().filter(|key| *key != "parameters");
        described.extend(methods.map(|method| (method.clone(), path.clone())));
    }
    described
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let (routed, described) = (routed(), described());
    assert!(routed.len() > 60, "only {} routes were found", routed.len());
    let undescribed: Vec<_> = routed.difference(&described).collect();
    let unrouted: Vec<_> = described.difference(&routed).collect();
    assert!(undescribed.is_empty() && unrouted.is_empty(), "{undescribed:?} {unrouted:?}");
}
