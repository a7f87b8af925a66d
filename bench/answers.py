"""Queries a second and their times: a dashboard's mix over a million groups and live ones, beside DuckDB, PostgreSQL and chDB.

The peers hold the groups ready aggregated, in tables of their own that do not change; events arrive beside all of them.
"""

import calendar
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import random
import subprocess
import threading
import time
import urllib.request

import duckdb
from confluent_kafka import Producer

from latency import percentile
from stage import Scene, Stage, free_address, memory_mib, peak_of_tree, say

DAYS = 30
CITIES = 60
OLD = 1_150_000
LIVE = 120_000
RATE = 20_000
SECONDS = 8
CLIENTS = (1, 8, 64)
QUERIES = 4_000
# Nothing is kept of an answer, and nothing of the version is held in memory.
LOCAL = {"ANABRANCH_SERVING__CACHE_BYTES": "0", "ANABRANCH_SERVING__MEMORY_BYTES": "0"}

PIPELINE = """
CREATE TABLE requests (at TIMESTAMP NOT NULL OPTIONS (timestamp_format = 'epoch_ms'), country TEXT, city TEXT, status TEXT, ms BIGINT)
WITH (connector = 'kafka', topic = '{topic}', format = 'json', event_time = 'at');
CREATE MATERIALIZED VIEW traffic AS
SELECT date_trunc('minute', at) AS minute, country, city, status, count(*) AS requests, sum(ms) AS total_ms, max(ms) AS max_ms, avg(ms) AS avg_ms
FROM requests GROUP BY 1, 2, 3, 4;
"""
EVENTS = """
CREATE TABLE {name} AS
SELECT {until} - (random() * {minutes} * 60000)::BIGINT AS "at", 'country ' || city // 6 AS country, 'city ' || city AS city,
       ['ok', 'slow', 'error', 'gone'][1 + (random() * 3.999)::INT % 4] AS status, (random() * 1000)::BIGINT AS ms
FROM (SELECT (random() * {cities})::INT % {cities} AS city FROM range({count}))
"""
GROUPS = """
CREATE TABLE traffic AS
SELECT date_trunc('minute', epoch_ms("at")) AS minute, country, city, status, count(*) AS requests, sum(ms)::BIGINT AS total_ms, max(ms) AS max_ms
FROM (FROM old UNION ALL FROM live) GROUP BY ALL ORDER BY minute
"""
READ = "SELECT count(*) = 8 AND sum(next_offset) >= {} FROM partition"
# One hour or one day before a minute of the last twelve hours, by these, the twenty with the most requests.
MIX = [(60, ["city"]), (60, ["city", "status"]), (1440, ["country"]), (1440, ["city", "status"])]


def mix(end, number):
    minutes, by = MIX[number % len(MIX)]
    last = end - 60 * random.randrange(720)
    times = [time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) for at in (last - 60 * minutes, last)]
    return times, by


def as_json(times, by):
    first, end = times
    # Both ends of a range are in it.
    last = time.strftime("%Y-%m-%dT%H:%M:%S.999", time.gmtime(epoch(end) - 1))
    return json.dumps({
        "measures": ["traffic.requests", "traffic.total_ms", "traffic.max_ms", "traffic.avg_ms"],
        "dimensions": [f"traffic.{name}" for name in by],
        "timeDimensions": [{"dimension": "traffic.minute", "dateRange": [first, last]}],
        "order": [["traffic.requests", "desc"], *([f"traffic.{name}", "asc"] for name in by)],
        "limit": 20,
    })


def epoch(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


def as_sql(times, by):
    names = ", ".join(by)
    return (
        f"SELECT {names}, sum(requests) AS r, sum(total_ms) AS t, max(max_ms) AS m, sum(total_ms) * 1.0 / sum(requests) AS a FROM traffic "
        f"WHERE minute >= '{times[0].replace('T', ' ')}' AND minute < '{times[1].replace('T', ' ')}' GROUP BY {names} ORDER BY r DESC, {names} LIMIT 20"
    )


def produce(brokers, topic, messages):
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 20, "compression.type": "zstd", "queue.buffering.max.messages": 1_000_000})
    for number, message in enumerate(messages):
        if number % 10_000 == 0:
            producer.poll(0)
        producer.produce(topic, message)
    producer.flush(60)


def arriving(brokers, topic, messages):
    """Events at one rate, of the last hour, until somebody ends it."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 20, "compression.type": "zstd"})
    tick = RATE // 20
    next_, at = time.monotonic(), 0
    while True:
        for _ in range(tick):
            producer.produce(topic, messages[at % len(messages)])
            at += 1
        producer.poll(0)
        next_ += 0.05
        time.sleep(max(0.0, next_ - time.monotonic()))


def ask(stage, target, file, clients):
    command = [stage.bin / "anabranch-ask", target, file, str(clients), str(SECONDS)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def in_process(queries, clients, connect):
    """The same for a database that is a library."""
    began, took = time.monotonic(), []

    def client(first):
        run, own = connect(), []
        at = first
        while time.monotonic() < began + SECONDS:
            asked = time.monotonic()
            run(queries[at % len(queries)])
            own.append((time.monotonic() - asked) * 1000)
            at += clients
        took.extend(own)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed, took = time.monotonic() - began, sorted(took)
    return {"queries": len(took), "per_second": round(len(took) / elapsed), "p50_ms": round(percentile(took, 0.5), 2), "p99_ms": round(percentile(took, 0.99), 2)}


def bytes_of_parts(stage: Stage, scene: Scene):
    with urllib.request.urlopen(f"{stage.webhdfs()}/{scene.name}/requests/views/traffic?op=GETCONTENTSUMMARY") as answer:
        return json.load(answer)["ContentSummary"]["length"]


def until_answered(url, query, wanted):
    """Until an answer stands on so many records."""
    deadline = time.monotonic() + 300
    while True:
        with contextlib.suppress(OSError):
            request = urllib.request.Request(f"{url}/v1/load", query.encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                found = json.load(answer)
            if sum(sum(partitions.values()) for partitions in found["lambda"]["offsets"].values()) >= wanted:
                return found
        if time.monotonic() > deadline:
            raise RuntimeError("the serving layer does not come to answer")
        time.sleep(0.2)


def equal(url, wanted, connection, questions):
    """Nothing arrives: every answer of the mix is DuckDB's."""
    for times, by in questions:
        ours = until_answered(url, as_json(times, by), wanted)["data"]
        theirs = connection.execute(as_sql(times, by)).fetchall()
        rows = [tuple(row[f"traffic.{name}"] for name in by) + (int(row["traffic.requests"]), int(row["traffic.total_ms"]), int(row["traffic.max_ms"])) for row in ours]
        if rows != [row[:-1] for row in theirs]:
            raise RuntimeError(f"{times} {by}: {rows} is not {theirs}")


class Data:
    """A version with a million groups, live ones above it, and the same groups in DuckDB."""

    def __init__(self, stage: Stage):
        self.stage, self.end = stage, int(time.time()) // 60 * 60
        random.seed(7)
        self.duckdb = duckdb.connect()
        self.duckdb.execute("SET threads = 2; SET TimeZone = 'UTC'; SELECT setseed(0.7)")
        for name, minutes, count in [("old", DAYS * 1440, OLD), ("live", 1440, LIVE), ("more", 60, RATE)]:
            self.duckdb.execute(EVENTS.format(name=name, until=self.end * 1000, minutes=minutes, cities=CITIES, count=count))
        self.duckdb.execute(GROUPS)
        self.topic = f"answers-{os.getpid()}"
        stage.simulate(self.topic, 0)
        self.scene = stage.scene(self.topic, views=PIPELINE.format(topic=self.topic), speed__live_rows=100_000_000)
        self.questions = [mix(self.end, number) for number in range(QUERIES)]

    def messages(self, name):
        return [text for (text,) in self.duckdb.execute(f"SELECT to_json({name})::VARCHAR FROM {name}").fetchall()]

    def file(self, name, texts):
        path = self.scene.folder / name
        path.write_text("".join(text + "\n" for text in texts))
        return path

    def publish(self):
        """The old events as a version."""
        produce(self.stage.brokers, self.topic, self.messages("old"))
        with self.scene.running("speed"), self.scene.running("archive") as process:
            self.scene.until(READ.format(OLD), process)
            self.scene.run("recompute")

    @contextlib.contextmanager
    def live(self):
        """The live ones above it."""
        with self.scene.running("speed") as speed:
            produce(self.stage.brokers, self.topic, self.messages("live"))
            self.scene.until(READ.format(OLD + LIVE), speed)
            yield

    @contextlib.contextmanager
    def arriving(self):
        stream = multiprocessing.Process(target=arriving, args=(self.stage.brokers, self.topic, self.messages("more")), daemon=True)
        stream.start()
        time.sleep(3)
        try:
            yield
        finally:
            stream.terminate()
            stream.join()

    @contextlib.contextmanager
    def serving(self, **settings):
        address = free_address()
        self.scene.environment |= {"ANABRANCH_SERVING__LISTEN": address, **settings}
        with self.scene.running("serve") as process:
            yield f"http://{address}", process
        for name in settings:
            del self.scene.environment[name]


def by_clients(asked):
    return {f"{clients} clients": asked(clients) for clients in CLIENTS}


def anabranch(data: Data):
    """Nothing is kept of an answer; then nothing of the version; then the same twenty questions again and again, kept."""
    result = {}
    questions = data.file("queries.json", [as_json(*question) for question in data.questions])
    repeated = data.file("repeated.json", [as_json(*question) for question in data.questions[:20]])
    with data.serving(**LOCAL) as (url, process):
        until_answered(url, as_json(*data.questions[0]), OLD + LIVE)
        equal(url, OLD + LIVE, data.duckdb, data.questions[:8])
        result["serving_mib, from local files"] = memory_mib(process.pid, "VmRSS")
    with data.serving(ANABRANCH_SERVING__CACHE_BYTES="0") as (url, process):
        stands_on = until_answered(url, as_json(*data.questions[0]), OLD + LIVE)["lambda"]
        result |= {"version_groups": stands_on["version_groups"], "live_groups": stands_on["live_groups"]}
        equal(url, OLD + LIVE, data.duckdb, data.questions[:40])
        result["parts_mib"] = round(bytes_of_parts(data.stage, data.scene) / 2**20, 1)
        result["serving_mib"] = memory_mib(process.pid, "VmRSS")
        with data.arriving():
            result["anabranch"] = by_clients(lambda clients: ask(data.stage, url, questions, clients))
        result["serving_peak_mib"] = peak_of_tree(process.pid)
    with data.serving(**LOCAL) as (url, _), data.arriving():
        until_answered(url, as_json(*data.questions[0]), OLD + LIVE)
        result["from local files"] = by_clients(lambda clients: ask(data.stage, url, questions, clients))
    with data.serving() as (url, _):
        until_answered(url, as_json(*data.questions[0]), OLD + LIVE)
        result["repeated, from the cache"] = by_clients(lambda clients: ask(data.stage, url, repeated, clients))
    return result


def of_duckdb(data: Data, sql):
    def connect():
        cursor = data.duckdb.cursor()
        return lambda text: cursor.execute(text).fetchall()

    return by_clients(lambda clients: in_process(sql, clients, connect))


def of_postgresql(data: Data, sql):
    with data.stage.connect(data.scene.name) as connection:
        connection.execute("CREATE SCHEMA peer; SET search_path = peer")
        connection.execute("CREATE TABLE traffic (minute timestamp, country text, city text, status text, requests bigint, total_ms bigint, max_ms bigint)")
        with connection.cursor().copy("COPY traffic FROM STDIN") as copy:
            for row in data.duckdb.execute("FROM traffic").fetchall():
                copy.write_row(row)
        connection.execute("CREATE INDEX ON traffic (minute)")
        connection.execute("VACUUM ANALYZE traffic")
    target, queries = f"{data.stage.postgres}/{data.scene.name}?options=-csearch_path%3Dpeer", data.file("queries.sql", sql)
    return by_clients(lambda clients: ask(data.stage, target, queries, clients))


def of_chdb(data: Data, sql):
    import chdb.session

    parquet = data.scene.folder / "traffic.parquet"
    data.duckdb.execute(f"COPY traffic TO '{parquet}' (FORMAT parquet)")
    session = chdb.session.Session()
    session.query("CREATE DATABASE peer ENGINE = Atomic")
    session.query(f"CREATE TABLE peer.traffic ENGINE = MergeTree ORDER BY minute AS SELECT * FROM file('{parquet}', Parquet)")

    # A session answers one query at a time; who came first is answered first.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as queue:

        def run(text):
            queue.submit(session.query, text.replace("FROM traffic", "FROM peer.traffic"), "JSONCompact").result()

        return by_clients(lambda clients: in_process(sql, clients, lambda: run))


def answers(stage: Stage):
    """p50, p99 and queries a second at 1, 8 and 64 clients; events arrive beside each."""
    data = Data(stage)
    result = {"groups": data.duckdb.execute("SELECT count(*) FROM traffic").fetchone()[0], "events_per_second": RATE}
    data.publish()
    sql = [as_sql(*question) for question in data.questions]
    with data.live():
        result |= anabranch(data)
        with data.arriving():
            for name, peer in [("duckdb", of_duckdb), ("postgresql", of_postgresql), ("chdb", of_chdb)]:
                say(json.dumps(result))
                result[name] = peer(data, sql)
    return result
