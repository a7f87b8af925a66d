"""Benchmarks against the raw limit and against peers: `make bench`.

Every figure of one result comes from one run on one machine; what counts are the ratios. CPU seconds are those of every
process, from /proc: ours, the peers', and the servers'.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys

import answers
import latency
import layers
import peers
from stage import HERE, Stage, say


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal")) // 1024
    return {"cpu": model, "cores": os.cpu_count(), "memory_mib": memory, "kernel": platform.release()}


SECTIONS = {
    "layers": layers.layers,
    "full": layers.full_against_duckdb,
    "second_view": layers.second_view,
    "memory": layers.memory,
    "incremental": layers.incremental,
    "language": layers.language,
    "latency": latency.visible,
    "many_groups": latency.many_groups,
    "bursts": latency.bursts,
    "answers": answers.answers,
    "spark": peers.spark,
    "flink": peers.flink,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), help=f"of {', '.join(SECTIONS)}; all without one")
    parser.add_argument("--events", type=int, default=3_000_000, help="events of the topic that is read again and again")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}")
    stage = Stage(arguments.events)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE).stdout.strip()
    results = {"date": datetime.date.today().isoformat(), "commit": commit, "machine": machine(), "events": arguments.events}
    failed = []
    for name in arguments.sections:
        say(f"== {name}")
        try:
            results[name] = SECTIONS[name](stage)
            say(json.dumps(results[name], indent=1))
        except Exception as error:  # One section that fails must not hide the others; it fails the run.
            failed.append(name)
            results[name] = {"failed": str(error)}
            say(f"{name} failed: {error}")
        arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    layers.ratios(results)
    arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results.get("ratios", {}), indent=1))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
