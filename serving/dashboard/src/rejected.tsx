// Rejected records: how many by reason, and some of them with what they say.

import { useState } from "preact/hooks";

import { readRejected, type RejectedRecords, type SourceStatus } from "./api";
import { Panel } from "./charts";
import { count } from "./format";

const time = (milliseconds: number | null): string => (milliseconds === null ? "" : new Date(milliseconds).toISOString().replace("T", " ").slice(0, 19));

/** Read when they are opened: they come from the archive, not from memory. */
function Samples(props: { source: string }) {
  const [found, setFound] = useState<RejectedRecords | null>(null);
  const [trouble, setTrouble] = useState("");
  const read = async () => {
    try {
      setFound(await readRejected(props.source));
      setTrouble("");
    } catch (error) {
      setTrouble(error instanceof Error ? error.message : "the server does not answer");
    }
  };
  return (
    <details class="samples" onToggle={(event) => event.currentTarget.open && void read()}>
      <summary>The newest of them</summary>
      {trouble && (
        <p class="problem" role="alert">
          {trouble}
        </p>
      )}
      {found && (
        <>
          <div class="scroll" tabIndex={0} role="region" aria-label="Rejected records">
            <table>
              <thead>
                <tr>
                  {["Partition", "Offset", "Time (UTC)", "Reason", "Value"].map((title, index) => (
                    <th scope="col" class={index < 2 ? "number" : ""}>
                      {title}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {found.records.map((record) => (
                  <tr>
                    <td class="number">{record.partition}</td>
                    <td class="number">{count(record.offset)}</td>
                    <td class="time">{time(record.timestamp_ms)}</td>
                    <td>{record.reason}</td>
                    <td class="value">{record.value ?? "∅"}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <p class="muted">
            {!found.complete && "Of the newest archive files. "}
            {found.unarchived > 0 && `${count(found.unarchived)} records are not archived yet. `}
            All of them: <code>anabranch rejected {props.source}</code>
          </p>
        </>
      )}
    </details>
  );
}

export function Rejected(props: { source: SourceStatus }) {
  const { source } = props;
  const rejected = Object.entries(source.rejected).sort((a, b) => b[1] - a[1]);
  return (
    <Panel title="Rejected records" id={`rejected-${source.source}`} wide>
      {rejected.length === 0 ? (
        <p class="muted">None.</p>
      ) : (
        <>
          <table>
            <thead>
              <tr>
                <th scope="col">Reason</th>
                <th scope="col" class="number">
                  Records
                </th>
              </tr>
            </thead>
            <tbody>
              {rejected.map(([reason, number]) => (
                <tr>
                  <th scope="row">{reason}</th>
                  <td class="number">{count(number)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <Samples source={source.source} />
        </>
      )}
    </Panel>
  );
}
