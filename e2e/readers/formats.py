"""Reads an answer in a format and prints its rows as JSON, and what its schema says of it."""

import io
import json
import sys

import duckdb
import pyarrow
import pyarrow.ipc
import pyarrow.parquet


def rows(table):
    def plain(value):
        if hasattr(value, "isoformat"):
            return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}"
        return float(value) if type(value).__name__ == "Decimal" else value

    return [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]


form, path = sys.argv[1:]
content = open(path, "rb").read()
metadata = {}
if form == "arrow":
    table = pyarrow.ipc.open_stream(io.BytesIO(content)).read_all()
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    found = rows(table)
elif form == "parquet":
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items() if key != b"ARROW:schema"}
    found = rows(table)
    assert duckdb.sql(f"SELECT count(*) FROM '{path}'").fetchall()[0][0] == len(found)
elif form == "csv":
    found = rows(duckdb.sql(f"SELECT * FROM read_csv('{path}', header = true, all_varchar = true)").arrow().read_all())
else:
    found = [json.loads(line) for line in content.splitlines()]
print(json.dumps({"rows": found, "metadata": metadata}))
