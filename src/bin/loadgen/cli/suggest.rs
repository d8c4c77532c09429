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

/// Returns the number of characters to insert, delete, replace or swap with their neighbour.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // distances[i][j] is that of the first i characters of `a` and the first j of `b`.
    let mut distances = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            distances[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = distances[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let is_swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swapped = if is_swapped { distances[i - 2][j - 2] + 1 } else { usize::MAX };
                let shifted = distances[i - 1][j].min(distances[i][j - 1]) + 1;
                replaced.min(shifted).min(swapped)
            };
        }
    }
    distances[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("abc", "", 3),
            ("spwan", "spawn", 1),
        ] {
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
