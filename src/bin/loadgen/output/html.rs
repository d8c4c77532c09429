//! The self-contained HTML page of `--report`.

use std::fmt::Write as _;

use serde_json::Value;

use super::chart::Chart;

/// Renders `result`, the JSON of `--json`, and charts as a page.
pub(crate) fn page(title: &str, result: &Value, charts: &[Chart]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n<h1>{0}</h1>\n",
        escaped(title)
    );
    if let Some(right) = result.get("ok").and_then(Value::as_bool) {
        let (class, words) = if right {
            ("right", "Every byte received by every client matched.")
        } else {
            ("wrong", "Some checks failed.")
        };
        let _ = writeln!(page, "<p class=\"{class}\">{words}</p>");
    }
    let drawn =
        charts.iter().filter(|chart| chart.series.iter().any(|series| series.points.len() > 1));
    drawn.for_each(|chart| page.push_str(&chart.draw()));
    for (name, value) in result.as_object().into_iter().flatten() {
        let mut rows = String::new();
        add_rows("", value, &mut rows);
        // Scalars are part of the title.
        if !rows.is_empty() && (value.is_object() || value.is_array()) {
            let _ = writeln!(page, "<h2>{}</h2>\n<table>{rows}</table>", escaped(name));
        }
    }
    page
}

/// Appends a row per scalar in `value`.
fn add_rows(name: &str, value: &Value, rows: &mut String) {
    let inner =
        |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name} › {key}") };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| add_rows(&inner(key), value, rows));
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                add_rows(&inner(&(index + 1).to_string()), value, rows);
            }
        }
        scalar => {
            let text = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
            let _ = writeln!(rows, "<tr><th>{}<td>{}", escaped(name), escaped(&text));
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "
:root { --ink: #1c2127; --soft: #5c6670; --paper: #fff; --rule: #dde2e6;
  --c0: #0b62c4; --c1: #c2410c; --c2: #157f3c; --c3: #8b2fc9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #98a2ac; --paper: #14181c; --rule: #2d343b;
    --c0: #6cb0ff; --c1: #ff9a62; --c2: #5ed58a; --c3: #cf9bff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 800px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; }
svg .axis { fill: var(--ink); } .grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); }
.line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
span.c0 { color: var(--c0); } span.c1 { color: var(--c1); }
span.c2 { color: var(--c2); } span.c3 { color: var(--c3); }
.legend { margin: 0; color: var(--soft); } .right { color: var(--c2); } .wrong { color: var(--c1); }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; font-weight: normal; border-top: 1px solid var(--rule);
  padding: .2rem .5rem; vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--soft); width: 45%; } td { font-variant-numeric: tabular-nums; }
";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::chart::{Series, downsample, rates};
    use super::*;

    #[test]
    fn a_page_holds_its_figures_and_nothing_from_elsewhere() {
        let grown: Vec<(f64, f64)> =
            (0..500).map(|n| (f64::from(n) / 100.0, f64::from(n) * 1000.0)).collect();
        let chart =
            |points| Chart::over_time("a", "seconds", "b", vec![Series { name: "b", points }]);
        let charts = [chart(rates(&grown)), chart(downsample(&grown))];
        let result = json!({ "ok": true, "settings": { "mix": "<even>", "seed": 666 } });
        let page = page("a run", &result, &charts);
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("<th>mix<td>&lt;even&gt;"));
        assert!(!page.contains("http") && !page.contains("<script"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }
}
