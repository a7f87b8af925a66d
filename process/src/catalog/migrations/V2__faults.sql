-- Why a partition cannot go on: Kafka lost offsets that a layer has not read.
ALTER TABLE partition ADD COLUMN speed_trouble text, ADD COLUMN archive_trouble text;

-- Why speed reads nothing of the source: a view has too many live rows.
ALTER TABLE source ADD COLUMN speed_trouble text;

-- Why the newest run could not build the definition, and whether epochs leave it out until one can.
ALTER TABLE definition ADD COLUMN failure text, ADD COLUMN left_out boolean NOT NULL DEFAULT false;

-- Offsets that nobody has: accepted by skip-lost, and passed by a version's coverage.
CREATE TABLE lost_range (
  source    text NOT NULL REFERENCES source,
  partition integer NOT NULL,
  start     bigint NOT NULL,
  "end"     bigint NOT NULL CHECK ("end" > start),
  PRIMARY KEY (source, partition, start)
);

-- Who holds which lease, and when its connection was alive last.
CREATE TABLE lease (
  name         text PRIMARY KEY,
  backend      integer NOT NULL,
  heartbeat_at timestamptz NOT NULL
);
