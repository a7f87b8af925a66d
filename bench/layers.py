"""Our own layers beside the raw limit and DuckDB."""

import pathlib
import resource
import shutil
import statistics
import subprocess
import time
import urllib.parse
import urllib.request
import json
import os

from stage import LIMIT_S, Scene, Stage, cpu_of_tree, cpu_until, peak_of_tree, say

SPEED_AT = "SELECT count(*) = 8 AND sum(next_offset) >= {events} FROM partition"
ARCHIVED = "SELECT count(*) = 8 AND sum(archived_to) >= {events} AND sum(committed_to) >= {events} FROM partition"


def rates(result, events, cpu):
    result["events"] = events
    result["cpu_seconds"] = round(cpu, 2)
    result["events_per_second"] = round(events / result["seconds"])
    result["events_per_cpu_second"] = round(events / cpu)
    return result


def raw(stage: Stage):
    """(a) Consume and decode, nothing else."""
    topic, result = stage.topic(), {}
    with stage.measured(result):
        process = subprocess.Popen([stage.bin / "anabranch-raw", stage.brokers, topic], stdout=subprocess.PIPE, text=True)
        cpu = cpu_until(process)
    printed = process.stdout.read()
    if f"{stage.events} records, 0 rejected" not in printed:
        raise RuntimeError(f"the raw limit read something else: {printed}")
    return rates(result, stage.events, cpu)


def layer(scene: Scene, command, condition, events):
    """From the start of the process until the condition holds."""
    result = {}
    with scene.stage.measured(result), scene.running(command) as process:
        scene.until(condition.format(events=events), process)
        cpu, result["peak_memory_mib"] = cpu_of_tree(process.pid), peak_of_tree(process.pid)
    return rates(result, events, cpu)


def speed(stage: Stage):
    """(b) Kafka → live rows in PostgreSQL."""
    return layer(stage.scene(stage.topic()), "speed", SPEED_AT, stage.events)


def cut_at_the_ends(scene: Scene, topic):
    """A cut at the topic's ends, so that the last files are closed when they hold everything, not when they are old."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": scene.stage.brokers, "group.id": "ends"})
    scene.until("SELECT count(*) = 8 FROM partition")
    with scene.stage.connect(scene.name) as connection, connection.transaction():
        connection.execute("UPDATE source SET cut_wanted = 1")
        for partition in range(8):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition))
            connection.execute("INSERT INTO cut_offset SELECT name, 1, %s, %s FROM source", (partition, end))
    consumer.close()


def archive(stage: Stage):
    """(c) Kafka → Parquet on HDFS, by the default rotation."""
    scene, result = stage.scene(stage.topic()), {}
    with stage.measured(result), scene.running("archive") as process:
        cut_at_the_ends(scene, stage.topic())
        scene.until(ARCHIVED.format(events=stage.events), process)
        cpu, result["peak_memory_mib"] = cpu_of_tree(process.pid), peak_of_tree(process.pid)
    return rates(result, stage.events, cpu)


ROUNDS = 3


def layers(stage: Stage):
    """(a), (b) and (c), one after the other, again and again: a machine that is shared changes within minutes."""
    parts = {"raw": raw, "speed": speed, "archive": archive}
    rounds = [{name: measure(stage) for name, measure in parts.items()} for _ in range(ROUNDS)]
    return {name: [one[name] for one in rounds] for name in parts}


def middle(runs):
    """Of several runs the one in the middle."""
    return sorted(runs, key=lambda run: run["events_per_cpu_second"])[len(runs) // 2]


def second_view(stage: Stage):
    """A second view on the same source, alternating with one alone."""
    alone, both = [], []
    for _ in range(2):
        alone.append(layer(stage.scene(stage.topic(), views=1), "speed", SPEED_AT, stage.events))
        both.append(layer(stage.scene(stage.topic(), views=2), "speed", SPEED_AT, stage.events))
    total = lambda runs: min(run["cpu_seconds"] + run["servers_cpu_seconds"]["postgres"] for run in runs)
    return {"one": alone, "two": both, "more_cpu": round(total(both) / total(alone) - 1, 3)}


def archived(stage: Stage, events, scene=None):
    """A scene whose archive holds the topic, and whose view has a version over all of it."""
    scene = scene or stage.scene(stage.topic(events))
    with scene.running("speed"), scene.running("archive") as process:
        scene.until(SPEED_AT.format(events=events), process)
        # Its cut closes the files.
        scene.run("recompute")
    return scene


def last_run(scene: Scene):
    sql = "SELECT extract(epoch FROM ended_at - started_at)::float8, records, bytes_read, peak_memory_bytes, outcome FROM run ORDER BY id DESC LIMIT 1"
    seconds, records, read, peak, outcome = scene.query(sql)
    if outcome != "done":
        raise RuntimeError(f"the run ended with {outcome}")
    return {"seconds": round(seconds, 2), "records": records, "bytes_read": read, "peak_memory_mib": peak >> 20}


def full_run(scene: Scene, limit_mib=None):
    result, bytes_ = {}, (limit_mib or 0) << 20
    limit = (lambda: resource.setrlimit(resource.RLIMIT_DATA, (bytes_, bytes_))) if limit_mib else None
    with scene.stage.measured(result):
        process = subprocess.Popen(
            scene.command("recompute", "--full"), env=scene.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=limit
        )
        cpu = cpu_until(process)
    if process.returncode:
        raise RuntimeError(f"recompute --full ended with {process.returncode}")
    result["cpu_seconds"] = round(cpu, 2)
    result["run"] = last_run(scene)
    result["records_per_second"] = round(result["run"]["records"] / result["run"]["seconds"])
    return result


def download(stage: Stage, scene: Scene):
    """The archive's files in a local folder: DuckDB reads no HDFS."""
    root = stage.webhdfs()
    folder = scene.folder / "archive"
    folder.mkdir()

    def walk(path):
        listing = json.load(urllib.request.urlopen(f"{root}{urllib.parse.quote(path)}?op=LISTSTATUS"))
        for entry in listing["FileStatuses"]["FileStatus"]:
            inner = f"{path}/{entry['pathSuffix']}"
            if entry["type"] == "DIRECTORY":
                walk(inner)
            elif inner.endswith(".parquet") and "/archive/" in inner and "/_" not in inner and "/." not in inner:
                with urllib.request.urlopen(f"{root}{urllib.parse.quote(inner)}?op=OPEN") as source, open(folder / entry["pathSuffix"], "wb") as target:
                    shutil.copyfileobj(source, target)

    walk(f"/{scene.name}")
    return folder


DUCKDB = """
import duckdb, sys, time
began = time.monotonic()
connection = duckdb.connect()
connection.execute(f"SET threads = {sys.argv[2]}; SET TimeZone = 'UTC'")
connection.execute(f\"\"\"COPY (
  SELECT date_trunc('minute', event_datetime) AS minute, event_country_code, event_country_name, event_city_name, status_color, severity,
         count(*), sum(event_estimated_issue_resolution_time), min(event_estimated_issue_resolution_time),
         max(event_estimated_issue_resolution_time), avg(event_estimated_issue_resolution_time)
  FROM '{sys.argv[1]}/*.parquet' WHERE decode_error IS NULL GROUP BY ALL ORDER BY minute
) TO '{sys.argv[1]}.result' (FORMAT parquet)\"\"\")
print(time.monotonic() - began)
"""


def duckdb(stage: Stage, folder: pathlib.Path):
    import sys

    process = subprocess.Popen([sys.executable, "-c", DUCKDB, str(folder), "2"], stdout=subprocess.PIPE, text=True)
    cpu = cpu_until(process)
    if process.returncode:
        raise RuntimeError("DuckDB failed")
    seconds = float(process.stdout.read())
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "records_per_second": round(stage.events / seconds)}


def full_against_duckdb(stage: Stage):
    """(d) A full recompute with its audit, from HDFS; (e) DuckDB, the same view from the same files on the local disk; two threads each."""
    scene = archived(stage, stage.events)
    folder = download(stage, scene)
    ours, theirs = [], []
    for _ in range(3):
        ours.append(full_run(scene))
        theirs.append(duckdb(stage, folder))
    ratio = statistics.median(run["run"]["seconds"] for run in ours) / statistics.median(run["seconds"] for run in theirs)
    return {"full": ours, "duckdb": theirs, "seconds_against_duckdb": round(ratio, 2)}


def history(stage: Stage, name, events, days, slice_seconds=0.0, slices=365):
    """Events of so many days before today, slice by slice; each takes at least so long to come."""
    midnight = int(time.time()) // 86_400 * 86_400
    for number in range(slices):
        began = time.monotonic()
        start = midnight - days * 86_400 + number * days * 86_400 // slices
        stage.simulate(name, events // slices, "--late", "0", "--seed", str(number), "--start", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start)))
        time.sleep(max(0.0, slice_seconds - (time.monotonic() - began)))


DAILY = 30_000
LIMIT_MIB = 512


def memory(stage: Stage):
    """The peak of a full run over ten times the days; every event is a group of its own. The longer one again under `ulimit -d`."""
    scenes = {}
    for days in (6, 60):
        name = f"memory-{os.getpid()}-{days}"
        history(stage, name, days * DAILY, days, slices=days)
        # Live rows stay until the first version has them.
        scenes[days] = archived(stage, days * DAILY, stage.scene(name, views="many", speed__live_rows=100_000_000))
    small, large = (full_run(scene) for scene in scenes.values())
    limited = full_run(scenes[60], limit_mib=LIMIT_MIB)
    peaks = [run["run"]["peak_memory_mib"] for run in (small, large)]
    return {"small": small, "large": large, f"large under ulimit -d of {LIMIT_MIB} MiB": limited, "peak_ratio": round(peaks[1] / peaks[0], 2)}


HISTORY = 365_000
NEW = 20_000


def incremental(stage: Stage):
    """What an incremental run over the same new records of today costs, over a history of 8 or 1,000 files, of 1 or 365 days."""
    results = {}
    # So late that no late event is one of yesterday, whose part would be written anew with all its groups.
    today = time.strftime("%Y-%m-%dT12:00:00", time.gmtime())
    for files, days in [(8, 1), (1000, 1), (8, 365), (1000, 365)]:
        name = f"history-{os.getpid()}-{files}-{days}"
        stage.simulate(name, 8, "--start", today)
        many = files > 8
        if not many:
            history(stage, name, HISTORY, days)
        scene = stage.scene(name, archive__rotate_seconds=1 if many else 86_400)
        with scene.running("speed"), scene.running("archive") as process:
            if many:
                # A file a second of each partition.
                history(stage, name, HISTORY, days, files / 8 / 365)
            scene.until(SPEED_AT.format(events=HISTORY), process)
            scene.run("recompute")
            before, runs = archive_files(stage, scene), []
            for round_ in range(3):
                stage.simulate(name, NEW, "--start", today, "--seed", str(1000 + round_))
                scene.until(SPEED_AT.format(events=HISTORY + NEW * (round_ + 1)), process)
                # What rotation has closed already must not be what one history has and the other has not.
                time.sleep(3)
                scene.run("recompute")
                runs.append(last_run(scene))
        results[f"{files} files, {days} days"] = {"files": before, "runs": runs}
        say(f"{before} files, {days} days: {runs}")
    cost = {name: statistics.median(run["seconds"] for run in entry["runs"]) for name, entry in results.items()}
    return {**results, "median_seconds": cost, "most_against_least": round(max(cost.values()) / min(cost.values()), 2)}


def archive_files(stage: Stage, scene: Scene):
    """The archive files that were ever committed: each is one rename."""
    return sum(1 for line in open(stage.servers / "namenode-audit.log") if f"/{scene.name}/" in line and "cmd=rename" in line and "allowed=true" in line)


def language(stage: Stage):
    """What decoding, joins and distinct counts cost, without any server."""
    printed = subprocess.run([stage.bin / "anabranch-language"], capture_output=True, text=True, check=True)
    return json.loads(printed.stdout.strip().splitlines()[-1])


def ratios(results):
    """The aims of the design beside what was measured, where both sides ran."""
    found = {}

    def note(name, aim, *keys, value):
        if all(isinstance(results.get(key), dict) and "failed" not in results[key] for key in keys):
            found[name] = {"measured": value(), "aim": aim}

    ours = lambda name: middle(results["layers"][name])
    for name, aim in [("speed", "≥ 0.6"), ("archive", "≥ 0.4")]:
        against = lambda: [run["events_per_cpu_second"] / raw["events_per_cpu_second"] for run, raw in zip(results["layers"][name], results["layers"]["raw"])]
        note(f"{name} per core against raw, the middle of three", aim, "layers", value=lambda: round(statistics.median(against()), 2))
    whole = lambda run: run["cpu_seconds"] + run["servers_cpu_seconds"].get("postgres", 0)
    for peer, aim in [("spark", "≥ 5"), ("flink", "≥ 3")]:
        note(f"speed against {peer}, events a second", aim, "layers", peer, value=lambda: round(ours("speed")["events_per_second"] / results[peer]["speed"]["events_per_second"], 2))
        note(f"speed against {peer}, CPU with PostgreSQL's", aim, "layers", peer, value=lambda: round(whole(results[peer]["speed"]) / whole(ours("speed")), 2))
    note("archive against spark, events a second", "≥ 5", "layers", "spark", value=lambda: round(ours("archive")["events_per_second"] / results["spark"]["archive"]["events_per_second"], 2))
    note("archive against spark, CPU", "≥ 5", "layers", "spark", value=lambda: round(results["spark"]["archive"]["cpu_seconds"] / ours("archive")["cpu_seconds"], 2))
    note("full recompute, seconds against DuckDB", "≤ 1", "full", value=lambda: results["full"]["seconds_against_duckdb"])
    note("second view, more CPU", "< 0.3", "second_view", value=lambda: results["second_view"]["more_cpu"])
    note("peak memory, ten times the history", "< 1.3", "memory", value=lambda: results["memory"]["peak_ratio"])
    note("incremental run, dearest against cheapest history", "flat", "incremental", value=lambda: results["incremental"]["most_against_least"])
    note("visible p50 ms at 20,000 events/s", "< 300", "latency", value=lambda: results["latency"]["p50_ms"])
    note("visible p99 ms at 20,000 events/s", "< 1000", "latency", value=lambda: results["latency"]["p99_ms"])
    note("visible p99 ms, every event a group of its own", "< 5000", "many_groups", value=lambda: results["many_groups"]["p99_ms"])
    note("visible p99 ms, 100,000 groups in a flush", "< 5000", "bursts", value=lambda: results["bursts"]["p99_ms"])
    asked = lambda clients, figure: results["answers"]["anabranch"][f"{clients} clients"][figure]
    for peer in ["duckdb", "postgresql", "chdb"]:
        for figure in ["p50_ms", "p99_ms"]:
            slowest = lambda: max(round(asked(clients, figure) / results["answers"][peer][f"{clients} clients"][figure], 2) for clients in (1, 8, 64))
            note(f"answers, {figure[:3]} against {peer}, worst of 1, 8, 64 clients", "< 1", "answers", value=slowest)
    note("answers, p50 ms at 8 clients", "< 5", "answers", value=lambda: asked(8, "p50_ms"))
    note("answers from the cache, a second", "> 3000", "answers", value=lambda: max(entry["per_second"] for entry in results["answers"]["repeated, from the cache"].values()))
    note("serving memory against the parts' Parquet", "< 3", "answers", value=lambda: round(results["answers"]["serving_mib"] / results["answers"]["parts_mib"], 1))
    results["ratios"] = found
