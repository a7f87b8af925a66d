// What the server says: /v1/meta, /v1/status, /v1/stream, and their shapes.

export type Cell = string | number | boolean | null;
export type Row = Record<string, Cell>;

export interface Member {
  name: string;
  shortTitle: string;
  type: "number" | "string" | "boolean" | "time";
  description?: string;
  aggType?: string;
  meta?: { exactness?: unknown };
}

export interface Cube {
  name: string;
  title: string;
  description?: string | null;
  measures: Member[];
  dimensions: Member[];
  segments: Member[];
  meta: { source: string; granularity: string | null; rows: boolean };
}

export interface Lambda {
  run: number | null;
  lag_records: number | null;
  refreshed_ms_ago: number;
  speed_silent_ms: number | null;
  version_age_ms: number | null;
  version_groups: number;
  live_groups: number;
  coverage: Record<string, Record<string, number>>;
  offsets: Record<string, Record<string, number>>;
  lost: Record<string, Record<string, [number, number][]>>;
}

export interface Filter {
  member: string;
  operator: string;
  values?: string[];
}

export interface Query {
  measures?: string[];
  dimensions?: string[];
  timeDimensions?: { dimension: string; granularity?: string; dateRange?: string | [string, string] }[];
  segments?: string[];
  filters?: Filter[];
  order?: [string, "asc" | "desc"][];
  limit?: number;
}

export interface Answer {
  data: Row[];
  lambda: Lambda;
  errors?: { row: number; member: string; error: string }[];
}

export interface PartitionStatus {
  partition: number;
  origin: number;
  next_offset: number;
  high_watermark: number;
  lag: number;
  archived_to: number;
  speed_trouble: string | null;
  archive_trouble: string | null;
}

export interface ViewStatus {
  view: string;
  state: string;
  run: number | null;
  coverage: Record<string, number>;
  offsets: Record<string, number>;
  version_groups: number;
  live_groups: number;
  late_groups: Record<string, number>;
  version_age_ms: number | null;
  failure: string | null;
}

export interface RunStatus {
  run: number;
  kind: string;
  started_at: string;
  seconds: number;
  outcome: string | null;
  records: number;
  drift: number;
  error: string | null;
}

export interface RejectedRecords {
  records: { partition: number; offset: number; timestamp_ms: number | null; reason: string; value: string | null }[];
  complete: boolean;
  unarchived: number;
}

export interface SourceStatus {
  source: string;
  topic: string;
  partitions: PartitionStatus[];
  views: ViewStatus[];
  runs: RunStatus[];
  rejected: Record<string, number>;
  speed_trouble: string | null;
  speed_silent_ms: number | null;
  batch_silent_ms: number | null;
  lost: { partition: number; start: number; end: number }[];
}

export class ApiError extends Error {}

async function get<T>(path: string): Promise<T> {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  const body: unknown = await response.json().catch(() => null);
  if (response.ok) return body as T;
  const problem = body as { detail?: string } | null;
  throw new ApiError(problem?.detail ?? `${response.status} ${response.statusText}`);
}

export const readMeta = async (): Promise<Cube[]> => (await get<{ cubes: Cube[] }>("/v1/meta")).cubes;
export const readStatus = async (): Promise<SourceStatus[]> => (await get<{ sources: SourceStatus[] }>("/v1/status")).sources;
export const readRejected = (source: string): Promise<RejectedRecords> => get(`/v1/rejected?source=${encodeURIComponent(source)}`);

export const loadUrl = (query: Query): string => `/v1/load?query=${encodeURIComponent(JSON.stringify(query))}`;

/** The rows of a query as an Arrow stream. */
export async function loadArrow(query: Query): Promise<ArrayBuffer> {
  const response = await fetch("/v1/load", {
    method: "POST",
    headers: { accept: "application/vnd.apache.arrow.stream", "content-type": "application/json" },
    body: JSON.stringify({ query }),
  });
  if (response.ok) return response.arrayBuffer();
  const problem = (await response.json().catch(() => null)) as { detail?: string } | null;
  throw new ApiError(problem?.detail ?? `${response.status} ${response.statusText}`);
}

export interface Listener {
  /** One answer for each query, all of the same moment. */
  answers(answers: Answer[]): void;
  /** The rows are the same; what they cover moved on. */
  covers(lambdas: Lambda[]): void;
  problem(message: string): void;
  away(): void;
}

const RECONNECT_MS = 2_000;

/** Follows several queries over one connection; returns what ends it. */
export function follow(queries: Query[], listener: Listener): () => void {
  let source: EventSource;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const connect = () => {
    source = new EventSource(`/v1/stream?query=${encodeURIComponent(JSON.stringify(queries))}`);
    source.addEventListener("answer", (event) => listener.answers((JSON.parse(event.data as string) as { results: Answer[] }).results));
    source.addEventListener("lambda", (event) => listener.covers(JSON.parse(event.data as string) as Lambda[]));
    source.addEventListener("problem", (event) => {
      listener.problem((JSON.parse(event.data as string) as { detail: string }).detail);
      again();
    });
    // A browser gives up on an answer that is an error: the reason is read once, then it is tried again.
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return listener.away();
      fetch("/v1/load", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ query: queries }) })
        .then(async (response) => (response.ok ? listener.away() : listener.problem(((await response.json()) as { detail: string }).detail)))
        .catch(() => listener.away());
      again();
    };
  };
  const again = () => {
    source.close();
    timer = setTimeout(connect, RECONNECT_MS);
  };
  connect();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
