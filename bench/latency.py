"""Event → visible in an answer, from the producer's clock to the first answer that contains it."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request

import pyarrow.ipc
from confluent_kafka import Producer

from stage import Stage, free_address

RATE = 20_000
WARM_S = 10
MEASURED_S = 40
PAUSE_S = 0.1
BURST = 100_000
BURST_PAUSE_S = 6
NAMES = ["status_other_param", "config_other_param"]


def marker(number):
    """An event of a city of its own."""
    event = {
        "event_id": f"marker-{number}",
        "event_server_status_color_name_severity_level": "Red|Severity 1",
        "event_datetime": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        "event_server_type": "Mail",
        "event_country_code": "ZZ",
        "event_country_name": "Marker",
        "event_city_name": f"marker-{number}",
        "event_estimated_issue_resolution_time": 5,
    }
    for kind in NAMES:
        event.update({f"event_server_{kind}_{index}": "" for index in range(1, 6)})
    return json.dumps(event).encode()


QUERY = {
    "measures": ["status_by_city.messages"],
    "dimensions": ["status_by_city.city"],
    "filters": [{"member": "status_by_city.country_code", "operator": "equals", "values": ["ZZ"]}],
    "limit": 50_000,
}


def seen(url):
    request = urllib.request.Request(f"{url}/v1/load", json.dumps({"query": QUERY}).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return {row["status_by_city.city"] for row in json.load(answer)["data"]}
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return set()
        raise
    except urllib.error.URLError:
        # It has not started to listen yet.
        return set()


def percentile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


class Steady:
    """Events at one rate."""

    settings = {}

    def __init__(self, command):
        self.process = subprocess.Popen([*command, "--rate", str(RATE)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def look(self, _):
        pass

    def end(self):
        self.process.terminate()
        self.process.wait(30)


class Bursts:
    """So many events at once, again and again, that one flush holds them all."""

    settings = {"speed__flush_ms": 2_000}

    def __init__(self, command):
        self.command, self.processes, self.next = command, [], time.monotonic()

    def look(self, now):
        if now >= self.next:
            self.next = now + BURST_PAUSE_S
            burst = [*self.command, "--rate", "0", "--count", str(BURST), "--seed", str(len(self.processes))]
            self.processes.append(subprocess.Popen(burst, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def end(self):
        for process in self.processes:
            process.wait(30)


def measure(stage: Stage, views, load):
    topic = f"latency-{os.getpid()}-{views}-{load.__name__}"
    stage.simulate(topic, 8)
    address = free_address()
    scene = stage.scene(topic, views=views, serving__listen=address, **load.settings)
    producer = Producer({"bootstrap.servers": stage.brokers, "linger.ms": 0})
    command = [stage.bin / "anabranch", "simulate", "server-status", "--topic", topic, "--malformed", "0"]
    with scene.running("speed"), scene.running("serve"):
        producing = load(command)
        try:
            sent, latencies, number = {}, [], 0
            began, next_marker = time.monotonic(), time.monotonic() + WARM_S
            while sent or time.monotonic() < began + WARM_S + MEASURED_S:
                now = time.monotonic()
                producing.look(now)
                if now >= next_marker and now < began + WARM_S + MEASURED_S:
                    sent[f"marker-{number}"] = now
                    producer.produce(topic, marker(number))
                    producer.poll(0)
                    number += 1
                    next_marker += PAUSE_S
                found = seen(f"http://{address}")
                now = time.monotonic()
                for city in found & sent.keys():
                    latencies.append(now - sent.pop(city))
                if now > began + WARM_S + MEASURED_S + 60:
                    raise RuntimeError(f"{len(sent)} markers never appeared")
                time.sleep(0.005)
            offsets, flushes = scene.query("SELECT (SELECT sum(next_offset) FROM partition)::bigint, (SELECT sum(flush) FROM epoch)::bigint")
            most = most_groups(scene)
        finally:
            producing.end()
    latencies.sort()
    return {
        "markers": len(latencies),
        "events_per_second": round(offsets / (time.monotonic() - began)),
        "flushes": flushes,
        "most_groups_of_a_flush": most,
        "p50_ms": round(percentile(latencies, 0.5) * 1000),
        "p90_ms": round(percentile(latencies, 0.9) * 1000),
        "p99_ms": round(percentile(latencies, 0.99) * 1000),
        "max_ms": round(latencies[-1] * 1000),
    }


def most_groups(scene):
    """Of the flushes of the last minute, which the catalog still has."""
    with scene.stage.connect(scene.name) as connection:
        changes = connection.execute("SELECT changes FROM flush WHERE changes IS NOT NULL ORDER BY octet_length(changes) DESC LIMIT 1").fetchone()
    # Behind the number of the format.
    return pyarrow.ipc.open_stream(changes[0][4:]).read_all().num_rows if changes else 0


def visible(stage: Stage):
    """The server status at 20,000 events a second."""
    return measure(stage, 1, Steady)


def many_groups(stage: Stage):
    """Beside it a view in which every event is a group of its own: as many live rows to write as events."""
    return measure(stage, "many", Steady)


def bursts(stage: Stage):
    """The same, 100,000 events at once, in one flush."""
    return measure(stage, "many", Bursts)
