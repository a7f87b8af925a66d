-- When speed wrote of a partition last: silence is told from a topic that is quiet.
ALTER TABLE partition ADD COLUMN speed_seen_at timestamptz;
