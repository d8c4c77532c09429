//! `replay`: a captured stream against a server, every byte checked.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use log::info;
use serde_json::json;

use super::{CommandResult, Error, conclude, server_settings, server_with};
use crate::output::document::{Findings, Plan, Verdict};
use crate::output::{OutputFiles, heading, interruption, print};
use crate::run::{Outcome, RunOptions, run_load};
use crate::workload::capture::{self, CaptureSummary, Gaps, Pace, ServerRules, open, unusable};
use crate::workload::prng::Prng;
use crate::{args, ranges};

/// Seed of the random choice of users.
const SEED: u64 = 666;

pub(super) fn run(flags: &args::Replay) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let pace = match (flags.rate, flags.speed) {
        (None, None) => Pace::FullSpeed,
        (Some(rate), None) => Pace::Rate(rate),
        (None, Some(speed)) => Pace::Recorded(speed),
        (Some(_), Some(_)) => return Err("--rate and --speed exclude each other".to_owned())?,
    };
    if flags.first_sequence.is_some() && flags.target().has_server_flag("--first-sequence") {
        let message = "--first-sequence has no effect with --server-arg --first-sequence: both set the \
                       server's first sequence";
        return Err(Error::Usage(message.to_owned()));
    }
    let rules = replay_rules(flags);
    info!("reading {}", flags.file.display());
    let summary = capture::scan(&flags.file, rules).map_err(usage_error)?;
    let users = choose_users(&flags.users, &summary, SEED).map_err(usage_error)?;
    let description = format!(
        "replay: {} lines of {}: {summary}; {} users connected",
        summary.lines,
        flags.file.display(),
        users.len()
    );
    let own = [("--first-sequence", summary.first_sequence)];
    let plan = Plan {
        kind: "replay",
        description,
        settings: json!({
            "file": flags.file, "capture": summary, "users": users.len(), "rate": flags.rate,
            "speed": flags.speed, "checked": !flags.no_verify,
            "cpu": flags.cpu, "serverCpu": flags.server_cpu,
            "server": server_settings(flags.target(), &own),
        }),
    };
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        let mut server = server_with(flags.target(), &own, flags.server_cpu)?;
        let options = RunOptions {
            sample: flags.report.is_some(),
            check: !flags.no_verify,
            ..RunOptions::new(summary.lines, common)
        };
        let mut workload =
            capture::CapturedWorkload::open(&flags.file, &summary, rules, &users, pace)?;
        let outcome = run_load(&mut workload, &users, &mut server, options)?;
        if outcome.is_interrupted {
            drop(server);
        } else {
            server.stop()?;
        }
        Ok(judge(flags, rules, &summary, &outcome))
    };
    conclude(&plan, files, measure())
}

/// Prints the result of a run, and returns its findings.
fn judge(
    flags: &args::Replay,
    rules: ServerRules,
    summary: &CaptureSummary,
    outcome: &Outcome,
) -> Findings {
    // Without a waiting client, missing deliveries would go unnoticed.
    let nobody_received = rules.gaps == Gaps::Waits && !flags.no_verify;
    let unsent = summary.unsent().filter(|_| nobody_received || !outcome.mismatches.is_empty());
    let unsent = unsent.filter(|_| !outcome.is_interrupted);
    let verdict = match &unsent {
        _ if flags.no_verify => format!("{}NOT CHECKED\n{}", interruption(), outcome.summary),
        Some(unsent) if outcome.mismatches.is_empty() => {
            format!("NOT AS EXPECTED\n  {unsent}\n{}", outcome.summary)
        }
        Some(unsent) => format!("{}  {unsent}\n", outcome.text()),
        None => outcome.text(),
    };
    print(&format!("{verdict}{}", heading(&format!("  capture     {summary}"))));
    let mut findings = outcome.findings();
    if let Some(unsent) = unsent {
        findings.verdict = Verdict::Failed;
        findings.faults.push(unsent);
        findings.reason = findings.faults[0].clone();
    } else if flags.no_verify && findings.verdict == Verdict::Passed {
        findings.reason =
            "The stream was sent; what clients received was counted, not checked.".to_owned();
    }
    findings
}

/// Derives the server's rules from the flags.
fn replay_rules(flags: &args::Replay) -> ServerRules {
    let target = flags.target();
    let waits = target.spawn && target.server_number("--gap-timeout-ms").unwrap_or(0) == 0;
    ServerRules {
        first_sequence: flags.first_sequence.or(target.server_number("--first-sequence")),
        gaps: if waits { Gaps::Waits } else { Gaps::GivesUp },
    }
}

/// Maps an unusable file to a usage error.
fn usage_error(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::InvalidInput => Error::Usage(error.to_string()),
        _ => Error::Run(error),
    }
}

/// The user that connects if a capture names none: any user receives its broadcasts.
const ANY_USER: u64 = 1;

/// Returns the users to connect: `all` that the capture names, a number of them at random, or those
/// listed in a file, at the beginning of each line.
///
/// # Errors
///
/// The file cannot be read, a line does not begin with an id, or there is no user.
fn choose_users(choice: &str, summary: &CaptureSummary, seed: u64) -> io::Result<Vec<u64>> {
    let mut named: Vec<u64> = summary.users.iter().copied().collect();
    if named.is_empty() {
        named.push(ANY_USER);
    }
    if choice == "all" {
        return Ok(named);
    }
    if choice.bytes().all(|byte| byte.is_ascii_digit()) {
        let count = ranges::clients(choice).map_err(|why| unusable(format!("--users: {why}")))?;
        Prng::from_seed(seed).shuffle(&mut named);
        named.truncate(count);
        return Ok(named);
    }
    let mut text = String::new();
    open(Path::new(choice)).and_then(|mut file| file.read_to_string(&mut text)).map_err(
        |error| unusable(format!("--users is neither `all` nor a number nor a file: {error}")),
    )?;
    let read = |(line, number): (&str, u64)| {
        let id = line.split_whitespace().next()?;
        let wrong = |_| {
            unusable(format!(
                "--users {choice}: line {number} begins with `{id}`, not with a user ID"
            ))
        };
        Some(id.parse::<u64>().map_err(wrong))
    };
    let mut users: Vec<u64> = text.lines().zip(1..).filter_map(read).collect::<io::Result<_>>()?;
    // A second connection would take over the first.
    let mut seen = HashSet::new();
    users.retain(|&user| seen.insert(user));
    if users.is_empty() {
        return Err(unusable(format!("--users {choice}: the file names no user")));
    }
    Ok(users)
}
