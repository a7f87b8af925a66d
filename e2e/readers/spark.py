"""Runs the printed statements in Spark SQL with its embedded catalogue; prints records, rejected, good ones, a sum."""

import sys

from pyspark.sql import SparkSession

session = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.hadoop.dfs.client.use.datanode.hostname", "false")
    .config("spark.sql.catalogImplementation", "hive")
    .config("spark.hadoop.javax.jdo.option.ConnectionURL", "jdbc:derby:memory:catalogue;create=true")
    .getOrCreate()
)
session.sparkContext.setLogLevel("ERROR")
# Hive has the tables' names in small letters, one catalogue for each run.
code = "\n".join(line for line in sys.argv[1].splitlines() if not line.startswith("--"))
for statement in code.split(";"):
    if statement.strip():
        session.sql(statement)
row = session.sql(
    "SELECT count(*), count(decode_error), count(event_id), sum(event_estimated_issue_resolution_time) FROM server_status"
).first()
print(*row)
