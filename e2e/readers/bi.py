"""Reads published views as BI tools do: looks at the schema through SQLAlchemy, then asks as Superset and Grafana ask."""

import json
import sys

import sqlalchemy
from sqlalchemy import column, func, select, table

engine = sqlalchemy.create_engine(sys.argv[1].replace("postgres://", "postgresql+psycopg://"))
inspector = sqlalchemy.inspect(engine)
views = {
    view: {found["name"]: [str(found["type"]), found["comment"]] for found in inspector.get_columns(view, schema="serving")}
    for view in inspector.get_view_names(schema="serving")
}
comments = {view: inspector.get_table_comment(view, schema="serving")["text"] for view in views}

# Superset: a time column at a grain, a dimension, an aggregate, a time range, the largest first, a limit.
city = table("status_by_city", *(column(name) for name in views["status_by_city"]), schema="serving")
grain = func.date_trunc("hour", city.c.minute).label("__timestamp")
messages = func.sum(city.c.messages).label("SUM(messages)")
superset = (
    select(grain, city.c.status_color, messages)
    .where(city.c.minute >= sqlalchemy.text("'1970-01-01 00:00:00.000000'"))
    .group_by(grain, city.c.status_color)
    .order_by(messages.desc())
    .limit(10_000)
)
# Grafana: what $__timeGroupAlias(minute, '1m') and $__timeFilter(minute) become.
grafana = sqlalchemy.text("""
    SELECT floor(extract(epoch from minute)/60)*60 AS "time", status_color AS metric, sum(messages) AS "messages"
    FROM serving.status_by_city
    WHERE minute BETWEEN '1970-01-01T00:00:00Z' AND '2200-01-01T00:00:00Z'
    GROUP BY 1, 2 ORDER BY 1, 2
""")
with engine.connect() as connection:
    by_hour = [[str(time), color, int(count)] for time, color, count in connection.execute(superset)]
    by_minute = [[float(time), color, int(count)] for time, color, count in connection.execute(grafana)]
print(json.dumps({"views": views, "comments": comments, "superset": by_hour, "grafana": by_minute}))
