-- Views with publish = 'postgres': the states of their parts beside the live rows, for SQL.

-- The files of parts whose rows are in the table published_<fingerprint>: whole, or not at all.
CREATE TABLE published_part (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  fingerprint text NOT NULL,
  path        text NOT NULL UNIQUE
);

-- Of which of them the current version is made: what a publication flips.
CREATE TABLE published (
  fingerprint text PRIMARY KEY,
  source      text NOT NULL,
  run         bigint NOT NULL,
  parts       bigint[] NOT NULL,
  FOREIGN KEY (source, fingerprint, run) REFERENCES version (source, fingerprint, run) ON DELETE CASCADE
);

-- The SQL views that were made, with their text.
CREATE TABLE sql_view (
  name        text PRIMARY KEY,
  fingerprint text NOT NULL,
  text        text NOT NULL
);

-- What an answer by the definition `asked` merges, and which offsets it therefore covers: the rule of
-- core/src/protocol/reach.rs, in the snapshot of the statement that calls it.
CREATE FUNCTION reach(asked text, OUT run bigint, OUT parts bigint[], OUT epochs bigint[], OUT coverage jsonb, OUT offsets jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = anabranch, pg_temp AS $$
DECLARE
  of_view      anabranch.view;
  is_reference boolean;
  is_current   boolean := false;
  pruned_to    jsonb;
  below_pruned boolean;
  continues    bigint;
BEGIN
  SELECT * INTO of_view FROM view WHERE serving = asked;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the definition of this view was replaced' USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = 'The next run of batch replaces the SQL view.';
  END IF;
  SELECT resolved->'files' IS NOT NULL AND resolved->'files' <> 'null' INTO is_reference FROM source WHERE name = of_view.source;
  SELECT p.run, p.parts, v.coverage INTO run, parts, coverage
    FROM published p JOIN version v ON v.source = p.source AND v.fingerprint = p.fingerprint AND v.run = p.run
    WHERE p.fingerprint = asked;
  is_current := run = (SELECT max(v.run) FROM version v WHERE v.source = of_view.source AND v.fingerprint = asked);
  SELECT p.coverage INTO pruned_to FROM pruned p WHERE p.source = of_view.source AND p.fingerprint = asked;
  below_pruned := EXISTS (
    SELECT 1 FROM jsonb_each_text(pruned_to) AS pruned (part, reached)
    WHERE coverage->>pruned.part IS NULL OR (coverage->>pruned.part)::bigint < pruned.reached::bigint);
  parts := coalesce(parts, '{}');
  epochs := '{}';
  SELECT coalesce(jsonb_object_agg(p.partition, coalesce((coverage->>p.partition::text)::bigint, p.origin)), '{}') INTO offsets
    FROM partition p WHERE p.source = of_view.source;
  coverage := coalesce(coverage, '{}');
  IF run IS NULL AND (is_reference OR below_pruned OR EXISTS (
      SELECT 1 FROM partition p WHERE p.source = of_view.source AND p.next_offset > p.origin AND NOT EXISTS (
        SELECT 1 FROM epoch_range r JOIN epoch e ON e.id = r.epoch
        WHERE r.source = of_view.source AND r.partition = p.partition AND r.start = p.origin AND r."end" IS DISTINCT FROM r.start
          AND asked = ANY (e.definitions))))
     OR run IS NOT NULL AND below_pruned AND NOT is_current THEN
    RAISE EXCEPTION 'view % is being built', of_view.name USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = 'The next run of batch publishes it.';
  END IF;
  -- A definition that left and returned: nothing live continues its version.
  IF below_pruned THEN RETURN; END IF;
  LOOP
    SELECT e.id INTO continues FROM epoch e
      WHERE e.source = of_view.source AND asked = ANY (e.definitions) AND NOT e.id = ANY (epochs)
        -- Not one whose rows are pruned,
        AND (pruned_to IS NULL OR EXISTS (
          SELECT 1 FROM epoch_range r WHERE r.epoch = e.id AND r."end" IS DISTINCT FROM r.start
            AND (r."end" IS NULL OR pruned_to->>r.partition::text IS NULL OR r."end" > (pruned_to->>r.partition::text)::bigint)))
        -- and one that begins at the reach in every partition it has; ranges that ended where they began are left out.
        AND EXISTS (SELECT 1 FROM epoch_range r WHERE r.epoch = e.id AND r."end" IS DISTINCT FROM r.start)
        AND NOT EXISTS (
          SELECT 1 FROM epoch_range r WHERE r.epoch = e.id AND r."end" IS DISTINCT FROM r.start
            AND (offsets->>r.partition::text)::bigint IS DISTINCT FROM r.start)
      LIMIT 1;
    EXIT WHEN NOT FOUND;
    epochs := epochs || continues;
    SELECT offsets || jsonb_object_agg(r.partition, coalesce(r."end", p.next_offset)) INTO offsets
      FROM epoch_range r JOIN partition p ON p.source = r.source AND p.partition = r.partition
      WHERE r.epoch = continues AND r."end" IS DISTINCT FROM r.start;
  END LOOP;
END
$$;

-- What an answer of a view covers, by its name: ask it in the statement that reads the view.
CREATE FUNCTION answer_of(view_name text, OUT run bigint, OUT coverage jsonb, OUT offsets jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = anabranch, pg_temp AS $$
  SELECT r.run, r.coverage, r.offsets FROM sql_view v, reach(v.fingerprint) r WHERE v.name = view_name
$$;

REVOKE ALL ON FUNCTION reach, answer_of FROM PUBLIC;
