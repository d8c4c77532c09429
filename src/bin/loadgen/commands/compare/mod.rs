//! `compare`: what changed between two results, or two groups of results, of the same command.

mod figures;
mod load;

use std::path::PathBuf;

use self::figures::{Change, Comparison};
use self::load::{Side, load};
use super::{CommandResult, Error};
use crate::args;
use crate::output::document::Verdict;
use crate::output::print;

/// Separates two groups of files.
const SEPARATOR: &str = "vs";

pub(super) fn run(flags: &args::Compare) -> CommandResult {
    let (before, after) = groups(&flags.files)?;
    let (before, after) = (load(before)?, load(after)?);
    before.must_be_comparable_to(&after).map_err(Error::Usage)?;
    let comparison = Comparison::new(&before, &after, &flags.figure, flags.tolerance / 100.0);
    if comparison.is_empty() {
        Err(match flags.figure.is_empty() {
            true => "the results have no figure in common".to_owned(),
            false => format!("no figure contains `{}` in its name", flags.figure.join("` or `")),
        })?;
    }
    print(&format!("{}{}", head(&before, &after), comparison.table()));
    let failures = failures(&before, &after);
    print(&failures);
    let worse = comparison.count(Change::Worse);
    print(&summary(&comparison, flags.tolerance));
    Ok(if worse > 0 || after.failed() > before.failed() {
        Verdict::Failed
    } else {
        Verdict::Passed
    })
}

/// Splits the files at the separator; two files need none.
fn groups(files: &[PathBuf]) -> Result<(&[PathBuf], &[PathBuf]), String> {
    let separator = files.iter().position(|file| file.as_os_str() == SEPARATOR);
    let split = match (separator, files) {
        (Some(at), _) => (&files[..at], &files[at + 1..]),
        (None, [before, after]) => (std::slice::from_ref(before), std::slice::from_ref(after)),
        (None, _) => {
            return Err(format!(
                "{} given: name two files, or two groups of files with `vs` between them",
                match files.len() {
                    1 => "one file".to_owned(),
                    count => format!("{count} files"),
                }
            ));
        }
    };
    match split {
        ([], _) | (_, []) => Err("name a file on both sides of `vs`".to_owned()),
        split => Ok(split),
    }
}

/// Describes both sides, and the settings that differ.
fn head(before: &Side, after: &Side) -> String {
    let mut text =
        format!("{}\nA  {}\nB  {}\n", before.kind(), before.describe(), after.describe());
    let differences = before.differences(after);
    if !differences.is_empty() {
        text.push_str("not the same in both:\n");
        differences.iter().for_each(|difference| text.push_str(&format!("  {difference}\n")));
    }
    text.push('\n');
    text
}

/// Describes the results that are not passed runs.
fn failures(before: &Side, after: &Side) -> String {
    let mut text = String::new();
    for (name, side) in [("A", before), ("B", after)] {
        for (file, document) in side.not_passed() {
            let (verdict, reason) = (document.verdict.name(), &document.reason);
            text.push_str(&format!("{name}: {file}: {verdict}: {reason}\n"));
        }
    }
    text
}

fn summary(comparison: &Comparison, tolerance: f64) -> String {
    let [worse, better, same] =
        [Change::Worse, Change::Better, Change::Same].map(|change| comparison.count(change));
    format!("{worse} worse and {better} better by more than {tolerance} %, {same} within that\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &str) -> Vec<PathBuf> {
        names.split_whitespace().map(PathBuf::from).collect()
    }

    #[test]
    fn two_files_need_no_separator() {
        let files = paths("a b");
        assert_eq!(groups(&files).unwrap(), (&files[..1], &files[1..]));
        let files = paths("a b vs c");
        assert_eq!(groups(&files).unwrap(), (&files[..2], &files[3..]));
        for wrong in ["", "a", "a b c", "vs a", "a vs"] {
            assert!(groups(&paths(wrong)).unwrap_err().contains("vs"), "{wrong}");
        }
    }
}
