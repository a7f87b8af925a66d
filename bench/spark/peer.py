"""Spark Structured Streaming: `peer.py speed|archive BROKERS TOPIC POSTGRES FOLDER JARS`."""

import json
import sys
import time

from pyspark.sql import SparkSession, functions as f
from pyspark.sql.types import LongType, StringType, StructField, StructType, TimestampType

part, brokers, topic, postgres, folder, jars = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.driver.extraClassPath", jars.replace(",", ":"))
    .config("spark.driver.memory", "3g")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    # As many as threads: the default of 200 only slows a small machine down.
    .config("spark.sql.shuffle.partitions", "2")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
texts = ["event_id", "event_server_status_color_name_severity_level", "event_server_type", "event_country_code", "event_country_name", "event_city_name"]
texts += [f"event_server_{kind}_other_param_{index}" for kind in ("status", "config") for index in range(1, 6)]
schema = StructType([StructField(name, StringType()) for name in texts])
schema = schema.add("event_datetime", TimestampType()).add("event_estimated_issue_resolution_time", LongType())
records = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", brokers)
    .option("subscribe", topic)
    .option("startingOffsets", "earliest")
    .load()
)
decoded = f.from_json(f.col("value").cast("string"), schema, {"timestampFormat": "yyyy-MM-dd HH:mm:ss"}).alias("event")
level = f.split(f.col("event_server_status_color_name_severity_level"), "\\|")
url = f"jdbc:postgresql://{postgres}?user=anabranch"


def upsert(batch, number):
    batch.write.jdbc(url, "staging", mode="overwrite", properties={"driver": "org.postgresql.Driver", "batchsize": "5000", "reWriteBatchedInserts": "true"})
    connection = spark._jvm.java.sql.DriverManager.getConnection(url)
    connection.createStatement().execute(
        "INSERT INTO status_by_city SELECT * FROM staging"
        " ON CONFLICT (minute, country_code, country, city, status_color, severity) DO UPDATE SET messages = EXCLUDED.messages,"
        " resolution_time = EXCLUDED.resolution_time, min_resolution_time = EXCLUDED.min_resolution_time, max_resolution_time = EXCLUDED.max_resolution_time"
    )
    connection.close()


if part == "speed":
    value = f.col("event_estimated_issue_resolution_time")
    groups = [
        f.date_trunc("minute", f.col("event_datetime")).alias("minute"),
        f.col("event_country_code").alias("country_code"),
        f.col("event_country_name").alias("country"),
        f.col("event_city_name").alias("city"),
        level[0].alias("status_color"),
        level[1].alias("severity"),
    ]
    sums = [f.count("*").alias("messages"), f.sum(value).alias("resolution_time"), f.min(value).alias("min_resolution_time"), f.max(value).alias("max_resolution_time")]
    writer = records.select(decoded).select("event.*").groupBy(*groups).agg(*sums).writeStream.outputMode("update").foreachBatch(upsert)
else:
    columns = ["event.*", "partition", "offset", "timestamp", "key", "value"]
    writer = records.select(decoded, "partition", "offset", "timestamp", "key", "value").select(*columns)
    writer = writer.writeStream.format("parquet").option("path", folder).option("compression", "zstd")
began = time.monotonic()
# Everything that is there, in as few batches as Spark likes: its fastest way.
query = writer.option("checkpointLocation", f"{folder}-checkpoint").trigger(availableNow=True).start()
query.awaitTermination()
seconds = time.monotonic() - began
written = 0 if part == "speed" else spark.read.parquet(folder).count()
print(json.dumps({"seconds": round(seconds, 2), "records": written}))
