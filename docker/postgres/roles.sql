-- Run once, when the database is made: who may read published views (docs/sql.md).
CREATE ROLE anabranch_reader NOLOGIN;
CREATE ROLE grafana LOGIN PASSWORD 'grafana' IN ROLE anabranch_reader;
