"""The README's pictures, each for light and for dark pages. perf/tables.py writes them."""

from html import escape

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"
THEMES = {
    "light": {"text": "#1f2328", "muted": "#59636e", "line": "#818b98", "box": "#f6f8fa",
              "own": "#0969da", "other": "#afb8c1"},
    "dark": {"text": "#f0f6fc", "muted": "#9198a1", "line": "#7d8590", "box": "#161b22",
             "own": "#4493f8", "other": "#57606a"},
}


class Picture:
    """An SVG document in the colours of one theme."""

    def __init__(self, width, height, title, theme):
        self.width, self.height, self.title = width, height, title
        self.colours = theme
        self.parts = []

    def text(self, x, y, text, size=13, colour="text", anchor="start", weight="normal"):
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{self.colours[colour]}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>')

    def box(self, x, y, width, height, title, subtitle):
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
            f'fill="{self.colours["box"]}" stroke="{self.colours["line"]}"/>')
        middle = x + width / 2
        self.text(middle, y + 24, title, 13, anchor="middle", weight="600")
        self.text(middle, y + 43, subtitle, 12, "muted", anchor="middle")

    def bar(self, x, y, width, height, colour):
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" '
            f'fill="{self.colours[colour]}"/>')

    def path(self, points):
        """A line through `points` with an arrow head at its end."""
        steps = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(
            f'<path d="M{steps}" fill="none" stroke="{self.colours["line"]}" stroke-width="1.5" '
            f'marker-end="url(#arrow)"/>')

    def rule(self, x, top, bottom):
        self.parts.append(
            f'<path d="M{x:g} {top:g} V{bottom:g}" stroke="{self.colours["line"]}"/>')

    def svg(self):
        arrow = (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 Z" fill="{self.colours["line"]}"/></marker></defs>')
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="{FONT}" role="img">'
            f'<title>{escape(self.title)}</title>')
        return "\n".join([head, arrow, *self.parts, "</svg>", ""])


def draw_data_flow(theme):
    """The way of an event from a source's socket to the clients' sockets."""
    picture = Picture(760, 236, "The data flow of eventserver", theme)
    width, gap, height = 144, 56, 58
    columns = [8 + column * (width + gap) for column in range(4)]
    top, bottom = 30, 142
    upper = [("Event sources", "numbered, any order"), ("Decoder", "bytes to events"),
             ("Reorder buffer", "by sequence"), ("Follower graph", "event to recipients")]
    lower = [("User clients", "one connection each"), ("Send queues", "bounded"),
             ("Fan-out batch", "the lines of one turn")]
    for x, (title, subtitle) in zip(columns, upper):
        picture.box(x, top, width, height, title, subtitle)
    for x, (title, subtitle) in zip(columns, lower):
        picture.box(x, bottom, width, height, title, subtitle)
    for x, label in zip(columns, ["read", "", "in order"]):
        picture.path([(x + width + 3, top + 29), (x + width + gap - 3, top + 29)])
        picture.text(x + width + gap / 2, top + 21, label, 11, "muted", "middle")
    for x, label in zip(columns, ["write", "flush"]):
        picture.path([(x + width + gap - 3, bottom + 29), (x + width + 3, bottom + 29)])
        picture.text(x + width + gap / 2, bottom + 21, label, 11, "muted", "middle")
    turn = columns[3] + width / 2
    picture.path([(turn, top + height + 3), (turn, bottom + 29),
                  (columns[2] + width + 3, bottom + 29)])
    picture.text(turn - 8, (top + height + bottom) / 2 + 4, "recipients and line", 11, "muted", "end")
    picture.text(8, 18, "TCP port 9090", 11, "muted")
    picture.text(8, bottom + height + 18, "TCP port 9099", 11, "muted")
    picture.text(columns[1], bottom + height + 18,
                 "One thread, one poll loop. A full send queue pauses reading from the sources.",
                 11, "muted")
    return picture


def draw_bars(picture, left, top, width, label_width, rows, format_value):
    """Horizontal bars, the longest `width` long; `rows` holds (label, value, colour)."""
    longest = max(value for _, value, _ in rows)
    picture.rule(left + label_width, top - 4, top + 30 * len(rows) - 6)
    for index, (label, value, colour) in enumerate(rows):
        y = top + 30 * index
        picture.text(left + label_width - 8, y + 15, label, 13, anchor="end")
        picture.bar(left + label_width, y, max(2, width * value / longest), 20, colour)
        picture.text(left + label_width + max(2, width * value / longest) + 8, y + 15,
                     format_value(value), 13)


NAMES = {"eventserver": "eventserver", "nats": "NATS", "redis": "Redis"}
LOADS = {"private": "Each message to one of 100 clients", "broadcast": "Each message to all of 100 clients"}


def draw_fanout(theme, results):
    """Deliveries per second of eventserver, Redis and NATS, on one core each."""
    picture = Picture(760, 56 + 132 * len(LOADS), "Deliveries per second beside Redis and NATS", theme)
    picture.text(8, 20, "Million deliveries per second, server on one core (more is better)", 14,
                 weight="600")
    for index, (load, title) in enumerate(LOADS.items()):
        top = 50 + 132 * index
        picture.text(8, top, title, 13, "muted")
        rows = [(name, results.median(f"compare-{server}-{load}", "deliveriesPerSecond") / 1e6,
                 "own" if server == "eventserver" else "other") for server, name in NAMES.items()]
        draw_bars(picture, 8, top + 14, 540, 96, rows, lambda value: f"{value:.1f} M/s")
    picture.text(8, picture.height - 8,
                 "Each scale is its own. eventserver receives its events shuffled and orders them.",
                 11, "muted")
    return picture


LATENCIES = [
    ("private-1000", "Messages to one client, 1,000 per second"),
    ("private-20000", "Messages to one client, 20,000 per second"),
    ("broadcast-1000", "Broadcasts to 100 clients, 1,000 per second"),
    ("broadcast-5000", "Broadcasts to 100 clients, 5,000 per second"),
]


def format_us(value):
    return f"{value:,.0f} µs" if value >= 20 else f"{value:.1f} µs"


def draw_latency(theme, results):
    """Latency percentiles of eventserver and of the relay, from when an event was due."""
    picture = Picture(760, 394, "Latency beside a relay", theme)
    picture.text(8, 20, "Latency from due time to arrival (less is better)", 14, weight="600")
    for index, (name, title) in enumerate(LATENCIES):
        rows = [(f"{server} {percentile}",
                 results.median(f"latency-{name}", f"{key}.correctedUs.{percentile}"), colour)
                for percentile in ("p50", "p99")
                for server, key, colour in (("eventserver", "server", "own"), ("relay", "relay", "other"))]
        left, top = 8 + 384 * (index % 2), 50 + 166 * (index // 2)
        picture.text(left, top, title, 13, "muted")
        draw_bars(picture, left, top + 14, 165, 126, rows, format_us)
    picture.text(8, picture.height - 10,
                 "Each scale is its own. The relay reads a line and writes it; it neither orders nor routes.",
                 11, "muted")
    return picture


def pictures(results):
    """{file name: SVG} of all pictures."""
    drawings = {
        "flow": draw_data_flow,
        "fanout": lambda theme: draw_fanout(theme, results),
        "latency": lambda theme: draw_latency(theme, results),
    }
    return {
        f"{name}-{theme}.svg": draw(colours).svg()
        for name, draw in drawings.items() for theme, colours in THEMES.items()
    }
