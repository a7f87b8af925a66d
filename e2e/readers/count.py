"""Counts the rows of an archive folder with DuckDB and pyarrow, without any option: it is plain Parquet."""
import json
import sys

import duckdb
import pyarrow.dataset

folder = sys.argv[1]
files = f"read_parquet('{folder}/*.parquet')"
rejected = duckdb.sql(f"SELECT decode_error, count(*) FROM {files} WHERE decode_error IS NOT NULL GROUP BY 1").fetchall()
dataset = pyarrow.dataset.dataset(folder, format="parquet")
print(
    json.dumps(
        {
            "duckdb": duckdb.sql(f"SELECT count(*) FROM {files}").fetchall()[0][0],
            # Every column is read, not the footers alone.
            "pyarrow": dataset.to_table().num_rows,
            "rejected": dict(rejected),
        }
    )
)
