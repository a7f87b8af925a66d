// The pipeline: per source its partitions, both arms of each view, rejected records, runs and audits.

import { useEffect, useState } from "preact/hooks";

import { type Lambda, readStatus, type SourceStatus, type ViewStatus } from "./api";
import { Panel } from "./charts";
import { ago, count } from "./format";
import { type Heard, SILENT_MS } from "./freshness";
import { Rejected } from "./rejected";

const EVERY_MS = 2_000;

/** Per partition: what batch covers, what speed adds, what is still to be read. */
function Arms(props: { source: SourceStatus; view: ViewStatus }) {
  const { source, view } = props;
  const rows = source.partitions.map((partition) => {
    const from = partition.origin;
    const covered = Math.max(from, view.coverage[partition.partition] ?? from);
    const reached = Math.max(covered, view.offsets[partition.partition] ?? covered);
    const end = Math.max(reached, partition.high_watermark, from + 1);
    return { number: partition.partition, from, covered, reached, end };
  });
  const said = rows.map((row) => `partition ${row.number}: batch to ${row.covered}, speed to ${row.reached}, end ${row.end}`).join("; ");
  const height = 14;
  return (
    <svg class="arms" viewBox={`0 0 640 ${Math.max(rows.length, 1) * height + 4}`} role="img" aria-label={`${view.view}: ${said}`}>
      {rows.map((row, index) => {
        const x = (offset: number) => 34 + ((offset - row.from) / (row.end - row.from)) * 500;
        const y = index * height + 3;
        return (
          <g>
            <title>{`partition ${row.number}: batch ${count(row.from)} … ${count(row.covered)}, speed … ${count(row.reached)}, end ${count(row.end)}`}</title>
            <text x="0" y={y + 8}>
              p{row.number}
            </text>
            <rect class="unread" x={x(row.from)} y={y} width={500} height="9" rx="2" />
            <rect class="speed" x={x(row.covered)} y={y} width={Math.max(0, x(row.reached) - x(row.covered))} height="9" />
            <rect class="batch" x={x(row.from)} y={y} width={Math.max(0, x(row.covered) - x(row.from))} height="9" rx="2" />
            <text x="542" y={y + 8}>
              {count(row.reached)}
            </text>
          </g>
        );
      })}
    </svg>
  );
}

function Source(props: { source: SourceStatus }) {
  const { source } = props;
  const lag = source.partitions.reduce((sum, partition) => sum + partition.lag, 0);
  const speedAway = source.speed_silent_ms !== null && source.speed_silent_ms > SILENT_MS;
  const batchAway = source.batch_silent_ms === null || source.batch_silent_ms > SILENT_MS;
  const rejected = Object.values(source.rejected);
  const kafka = source.topic !== "";
  return (
    <>
      <h2 class="source">
        {source.source} {kafka && <small>topic {source.topic}</small>}
      </h2>
      {kafka && (
        <div class="tiles">
          <div class={speedAway ? "tile red" : "tile"} id="speed-state">
            <span class="name">speed</span>
            <strong>{speedAway ? "away" : "reading"}</strong>
            <span class="muted">{source.speed_silent_ms === null ? "never heard" : `heard ${ago(source.speed_silent_ms)} ago`}</span>
          </div>
          <div class={batchAway ? "tile red" : "tile"}>
            <span class="name">batch</span>
            <strong>{batchAway ? "away" : "running"}</strong>
            <span class="muted">{source.batch_silent_ms === null ? "no leader" : `heard ${ago(source.batch_silent_ms)} ago`}</span>
          </div>
          <div class="tile">
            <span class="name">lag</span>
            <strong>{count(lag)}</strong>
            <span class="muted">records that speed has not read</span>
          </div>
          <div class={rejected.length ? "tile amber" : "tile"}>
            <span class="name">rejected</span>
            <strong>{count(rejected.reduce((sum, number) => sum + number, 0))}</strong>
            <span class="muted">records, kept with their reason</span>
          </div>
        </div>
      )}
      {source.speed_trouble && <p class="problem">{source.speed_trouble}</p>}
      {source.lost.map((range) => (
        <p class="problem">
          lost: partition {range.partition}, offsets {count(range.start)} to {count(range.end)}; answers are without these records
        </p>
      ))}
      <div class="grid">
        {kafka && (
          <Panel title="The two arms" id={`arms-${source.source}`} wide>
            <p class="legend">
              <span class="batch" /> batch version <span class="speed" /> live rows <span class="unread" /> not read yet
            </p>
            <div class="all-arms">
            {source.views.map((view) => (
              <div class="view-arms">
                <h3>
                  <a href={`?view=${view.view}`}>{view.view}</a>{" "}
                  <small>
                    {view.state === "ready" ? (view.run === null ? "live rows alone" : `version of run ${view.run}${view.version_age_ms === null ? "" : `, ${ago(view.version_age_ms)} old`}`) : view.state}; {count(view.version_groups)} groups from batch,{" "}
                    {count(view.live_groups)} live{view.late_groups["1h"] ? `, ${count(view.late_groups["1h"])} of them from more than an hour ago` : ""}
                  </small>
                </h3>
                {view.failure && <p class="problem">{view.failure}</p>}
                <Arms source={source} view={view} />
              </div>
            ))}
            </div>
          </Panel>
        )}
        {kafka && (
          <Panel title="Partitions" id={`partitions-${source.source}`} wide>
            <div class="scroll" tabIndex={0} role="region" aria-label="Partitions">
              <table>
                <thead>
                  <tr>
                    {["Partition", "Speed at", "End", "Lag", "Archived to", "Trouble"].map((title, index) => (
                      <th scope="col" class={index < 5 ? "number" : ""}>
                        {title}
                      </th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  {source.partitions.map((partition) => (
                    <tr>
                      <th scope="row" class="number">
                        {partition.partition}
                      </th>
                      <td class="number">{count(partition.next_offset)}</td>
                      <td class="number">{count(partition.high_watermark)}</td>
                      <td class="number">{count(partition.lag)}</td>
                      <td class="number">{count(partition.archived_to)}</td>
                      <td>{partition.speed_trouble ?? partition.archive_trouble ?? ""}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </Panel>
        )}
        {kafka && <Rejected source={source} />}
        <Panel title="Runs and audits" id={`runs-${source.source}`} wide>
          {source.runs.length === 0 ? (
            <p class="muted">None yet.</p>
          ) : (
            <div class="scroll" tabIndex={0} role="region" aria-label="Runs">
              <table>
                <thead>
                  <tr>
                    {["Run", "Kind", "Started (UTC)", "Took", "Records", "Outcome"].map((title) => (
                      <th scope="col">{title}</th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  {source.runs.map((run) => (
                    <tr class={run.outcome === "failed" || run.outcome === "drift" ? "bad" : ""}>
                      <th scope="row">{run.run}</th>
                      <td>{run.kind}</td>
                      <td class="time">{run.started_at}</td>
                      <td class="number">{run.seconds.toFixed(1)} s</td>
                      <td class="number">{count(run.records)}</td>
                      <td title={run.error ?? ""}>
                        {run.outcome ?? "running"}
                        {run.drift > 0 && `, ${count(run.drift)} cells differed`}
                        {run.error && `: ${run.error}`}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Panel>
      </div>
    </>
  );
}

const most = (values: (number | null)[]): number | null => values.reduce((most, value) => (value === null ? most : Math.max(value, most ?? 0)), null);

/** How fresh all of them are: the least fresh one counts. */
function asLambda(sources: SourceStatus[]): Lambda {
  const views = sources.flatMap((source) => source.views);
  const sum = (values: number[]) => values.reduce((sum, value) => sum + value, 0);
  return {
    run: null,
    lag_records: sum(sources.flatMap((source) => source.partitions.map((partition) => partition.lag))),
    refreshed_ms_ago: 0,
    speed_silent_ms: most(sources.map((source) => source.speed_silent_ms)),
    version_age_ms: most(views.map((view) => view.version_age_ms)),
    version_groups: sum(views.map((view) => view.version_groups)),
    live_groups: sum(views.map((view) => view.live_groups)),
    coverage: {},
    offsets: {},
    lost: Object.fromEntries(sources.map((source) => [source.topic, Object.fromEntries(source.lost.map((lost) => [lost.partition, []]))])),
  };
}

export function PipelinePage(props: { hear: (news: Partial<Heard>) => void }) {
  const { hear } = props;
  const [sources, setSources] = useState<SourceStatus[] | null>(null);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    let left = false;
    const look = async () => {
      try {
        const sources = await readStatus();
        setSources(sources);
        hear({ lambda: asLambda(sources), at: Date.now(), away: false });
        setTrouble("");
      } catch (error) {
        hear({ away: true });
        setTrouble(error instanceof Error ? error.message : "the server does not answer");
      }
      if (!left) timer = setTimeout(look, EVERY_MS);
    };
    void look();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, []);
  return (
    <>
      {trouble && (
        <p class="problem" role="alert">
          {trouble}; what stands below is the last that was heard
        </p>
      )}
      {sources === null ? !trouble && <p class="muted">Reading the status …</p> : sources.map((source) => <Source source={source} key={source.source} />)}
    </>
  );
}
