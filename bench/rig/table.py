"""What was measured, as a table for people, and whether the aims are met."""

import statistics

import rows

MIB = 1024 * 1024
IDLE_AIM_MIB, LOADED_AIM_MIB = 12, 30
# Of the proxy's core, used by somebody else while it was measured.
CONTENDED = 0.10

# Tollgate's CPU as a multiple of the other's, at the most (issues 2 and 3).
RATIO_AIMS = {
    ("pass", "nginx"): 1.3,
    ("hit1k", "nginx GET hit"): 1.15,
    ("hit1k", "nginx POST hit"): 0.75,
    ("hit16k", "nginx GET hit"): 1.3,
    ("sse", "nginx"): 1.35,
}


def paired(own, other, figure="cpu_us", join=lambda mine, theirs: mine / theirs):
    """Round by round: the machine drifts more between rounds than within one."""
    pairs = zip(own["repetitions"], other["repetitions"])
    return [join(mine[figure], theirs[figure]) for mine, theirs in pairs if theirs[figure]]


def table(results):
    lines = ["", "row      proxy              CPU µs    least   calls/s  p50 µs  p99 µs   ratio  of rounds    aim"]
    found = {(row["row"], row["name"]): row for row in results["rows"]}
    for row in results["rows"]:
        lines.append(line(row, found.get((row["row"], "tollgate"))))
    lines.append("ratio: Tollgate's CPU divided by that of the line in the same round; the middle one and the\n"
                 "  extremes. sse: per event, not per call. miss, store: nginx stores in files. nginx's access log\n"
                 "  stands for the ledger; varnish and haproxy write none. unclear: others used more than\n"
                 f"  {CONTENDED:.0%} of the proxy's core, which no ratio survives; repeat it when it is quiet")
    lines += other_aims(found)
    lines += [f"left out: {what}" for what in results["left_out"]]
    if "memory" in results:
        lines += memory_lines(results["memory"])
    average = " ".join(f"{load:.1f}" for load in results["load_average"])
    lines.append(f"medians of {results['rounds']} x {results['seconds']} s; load average {average}")
    lines += ["", *(f"{name:9}{rows.ROWS[name]}" for name in rows.ROWS if any(name == row for row, _ in found))]
    return "\n".join(lines)


def line(row, own):
    def whole(value):
        return "-" if value is None else f"{value:.0f}"
    text = (f"{row['row']:9}{row['name']:16}{row['cpu_us']:9.2f}{row['cpu_us_least']:9.2f}"
            f"{row['per_s']:10.0f}{whole(row['p50_us']):>8}{whole(row['p99_us']):>8}")
    ratios = paired(own, row) if own and own is not row else []
    if not ratios:
        return text
    aim = RATIO_AIMS.get((row["row"], row["name"]))
    ratio = statistics.median(ratios)
    told = "" if aim is None else f"  <= {aim:<5}{verdict(ratio, aim, own, row)}"
    return f"{text}{ratio:8.2f}  {min(ratios):4.2f}-{max(ratios):4.2f}{told}"


def verdict(value, aim, *of):
    if max(one["others_share"] for one in of) > CONTENDED:
        return "unclear"
    return "met" if value <= aim else "MISSED"


def other_aims(found):
    """The aims that are no ratio of CPU; each where its rows were measured."""
    def difference(mine, theirs):
        return mine - theirs
    half = ("half", "tollgate"), ("half", "nginx GET hit")
    first = ("first", "tollgate"), ("first", "direct")
    store = ("store10k", "tollgate"), ("pass10k", "tollgate")
    redis = ("redis10k", "tollgate"), ("pass10k", "tollgate")
    wanted = [
        ("p99 at half load, over nginx's GET hit", half, "p99_us", None, 1.3),
        ("storing 10 KiB in memory adds, µs of CPU", store, "cpu_us", difference, 15),
        ("  and in Redis with zstd, µs of CPU", redis, "cpu_us", difference, 60),
        ("a stored stream's first byte is later, µs (p50)", first, "p50_us", difference, 150),
    ]
    lines = []
    for what, names, figure, join, aim in wanted:
        if all(name in found for name in names):
            own, other = (found[name] for name in names)
            values = paired(own, other, figure, *([join] if join else []))
            value = statistics.median(values)
            lines.append(f"{what:50}{value:8.2f}  {min(values):.2f} to {max(values):.2f}"
                         f"  <= {aim}  {verdict(value, aim, own, other)}")
    alone = found.get(("redis", "tollgate"))
    if alone:
        value = alone["p50_us"]
        lines.append(f"{'a hit in Redis, µs (p50)':50}{value:8.0f}  <= 400  {verdict(value, 400, alone)}")
    return lines


def memory_lines(memory):
    lines = []
    for name, sizes in memory["idle"].items():
        aim = f"  <= {IDLE_AIM_MIB}" if name == "tollgate" else ""
        lines.append(f"idle    {name:16} RSS {sizes['rss'] / MIB:6.1f} MiB, PSS {sizes['pss'] / MIB:6.1f}{aim}")
    for name, sizes in memory["loaded"].items():
        rest = (sizes["rss"] - sizes["cache_bytes"]) / MIB
        aim = f"  <= {LOADED_AIM_MIB}" if name != "nginx" else ""
        lines.append(f"loaded  {name:16} RSS {sizes['rss'] / MIB:6.1f} MiB, of it cached "
                     f"{sizes['cache_bytes'] / MIB:5.1f}, rest {rest:6.1f}{aim}")
    return lines
