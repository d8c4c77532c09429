#!/usr/bin/env python3
"""Makes the tables of perf/results, the README's figures and its pictures from the JSON of
perf/results, which perf/all.sh measures.

    perf/tables.py               writes perf/results/*.md, README.md and .github/*.svg
    perf/tables.py --check       tells whether they agree with the JSON; status 1 if not
    perf/tables.py --validate    tells whether the JSON is complete and of one commit, no more

    --results DIRECTORY --readme FILE --pictures DIRECTORY    other places

In README.md, the lines between `<!-- figures:begin NAME -->` and `<!-- figures:end -->` are made
here. Needs Python 3, nothing else. The output depends on the JSON alone.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import median_low

import draw

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = 1

LATENCIES = [
    ("private-1000", "messages to one client, 1,000/s"),
    ("private-20000", "messages to one client, 20,000/s"),
    ("broadcast-1000", "broadcasts to 100, 1,000/s"),
    ("broadcast-5000", "broadcasts to 100, 5,000/s"),
    ("busy-poll-1000", "1,000/s, server with `--busy-poll`"),
    ("busy-poll-20000", "20,000/s, server with `--busy-poll`"),
    ("both-busy-1000", "1,000/s, both busy-poll"),
    ("both-busy-20000", "20,000/s, both busy-poll"),
]
SYSTEMS = [("eventserver", "eventserver"), ("nats", "NATS"), ("redis", "Redis")]
LOADS = [("private", "one-to-one"), ("broadcast", "1-to-100")]
FAIRNESS = ["fairness-100", "fairness-1000", "fairness-10000"]
IDLE = ["idle-10000", "idle-19000"]
REPLAYS = ["replay-verification-20k"]
MEASUREMENTS = (
    ["pinned", "pinned-1000", "soak", "reordering-ordered", "reordering-shuffled"]
    + [f"latency-{name}" for name, _ in LATENCIES]
    + [f"compare-{system}-{load}" for system, _ in SYSTEMS for load, _ in LOADS]
    + FAIRNESS + IDLE + REPLAYS
)


class Unusable(Exception):
    """The results cannot be used; the message says why."""


def path_in(value, path):
    """The number at `a.b.c`, or None."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


class Results:
    """The JSON files of a directory. Each holds a result, or an array of results."""

    def __init__(self, directory):
        self.directory = directory
        self.documents = {}
        for name in MEASUREMENTS:
            file = directory / f"{name}.json"
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise Unusable(f"{file} is missing: run perf/all.sh") from None
            except ValueError as error:
                raise Unusable(f"{file}: {error}") from None
            documents = content if isinstance(content, list) else [content]
            for document in documents:
                if not isinstance(document, dict) or document.get("schema") != SCHEMA:
                    raise Unusable(f"{file} is not of schema {SCHEMA}: run perf/all.sh")
                if document["figures"] is None:
                    raise Unusable(f"{file} has no figures: {document['reason']}")
            self.documents[name] = documents
        self.environment = json.loads((directory / "environment.json").read_text(encoding="utf-8"))

    def first(self, name):
        return self.documents[name][0]

    def runs(self, name):
        """The figures of every run."""
        return [run for document in self.documents[name]
                for run in document["runs"] or [document["figures"]]]

    def values(self, name, path):
        values = [path_in(run, path) for run in self.runs(name)]
        return [value for value in values if value is not None]

    def median(self, name, path):
        values = self.values(name, path)
        if not values:
            raise Unusable(f"{self.directory / name}.json: no figure {path}")
        return median_low(values)

    def largest(self, name, path):
        return max(self.values(name, path))

    def validate(self):
        """All are of one clean commit, and passed."""
        commits = {document["commit"] for all_of in self.documents.values() for document in all_of}
        if len(commits) != 1:
            raise Unusable(f"the results are of several commits: {', '.join(sorted(map(str, commits)))}")
        commit = commits.pop()
        if commit is None or commit.endswith("-dirty"):
            raise Unusable(f"the results are of the commit {commit}: measure a clean commit")
        for name, documents in self.documents.items():
            for document in documents:
                if not document["ok"]:
                    raise Unusable(f"{name}: {document['verdict']}: {document['reason']}")


# ---- numbers ----------------------------------------------------------------------------------

def si(number):
    """7.51 M."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number / 1e3:.1f} k" if number >= 1e4 else f"{number:.0f}"


def digits(number):
    """Three significant digits."""
    return f"{number:.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def micros(us):
    """12.5 µs, 1.48 ms."""
    if us >= 999_500:
        return f"{digits(us / 1e6)} s"
    return f"{digits(us / 1e3)} ms" if us >= 999.5 else f"{digits(us)} µs"


def size(count):
    """5.20 MB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{digits(count / unit)} {name}"
    return f"{count:.0f} B"


def times(ratio):
    """6.8, 23."""
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}"


def amount(millions):
    return f"{millions:.0f}" if millions >= 99.5 else f"{millions:.1f}"


def number_of(runs):
    return "one run" if runs == 1 else f"{runs} runs"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines).replace(
        "| --- ", "|---").replace("|--- |", "|---|").replace("--- |---", "---|---")


# ---- pages of perf/results --------------------------------------------------------------------

def command_of(document):
    """The command line, without where its result went."""
    words, flag = [], ""
    for word in document["command"]:
        if flag in ("--port", "--server-pid"):
            # Another one in each run.
            words.append(flag[2:].rpartition("-")[2].upper())
        elif flag not in ("--json", "--report") and word not in ("--json", "--report"):
            words.append(word if re.fullmatch(r"[\w@%+=:,./-]+", word) else f"'{word}'")
        flag = word
    return " ".join(words)


def page(results, title, intro, names, *parts, note=None):
    """A page that begins with how, where and when it was measured."""
    first = results.first(names[0])
    machine = first["machine"]
    commands = "\n".join(f"    {command_of(results.first(name))}" for name in names)
    where = (f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
             f"{results.environment['compiler']}, commit {first['commit']}, {first['date'][:10]}.")
    return "\n\n".join(filter(None, [f"# {title}", intro, commands, where, note, *parts])) + "\n"


def pinned_rows(results, name):
    settings = results.first(name)["settings"]
    value = lambda mix, path: results.median(name, f"{mix}.{path}")
    return [[
        mix, f"{settings['clients']} of {settings['users']}",
        si(value(mix, "server.eventsPerSecond")), si(value(mix, "server.deliveriesPerSecond")),
        si(value(mix, "baseline.eventsPerSecond")), f"{value(mix, 'throughputRatio'):.2f}",
        f"{value(mix, 'cpuTimeRatio'):.2f}",
    ] for mix in settings["mixes"]]


PINNED_HEAD = ["mix", "connected of users", "events/s", "deliveries/s", "baseline, events/s", "ratio",
               "of CPU time"]


def pinned_page(results):
    rows = pinned_rows(results, "pinned") + pinned_rows(results, "pinned-1000")
    runs = results.first("pinned")["settings"]["runs"]
    return page(
        results, "Throughput",
        "Every mix, in turn with a server that parses nothing and writes the same bytes "
        f"(`loadgen limit`): medians of {number_of(runs)}, and of the ratios of consecutive runs. "
        "`perf/pinned.sh`", ["pinned", "pinned-1000"], table(PINNED_HEAD, rows))


def compare_page(results):
    rows = []
    for load, title in LOADS:
        own = results.median(f"compare-eventserver-{load}", "deliveriesPerSecond")
        for system, name in SYSTEMS[1:]:
            other = results.median(f"compare-{system}-{load}", "deliveriesPerSecond")
            rows.append([title, si(own), name, si(other), f"{own / other:.1f}"])
    environment = results.environment
    names = [f"compare-{system}-{load}" for load, _ in LOADS for system, _ in SYSTEMS]
    return page(
        results, "Fan-out beside Redis and NATS",
        "The same messages to the same 100 clients, each server on the same core in turn. eventserver "
        "gets its events shuffled and orders them; the others get them in order. `perf/compare.sh`",
        names, table(["load", "eventserver, deliveries/s", "other", "its deliveries/s", "ratio"], rows),
        note=f"Redis {environment['redis']}, NATS {environment['nats']}; medians of "
             f"{number_of(len(results.runs(names[0])))}.")


def latency_page(results):
    columns = [("p50", "50 %"), ("p90", "90 %"), ("p99", "99 %"), ("p99_9", "99.9 %"),
               ("p99_99", "99.99 %"), ("max", "max")]
    parts = []
    for name, title in LATENCIES:
        full = f"latency-{name}"
        sides = [("server", "server.correctedUs", micros), ("server, from sending", "server.rawUs", micros),
                 ("relay", "relay.correctedUs", micros), ("ratio", "ratio", lambda ratio: f"{ratio:.2f}")]
        rows = [[side] + [write(results.median(full, f"{path}.{key}")) for key, _ in columns]
                for side, path, write in sides]
        parts.append(f"{title[0].upper()}{title[1:]}:\n\n"
                     + table([""] + [label for _, label in columns], rows))
    first = results.first("latency-private-1000")["settings"]
    return page(
        results, "Latency",
        "From when an event was due to its arrival, at a fixed rate, in turn with the smallest possible "
        f"relay: medians of {number_of(first['runs'])} of {first['durationSeconds']:g} s. `perf/latency.sh`",
        [f"latency-{name}" for name, _ in LATENCIES], *parts)


WAITS = [
    ("firstEventFromConnecting", "first event, from connecting"),
    ("timeoutLateBy", "identify timeout, late by"),
    ("signal", "totals after SIGUSR1"),
    ("turn", "between two writes to a client"),
    ("ownPollInterval", "the load generator, between two polls"),
]


def fairness_page(results):
    parts = []
    for name in FAIRNESS:
        rows = []
        for key, title in WAITS:
            if results.values(name, f"{key}.count"):
                wait = [micros(results.median(name, f"{key}.waitUs.{at}")) for at in ("p50", "p99")]
                rows.append([title, *wait, micros(results.largest(name, f"{key}.waitUs.max"))])
        busy = results.median(name, "serverBusyPercent")
        rate = si(results.median(name, "eventsPerSecond"))
        parts.append(
            f"{results.first(name)['settings']['clients']:,} clients, {rate} events/s, server busy "
            f"{busy:.1f} % of the time:\n\n" + table(["wait", "50 %", "99 %", "max of all runs"], rows))
    return page(
        results, "Fairness",
        "Waiting times of clients, timeouts and signals while a source floods the server: medians of "
        f"{number_of(len(results.runs(FAIRNESS[0])))}.", FAIRNESS, *parts,
        "With 10,000 clients a turn makes ten thousand writes. A client that connects during a turn is "
        "accepted after it, and gets its first event before all others in the next turn. A client that "
        "sends no ID may wait one turn to be accepted and another to be closed.")


def idle_page(results):
    lines = [
        ("connected per second", "connectsPerSecond", si),
        ("memory without clients", "memoryBeforeBytes", size),
        ("memory with all clients", "memoryAfterBytes", size),
        ("memory per client", "memoryBytesPerClient", size),
        ("CPU at rest", "idleCpuPercent", lambda percent: f"{percent:.2f} % of a core"),
        ("broadcast at the first client", "broadcastFirstUs", micros),
        ("at the median client", "broadcastMedianUs", micros),
        ("at the last client", "broadcastLastUs", micros),
    ]
    parts = []
    for name in IDLE:
        rows = [[title] + [write(results.median(name, f"{side}.{key}")) for side in ("server", "relay")]
                for title, key, write in lines]
        parts.append(f"{results.first(name)['settings']['clients']:,} clients:\n\n"
                     + table(["", "server", "relay"], rows))
    return page(results, "Idle clients",
                "Memory and CPU time of clients that receive nothing, then the time of one broadcast to all.",
                IDLE, *parts)


def reordering_page(results):
    rows = []
    for name, title in (("reordering-ordered", "1 (in order)"), ("reordering-shuffled", "1,000,000")):
        rates = results.values(name, "eventsPerSecond")
        rows.append([title, si(median_low(rates)), ", ".join(map(si, sorted(rates)))])
    ratio = slowdown(results)
    return page(results, "Reordering",
                "Throughput of a stream in order, and of one fully shuffled over a window of a million, in turn.",
                ["reordering-ordered", "reordering-shuffled"],
                table(["batch", "events/s, median", "all runs"], rows),
                f"By the medians, the shuffled stream takes {ratio:.1f} times as long.")


def slowdown(results):
    ordered, shuffled = (results.median(f"reordering-{name}", "eventsPerSecond")
                         for name in ("ordered", "shuffled"))
    return ordered / shuffled


def replay_page(results):
    rows = []
    for name in REPLAYS:
        settings = results.first(name)["settings"]
        rows.append([Path(settings["file"]).name, f"{settings['capture']['lines']:,}", settings["users"],
                     si(results.median(name, "eventsPerSecond")),
                     si(results.median(name, "deliveriesPerSecond"))])
    return page(results, "Replay",
                "Throughput over captured streams, each sent at full speed to a fresh server: medians of "
                f"{number_of(len(results.runs(REPLAYS[0])))}. `perf/replay.sh`", REPLAYS,
                table(["stream", "lines", "clients", "events/s", "deliveries/s"], rows))


def soak_page(results):
    document = results.first("soak")
    rows = [[
        f"{row['seconds']:.0f}", row["events"], row["visits"], known(row["memoryBytes"], size),
        known(row["descriptors"], str), known(row["clients"], str), known(row["p50Us"], micros),
        known(row["p99Us"], micros), known(row["maxUs"], micros),
        known(row["serverBusyPercent"], lambda busy: f"{busy:.1f} %"),
    ] for row in document["series"]]
    head = ["seconds", "events", "visits", "memory", "descriptors", "clients", "50 %", "99 %", "max", "CPU"]
    return page(results, "Soak",
                "A mixed load with clients and sources that come and go: the server's state at the end of "
                "each interval, and latency in it. One churn client in some dozens reads so slowly that the "
                "server pauses for it, which is what the long maxima are. `perf/soak.sh`", ["soak"],
                f"Verdict: {document['verdict']}. {document['reason']}", table(head, rows))


def known(value, write):
    return "-" if value is None else write(value)


PAGES = {
    "pinned.md": pinned_page,
    "compare.md": compare_page,
    "latency.md": latency_page,
    "fairness.md": fairness_page,
    "idle.md": idle_page,
    "reordering.md": reordering_page,
    "replay.md": replay_page,
    "soak.md": soak_page,
}


# ---- README.md --------------------------------------------------------------------------------

def range_text(results):
    """8 to 40 million events per second, over the mixes with 100 clients."""
    rates = [results.median("pinned", f"{mix}.server.eventsPerSecond") / 1e6
             for mix in results.first("pinned")["settings"]["mixes"]]
    return f"{min(rates):.0f} to {max(rates):.0f} million events per second"


def readme_intro(results):
    p50 = results.median("latency-private-20000", "server.correctedUs.p50")
    return (f"On one core of a small virtual machine it takes {range_text(results)}, depending on the mix, and\n"
            f"delivers within {micros(p50)} (median) at 20,000 messages per second ([how fast](#how-fast)).")


def deliveries(results, system, load):
    return results.median(f"compare-{system}-{load}", "deliveriesPerSecond") / 1e6


def readme_fanout(results):
    parts = []
    for load, title in (("private", "To one of 100 clients"), ("broadcast", "To all 100")):
        own, nats, redis = (amount(deliveries(results, system, load)) for system, _ in SYSTEMS)
        parts.append(f"{title}: eventserver {own} million, Redis {redis}, NATS {nats}.")
    return picture("fanout", f"Deliveries per second. {' '.join(parts)}")


def picture(name, description):
    return (f'<picture>\n  <source media="(prefers-color-scheme: dark)" srcset=".github/{name}-dark.svg">\n'
            f'  <img alt="{description}" src=".github/{name}-light.svg">\n</picture>')


def readme_throughput(results):
    runs = results.first("pinned")["settings"]["runs"]
    rows = [row[:6] for name in ("pinned", "pinned-1000") for row in pinned_rows(results, name)]
    return f"{table(PINNED_HEAD[:6], rows)}\n\nMedians of {number_of(runs)}."


def readme_others(results):
    factor = {(system, load): deliveries(results, "eventserver", load) / deliveries(results, system, load)
              for system in ("nats", "redis") for load in ("private", "broadcast")}
    return (f"**Fan-out** (`perf/compare.sh`), the second picture above: {times(factor['nats', 'private'])} and "
            f"{times(factor['redis', 'private'])} times the deliveries of NATS and Redis for\n"
            f"messages to one client, {times(factor['nats', 'broadcast'])} and "
            f"{times(factor['redis', 'broadcast'])} times for messages to 100. The others receive the events in order.")


def readme_latency(results):
    busy = "latency-both-busy-20000"
    p50, p99 = (results.median(busy, f"server.correctedUs.{at}") for at in ("p50", "p99"))
    ratio = results.median(busy, "ratio.p50")
    per_run = [value for side in ("server", "relay")
               for value in results.values("latency-private-1000", f"{side}.correctedUs.p99")]
    more = f"{abs(ratio - 1) * 100:.0f} % {'more' if ratio >= 1 else 'less'} than"
    return (picture("latency", "Latency percentiles of eventserver and a relay at two rates, for private "
                               "messages and broadcasts") + "\n\n"
            f"With `--busy-poll` the median at 20,000 messages per second is {micros(p50)} and p99 {micros(p99)}; "
            f"the median is {more}\nthat of a relay that spins too. At 1,000 per second this machine sometimes "
            f"wakes a sleeping process late: p99 of server and\nrelay varied between {micros(min(per_run))} and "
            f"{micros(max(per_run))} from run to run.")


def readme_more(results):
    first, timeout = "firstEventFromConnecting.waitUs", "timeoutLateBy.waitUs"
    few, many = "fairness-100", "fairness-10000"
    idle = results.first("idle-10000")["settings"]["clients"]
    each = results.median("idle-10000", "server.memoryBytesPerClient")
    cpu = results.median("idle-10000", "server.idleCpuPercent")
    soak = results.first("soak")
    memory = [row["memoryBytes"] for row in soak["series"] if row["memoryBytes"]]
    rate = soak["settings"]["rate"] + soak["settings"]["burst"]
    minutes = soak["settings"]["durationSeconds"] / 60
    idle_cpu = "no CPU time" if cpu < 0.005 else f"{cpu:.2f} % of a core"
    return "\n".join([
        f"**Fairness** (`loadgen fairness`): under a flood (even mix, {results.first(few)['settings']['clients']} "
        "clients, the server's core fully busy) a new client",
        f"has its first event after {micros(results.median(few, f'{first}.p50'))} (median), "
        f"{micros(results.largest(few, f'{first}.max'))} at most; a timeout is at most "
        f"{micros(results.largest(few, f'{timeout}.max'))} late. With",
        f"{results.first(many)['settings']['clients']:,} clients the median is "
        f"{micros(results.median(many, f'{first}.p50'))} and the maximum "
        f"{micros(results.largest(many, f'{first}.max'))}.",
        "",
        f"**Memory** (`loadgen idle`, `perf/soak.sh`): {idle:,} idle clients take {each:.0f} bytes each and "
        f"{idle_cpu}. In {minutes:g} minutes of",
        f"{rate:,.0f} events per second with {soak['figures']['visits']:,} client visits the server took between "
        f"{size(min(memory))} and {size(max(memory))}.",
        "",
        f"**Reordering**: a stream fully shuffled over a window of a million takes {slowdown(results):.1f} times "
        "as long as an ordered one.",
    ])


BLOCKS = {
    "intro": readme_intro,
    "fanout": readme_fanout,
    "throughput": readme_throughput,
    "compared": readme_others,
    "latency": readme_latency,
    "more": readme_more,
}
BLOCK = re.compile(r"(<!-- figures:begin (\w+) -->\n).*?(\n<!-- figures:end -->)", re.DOTALL)


def readme(text, results):
    """The README with its figures made anew."""
    found = [match.group(2) for match in BLOCK.finditer(text)]
    if sorted(found) != sorted(BLOCKS):
        raise Unusable(f"README.md has the figures {', '.join(found) or 'none'}; expected {', '.join(BLOCKS)}")
    return BLOCK.sub(lambda match: match.group(1) + BLOCKS[match.group(2)](results) + match.group(3), text)


# ---- several servers, measured by a script of its own -------------------------------------------

def cluster_page(document):
    """The page of perf/cluster.sh."""
    figures, settings = document["figures"], document["settings"]
    modes = [("none", "no stream"), ("memory", "in memory"), ("everysec", "`appendfsync everysec`"),
             ("always", "`appendfsync always`")]
    base = figures["noneEventsPerSecond"]
    rows = [[title, si(figures[f"{mode}EventsPerSecond"]), f"{figures[f'{mode}EventsPerSecond'] / base:.2f}"]
            for mode, title in modes]
    command = " ".join(f"--{name} {value}" for name, value in settings.items())
    return "\n\n".join([
        "# Several servers",
        f"One server over Redis {document['redis']}, which shares a core with the load: medians of "
        f"{number_of(settings['runs'])}. `perf/cluster.sh`",
        f"    perf/cluster.sh {command} --name cluster",
        f"{document['cpu']}, {document['kernel']}, {document['compiler']}, commit {document['commit']}, "
        f"{document['date']}.",
        f"Throughput, even mix, {si(settings['events'])} events:",
        table(["Redis", "events/s", "beside no stream"], rows),
        f"Latency at 1,000 events/s, from when each was due: p50 {micros(figures['p50Us'])}, "
        f"p99 {micros(figures['p99Us'])}; p50 without a stream {micros(figures['withoutStreamP50Us'])}. An `XADD` of "
        f"{figures['entryBytes']} bytes, as large as an entry, takes {micros(figures['xaddP50Us'])}: p50 is "
        f"{figures['p50Us'] / figures['xaddP50Us']:.2f} round trips.",
        f"Catching up, {si(settings['behind'])} events behind: a server that starts reads "
        f"{si(figures['startedEventsPerSecond'])} events/s, one that was suspended "
        f"{si(figures['resumedEventsPerSecond'])} events/s.",
    ]) + "\n"


# ---- the program ------------------------------------------------------------------------------

def outputs(results, arguments):
    """{path: text} of all files that are made."""
    files = {arguments.results / name: make(results) for name, make in PAGES.items()}
    files[arguments.readme] = readme(arguments.readme.read_text(encoding="utf-8"), results)
    for name, drawing in draw.pictures(results).items():
        files[arguments.pictures / name] = drawing
    # Not a part of perf/all.sh.
    cluster = arguments.results / "cluster.json"
    if cluster.exists():
        document = json.loads(cluster.read_text(encoding="utf-8"))
        files[arguments.results / "cluster.md"] = cluster_page(document)
    return files


def differing(files):
    def is_same(path, text):
        return path.exists() and path.read_text(encoding="utf-8") == text
    return [path for path, text in files.items() if not is_same(path, text)]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Makes tables, README figures and pictures from perf/results/*.json.")
    parser.add_argument("--check", action="store_true", help="only tell whether they agree; status 1 if not")
    parser.add_argument("--validate", action="store_true",
                        help="only tell whether the JSON is complete, passed, and of one clean commit")
    parser.add_argument("--results", type=Path, default=ROOT / "perf" / "results", metavar="DIRECTORY")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", metavar="FILE")
    parser.add_argument("--pictures", type=Path, default=ROOT / ".github", metavar="DIRECTORY")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        if arguments.check and not (arguments.results / "environment.json").exists():
            print("perf/results holds no measurement of perf/all.sh: nothing to check")
            return 0
        results = Results(arguments.results)
        if arguments.validate:
            results.validate()
            return 0
        changed = differing(outputs(results, arguments))
        if arguments.check:
            for path in changed:
                print(f"{path} does not agree with perf/results/*.json: run perf/tables.py", file=sys.stderr)
            return 1 if changed else 0
        files = outputs(results, arguments)
        for path in changed:
            path.write_text(files[path], encoding="utf-8")
            print(path)
    except Unusable as error:
        print(f"tables.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
