-- One row: ties this database to one warehouse.
CREATE TABLE identity (
  only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  incarnation uuid NOT NULL
);

CREATE TABLE source (
  name         text PRIMARY KEY,
  topic        text NOT NULL UNIQUE,
  -- The resolved source of the newest definition: what the archive's columns are.
  resolved     jsonb NOT NULL,
  cut_wanted   bigint NOT NULL DEFAULT 0,
  cut_finished bigint NOT NULL DEFAULT 0,
  -- Raised whenever what epochs must fold changes.
  definitions  bigint NOT NULL DEFAULT 0,
  running      bigint
);

CREATE TABLE definition (
  source      text NOT NULL REFERENCES source,
  view        text NOT NULL,
  fingerprint text NOT NULL,
  resolved    jsonb NOT NULL,
  PRIMARY KEY (source, fingerprint)
);

CREATE TABLE view (
  source  text NOT NULL REFERENCES source,
  name    text NOT NULL UNIQUE,
  wanted  text NOT NULL,
  serving text NOT NULL,
  PRIMARY KEY (source, name)
);

CREATE TABLE partition (
  source         text NOT NULL REFERENCES source,
  partition      integer NOT NULL,
  origin         bigint NOT NULL CHECK (origin >= 0),
  next_offset    bigint NOT NULL CHECK (next_offset >= origin),
  high_watermark bigint NOT NULL DEFAULT 0,
  cut            bigint NOT NULL DEFAULT 0,
  epoch          bigint,
  -- Below this position everything is committed to the archive or holds no record.
  archived_to    bigint NOT NULL CHECK (archived_to >= origin),
  -- The end of the last committed archive file.
  committed_to   bigint,
  PRIMARY KEY (source, partition)
);

CREATE SEQUENCE epoch_id;

CREATE TABLE epoch (
  id          bigint PRIMARY KEY,
  source      text NOT NULL REFERENCES source,
  cut         bigint NOT NULL,
  definitions text[] NOT NULL,
  flush       bigint NOT NULL DEFAULT 0
);

CREATE TABLE epoch_range (
  epoch     bigint NOT NULL REFERENCES epoch ON DELETE CASCADE,
  source    text NOT NULL,
  partition integer NOT NULL,
  start     bigint NOT NULL,
  "end"     bigint CHECK ("end" >= start),
  PRIMARY KEY (epoch, partition)
);
CREATE UNIQUE INDEX epoch_range_open ON epoch_range (source, partition) WHERE "end" IS NULL;

CREATE TABLE cut_offset (
  source    text NOT NULL REFERENCES source,
  cut       bigint NOT NULL,
  partition integer NOT NULL,
  "offset"  bigint NOT NULL,
  PRIMARY KEY (source, cut, partition)
);

-- One header row per flush (fingerprint '') and one Arrow message per view that changed.
CREATE TABLE flush (
  epoch       bigint NOT NULL,
  flush       bigint NOT NULL,
  fingerprint text NOT NULL DEFAULT '',
  changes     bytea,
  flushed_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (epoch, flush, fingerprint)
);
CREATE INDEX flush_age ON flush (flushed_at);

CREATE SEQUENCE run_id;

CREATE TABLE run (
  id         bigint PRIMARY KEY,
  source     text NOT NULL REFERENCES source,
  uuid       uuid NOT NULL,
  kind       text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  ended_at   timestamptz,
  outcome    text,
  error      text,
  cut        bigint,
  records    bigint NOT NULL DEFAULT 0,
  bytes_read bigint NOT NULL DEFAULT 0,
  peak_memory_bytes bigint NOT NULL DEFAULT 0
);
CREATE INDEX run_of_source ON run (source, id);

CREATE TABLE version (
  source       text NOT NULL REFERENCES source,
  view         text NOT NULL,
  fingerprint  text NOT NULL,
  run          bigint NOT NULL REFERENCES run,
  previous_run bigint,
  cut          bigint NOT NULL,
  coverage     jsonb NOT NULL,
  folder       text NOT NULL,
  published_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, fingerprint, run)
);

CREATE TABLE pruned (
  source      text NOT NULL REFERENCES source,
  fingerprint text NOT NULL,
  coverage    jsonb NOT NULL,
  PRIMARY KEY (source, fingerprint)
);

CREATE TABLE drift (
  run         bigint NOT NULL REFERENCES run,
  view        text NOT NULL,
  cell        text NOT NULL,
  kept        text NOT NULL,
  recomputed  text NOT NULL
);
