//! The valid name nearest to one that was mistyped.

/// The candidate that needs the fewest edits to become `name`. A candidate with the same last part
/// (`listen` for `http.listen`) counts as one edit away: the section was forgotten or mistaken.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = last_part(name);
    candidates.min_by_key(|candidate| {
        let edits = edits(name, candidate);
        if last_part(candidate) == last { edits.min(1) } else { edits }
    })
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Insertions, deletions, replacements that turn `a` into `b` (Levenshtein), row by row.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, count) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)] {
            assert_eq!(edits(a, b), count);
            assert_eq!(edits(b, a), count);
        }
    }

    #[test]
    fn prefers_the_same_last_part() {
        let names = ["server_name", "http.listen", "log.level", "http.public_url"];
        let find = |name| nearest(name, names.into_iter());
        assert_eq!(find("listen"), Some("http.listen"));
        assert_eq!(find("htpp.listne"), Some("http.listen"));
        assert_eq!(find("http.publicurl"), Some("http.public_url"));
        assert_eq!(find("sever_name"), Some("server_name"));
    }
}
