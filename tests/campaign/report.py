# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the lines of results.jsonl amount to: OUT/report.html, one page that needs nothing else, with a
plot of the stalls; and the same in a few lines of text.
"""
import collections
import html
import math

from plan import LOUD, SERVER_RETURNS

EPSILON = 0.02  # a request that began this soon after a fault was under way when it was noticed


def stalls(outages, acks):
    """
    Of each outage: how long after its end the requests that waited for it were done. "new": begun
    in the outage; "in flight": under way when it began. Only where the loss is noticed at once can
    the two be told apart; the others are "any". An outage that ran into the next one says nothing.
    """
    found = []
    requests = sorted(acks.requests(), key=lambda r: r[1])
    for i, outage in enumerate(outages):
        began, ended = outage["began"], outage["ended"]
        horizon = outages[i + 1]["began"] if i + 1 < len(outages) else math.inf
        for start, end in requests:
            if not (start < ended <= end < horizon) or end - start < EPSILON:
                continue
            if i and start < outages[i - 1]["ended"]:
                continue  # it has waited for the outage before, too
            if outage["kind"] in LOUD:
                if began <= start < began + EPSILON:
                    continue  # either
                kind = "new" if start > began else "in flight"
            else:
                kind = "any"
            found.append([outage["kind"], kind, round(end - ended, 4)])
    return found


def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def seconds(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def figures(values):
    if not values:
        return ["0", "", "", ""]
    return [str(len(values)), seconds(percentile(values, 0.5)), seconds(percentile(values, 0.99)),
            seconds(max(values))]


def collect(results):
    """{lane: {(fault kind, class): [seconds]}}, with the kind "server returns" for its three."""
    by_lane = {}
    for result in results:
        kinds = by_lane.setdefault(result["lane"], collections.defaultdict(list))
        for kind, which, value in result["stalls"]:
            kinds[kind, which].append(value)
            if kind in SERVER_RETURNS:
                kinds["server returns", which].append(value)
    return by_lane


def table(head, rows):
    cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    text = f"<table><tr>{cells}</tr>"
    for row in rows:
        text += "<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>"
    return text + "</table>"


# ---- the plot ------------------------------------------------------------------------------------

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 46
DECADES = (-3, 2)  # 1 ms to 100 s
COLOURS = {"new": "#1b6ca8", "in flight": "#c0392b", "any": "#7f8c8d"}


def x_of(value):
    at = (math.log10(max(value, 10 ** DECADES[0])) - DECADES[0]) / (DECADES[1] - DECADES[0])
    return LEFT + min(1.0, at) * (WIDTH - LEFT - RIGHT)


def y_of(fraction):
    return TOP + (1 - fraction) * (HEIGHT - TOP - BOTTOM)


def curve(values, colour):
    """Which fraction of the requests was done after how long."""
    ordered = sorted(values)
    points = [f"{x_of(10 ** DECADES[0]):.1f},{y_of(0):.1f}"]
    step = max(1, len(ordered) // 400)
    for i in range(0, len(ordered), step):
        points.append(f"{x_of(ordered[i]):.1f},{y_of((i + 1) / len(ordered)):.1f}")
    points.append(f"{x_of(ordered[-1]):.1f},{y_of(1):.1f}")
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(points)}"/>'


def plot(groups):
    """groups: {label: (values, colour)}; cumulative curves over a logarithmic time."""
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    for decade in range(DECADES[0], DECADES[1] + 1):
        for digit in range(1, 10):
            value = digit * 10.0 ** decade
            if value > 10 ** DECADES[1]:
                break
            x = x_of(value)
            shade = "#bbbbbb" if digit == 1 else "#eeeeee"
            out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
                       f'stroke="{shade}"/>')
            if digit == 1:
                label = f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"
                out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" '
                           f'text-anchor="middle">{label}</text>')
    for percent in (0, 25, 50, 75, 99, 100):
        y = y_of(percent / 100)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                   'stroke="#dddddd"/>')
        if percent != 99:
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
               'from the end of the outage to the completion of the request</text>')
    for i, (label, (values, colour)) in enumerate(groups.items()):
        if not values:
            continue
        out.append(curve(values, colour))
        y = TOP + 18 + 18 * i
        out.append(f'<line x1="{LEFT + 10}" x2="{LEFT + 34}" y1="{y}" y2="{y}" '
                   f'stroke="{colour}" stroke-width="2"/>'
                   f'<text x="{LEFT + 40}" y="{y + 4}">{html.escape(label)} ({len(values)})</text>')
    out.append("</svg>")
    return "\n".join(out)


# ---- the page ------------------------------------------------------------------------------------

STYLE = """body{font:14px/1.4 sans-serif;max-width:820px;margin:1.5em auto;padding:0 1em}
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:1.4em}
table{border-collapse:collapse;margin:.6em 0}
td,th{border:1px solid #ccc;padding:2px 8px;text-align:right}
td:first-child,th:first-child{text-align:left}
pre{background:#f4f4f4;padding:.6em;white-space:pre-wrap}
.bad{color:#c0392b}.good{color:#1e8449}"""


def lane_part(lane, results, kinds):
    failed = [r for r in results if r["problems"]]
    faults = collections.Counter(f["kind"] for r in results for f in r["faults"])
    off = sum(r["ending"] == "off" for r in results)
    hours = sum(r["seconds"] for r in results) / 3600
    text = f"<h2>Lane {lane}</h2><p class='{'bad' if failed else 'good'}'>"
    text += (f"{len(results)} trials ({len(results) - off} ended by unmounting, {off} by switching "
             f"off), {sum(faults.values())} faults, {hours:.1f} hours of machines; "
             f"{sum(r.get('records', 0) for r in results)} acknowledged records, "
             f"{sum(r.get('transactions', 0) for r in results)} acknowledged rpm transactions; "
             f"<b>{len(failed)} trials failed</b>.</p>")
    for r in failed:
        text += (f"<pre>{html.escape(lane)} seed {r['seed']} trial {r['trial']}: "
                 + html.escape("\n".join(r["problems"])[:1500]) + "</pre>")
    rows = []
    for kind in ("server returns", *sorted(faults)):
        for which in ("new", "in flight", "any"):
            if kinds[kind, which]:
                count = sum(faults[k] for k in SERVER_RETURNS) if kind == "server returns" \
                    else faults[kind]
                rows.append([kind, count, which, *figures(kinds[kind, which])])
        if not any(kinds[kind, w] for w in ("new", "in flight", "any")) and kind in faults:
            rows.append([kind, faults[kind], "", "0", "", "", ""])
    text += plot({f"{which}, after the server's return": (kinds["server returns", which],
                                                         COLOURS[which])
                  for which in ("new", "in flight")}
                 | {"any, after the end of a fault of the network or a freeze": (
                     [v for (kind, which), values in kinds.items() if which == "any"
                      for v in values], COLOURS["any"])})
    return text + table(["fault", "how often", "requests", "measured", "median", "99 %", "worst"],
                        rows)


def write(out, results, command):
    """Writes OUT/report.html; returns the few lines for the terminal."""
    by_lane = collect(results)
    failed = [r for r in results if r["problems"]]
    body = [f"<h1>Campaign: {len(results)} trials, {len(failed)} failed</h1>",
            f"<p>Command: <code>{html.escape(command)}</code></p>",
            "<p>Checked after each trial: no I/O error in the guest's log; every acknowledged "
            "record present and the newest of its place, also while the trial ran; e2fsck -fn "
            "clean (after a machine was switched off: of a copy whose journal was replayed first); "
            "the rpm database whole, with every acknowledged transaction. A stall is measured from "
            "the end of the outage (the server's port is open again, or the network is back) to the "
            "completion of a request that had waited.</p>"]
    lines = []
    for lane, kinds in sorted(by_lane.items()):
        ours = [r for r in results if r["lane"] == lane]
        body.append(lane_part(lane, ours, kinds))
        bad = [r for r in ours if r["problems"]]
        lines.append(f"{lane}: {len(ours)} trials, {sum(len(r['faults']) for r in ours)} faults, "
                     f"{sum(r.get('records', 0) for r in ours)} records, "
                     f"{sum(r.get('transactions', 0) for r in ours)} rpm transactions; "
                     f"{len(bad)} failed")
        for which in ("new", "in flight"):
            values = kinds["server returns", which]
            if values:
                lines.append(f"  {which} after the server's return: {len(values)}, median "
                             f"{seconds(percentile(values, 0.5))}, 99 % "
                             f"{seconds(percentile(values, 0.99))}, worst {seconds(max(values))}")
        lines += [f"  FAILED trial {r['trial']} of seed {r['seed']}: {r['problems'][0][:200]}"
                  for r in bad]
    page = (f"<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>nbdroot campaign</title>"
            f"<style>{STYLE}</style>" + "\n".join(body) + "</html>\n")
    (out / "report.html").write_text(page)
    lines.append(f"report: {out / 'report.html'}")
    return "\n".join(lines)
