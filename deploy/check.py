"""Evaluates the query of every panel: PromQL against a Prometheus, SQL by a psql command. A panel without data is a failure.

    python3 deploy/check.py http://localhost:9090 "psql postgres://…"
"""

import json
import pathlib
import re
import shlex
import subprocess
import sys
import urllib.parse
import urllib.request

prometheus, psql = sys.argv[1:]
here = pathlib.Path(__file__).parent


def metrics(query):
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=30) as answer:
        return len(json.load(answer)["data"]["result"])


def sql(query):
    """What Grafana's macros become, for the last day."""
    query = re.sub(r"\$__timeGroupAlias\((\w+), *'1m'\)", r'floor(extract(epoch from \1)/60)*60 AS "time"', query)
    query = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 BETWEEN (now() - interval '1 day')::timestamp AND (now() + interval '1 day')::timestamp", query)
    command = [*shlex.split(psql), "--no-psqlrc", "--csv", "--tuples-only", "--command", query]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if output.returncode:
        print(output.stderr, file=sys.stderr)
        return 0
    return len([line for line in output.stdout.splitlines() if line.strip(",")])


empty = []
count = 0
for file in sorted((here / "grafana/dashboards").glob("*.json")):
    for panel in json.loads(file.read_text())["panels"]:
        for target in panel["targets"]:
            count += 1
            found = metrics(target["expr"]) if "expr" in target else sql(target["rawSql"])
            if not found:
                empty.append(f"{file.stem}: {panel['title']}: {target.get('expr') or target.get('rawSql')}")
print(f"{count} queries of panels, {len(empty)} without data")
print("\n".join(empty))
sys.exit(1 if empty else 0)
