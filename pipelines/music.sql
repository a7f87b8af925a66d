-- A music-streaming app: its event log becomes a star schema, beside the numbers that people ask for every day.

CREATE TABLE music_events (
  artist          TEXT,
  auth            TEXT,
  first_name      TEXT OPTIONS (path = '$.firstName'),
  gender          TEXT,
  item_in_session BIGINT OPTIONS (path = '$.itemInSession'),
  last_name       TEXT OPTIONS (path = '$.lastName'),
  length          DOUBLE,
  level           TEXT,
  location        TEXT,
  method          TEXT,
  page            TEXT NOT NULL,
  registration    TIMESTAMP,
  session_id      BIGINT OPTIONS (path = '$.sessionId'),
  song            TEXT,
  status          BIGINT,
  ts              TIMESTAMP NOT NULL,
  user_agent      TEXT OPTIONS (path = '$.userAgent'),
  user_id         TEXT OPTIONS (path = '$.userId')
) WITH (
  connector = 'kafka',
  topic = 'music-events',
  format = 'json',
  event_time = 'ts',
  timestamp_format = 'epoch_ms'
);
COMMENT ON TABLE music_events IS 'What users of a music-streaming app did: one event per page, as eventsim writes them.';

CREATE TABLE song_catalogue (
  num_songs        BIGINT,
  artist_id        TEXT NOT NULL,
  artist_latitude  DOUBLE,
  artist_longitude DOUBLE,
  artist_location  TEXT,
  artist_name      TEXT NOT NULL,
  song_id          TEXT NOT NULL,
  title            TEXT NOT NULL,
  duration         DOUBLE NOT NULL,
  year             BIGINT
) WITH (
  connector = 'filesystem',
  path = 'music/songs.json',
  format = 'json'
);
COMMENT ON TABLE song_catalogue IS 'The songs that the app knows, as the Million Song Dataset describes them.';

-- The fact table: one row per song that was played.
CREATE MATERIALIZED VIEW songplays WITH (publish = 'postgres') AS
SELECT e.ts AS start_time,
       e.user_id,
       e.level,
       s.song_id,
       s.artist_id,
       e.session_id,
       e.location,
       e.user_agent
FROM music_events AS e
LEFT JOIN song_catalogue AS s ON e.song = s.title AND e.artist = s.artist_name AND e.length = s.duration
WHERE e.page = 'NextSong';
COMMENT ON MATERIALIZED VIEW songplays IS 'The fact table: every song that was played, by whom, where and on which plan.';
COMMENT ON COLUMN songplays.start_time IS 'When the song began.';
COMMENT ON COLUMN songplays.song_id IS 'The song, where the catalogue has it: the same title, artist and length.';

-- The dimensions.
CREATE MATERIALIZED VIEW users WITH ("distinct_limit.users" = '100000', publish = 'postgres') AS
SELECT user_id,
       last(first_name)        AS first_name,
       last(last_name)         AS last_name,
       last(gender)            AS gender,
       last(level)             AS level,
       first(ts)               AS first_seen,
       last(ts)                AS last_seen,
       count(DISTINCT user_id) AS users
FROM music_events
WHERE user_id <> ''
GROUP BY user_id;
COMMENT ON MATERIALIZED VIEW users IS 'Every user, as the latest event says.';

CREATE MATERIALIZED VIEW songs WITH (publish = 'postgres') AS
SELECT song_id, title, artist_id, year, duration FROM song_catalogue;
COMMENT ON MATERIALIZED VIEW songs IS 'Every song of the catalogue.';

CREATE MATERIALIZED VIEW artists WITH ("distinct_limit.artists" = '100000', publish = 'postgres') AS
SELECT artist_id,
       max(artist_name)      AS name,
       max(artist_location)  AS location,
       max(artist_latitude)  AS latitude,
       max(artist_longitude) AS longitude,
       count(*)              AS songs,
       count(DISTINCT artist_id) AS artists
FROM song_catalogue
GROUP BY artist_id;
COMMENT ON MATERIALIZED VIEW artists IS 'Every artist of the catalogue.';

CREATE MATERIALIZED VIEW "time" WITH ("distinct_limit.hours" = '100000', publish = 'postgres') AS
SELECT date_trunc('hour', ts)    AS start_time,
       extract(hour FROM ts)     AS hour,
       extract(day FROM ts)      AS day,
       extract(week FROM ts)     AS week,
       extract(month FROM ts)    AS month,
       extract(year FROM ts)     AS year,
       extract(isodow FROM ts)   AS weekday,
       count(*)                  AS songplays,
       count(DISTINCT date_trunc('hour', ts)) AS hours
FROM music_events
WHERE page = 'NextSong'
GROUP BY 1, 2, 3, 4, 5, 6, 7;
COMMENT ON MATERIALIZED VIEW "time" IS 'The hours in which songs were played, and their parts.';

-- What people ask for every day.
CREATE MATERIALIZED VIEW plays_by_song AS
SELECT date_trunc('hour', e.ts)         AS hour,
       e.song,
       e.artist,
       s.year,
       count(*)                         AS plays,
       count(DISTINCT e.session_id)     AS sessions,
       sum(e.length)                    AS seconds
FROM music_events AS e
LEFT JOIN song_catalogue AS s ON e.song = s.title AND e.artist = s.artist_name AND e.length = s.duration
WHERE e.page = 'NextSong'
GROUP BY 1, 2, 3, 4;

CREATE MATERIALIZED VIEW active_users AS
SELECT date_trunc('day', ts)              AS day,
       level,
       approx_count_distinct(user_id)     AS users,
       count(DISTINCT session_id)         AS sessions,
       count(*)                           AS events
FROM music_events
WHERE auth = 'Logged In'
GROUP BY 1, 2;

CREATE MATERIALIZED VIEW paid_share WITH (publish = 'postgres') AS
SELECT date_trunc('day', ts)                                              AS day,
       count(*)                                                           AS plays,
       count(*) FILTER (WHERE level = 'paid')                             AS paid_plays,
       count(*) FILTER (WHERE level = 'paid') / count(*)                  AS paid_share,
       sum(length) / count(DISTINCT session_id)                           AS seconds_per_session
FROM music_events
WHERE page = 'NextSong'
GROUP BY 1;
COMMENT ON COLUMN paid_share.paid_share IS 'The share of plays by users on a paid plan, 0 to 1.';
