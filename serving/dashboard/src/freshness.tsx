// How fresh what is shown is: always in sight.

import type { Lambda } from "./api";
import { ago } from "./format";

/** Speed looks at its partitions every second; longer silence than this is worth saying. */
export const SILENT_MS = 10_000;

export interface Heard {
  lambda: Lambda | null;
  /** When the browser got it. */
  at: number;
  /** Whether the connection to the server is there. */
  away: boolean;
}

export interface Freshness {
  kind: "live" | "late" | "away";
  text: string;
  detail: string;
}

/** What is said of it at `now`. */
export function freshness(heard: Heard, now: number): Freshness {
  const { lambda } = heard;
  if (!lambda) return { kind: heard.away ? "away" : "late", text: heard.away ? "the server does not answer" : "waiting for an answer", detail: "" };
  const since = now - heard.at;
  const age = lambda.refreshed_ms_ago + since;
  const batch = lambda.version_age_ms === null ? "no batch version yet" : `${lambda.run === null ? "oldest batch version" : `batch version ${lambda.run}`}, ${ago(lambda.version_age_ms + since)} old`;
  const records = `${lambda.version_groups.toLocaleString("en")} groups from batch, ${lambda.live_groups.toLocaleString("en")} live`;
  const detail = `${batch}; ${records}`;
  const lost = Object.values(lambda.lost).some((partitions) => Object.keys(partitions).length > 0);
  const without = lost ? "; some records were lost, see Pipeline" : "";
  if (heard.away) return { kind: "away", text: `the server is away; exact up to ${ago(age)} ago${without}`, detail };
  const silent = lambda.speed_silent_ms === null ? null : lambda.speed_silent_ms + since;
  if (silent !== null && silent > SILENT_MS) return { kind: "late", text: `the speed layer is away; exact up to ${ago(silent)} ago${without}`, detail };
  if (age > SILENT_MS && lambda.refreshed_ms_ago > SILENT_MS) return { kind: "late", text: `the database is away; exact up to ${ago(age)} ago${without}`, detail };
  if (lambda.lag_records) return { kind: "late", text: `live, ${lambda.lag_records.toLocaleString("en")} records behind${without}`, detail };
  return { kind: "live", text: `live and exact${without}`, detail };
}

export function Pill(props: { heard: Heard; now: number }) {
  const { kind, text, detail } = freshness(props.heard, props.now);
  return (
    <p class={`pill ${kind}`} role="status" title={detail} id="freshness">
      <span class="dot" aria-hidden="true" /> {text}
      {detail && <small>{detail}</small>}
    </p>
  );
}
