-- syntax
SELEC 1;
-- syntax
CREATE MATERIALIZED VIEW v AS SELECT id, count(* AS n FROM events GROUP BY 1;
-- unknown_statement
SELECT 1;
-- unknown_statement
COMMENT ON SCHEMA events IS 'x';
-- unknown_object
COMMENT ON TABLE event IS 'x';
-- unknown_object
COMMENT ON MATERIALIZED VIEW v IS 'x';
-- unknown_object
COMMENT ON COLUMN events.knd IS 'x';
-- bad_name
COMMENT ON COLUMN kind IS 'x';
-- bad_name
CREATE MATERIALIZED VIEW "a-b" AS SELECT id, count(*) AS n FROM events GROUP BY 1;
-- bad_name
CREATE MATERIALIZED VIEW s.v AS SELECT id, count(*) AS n FROM events GROUP BY 1;
-- not_materialized
CREATE VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 1;
-- no_measure
CREATE MATERIALIZED VIEW v AS SELECT id FROM events GROUP BY 1;
-- no_name
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) FROM events GROUP BY 1;
-- star
CREATE MATERIALIZED VIEW v AS SELECT * FROM events;
-- unknown_source
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM event GROUP BY 1;
-- from
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events, songs GROUP BY 1;
-- subquery
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM (SELECT id FROM events) AS e GROUP BY 1;
-- subquery
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE id IN (SELECT title FROM songs) GROUP BY 1;
-- duplicate_column
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS id FROM events GROUP BY 1;
-- duplicate_column
CREATE TABLE t (a TEXT, a BIGINT) WITH (connector = 'kafka', topic = 't', format = 'json');
-- duplicate_name
CREATE MATERIALIZED VIEW events AS SELECT id, count(*) AS n FROM events GROUP BY 1;
-- duplicate_name
CREATE TABLE events (a TEXT) WITH (connector = 'kafka', topic = 't', format = 'json');
-- duplicate_topic
CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 'events', format = 'json');
-- unknown_column
CREATE MATERIALIZED VIEW v AS SELECT knd, count(*) AS n FROM events GROUP BY 1;
-- unknown_column
CREATE MATERIALIZED VIEW v AS SELECT e.knd, count(*) AS n FROM events AS e GROUP BY 1;
-- unknown_column
CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 't', format = 'json', event_time = 'at');
-- unknown_column
CREATE MATERIALIZED VIEW v WITH ("distinct_limit.m" = '5') AS SELECT id, count(DISTINCT kind) AS n FROM events GROUP BY 1;
-- unknown_table
CREATE MATERIALIZED VIEW v AS SELECT songs.title, count(*) AS n FROM events GROUP BY 1;
-- unknown_table
CREATE MATERIALIZED VIEW v AS SELECT a.b.c, count(*) AS n FROM events GROUP BY 1;
-- ambiguous
CREATE MATERIALIZED VIEW v AS SELECT kind, count(*) AS n FROM events JOIN songs ON id = title GROUP BY 1;
-- kafka_key
CREATE MATERIALIZED VIEW v AS SELECT kafka_key, count(*) AS n FROM events GROUP BY 1;
-- unknown_function
CREATE MATERIALIZED VIEW v AS SELECT lowr(id) AS x, count(*) AS n FROM events GROUP BY 1;
-- unknown_function
CREATE MATERIALIZED VIEW v AS SELECT id, string_agg(kind) AS n FROM events GROUP BY 1;
-- unknown_operator
CREATE MATERIALIZED VIEW v AS SELECT amount & 3 AS x, count(*) AS n FROM events GROUP BY 1;
-- unknown_operator
CREATE MATERIALIZED VIEW v AS SELECT at * INTERVAL '1 hour' AS x, count(*) AS n FROM events GROUP BY 1;
-- unknown_expression
CREATE MATERIALIZED VIEW v AS SELECT id COLLATE "C" AS x, count(*) AS n FROM events GROUP BY 1;
-- unknown_literal
CREATE MATERIALIZED VIEW v AS SELECT X'ff' AS x, count(*) AS n FROM events GROUP BY 1;
-- unknown_granularity
CREATE MATERIALIZED VIEW v AS SELECT date_trunc('fortnight', at) AS t, count(*) AS n FROM events GROUP BY 1;
-- unknown_field
CREATE MATERIALIZED VIEW v AS SELECT extract(jiffy FROM at) AS t, count(*) AS n FROM events GROUP BY 1;
-- bad_interval
CREATE MATERIALIZED VIEW v AS SELECT date_bin(INTERVAL '1 month', at, TIMESTAMP '2026-01-01 00:00:00') AS t, count(*) AS n FROM events GROUP BY 1;
-- bad_interval
CREATE MATERIALIZED VIEW v AS SELECT at + INTERVAL 'a while' AS t, count(*) AS n FROM events GROUP BY 1;
-- bad_interval
CREATE MATERIALIZED VIEW v AS SELECT date_bin(0, at, TIMESTAMP '2026-01-01 00:00:00') AS t, count(*) AS n FROM events GROUP BY 1;
-- wrong_types
CREATE MATERIALIZED VIEW v AS SELECT lower(amount) AS x, count(*) AS n FROM events GROUP BY 1;
-- wrong_types
CREATE MATERIALIZED VIEW v AS SELECT id, sum(kind) AS n FROM events GROUP BY 1;
-- wrong_types
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE amount GROUP BY 1;
-- wrong_types
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) FILTER (WHERE kind) AS n FROM events GROUP BY 1;
-- wrong_types
CREATE MATERIALIZED VIEW v AS SELECT CASE WHEN amount THEN 1 END AS x, count(*) AS n FROM events GROUP BY 1;
-- wrong_types
CREATE MATERIALIZED VIEW v AS SELECT CASE WHEN amount > 1 THEN 1 ELSE 'many' END AS x, count(*) AS n FROM events GROUP BY 1;
-- wrong_types
CREATE MATERIALIZED VIEW v AS SELECT id, max(at - at) AS n FROM events GROUP BY 1;
-- wrong_types
CREATE MATERIALIZED VIEW v AS SELECT price * price * price * price AS x, count(*) AS n FROM events GROUP BY 1;
-- sum_overflow
CREATE MATERIALIZED VIEW v AS SELECT id, sum(price * price) AS n FROM events GROUP BY 1;
-- bad_literal
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE at > 'soon' GROUP BY 1;
-- bad_number
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE share > 1e400 GROUP BY 1;
-- cast
CREATE MATERIALIZED VIEW v AS SELECT CAST(at AS BIGINT) AS x, count(*) AS n FROM events GROUP BY 1;
-- split_part_zero
CREATE MATERIALIZED VIEW v AS SELECT split_part(id, '|', 0) AS x, count(*) AS n FROM events GROUP BY 1;
-- bad_pattern
CREATE MATERIALIZED VIEW v AS SELECT regexp_like(id, '(') AS x, count(*) AS n FROM events GROUP BY 1;
-- bad_arguments
CREATE MATERIALIZED VIEW v AS SELECT regexp_like(id, kind) AS x, count(*) AS n FROM events GROUP BY 1;
-- bad_arguments
CREATE MATERIALIZED VIEW v AS SELECT id, sum(*) AS n FROM events GROUP BY 1;
-- bad_arguments
CREATE MATERIALIZED VIEW v AS SELECT id, sum(amount, 2) AS n FROM events GROUP BY 1;
-- bad_rank
CREATE MATERIALIZED VIEW v AS SELECT id, approx_percentile_cont(amount, 2.0) AS n FROM events GROUP BY 1;
-- not_deterministic
CREATE MATERIALIZED VIEW v AS SELECT id, now() AS t, count(*) AS n FROM events GROUP BY 1, 2;
-- aggregate_here
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE count(*) > 1 GROUP BY 1;
-- nested_aggregate
CREATE MATERIALIZED VIEW v AS SELECT id, sum(count(*)) AS n FROM events GROUP BY 1;
-- column_beside_aggregate
CREATE MATERIALIZED VIEW v AS SELECT id, sum(amount) / amount AS n FROM events GROUP BY 1;
-- distinct
CREATE MATERIALIZED VIEW v AS SELECT id, sum(DISTINCT amount) AS n FROM events GROUP BY 1;
-- no_event_time
CREATE MATERIALIZED VIEW v AS SELECT title, last(kind) AS n FROM songs GROUP BY 1;
-- group_by
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY ALL;
-- group_by
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 3;
-- group_by
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 1, 2;
-- group_by
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY id WITH ROLLUP;
-- not_grouped
CREATE MATERIALIZED VIEW v AS SELECT id, kind, count(*) AS n FROM events GROUP BY 1;
-- having
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 1 HAVING count(*) > 1;
-- not_supported
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 1 ORDER BY 2;
-- not_supported
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 1 LIMIT 5;
-- not_supported
CREATE MATERIALIZED VIEW v AS WITH e AS (SELECT 1) SELECT id, count(*) AS n FROM events GROUP BY 1;
-- not_supported
CREATE MATERIALIZED VIEW v AS SELECT id FROM events UNION SELECT title FROM songs;
-- not_supported
CREATE MATERIALIZED VIEW v AS SELECT DISTINCT id FROM events;
-- not_supported
CREATE MATERIALIZED VIEW v AS SELECT id, last(kind ORDER BY at) AS n FROM events GROUP BY 1;
-- window
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) OVER (PARTITION BY id) AS n FROM events;
-- syntax
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE id IN () GROUP BY 1;
-- join
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events JOIN others ON id = other GROUP BY 1;
-- join
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events RIGHT JOIN songs ON id = title GROUP BY 1;
-- join
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events CROSS JOIN songs GROUP BY 1;
-- join
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events JOIN songs USING (id) GROUP BY 1;
-- join
CREATE MATERIALIZED VIEW v AS SELECT title, count(*) AS n FROM songs JOIN songs AS s ON songs.title = s.title GROUP BY 1;
-- join
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events JOIN songs ON id = title JOIN songs ON id = title GROUP BY 1;
-- join_condition
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events JOIN songs ON id > title GROUP BY 1;
-- join_condition
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events JOIN songs ON id = events.kind GROUP BY 1;
-- join_types
CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events JOIN songs ON amount = title GROUP BY 1;
-- reserved_name
CREATE TABLE t (kafka_offset BIGINT) WITH (connector = 'kafka', topic = 't', format = 'json');
-- reserved_name
CREATE MATERIALIZED VIEW v AS SELECT id, amount AS count FROM events;
-- unknown_type
CREATE TABLE t (a MONEY) WITH (connector = 'kafka', topic = 't', format = 'json');
-- decimal_size
CREATE TABLE t (a DECIMAL(20, 2)) WITH (connector = 'kafka', topic = 't', format = 'json');
-- no_columns
CREATE TABLE t () WITH (connector = 'kafka', topic = 't', format = 'json');
-- no_options
CREATE TABLE t (a TEXT);
-- missing_option
CREATE TABLE t (a TEXT) WITH (connector = 'kafka', format = 'json');
-- unknown_option
CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topik = 't', format = 'json');
-- unknown_option
CREATE TABLE t (a TEXT OPTIONS (pth = '$.a')) WITH (connector = 'kafka', topic = 't', format = 'json');
-- duplicate_option
CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 't', topic = 'u', format = 'json');
-- bad_option
CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 5, format = 'json');
-- option_value
CREATE TABLE t (a TEXT) WITH (connector = 'pulsar', topic = 't', format = 'json');
-- option_value
CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 't', format = 'json', start = 'yesterday');
-- option_value
CREATE TABLE t (a TEXT) WITH (connector = 'filesystem', path = 'a.csv', format = 'csv', unique = 'last');
-- option_value
CREATE MATERIALIZED VIEW v WITH ("distinct_limit.n" = 'many') AS SELECT id, count(DISTINCT kind) AS n FROM events GROUP BY 1;
-- option_here
CREATE TABLE t (a TEXT) WITH (connector = 'filesystem', path = 'a.csv', format = 'csv', topic = 't');
-- option_here
CREATE TABLE t (a TEXT OPTIONS (timestamp_format = 'epoch_ms')) WITH (connector = 'kafka', topic = 't', format = 'json');
-- bad_path
CREATE TABLE t (a TEXT OPTIONS (path = 'a.b')) WITH (connector = 'kafka', topic = 't', format = 'json');
-- same_member
CREATE TABLE t (a TEXT OPTIONS (path = '$.x'), b TEXT OPTIONS (path = '$.x.y')) WITH (connector = 'kafka', topic = 't', format = 'json');
-- column_option
CREATE TABLE t (a TEXT PRIMARY KEY) WITH (connector = 'kafka', topic = 't', format = 'json');
-- generated_type
CREATE TABLE t (a TEXT, b BIGINT GENERATED ALWAYS AS (lower(a)) STORED) WITH (connector = 'kafka', topic = 't', format = 'json');
-- event_time_type
CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 't', format = 'json', event_time = 'a');
-- timestamp_format
CREATE TABLE t (a TIMESTAMP) WITH (connector = 'kafka', topic = 't', format = 'json', timestamp_format = 'epoch_ns');
-- segment
CREATE MATERIALIZED VIEW v WITH ("segment.red" = 'kind = ') AS SELECT kind, count(*) AS n FROM events GROUP BY 1;
-- segment
CREATE MATERIALIZED VIEW v WITH ("segment.red" = 'knd = ''a''') AS SELECT kind, count(*) AS n FROM events GROUP BY 1;
-- segment
CREATE MATERIALIZED VIEW v WITH ("segment.red" = 'lower(kind)') AS SELECT kind, count(*) AS n FROM events GROUP BY 1;
-- metrics
CREATE MATERIALIZED VIEW v WITH (metrics = 'BY kind') AS SELECT kind, count(*) AS n FROM events GROUP BY 1;
-- metrics
CREATE MATERIALIZED VIEW v WITH (metrics = 'n OVER 1 hour') AS SELECT kind, count(*) AS n FROM events GROUP BY 1;
-- metrics
CREATE MATERIALIZED VIEW v WITH (metrics = 'n BY kind OVER soon') AS SELECT date_trunc('hour', kafka_timestamp) AS hour, kind, count(*) AS n FROM events GROUP BY 1, 2;
-- metrics
CREATE MATERIALIZED VIEW v WITH (metrics = 'k') AS SELECT kind, max(kind) AS k FROM events GROUP BY 1;
-- unknown_column
CREATE MATERIALIZED VIEW v WITH (metrics = 'm BY kind') AS SELECT kind, count(*) AS n FROM events GROUP BY 1;
-- unknown_column
CREATE MATERIALIZED VIEW v WITH (metrics = 'n BY kinds') AS SELECT kind, count(*) AS n FROM events GROUP BY 1;
-- option_value
CREATE MATERIALIZED VIEW v WITH (publish = 'postgresql') AS SELECT kind, count(*) AS n FROM events GROUP BY 1;
