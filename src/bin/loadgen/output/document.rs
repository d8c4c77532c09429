//! The result of a command, and the JSON document that `--json` writes. `SCHEMA.md`, in this
//! directory, is its definition.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chart::Chart;
use super::provenance;
use super::table::Table;
use crate::sys::procfs::{Machine, host_info};

/// Version of the document. It changes when a key is renamed, removed, or changes its meaning.
pub(crate) const SCHEMA: u64 = 1;

/// The judgement of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Every check passed.
    Passed,
    /// A check failed, or the run could not be completed.
    Failed,
    /// The run ended, but its figures do not answer the question.
    Inconclusive,
    /// A signal ended the run early.
    Interrupted,
}

impl Verdict {
    /// Returns the name as a word of a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Interrupted => "interrupted",
        }
    }
}

/// A measurement, as known before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Name of what is measured: the command, or a mode of it that has figures of its own.
    pub(crate) kind: &'static str,
    /// The measurement in one line.
    pub(crate) description: String,
    pub(crate) settings: Value,
}

/// What a measurement found.
pub(crate) struct Findings {
    pub(crate) verdict: Verdict,
    /// The reason for the verdict, as a sentence.
    pub(crate) reason: String,
    /// Failed checks, the first one first.
    pub(crate) faults: Vec<String>,
    /// Figures of each run, with the same structure in each: objects of numbers.
    pub(crate) runs: Vec<Value>,
    /// Rows over time or over rates.
    pub(crate) series: Vec<Value>,
    /// For `--report`.
    pub(crate) tables: Vec<Table>,
    pub(crate) charts: Vec<Chart>,
}

impl Findings {
    /// Findings without figures.
    pub(crate) fn new(verdict: Verdict, reason: impl Into<String>) -> Findings {
        Findings {
            verdict,
            reason: reason.into(),
            faults: Vec::new(),
            runs: Vec::new(),
            series: Vec::new(),
            tables: Vec::new(),
            charts: Vec::new(),
        }
    }

    /// Findings of a run that failed with `faults`; the first one is the reason.
    pub(crate) fn failed(faults: Vec<String>) -> Findings {
        let reason = faults.first().cloned().unwrap_or_default();
        Findings { faults, ..Findings::new(Verdict::Failed, reason) }
    }
}

/// The document of one result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) schema: u64,
    pub(crate) kind: String,
    /// The program's arguments, with its name first.
    pub(crate) command: Vec<String>,
    pub(crate) description: String,
    /// End of the run, in UTC, by RFC 3339.
    pub(crate) date: String,
    pub(crate) version: String,
    /// Of the source; `None` outside a repository.
    pub(crate) commit: Option<String>,
    pub(crate) machine: Machine,
    pub(crate) settings: Value,
    pub(crate) ok: bool,
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    pub(crate) faults: Vec<String>,
    /// Medians over the runs; `None` if nothing was measured.
    pub(crate) figures: Option<Value>,
    /// The figures of each run, if there are several.
    pub(crate) runs: Vec<Value>,
    pub(crate) series: Vec<Value>,
}

impl Document {
    /// Creates the document of a run that ends now.
    pub(crate) fn new(plan: &Plan, findings: &Findings) -> Document {
        Document {
            schema: SCHEMA,
            kind: plan.kind.to_owned(),
            command: provenance::command(),
            description: plan.description.clone(),
            date: provenance::now(),
            version: provenance::VERSION.to_owned(),
            commit: provenance::commit(),
            machine: host_info(),
            settings: plan.settings.clone(),
            ok: findings.verdict == Verdict::Passed,
            verdict: findings.verdict,
            reason: findings.reason.clone(),
            faults: findings.faults.clone(),
            figures: medians(&findings.runs),
            runs: if findings.runs.len() > 1 { findings.runs.clone() } else { Vec::new() },
            series: findings.series.clone(),
        }
    }

    /// Formats the document as text that ends with a newline.
    ///
    /// # Errors
    ///
    /// A figure cannot be represented.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }
}

/// Returns the median of each number over `runs`, in the structure of the runs; of two middle ones,
/// the lower. A number that some runs lack is the median of the others.
fn medians(runs: &[Value]) -> Option<Value> {
    let objects: Vec<&Map<String, Value>> = runs.iter().filter_map(Value::as_object).collect();
    if !objects.is_empty() {
        let mut keys: Vec<&String> = Vec::new();
        for key in objects.iter().flat_map(|object| object.keys()) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let median_of = |key: &String| {
            let values: Vec<Value> =
                objects.iter().filter_map(|run| run.get(key)).cloned().collect();
            Some((key.clone(), medians(&values)?))
        };
        return Some(Value::Object(keys.into_iter().filter_map(median_of).collect()));
    }
    let mut numbers: Vec<&Value> = runs.iter().filter(|value| value.is_number()).collect();
    numbers.sort_by(|a, b| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)));
    numbers.get(numbers.len().saturating_sub(1) / 2).copied().cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_medians_of_the_runs() {
        let run = |a: u64, b: f64| json!({ "server": { "events": a, "ratio": b } });
        let runs = [run(1, 0.5), run(9, 0.1), run(2, 0.2)];
        assert_eq!(medians(&runs), Some(run(2, 0.2)));
        assert_eq!(medians(&runs[..1]), Some(runs[0].clone()));
        // Of two, the lower.
        assert_eq!(medians(&runs[..2]), Some(run(1, 0.1)));
        assert_eq!(medians(&[]), None);
    }

    #[test]
    fn a_figure_that_a_run_lacks_is_the_median_of_the_others() {
        let runs = [json!({ "a": 1, "b": null }), json!({ "a": 3 }), json!({ "a": 2, "c": 7 })];
        assert_eq!(medians(&runs), Some(json!({ "a": 2, "c": 7 })));
    }
}
