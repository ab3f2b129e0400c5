//! Where two contracts differ, in words; and lists of differences that are meant, each with its
//! reason.

use super::contract::{Contract, Members};

/// One line for each difference: first theirs, then ours.
pub fn differences(theirs: &Contract, ours: &Contract) -> Vec<String> {
    let mut lines = Vec::new();
    if theirs.security != ours.security {
        lines.push(format!("security: {}, here {}", theirs.security, ours.security));
    }
    for name in theirs.parameters.keys().chain(ours.parameters.keys()) {
        let (theirs, ours) = (theirs.parameters.get(name), ours.parameters.get(name));
        if theirs != ours {
            lines.push(format!("parameter {name}: {}, here {}", need(theirs.copied()), need(ours.copied())));
        }
    }
    let none = Members::new();
    match (&theirs.request, &ours.request) {
        (None, None) => {}
        (theirs, ours) => {
            let (theirs, ours) = (theirs.as_ref().unwrap_or(&none), ours.as_ref().unwrap_or(&none));
            compare("request", theirs, ours, &mut lines);
        }
    }
    for status in theirs.responses.keys().chain(ours.responses.keys()) {
        match (theirs.responses.get(status), ours.responses.get(status)) {
            (Some(theirs), Some(ours)) => compare(status, theirs, ours, &mut lines),
            (Some(_), None) => lines.push(format!("{status}: not here")),
            (None, _) => lines.push(format!("{status}: only here")),
        }
    }
    lines.sort();
    lines.dedup();
    lines
}

fn compare(place: &str, theirs: &Members, ours: &Members, lines: &mut Vec<String>) {
    let shown = |member: Option<&(String, bool)>| match member {
        None => "absent".to_owned(),
        Some((kind, required)) => format!("{} {kind}", need(Some(*required))),
    };
    for name in theirs.keys().chain(ours.keys()) {
        let (theirs, ours) = (theirs.get(name), ours.get(name));
        if theirs != ours {
            lines.push(format!("{place} {name}: {}, here {}", shown(theirs), shown(ours)));
        }
    }
}

fn need(required: Option<bool>) -> &'static str {
    match required {
        None => "absent",
        Some(true) => "required",
        Some(false) => "optional",
    }
}

/// What is meant to differ: operation, difference, reason. A `*` in the first two stands for
/// anything.
pub type Meant = (&'static str, &'static str, &'static str);

/// Differences that nobody meant, and entries of the list that meet none.
pub fn unmeant(found: &[(String, String)], meant: &[Meant]) -> (Vec<String>, Vec<String>) {
    let is = |(operation, what, _): &Meant, (found_at, found): &(String, String)| {
        matches(operation, found_at) && matches(what, found)
    };
    let unmeant = found.iter().filter(|found| !meant.iter().any(|entry| is(entry, found)));
    let stale = meant.iter().filter(|entry| !found.iter().any(|found| is(entry, found)));
    (
        unmeant.map(|(operation, what)| format!("{operation}: {what}")).collect(),
        stale.map(|entry| format!("{entry:?}")).collect(),
    )
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[test]
fn a_star_stands_for_anything() {
    for (pattern, text) in
        [("a", "a"), ("a*", "ab"), ("*b", "ab"), ("a*c", "abc"), ("*", ""), ("*b*", "abc"), ("*b", "abb")]
    {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("a*", "ba"), ("*b", "ba"), ("a*c", "ab"), ("", "a")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}
