// What the page shows, and its form in the URL: a link shows the same again.

import type { Cube, Filter, Member } from "./api";

export const PIPELINE = "pipeline";

export interface State {
  view: string;
  measures: string[];
  pie: string;
  bar: string;
  split: string;
  range: string;
  granularity: string;
  filters: Filter[];
  segments: string[];
  alert: { measure: string; above: number; by: string } | null;
  pivot: boolean;
}

/** What the range menu offers: as the server understands it, as people do, and the step that fits; "" is everything. */
export const RANGES: readonly (readonly [string, string, string | null])[] = [
  ["", "all time", null],
  ["from 1 hour ago to now", "last hour", "minute"],
  ["from 24 hours ago to now", "last 24 hours", "hour"],
  ["from 7 days ago to now", "last 7 days", "hour"],
  ["from 30 days ago to now", "last 30 days", "day"],
  ["today", "today", "hour"],
  ["yesterday", "yesterday", "hour"],
];

export const GRANULARITIES = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"] as const;

export const local = (member: string): string => member.slice(member.indexOf(".") + 1);
export const timeOf = (cube: Cube): Member | undefined => (cube.meta.granularity === null ? undefined : cube.dimensions.find((member) => member.type === "time"));
export const groupable = (cube: Cube): Member[] => cube.dimensions.filter((member) => member !== timeOf(cube));

/** A view that is named after a dimension ("status_by_city") is shown by it, else by its first; split by the next one. */
function usual(cube: Cube): State {
  const dimensions = groupable(cube).map((member) => local(member.name));
  const named = dimensions.filter((name) => `_${cube.name}_`.includes(`_${name}_`)).sort((a, b) => b.length - a.length)[0];
  const main = named ?? dimensions[0] ?? "";
  const next = dimensions[dimensions.indexOf(main) + 1] ?? dimensions.find((name) => name !== main) ?? "";
  return {
    view: cube.name,
    measures: cube.measures.slice(0, 4).map((member) => local(member.name)),
    pie: main,
    bar: main,
    split: next,
    range: "",
    granularity: "auto",
    filters: [],
    segments: [],
    alert: null,
    pivot: false,
  };
}

const list = (text: string | null): string[] | null => (text === null ? null : text.split(",").filter(Boolean));

export function read(cubes: Cube[], search: string): State | null {
  const parameters = new URLSearchParams(search);
  const cube = cubes.find((cube) => cube.name === parameters.get("view")) ?? cubes.find((cube) => !cube.name.endsWith("_rejected")) ?? cubes[0];
  if (!cube) return null;
  const state = usual(cube);
  const dimensions = groupable(cube).map((member) => local(member.name));
  const dimension = (name: string, otherwise: string): string => {
    const value = parameters.get(name);
    return value !== null && dimensions.includes(value) ? value : otherwise;
  };
  const measures = list(parameters.get("measures"))?.filter((name) => cube.measures.some((member) => local(member.name) === name));
  const [measure, above] = parameters.get("alert")?.split(">") ?? [];
  return {
    ...state,
    measures: measures?.length ? measures : state.measures,
    pie: dimension("pie", state.pie),
    bar: dimension("bar", state.bar),
    split: dimension("split", state.split),
    range: parameters.get("range") ?? state.range,
    granularity: parameters.get("granularity") ?? state.granularity,
    filters: parameters.getAll("filter").flatMap(readFilter),
    segments: list(parameters.get("segments")) ?? [],
    alert: measure && Number.isFinite(Number(above)) ? { measure, above: Number(above), by: dimension("by", state.bar) } : null,
    pivot: parameters.get("pivot") === "open",
  };
}

export function write(cubes: Cube[], state: State): string {
  const cube = cubes.find((cube) => cube.name === state.view);
  const defaults = cube && usual(cube);
  const parameters = new URLSearchParams({ view: state.view });
  const put = (name: string, value: string, usually: string | undefined) => value !== usually && parameters.set(name, value);
  put("measures", state.measures.join(","), defaults?.measures.join(","));
  put("pie", state.pie, defaults?.pie);
  put("bar", state.bar, defaults?.bar);
  put("split", state.split, defaults?.split);
  put("range", state.range, "");
  put("granularity", state.granularity, "auto");
  put("segments", state.segments.join(","), "");
  // The view's name is not repeated in each filter.
  for (const filter of state.filters) parameters.append("filter", [local(filter.member), filter.operator, ...(filter.values ?? []).map(encodeURIComponent)].join("|"));
  if (state.alert) {
    parameters.set("alert", `${state.alert.measure}>${state.alert.above}`);
    put("by", state.alert.by, state.bar);
  }
  if (state.pivot) parameters.set("pivot", "open");
  return `?${parameters}`;
}

function readFilter(text: string): Filter[] {
  const [member, operator, ...values] = text.split("|");
  return member && operator ? [{ member, operator, ...(values.length ? { values: values.map(decodeURIComponent) } : {}) }] : [];
}
