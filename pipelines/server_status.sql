-- The live status of data-centre servers: one event per change of a server's status.

CREATE TABLE server_status (
  event_id                                      TEXT NOT NULL,
  event_server_status_color_name_severity_level TEXT NOT NULL,
  event_datetime                                TIMESTAMP NOT NULL,
  event_server_type                             TEXT,
  event_country_code                            TEXT,
  event_country_name                            TEXT,
  event_city_name                               TEXT,
  event_estimated_issue_resolution_time         BIGINT,
  event_server_status_other_param_1             TEXT,
  event_server_status_other_param_2             TEXT,
  event_server_status_other_param_3             TEXT,
  event_server_status_other_param_4             TEXT,
  event_server_status_other_param_5             TEXT,
  event_server_config_other_param_1             TEXT,
  event_server_config_other_param_2             TEXT,
  event_server_config_other_param_3             TEXT,
  event_server_config_other_param_4             TEXT,
  event_server_config_other_param_5             TEXT,
  -- "Red|Severity 1" is two facts in one field.
  status_color TEXT GENERATED ALWAYS AS (split_part(event_server_status_color_name_severity_level, '|', 1)) STORED,
  severity     TEXT GENERATED ALWAYS AS (split_part(event_server_status_color_name_severity_level, '|', 2)) STORED
) WITH (
  connector = 'kafka',
  topic = 'server-live-status',
  format = 'json',
  event_time = 'event_datetime',
  timestamp_format = '%Y-%m-%d %H:%M:%S'
);

-- What a dashboard asks: how many events of which colour, where, and how long until they are resolved.
CREATE MATERIALIZED VIEW status_by_city WITH (
  "segment.red" = 'status_color = ''Red''',
  metrics       = 'messages BY status_color OVER 1 hour',
  publish       = 'postgres'
) AS
SELECT date_trunc('minute', event_datetime)       AS minute,
       event_country_code                         AS country_code,
       event_country_name                         AS country,
       event_city_name                            AS city,
       status_color,
       severity,
       count(*)                                   AS messages,
       sum(event_estimated_issue_resolution_time) AS resolution_time,
       min(event_estimated_issue_resolution_time) AS min_resolution_time,
       max(event_estimated_issue_resolution_time) AS max_resolution_time,
       avg(event_estimated_issue_resolution_time) AS avg_resolution_time
FROM server_status
GROUP BY 1, 2, 3, 4, 5, 6;

-- Per kind of server: how many distinct events, how slow the slowest are, and how the last one stands.
CREATE MATERIALIZED VIEW status_by_server_type AS
SELECT date_trunc('hour', event_datetime)                                  AS hour,
       event_server_type                                                   AS server_type,
       count(*)                                                            AS messages,
       approx_count_distinct(event_id)                                     AS distinct_events,
       approx_percentile_cont(event_estimated_issue_resolution_time, 0.95) AS p95_resolution_time,
       last(status_color)                                                  AS latest_status
FROM server_status
GROUP BY 1, 2;
