"""Spark Structured Streaming and Flink doing what the speed layer does, and Spark what the archive does."""

import json
import os
import pathlib
import subprocess
import sys

from layers import rates
from stage import HERE, Stage, cpu_until

TABLE = """
CREATE TABLE status_by_city (
  minute timestamptz, country_code text, country text, city text, status_color text, severity text,
  messages bigint, resolution_time bigint, min_resolution_time bigint, max_resolution_time bigint,
  UNIQUE NULLS NOT DISTINCT (minute, country_code, country, city, status_color, severity)
)"""


def database(stage: Stage, name):
    with stage.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with stage.connect(name) as connection:
        connection.execute(TABLE)
    return stage.postgres.split("@")[1] + "/" + name


def counted(stage: Stage, name):
    with stage.connect(name) as connection:
        return connection.execute("SELECT coalesce(sum(messages), 0)::bigint FROM status_by_city").fetchone()[0]


def measured(stage: Stage, command, result, log, done=lambda: False, **environment):
    """Runs a peer to its end, or until its work is done; CPU of its whole tree."""
    with stage.measured(result), open(log, "w") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True, env={**os.environ, **environment})
        cpu = cpu_until(process, done, f"see {log}")
    if process.poll() is None:
        process.terminate()
        process.wait(60)
        return "", cpu
    printed = process.stdout.read()
    if process.returncode or "[ERROR]" in printed:
        raise RuntimeError(f"{command[:3]} ended with {process.returncode}; see {log}: {printed[-500:]}")
    return printed, cpu


def spark(stage: Stage):
    """(f) foreachBatch upsert, and the file sink; the JVM and its warming up counted as ours is, from the start of the process."""
    result = {}
    jars = ",".join(str(path) for path in sorted((stage.jars / "spark").glob("*.jar")))
    for part in ["speed", "archive"]:
        name = f"spark_{part}_{os.getpid()}"
        address = database(stage, name)
        entry = {}
        command = [sys.executable, HERE / "spark" / "peer.py", part, stage.brokers, stage.topic(), address, f"{stage.hdfs}/{name}", jars]
        printed, cpu = measured(stage, command, entry, stage.logs / f"{name}.log")
        entry["query_seconds"] = json.loads(printed.splitlines()[-1])["seconds"]
        rates(entry, stage.events, cpu)
        entry["records_counted"] = counted(stage, name) if part == "speed" else json.loads(printed.splitlines()[-1])["records"]
        result[part] = entry
    return result


FLINK = """
SET 'execution.runtime-mode' = 'streaming';
SET 'execution.target' = 'local';
SET 'table.dml-sync' = 'true';
SET 'parallelism.default' = '2';
SET 'table.local-time-zone' = 'UTC';
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '200 ms';
SET 'table.exec.mini-batch.size' = '16000';
CREATE TABLE events (
  event_id STRING, event_server_status_color_name_severity_level STRING, event_datetime TIMESTAMP(3), event_server_type STRING,
  event_country_code STRING, event_country_name STRING, event_city_name STRING, event_estimated_issue_resolution_time BIGINT,
  event_server_status_other_param_1 STRING, event_server_status_other_param_2 STRING, event_server_status_other_param_3 STRING,
  event_server_status_other_param_4 STRING, event_server_status_other_param_5 STRING, event_server_config_other_param_1 STRING,
  event_server_config_other_param_2 STRING, event_server_config_other_param_3 STRING, event_server_config_other_param_4 STRING,
  event_server_config_other_param_5 STRING
) WITH (
  'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{brokers}', 'properties.group.id' = 'flink',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json', 'json.timestamp-format.standard' = 'SQL'
);
CREATE TABLE sink (
  `minute` TIMESTAMP(3), country_code STRING, country STRING, city STRING, status_color STRING, severity STRING,
  messages BIGINT, resolution_time BIGINT, min_resolution_time BIGINT, max_resolution_time BIGINT,
  PRIMARY KEY (`minute`, country_code, country, city, status_color, severity) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:postgresql://{address}?reWriteBatchedInserts=true', 'username' = 'anabranch', 'password' = '-',
  'table-name' = 'status_by_city', 'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '200ms'
);
INSERT INTO sink
SELECT FLOOR(event_datetime TO MINUTE), event_country_code, event_country_name, event_city_name,
       SPLIT_INDEX(event_server_status_color_name_severity_level, '|', 0), SPLIT_INDEX(event_server_status_color_name_severity_level, '|', 1),
       COUNT(*), SUM(event_estimated_issue_resolution_time), MIN(event_estimated_issue_resolution_time), MAX(event_estimated_issue_resolution_time)
FROM events
GROUP BY FLOOR(event_datetime TO MINUTE), event_country_code, event_country_name, event_city_name,
       SPLIT_INDEX(event_server_status_color_name_severity_level, '|', 0), SPLIT_INDEX(event_server_status_color_name_severity_level, '|', 1);
"""


def flink(stage: Stage):
    """(g) Flink SQL in one process, two slots, upserts by its JDBC sink; mini-batches as its documents advise for such sinks."""
    import importlib.util

    home = pathlib.Path(importlib.util.find_spec("pyflink").submodule_search_locations[0])
    name = f"flink_{os.getpid()}"
    address = database(stage, name)
    with stage.connect(name) as connection:
        # Its statements name the columns of the key and need a plain unique constraint.
        connection.execute("ALTER TABLE status_by_city ADD UNIQUE (minute, country_code, country, city, status_color, severity)")
    conf = stage.logs / "flink-conf"
    conf.mkdir(exist_ok=True)
    (conf / "config.yaml").write_text("taskmanager:\n  numberOfTaskSlots: 2\n")
    script = stage.logs / "flink.sql"
    script.write_text(FLINK.format(topic=stage.topic(), brokers=stage.brokers, address=address))
    jars = [*home.glob("lib/*.jar"), *home.glob("opt/flink-sql-client*.jar"), *home.glob("opt/flink-python*.jar"), *(stage.jars / "flink").glob("*.jar")]
    opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.lang", "java.util", "java.time", "java.net", "java.util.concurrent", "java.lang.invoke", "sun.net.util")]
    java = os.environ.get("ANABRANCH_JAVA", "java")
    command = [java, "-Xmx2g", *opens, "-cp", ":".join(map(str, jars)), "org.apache.flink.table.client.SqlClient", "-f", str(script)]
    entry = {}
    # Its client ends with an error when a bounded job has ended: what counts is when everything is in the table.
    done = lambda: counted(stage, name) == stage.events
    _, cpu = measured(stage, command, entry, stage.logs / f"{name}.log", done, FLINK_CONF_DIR=str(conf), FLINK_HOME=str(home))
    rates(entry, stage.events, cpu)
    entry["records_counted"] = counted(stage, name)
    return {"speed": entry}
