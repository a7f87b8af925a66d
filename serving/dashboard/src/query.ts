// The state of the page → the queries it asks.

import type { Cube, Query } from "./api";
import { GRANULARITIES, RANGES, type State, timeOf } from "./state";

/** Names of the page's answers, in the order in which they are asked. */
export interface Asked {
  totals: Query;
  series: Query | null;
  pie: Query | null;
  bar: Query | null;
  alert: Query | null;
}

const PIE_SLICES = 12;
const BARS = 16;
const MOST_POINTS = 5_000;
const MOST_ALERTS = 50;
const MOST_PIVOTED = 50_000;

const full = (state: State, name: string): string => `${state.view}.${name}`;

/** What all queries of the page have in common. */
function base(cube: Cube, state: State, granularity?: string): Query {
  const time = timeOf(cube);
  const range = state.range.includes("…") ? (state.range.split("…") as [string, string]) : state.range;
  const query: Query = {};
  if (time && (range || granularity)) {
    query.timeDimensions = [{ dimension: time.name, ...(granularity ? { granularity } : {}), ...(range ? { dateRange: range } : {}) }];
  }
  if (state.filters.length) query.filters = state.filters.map((filter) => ({ ...filter, member: full(state, filter.member) }));
  if (state.segments.length) query.segments = state.segments.map((segment) => full(state, segment));
  return query;
}

/** The granularities that are made of whole buckets of the view. */
export function granularities(cube: Cube): string[] {
  const smallest = GRANULARITIES.findIndex((name) => cube.meta.granularity?.endsWith(name));
  return GRANULARITIES.filter((_, index) => index >= Math.max(smallest, 0));
}

/** By the range; where everything is shown, by how many points that makes. */
export function granularity(cube: Cube, state: State, points: number, current: string | null): string {
  const known = granularities(cube);
  const atLeast = (wanted: string): string => (known.includes(wanted) ? wanted : (known[0] ?? "day"));
  if (state.granularity !== "auto" && known.includes(state.granularity)) return state.granularity;
  const usual = RANGES.find(([range]) => range === state.range)?.[2];
  if (usual) return atLeast(usual);
  const now = current ?? atLeast("hour");
  const index = known.indexOf(now);
  if (points > 400) return known[index + 1] ?? now;
  // Finer only if that cannot turn around again.
  if (points > 0 && points < 4) return known[index - 1] ?? now;
  return now;
}

export function queries(cube: Cube, state: State, step: string): Asked {
  const measures = state.measures.map((name) => full(state, name));
  const main = measures[0];
  const by = (dimension: string, limit: number): Query | null =>
    dimension && main ? { ...base(cube, state), measures, dimensions: [full(state, dimension)], order: [[main, "desc"]], limit } : null;
  const alert = state.alert;
  const watched = alert && full(state, alert.measure);
  const over: Query | null =
    alert && watched
      ? {
          ...base(cube, state),
          measures: [watched],
          dimensions: alert.by ? [full(state, alert.by)] : [],
          filters: [...(base(cube, state).filters ?? []), { member: watched, operator: "gt", values: [String(alert.above)] }],
          order: [[watched, "desc"]],
          limit: MOST_ALERTS,
        }
      : null;
  return {
    totals: { ...base(cube, state), measures },
    series: timeOf(cube) ? { ...base(cube, state, step), measures, limit: MOST_POINTS } : null,
    pie: by(state.pie, PIE_SLICES),
    bar: by(state.bar, BARS),
    alert: over,
  };
}

/** Everything that is grouped, for the pivot. */
export function pivotQuery(cube: Cube, state: State): Query {
  const time = timeOf(cube);
  return {
    ...base(cube, state, time && granularity(cube, state, 0, null)),
    measures: cube.measures.map((member) => member.name),
    dimensions: cube.dimensions.filter((member) => member !== time).map((member) => member.name),
    limit: MOST_PIVOTED,
  };
}
