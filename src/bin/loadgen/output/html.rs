//! The self-contained HTML page of `--report`.

use std::fmt::Write as _;

use serde_json::Value;

use super::chart::Chart;
use super::document::{Document, Verdict};
use super::table::Table;

/// Renders a result as a page: the verdict, tables, charts, the origin of the result, and its JSON.
pub(crate) fn page(document: &Document, tables: &[Table], charts: &[Chart]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{verdict}: loadgen {kind}</title>\n<style>{STYLE}</style>\n<main>\n\
         <h1>loadgen {kind}</h1>\n",
        verdict = heading(document.verdict),
        kind = escaped(&document.kind),
    );
    add_verdict(document, &mut page);
    let _ = writeln!(page, "<p class=\"about\">{}</p>", prose(&document.description));
    tables.iter().filter(|table| !table.is_empty()).for_each(|table| page.push_str(&table.draw()));
    charts.iter().filter(|chart| !chart.is_empty()).for_each(|chart| page.push_str(&chart.draw()));
    add_origin(document, &mut page);
    if let Ok(json) = document.to_json() {
        let _ = writeln!(
            page,
            "<details><summary>All figures, as JSON</summary><pre>{}</pre></details>",
            escaped(&json)
        );
    }
    page.push_str("</main>\n");
    page
}

fn heading(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "Passed",
        Verdict::Failed => "Failed",
        Verdict::Inconclusive => "Inconclusive",
        Verdict::Interrupted => "Interrupted",
    }
}

/// Faults shown after the first one; the others are folded.
const MAX_SHOWN_FAULTS: usize = 4;

fn add_verdict(document: &Document, page: &mut String) {
    let _ = writeln!(
        page,
        "<section class=\"verdict {}\"><strong>{}</strong><p>{}</p>",
        document.verdict.name(),
        heading(document.verdict),
        prose(&document.reason)
    );
    // The reason may explain a fault further.
    let others = document.faults.iter().filter(|&fault| !document.reason.starts_with(fault));
    let others: Vec<String> = others.map(|fault| format!("<li>{}", prose(fault))).collect();
    let (shown, folded) = others.split_at(others.len().min(MAX_SHOWN_FAULTS));
    if !shown.is_empty() {
        let _ = writeln!(page, "<ul>{}</ul>", shown.join("\n"));
    }
    if !folded.is_empty() {
        let _ = writeln!(
            page,
            "<details><summary>{} more</summary><ul>{}</ul></details>",
            folded.len(),
            folded.join("\n")
        );
    }
    page.push_str("</section>\n");
}

/// Appends what is needed to repeat the run.
fn add_origin(document: &Document, page: &mut String) {
    let machine = &document.machine;
    let mut rows = vec![
        ("Date", document.date.replace('T', " ").replace('Z', " UTC")),
        ("Version", version(document)),
        ("Command", command_line(&document.command)),
        ("Server", server(&document.settings)),
        ("Machine", machine.describe()),
    ];
    rows.extend(settings(&document.settings).map(|text| ("Settings", text)));
    page.push_str("<h2>This run</h2>\n<dl>\n");
    for (name, text) in rows {
        let _ = writeln!(page, "<dt>{name}<dd>{}", prose(&text));
    }
    page.push_str("</dl>\n");
}

fn version(document: &Document) -> String {
    match &document.commit {
        Some(commit) => format!("{}, commit {commit}", document.version),
        None => format!("{}, commit unknown", document.version),
    }
}

/// Returns the arguments as a line for a shell.
pub(crate) fn command_line(arguments: &[String]) -> String {
    let quoted: Vec<String> = arguments.iter().map(|argument| shell_quoted(argument)).collect();
    quoted.join(" ")
}

fn shell_quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

/// Describes the server of the settings.
fn server(settings: &Value) -> String {
    let server = &settings["server"];
    if let Some(arguments) = server["command"].as_array() {
        let arguments: Vec<String> =
            arguments.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        return format!("{} (started for this run)", command_line(&arguments));
    }
    let address = |key: &str| server[key].as_str();
    match (address("address"), address("events"), address("clients")) {
        (Some(address), _, _) => format!("running at {address}"),
        (None, Some(events), Some(clients)) => {
            format!("running: events on {events}, clients on {clients}")
        }
        _ => "unknown".to_owned(),
    }
}

/// Returns the scalars among the settings as `name value`.
fn settings(settings: &Value) -> Option<String> {
    let scalar = |(name, value): (&String, &Value)| match value {
        Value::Object(_) | Value::Array(_) | Value::Null => None,
        Value::String(text) => Some(format!("{name} {text}")),
        // Without the `.0` of a whole number.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map(|number| format!("{name} {number}"))
        }
        value => Some(format!("{name} {value}")),
    };
    let texts: Vec<String> = settings.as_object()?.iter().filter_map(scalar).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// Escapes a text with flags in it, which are not broken at their hyphens.
fn prose(text: &str) -> String {
    let word = |word: &str| match word.starts_with('-') || word.starts_with("(-") {
        true => format!("<span class=\"flag\">{}</span>", escaped(word)),
        false => escaped(word),
    };
    with_code(&text.split(' ').map(word).collect::<Vec<_>>().join(" "))
}

/// Marks what is in backticks as code, if they come in pairs.
fn with_code(html: &str) -> String {
    let parts: Vec<&str> = html.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return html.to_owned();
    }
    let mark = |(index, part): (usize, &&str)| match index % 2 {
        0 => (*part).to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    parts.iter().enumerate().map(mark).collect()
}

/// Escapes text for HTML and SVG, in elements and attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Control characters are not allowed in HTML, not even as references.
            '\n' | '\t' => safe.push(c),
            c if c.is_control() => safe.push(char::REPLACEMENT_CHARACTER),
            c => safe.push(c),
        }
    }
    safe
}

const STYLE: &str = "
:root { --ink: #1c2127; --soft: #57606a; --paper: #fff; --panel: #f5f7f9; --rule: #dde2e6;
  --good: #14713a; --bad: #b42318; --open: #8a5a00; --stopped: #57606a;
  --c0: #0b62c4; --c1: #c2410c; --c2: #157f3c; --c3: #8b2fc9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa4ae; --paper: #14181c; --panel: #1d2329; --rule: #323a42;
    --good: #56d08a; --bad: #ff8a80; --open: #e8b44a; --stopped: #9aa4ae;
    --c0: #6cb0ff; --c1: #ff9a62; --c2: #5ed58a; --c3: #cf9bff; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0; }
main { max-width: 784px; margin: 0 auto; padding: 1rem 1rem 3rem; }
h1 { font-size: 1.35rem; margin: .6rem 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.verdict { border-left: 6px solid; background: var(--panel); border-radius: 4px; padding: .6rem 1rem;
  overflow-wrap: anywhere; }
.verdict strong { font-size: 1.15rem; } .verdict p { color: var(--ink); margin: 0; }
.verdict ul { color: var(--ink); margin: .4rem 0 0; padding-left: 1.2rem; }
.passed { color: var(--good); border-color: var(--good); }
.failed { color: var(--bad); border-color: var(--bad); }
.inconclusive { color: var(--open); border-color: var(--open); }
.interrupted { color: var(--stopped); border-color: var(--stopped); }
code { font-size: .92em; } .about { color: var(--soft); overflow-wrap: anywhere; }
.table { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; font-size: 15px; }
th, td { border-top: 1px solid var(--rule); padding: .25rem .5rem; font-weight: normal; vertical-align: top; }
thead th { color: var(--soft); border-top: 0; text-align: right; }
thead th:first-child, tbody th { text-align: left; padding-left: 0; }
td { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: 1.6rem 0; } figcaption { font-weight: 600; }
.unit { font-weight: normal; color: var(--soft); }
.legend { margin: .1rem 0 .3rem; color: var(--soft); font-size: 13px; }
.legend span { margin-right: 1rem; white-space: nowrap; display: inline-block; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: .4em; }
svg { width: 100%; height: auto; display: block; } svg.narrow { display: none; }
@media (max-width: 640px) { svg.wide { display: none; } svg.narrow { display: block; }
  th, td { padding: .25rem .2rem; } table { font-size: 13px; } }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .axis { fill: var(--ink); } .grid { stroke: var(--rule); stroke-width: 1; }
.bound { stroke: var(--bad); stroke-width: 1.2; stroke-dasharray: 5 4; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); }
.line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
circle.c0, rect.c0 { fill: var(--c0); } circle.c1, rect.c1 { fill: var(--c1); }
circle.c2, rect.c2 { fill: var(--c2); } circle.c3, rect.c3 { fill: var(--c3); }
i.bound-key { height: 0; vertical-align: middle; border-top: 2px dashed var(--bad); border-radius: 0; width: 16px; }
i.c0 { background: var(--c0); } i.c1 { background: var(--c1); }
i.c2 { background: var(--c2); } i.c3 { background: var(--c3); }
.flag { display: inline-block; max-width: 100%; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 1.5rem; } .verdict details { margin-top: .4rem; } summary { cursor: pointer; color: var(--soft); }
pre { background: var(--panel); padding: .8rem; border-radius: 4px; overflow-x: auto; font-size: 12px; }
";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::chart::{Axis, BarChart, BarGroup, LineChart, Series, rates};
    use super::super::document::{Findings, Plan};
    use super::*;

    const HOSTILE: &str = "<script>alert(\"1\")</script> & ' \u{1b}[31m";

    fn document(findings: &Findings) -> Document {
        let settings = json!({ "mix": HOSTILE, "server": { "command": ["eventserver", HOSTILE] } });
        let plan = Plan { kind: "verify", description: HOSTILE.to_owned(), settings };
        let mut document = Document::new(&plan, findings);
        document.command = vec!["loadgen".to_owned(), HOSTILE.to_owned()];
        document.commit = Some(HOSTILE.to_owned());
        document
    }

    #[test]
    fn a_page_holds_its_figures_and_nothing_from_elsewhere() {
        let grown: Vec<(f64, f64)> =
            (0..500).map(|n| (f64::from(n) / 100.0, f64::from(n) * 1000.0)).collect();
        let line = |points| vec![Series { name: "b", points }];
        let over_time =
            |points| Chart::lines("a", LineChart::over_time(Axis::linear("b"), "b", line(points)));
        let group = BarGroup { name: "c".to_owned(), values: vec![1.0, f64::NAN] };
        let bars = BarChart {
            unit: "c",
            names: vec!["c"],
            groups: vec![group],
            format: |n| n.to_string(),
        };
        let charts = [
            over_time(rates(&grown)),
            over_time(vec![(1.0, f64::INFINITY), (f64::NAN, 1.0), (2.0, 1.0)]),
            over_time(vec![]),
            Chart::bars("c", bars),
        ];
        let document = document(&Findings::new(Verdict::Passed, "All is well."));
        let page = page(&document, &[], &charts);
        // Two sizes of each chart that is not empty.
        assert_eq!(page.matches("<svg").count(), 6);
        assert!(!page.contains("http") && !page.contains("src="));
        assert!(!page.contains("NaN") && !page.contains("inf\""));
    }

    #[test]
    fn nothing_of_a_page_is_taken_for_markup() {
        let findings = Findings::failed(vec![HOSTILE.to_owned(), format!("2 {HOSTILE}")]);
        let mut table = Table::new(HOSTILE, &[HOSTILE, HOSTILE]);
        table.add_pair(HOSTILE, HOSTILE.to_owned());
        let group = BarGroup { name: HOSTILE.to_owned(), values: vec![1.0] };
        let bars = BarChart {
            unit: "c",
            names: vec!["c"],
            groups: vec![group],
            format: |n| n.to_string(),
        };
        let page = page(&document(&findings), &[table], &[Chart::bars(HOSTILE, bars)]);
        assert!(!page.contains("<script") && !page.contains('\u{1b}'));
        assert!(page.matches("&lt;script&gt;").count() >= 10);
    }

    #[test]
    fn the_verdict_and_its_reason_come_first() {
        let findings = Findings::failed(vec!["user 7 got nothing".to_owned()]);
        let page = page(&document(&findings), &[], &[]);
        let (head, body) = page.split_once("<h1>").unwrap();
        assert!(head.contains("<title>Failed: loadgen verify"));
        let verdict = body.find("<strong>Failed</strong><p>user 7 got nothing").unwrap();
        assert!(verdict < 100, "{body}");
    }

    #[test]
    fn many_faults_are_folded_and_the_first_is_not_repeated() {
        let faults = (1..=9).map(|user| format!("user {user} got `1|B` late")).collect();
        let mut findings = Findings::failed(faults);
        findings.reason.push_str("; restart it");
        let page = page(&document(&findings), &[], &[]);
        let (verdict, _) = page.split_once("</section>").unwrap();
        assert!(verdict.contains("<p>user 1 got <code>1|B</code> late; restart it</p>"));
        assert_eq!(verdict.matches("user 1 ").count(), 1);
        let (shown, folded) = verdict.split_once("<summary>4 more</summary>").unwrap();
        assert_eq!((shown.matches("<li>").count(), folded.matches("<li>").count()), (4, 4));
        assert_eq!(with_code("a `b"), "a `b");
    }

    #[test]
    fn a_server_is_described_by_its_command_or_its_addresses() {
        for (settings, text) in [
            (
                json!({ "command": ["eventserver", "--busy-poll"] }),
                "eventserver --busy-poll (started",
            ),
            (
                json!({ "events": "a:1", "clients": "a:2" }),
                "running: events on a:1, clients on a:2",
            ),
            (json!({ "address": "a:1" }), "running at a:1"),
        ] {
            assert!(server(&json!({ "server": settings })).starts_with(text), "{text}");
        }
    }

    #[test]
    fn a_command_line_can_be_pasted() {
        let arguments = ["loadgen", "verify", "it's", "", "3:1"].map(str::to_owned);
        assert_eq!(command_line(&arguments), "loadgen verify 'it'\\''s' '' 3:1");
    }
}
