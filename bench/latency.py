"""Event → visible in an answer, from the producer's clock to the first answer that contains it."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

from confluent_kafka import Producer

from stage import Stage

RATE = 20_000
WARM_S = 10
MEASURED_S = 40
PAUSE_S = 0.1
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


def measure(stage: Stage, views):
    topic = f"latency-{os.getpid()}-{views}"
    stage.simulate(topic, 8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scene = stage.scene(topic, views=views, serving__listen=address)
    producer = Producer({"bootstrap.servers": stage.brokers, "linger.ms": 0})
    load = [stage.bin / "anabranch", "simulate", "server-status", "--topic", topic, "--rate", str(RATE), "--malformed", "0"]
    with scene.running("speed"), scene.running("serve"):
        simulator = subprocess.Popen(load, env=scene.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            sent, latencies, number = {}, [], 0
            began, next_marker = time.monotonic(), time.monotonic() + WARM_S
            while sent or time.monotonic() < began + WARM_S + MEASURED_S:
                now = time.monotonic()
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
        finally:
            simulator.terminate()
            simulator.wait(30)
    latencies.sort()
    return {
        "markers": len(latencies),
        "events_per_second": round(offsets / (time.monotonic() - began)),
        "flushes": flushes,
        "p50_ms": round(percentile(latencies, 0.5) * 1000),
        "p90_ms": round(percentile(latencies, 0.9) * 1000),
        "p99_ms": round(percentile(latencies, 0.99) * 1000),
        "max_ms": round(latencies[-1] * 1000),
    }


def visible(stage: Stage):
    """The server status at 20,000 events a second."""
    return measure(stage, 1)


def many_groups(stage: Stage):
    """Beside it a view in which every event is a group of its own: as many live rows to write as events."""
    return measure(stage, "many")
