//! The name that was probably meant.

/// Flags that mean the same in different commands, because `verify` keeps the names of the original
/// verification program.
const SAME: [(&str, &str); 6] = [
    ("--clients", "--concurrency-level"),
    ("--events", "--total-events"),
    ("--users", "--number-of-users"),
    ("--seed", "--random-seed"),
    ("--seconds", "--duration"),
    ("--html", "--report"),
];

/// Returns "; did you mean X?" with the best of `names`, or nothing if none is near.
pub(super) fn did_you_mean<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let same = SAME.iter().find_map(|&(a, b)| match given {
        _ if given == a => Some(b),
        _ if given == b => Some(a),
        _ => None,
    });
    let same = same.filter(|same| names.contains(same));
    match same.or_else(|| nearest(given, &names)) {
        Some(name) => format!("; did you mean {name}?"),
        None => String::new(),
    }
}

/// Returns the name with the fewest edits, at most one per three characters, or the one that
/// `given` begins.
fn nearest<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    let word = given.trim_start_matches('-');
    let edits = |name: &str| edit_distance(word, name.trim_start_matches('-'));
    let best = names.iter().copied().min_by_key(|name| edits(name));
    let begun = |name: &&&str| word.len() > 2 && name.trim_start_matches('-').starts_with(word);
    best.filter(|name| edits(name) <= word.chars().count() / 3)
        .or_else(|| names.iter().find(begun).copied())
}

/// Returns the number of characters to insert, delete or replace (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in
            [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("abc", "", 3)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        let names = ["verify", "latency", "replay"];
        let suggest = |given| nearest(given, &names);
        assert_eq!(suggest("vrify"), Some("verify"));
        assert_eq!(suggest("lat"), Some("latency"));
        assert_eq!(suggest("frobnicate"), None);
        assert_eq!(suggest("x"), None);
    }
}
