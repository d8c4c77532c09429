//! Results read from files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Deserializer, Value};

use crate::output::document::{Document, SCHEMA, Verdict};

/// The results of one side of a comparison, at least one, all of the same kind.
#[derive(Debug)]
pub(super) struct Side {
    results: Vec<(String, Document)>,
}

/// Reads all results in `files`. A file holds one result, several one after another, or an array.
///
/// # Errors
///
/// A file cannot be read, is not a result, or the results are of different kinds; the error names
/// the file.
pub(super) fn load(files: &[PathBuf]) -> Result<Side, String> {
    let mut results = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let documents = read(file).map_err(|why| format!("{name}: {why}"))?;
        results.extend(documents.into_iter().map(|document| (name.clone(), document)));
    }
    let side = Side { results };
    let kind = side.kind();
    match side.results.iter().find(|(_, document)| document.kind != kind) {
        Some((name, other)) => Err(format!(
            "{name} holds a result of `{}`, {} one of `{kind}`",
            other.kind, side.results[0].0
        )),
        None => Ok(side),
    }
}

fn read(file: &Path) -> Result<Vec<Document>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let mut documents = Vec::new();
    for value in Deserializer::from_str(&text).into_iter::<Value>() {
        let value = value.map_err(|error| format!("this is not JSON: {error}"))?;
        match value {
            Value::Array(values) => {
                for value in values {
                    documents.push(parse(value)?);
                }
            }
            value => documents.push(parse(value)?),
        }
    }
    match documents.is_empty() {
        true => Err("it holds no result".to_owned()),
        false => Ok(documents),
    }
}

fn parse(value: Value) -> Result<Document, String> {
    match value.get("schema") {
        None => {
            Err("this is not a result of `loadgen --json`: the key `schema` is missing".to_owned())
        }
        Some(schema) if *schema != SCHEMA => {
            Err(format!("its schema is {schema}; this program reads schema {SCHEMA}"))
        }
        Some(_) => {
            let document: Result<Document, _> = serde_json::from_value(value);
            document.map_err(|error| format!("this is not a result of `loadgen --json`: {error}"))
        }
    }
}

impl Side {
    /// Returns the kind of the results.
    pub(super) fn kind(&self) -> &str {
        &self.results[0].1.kind
    }

    /// # Errors
    ///
    /// The results of both sides are of different kinds, or one side has no figures.
    pub(super) fn must_be_comparable_to(&self, after: &Side) -> Result<(), String> {
        if self.kind() != after.kind() {
            return Err(format!(
                "A holds results of `{}`, B of `{}`: only results of the same command can be compared",
                self.kind(),
                after.kind()
            ));
        }
        for side in [self, after] {
            if side.results.iter().all(|(_, document)| document.figures.is_none()) {
                let (name, document) = &side.results[0];
                return Err(format!(
                    "{name} has no figures; that run {}: {}",
                    document.verdict.name(),
                    document.reason
                ));
            }
        }
        Ok(())
    }

    /// Describes the results in one line.
    pub(super) fn describe(&self) -> String {
        let (name, first) = &self.results[0];
        let runs: usize = self.results.iter().map(|(_, document)| document.runs.len().max(1)).sum();
        let more = match self.results.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let commit = first.commit.as_deref().unwrap_or("unknown commit");
        let runs = if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") };
        let (day, _) = first.date.split_once('T').unwrap_or((&first.date, ""));
        format!("{}{more}: {runs}, {commit}, {day}", shortened(name))
    }

    /// Returns the results that did not pass, with their files.
    pub(super) fn not_passed(&self) -> impl Iterator<Item = (&str, &Document)> {
        let results = self.results.iter();
        results
            .filter(|(_, document)| document.verdict != Verdict::Passed)
            .map(|(name, document)| (name.as_str(), document))
    }

    /// Returns the number of failed results.
    pub(super) fn failed(&self) -> usize {
        self.not_passed().filter(|(_, document)| document.verdict == Verdict::Failed).count()
    }

    /// Returns the figures of every run.
    pub(super) fn runs(&self) -> Vec<&Value> {
        self.results.iter().flat_map(|(_, document)| runs(document)).collect()
    }

    /// Describes the settings and machines that differ between the first results of both sides.
    pub(super) fn differences(&self, after: &Side) -> Vec<String> {
        let (before, after) = (&self.results[0].1, &after.results[0].1);
        let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
        flatten("", &before.settings, &mut left);
        flatten("", &after.settings, &mut right);
        left.insert("machine".to_owned(), before.machine.describe());
        right.insert("machine".to_owned(), after.machine.describe());
        let unset = "none".to_owned();
        let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        let differing = names.into_iter().filter(|&name| left.get(name) != right.get(name));
        differing
            .map(|name| {
                let [left, right] =
                    [&left, &right].map(|side| shortened(side.get(name).unwrap_or(&unset)));
                format!("{name}: {left} → {right}")
            })
            .collect()
    }
}

/// Returns the figures of each run of a result.
fn runs(document: &Document) -> Vec<&Value> {
    match document.runs.is_empty() {
        true => document.figures.iter().collect(),
        false => document.runs.iter().collect(),
    }
}

/// Collects the scalars in `value` as text, by path.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        Value::Array(values) => {
            let texts: Vec<String> = values.iter().map(plain).collect();
            into.insert(path.to_owned(), texts.join(" "));
        }
        scalar => {
            into.insert(path.to_owned(), plain(scalar));
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Maximum length of a name in a line of 80 columns.
const MAX_NAME: usize = 32;

/// Shortens a long text to its end, which differs more often than its beginning.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    match count > MAX_NAME {
        true => format!("…{}", text.chars().skip(count - MAX_NAME + 1).collect::<String>()),
        false => text.to_owned(),
    }
}
