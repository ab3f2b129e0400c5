//! Every term of every guard, by removing it.
//!
//! For each AND-term of each statement there is a state in which that term alone refuses: the
//! statement changes nothing, and with the term taken out (`(term OR 1 = 1)`) it does. The terms
//! are read out of the statements, so that a term without a case fails the test, and the
//! statements out of the sources, so that a statement without cases does. `cases` holds the table.

mod cases;

use std::collections::{BTreeMap, BTreeSet};

use ligand_storage::testing::{TestStore, guarded_statements};
use ligand_storage::{Committed, Row, Value, Write};

use crate::on_both;
use cases::{Case, DUMP, EXEMPT, Statement, scene, statements};

/// The AND-terms of a guard, those of groups and sub-selects inside them too.
fn terms(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(guard) = guard(sql) {
        collect(guard, &mut found);
    }
    found
}

/// What stands between WHERE and the clause after it, at the outermost level.
fn guard(sql: &str) -> Option<&str> {
    let from = find_outside(sql, &[" WHERE "])? + " WHERE ".len();
    let to = find_outside(&sql[from..], &[" RETURNING ", " ORDER BY ", " LIMIT "]);
    Some(sql[from..to.map_or(sql.len(), |to| from + to)].trim())
}

fn collect(guard: &str, found: &mut Vec<String>) {
    let mut rest = guard;
    loop {
        let end = find_outside(rest, &[" AND "]).unwrap_or(rest.len());
        let term = rest[..end].trim();
        found.push(term.to_owned());
        for group in groups(term) {
            inside(group, found);
        }
        if end == rest.len() {
            return;
        }
        rest = &rest[end + " AND ".len()..];
    }
}

/// What a parenthesis holds that is a guard in turn.
fn inside(group: &str, found: &mut Vec<String>) {
    if let Some(guard) = guard(group) {
        collect(guard, found);
    } else if find_outside(group, &[" AND "]).is_some() {
        collect(group, found);
    } else {
        for group in groups(group) {
            inside(group, found);
        }
    }
}

/// Where one of the words stands outside all parentheses.
fn find_outside(sql: &str, words: &[&str]) -> Option<usize> {
    let mut depth = 0;
    sql.char_indices().find_map(|(at, character)| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth == 0 && words.iter().any(|word| sql[at..].starts_with(word))).then_some(at)
    })
}

/// The contents of the outermost parentheses.
fn groups(sql: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, character) in sql.char_indices() {
        match character {
            '(' => {
                if depth == 0 {
                    from = at + 1;
                }
                depth += 1;
            }
            ')' => {
                depth -= 1;
                if depth == 0 {
                    found.push(&sql[from..at]);
                }
            }
            _ => {}
        }
    }
    found
}

/// Texts as the sources lay them out and texts as tables quote them.
fn on_one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn texts() -> BTreeMap<String, String> {
    let named = guarded_statements().into_iter();
    named.map(|(module, name, sql)| (format!("{module}::{name}"), on_one_line(sql))).collect()
}

/// With a row given back for every row met: some statements only lock, and their guard shows in
/// nothing but that.
fn counted(sql: &str) -> String {
    if sql.contains(" RETURNING ") { sql.to_owned() } else { format!("{sql} RETURNING 1") }
}

/// What a statement did to the scene, and what it gave back.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    before: Vec<Vec<Row>>,
    after: Vec<Vec<Row>>,
    returned: Vec<Row>,
}

impl Seen {
    fn did_nothing(&self) -> bool {
        self.before == self.after && self.returned.is_empty()
    }
}

/// Sets the scene anew, bends it, and runs one statement in it: one batch.
async fn play(store: &TestStore, statement: &Statement, bend: Option<&Case>, sql: &'static str) -> Seen {
    let plain = |sql: &&'static str| Write::any(sql, Vec::new());
    let mut params: Vec<Value> = statement.params.clone();
    let mut batch = scene();
    batch.extend(statement.prepare.iter().map(plain));
    if let Some(case) = bend {
        batch.extend(case.rows.iter().map(plain));
        for (number, value) in &case.params {
            params[number - 1] = value.clone();
        }
    }
    let prepared = batch.len();
    batch.extend(DUMP.iter().map(plain));
    batch.push(Write::any(sql, params));
    batch.extend(DUMP.iter().map(plain));
    let Committed::Done(mut rows) = store.commit(batch, Vec::new()).await.expect(sql) else {
        panic!("a conflict in {sql}");
    };
    let mut rows = rows.split_off(prepared);
    let after = rows.split_off(DUMP.len() + 1);
    let returned = rows.pop().unwrap();
    Seen { before: rows, after, returned }
}

on_both! {
    each_term_refuses_alone(store) {
        let texts = texts();
        let mut count = 0;
        for statement in statements() {
            let sql = texts.get(statement.name).unwrap_or_else(|| panic!("no {}", statement.name));
            let sql: &'static str = counted(sql).leak();
            let plain = play(&store, &statement, None, sql).await;
            assert!(!plain.did_nothing(), "{} does nothing to begin with", statement.name);
            for case in &statement.cases {
                let named = format!("{}: {}", statement.name, case.term);
                let refused = play(&store, &statement, Some(case), sql).await;
                assert!(refused.did_nothing(), "{named} lets through {refused:?}");
                assert_eq!(sql.matches(case.term).count(), 1, "{named} is not one place in the text");
                let without = sql.replace(case.term, &format!("({} OR 1 = 1)", case.term)).leak();
                let mutated = play(&store, &statement, Some(case), without).await;
                assert!(!mutated.did_nothing(), "{named} is not what refuses here");
                count += 1;
            }
        }
        println!("{count} terms removed");
        assert!(count > 90, "{count}");
    }
}

#[test]
fn each_term_has_a_case() {
    let exempt: BTreeSet<&str> = EXEMPT.iter().map(|(name, _)| *name).collect();
    let statements = statements();
    for (name, sql) in texts() {
        if exempt.contains(name.as_str()) {
            continue;
        }
        let statement = statements.iter().find(|statement| statement.name == name);
        let cases = &statement.unwrap_or_else(|| panic!("{name} has no cases")).cases;
        let covered: BTreeSet<String> = cases.iter().map(|case| case.term.to_owned()).collect();
        let wanted: BTreeSet<String> = terms(&sql).into_iter().collect();
        assert!(!wanted.is_empty(), "{name} has no guard");
        assert_eq!(wanted, covered, "{name}");
    }
}

/// A statement that is not in the list would escape all of the above.
#[test]
fn each_statement_with_a_guard_is_listed() {
    let listed = texts();
    for (module, source) in [
        ("sessions", include_str!("../../src/sessions.rs")),
        ("users", include_str!("../../src/users.rs")),
        ("devices", include_str!("../../src/devices.rs")),
        ("uia", include_str!("../../src/uia.rs")),
        ("registration_tokens", include_str!("../../src/registration_tokens.rs")),
        ("login_tokens", include_str!("../../src/login_tokens.rs")),
        ("openid_tokens", include_str!("../../src/openid_tokens.rs")),
        ("expired", include_str!("../../src/expired.rs")),
        ("changes", include_str!("../../src/changes.rs")),
        ("outbox", include_str!("../../src/outbox.rs")),
        ("audit", include_str!("../../src/audit.rs")),
        ("live", include_str!("../../src/live.rs")),
    ] {
        for statement in source.split("const ").skip(1) {
            let Some((name, text)) = statement.split_once(": &str =") else { continue };
            let text = text.split_once("\";").map_or(text, |(text, _)| text);
            let writes = ["UPDATE ", "DELETE ", "INSERT "]
                .iter()
                .any(|verb| text.trim().starts_with(&format!("\"{verb}")));
            if writes && text.contains("WHERE ") && !text.contains("FROM feed WHERE") {
                assert!(listed.contains_key(&format!("{module}::{name}")), "{module}::{name} is not listed");
            }
        }
    }
}

#[test]
fn terms_are_found_at_every_depth() {
    let sql = "UPDATE t SET a = CASE WHEN b AND c THEN 1 END WHERE a = 1 AND b >= (SELECT e FROM u WHERE u.i = t.i \
               AND (s = 0 OR (s = 1 AND x = 1))) AND (n IS NULL OR n > 2) RETURNING a";
    assert_eq!(
        terms(sql),
        [
            "a = 1",
            "b >= (SELECT e FROM u WHERE u.i = t.i AND (s = 0 OR (s = 1 AND x = 1)))",
            "u.i = t.i",
            "(s = 0 OR (s = 1 AND x = 1))",
            "s = 1",
            "x = 1",
            "(n IS NULL OR n > 2)",
        ]
    );
}
