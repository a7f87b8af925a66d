// The real client of Cube's REST API, unpatched, against a recount of the raw events.
//
//   node suite.mjs http://127.0.0.1:8080 events.ndjson
//
// Every event is one line: {"seconds", "color", "severity", "server_type", "country_code", "country", "city", "minutes"}.
// Nothing is produced meanwhile, and the answers cover all of them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import cubeClient from "@cubejs-client/core";

const [url, file] = process.argv.slice(2);
const cube = cubeClient.default ? cubeClient.default("any", { apiUrl: `${url}/v1` }) : cubeClient("any", { apiUrl: `${url}/v1` });
const events = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));

// ------------------------------------------------------------------------------------------------------ the recount

const VIEW = "status_by_city";
const of = (name) => `${VIEW}.${name}`;
const MINUTE = 60_000;
const minute = (event) => Math.floor(event.seconds / 60) * MINUTE;
const DIMENSIONS = { country_code: "country_code", country: "country", city: "city", status_color: "color", severity: "severity" };

const known = (events) => events.map((event) => event.minutes).filter((value) => value !== null);
const MEASURES = {
  messages: (events) => events.length,
  resolution_time: (events) => (known(events).length ? known(events).reduce((sum, value) => sum + value, 0) : null),
  min_resolution_time: (events) => (known(events).length ? known(events).reduce((a, b) => Math.min(a, b)) : null),
  max_resolution_time: (events) => (known(events).length ? known(events).reduce((a, b) => Math.max(a, b)) : null),
  avg_resolution_time: (events) => (known(events).length ? known(events).reduce((sum, value) => sum + value, 0) / known(events).length : null),
};

/** Local time in a zone, as if it were UTC, in milliseconds: by what Node knows of zones. */
const locals = new Map();
function localMs(ms, zone) {
  if (zone === "UTC") return ms;
  if (!locals.has(zone)) {
    locals.set(zone, new Intl.DateTimeFormat("en-US", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" }));
  }
  const part = Object.fromEntries(locals.get(zone).formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute, part.second);
}

const TRUNCATED = {
  minute: (date) => date.setUTCSeconds(0, 0),
  hour: (date) => date.setUTCMinutes(0, 0, 0),
  day: (date) => date.setUTCHours(0, 0, 0, 0),
  week: (date) => (date.setUTCHours(0, 0, 0, 0), date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() + 6) % 7))),
  month: (date) => (date.setUTCHours(0, 0, 0, 0), date.setUTCDate(1)),
  quarter: (date) => (date.setUTCHours(0, 0, 0, 0), date.setUTCMonth(date.getUTCMonth() - (date.getUTCMonth() % 3), 1)),
  year: (date) => (date.setUTCHours(0, 0, 0, 0), date.setUTCMonth(0, 1)),
};

const text = (ms) => new Date(ms).toISOString().slice(0, -1);

function truncated(ms, granularity, zone) {
  const date = new Date(localMs(ms, zone));
  TRUNCATED[granularity](date);
  return text(date.getTime());
}

/** The rows of a query over the events that pass `where`, and of groups that pass `having`. */
function recount(query, where = () => true, having = () => true) {
  const zone = query.timezone ?? "UTC";
  const time = query.timeDimensions?.find((time) => time.granularity);
  const groups = new Map();
  for (const event of events) {
    if (!where(event)) continue;
    const key = (query.dimensions ?? []).map((name) => event[DIMENSIONS[name.split(".")[1]]] ?? null);
    if (time) key.push(truncated(minute(event), time.granularity, zone));
    const name = JSON.stringify(key);
    if (!groups.has(name)) groups.set(name, { key, events: [] });
    groups.get(name).events.push(event);
  }
  if (groups.size === 0 && !query.dimensions?.length && !time) groups.set("[]", { key: [], events: [] });
  const rows = [];
  for (const { key, events } of groups.values()) {
    const row = {};
    (query.dimensions ?? []).forEach((name, index) => (row[name] = key[index]));
    if (time) row[`${time.dimension}.${time.granularity}`] = key.at(-1);
    const all = Object.fromEntries(Object.entries(MEASURES).map(([name, measure]) => [name, measure(events)]));
    for (const name of query.measures ?? []) row[name] = all[name.split(".")[1]];
    if (having(all)) rows.push(row);
  }
  return rows;
}

const number = (cell) => (typeof cell === "string" ? Number(cell) : cell);

function same(name, found, expected, columns) {
  assert.equal(found.length, expected.length, `${name}: rows`);
  found.forEach((row, index) => {
    for (const column of columns) {
      const [a, b] = [row[column], expected[index][column]];
      const where = `${name}: row ${index}, ${column}: ${a} instead of ${b}`;
      if (typeof b === "number") assert.ok(Math.abs(number(a) - b) <= 1e-9 * Math.max(1, Math.abs(b)), where);
      else assert.equal(a, b, where);
    }
  });
}

const sorted = (rows, columns) => [...rows].sort((a, b) => (JSON.stringify(columns.map((c) => a[c])) < JSON.stringify(columns.map((c) => b[c])) ? -1 : 1));

// ------------------------------------------------------------------------------------------------------- the queries

const measures = Object.keys(MEASURES).map(of);
const count = [of("messages")];
const city = [of("city")];
const color = [of("status_color")];
const per = (granularity, dateRange) => [{ dimension: of("minute"), granularity, ...(dateRange ? { dateRange } : {}) }];
const within = (dateRange) => [{ dimension: of("minute"), dateRange }];
const leaf = (name, operator, ...values) => ({ member: of(name), operator, ...(values.length ? { values } : {}) });
const lower = (value) => (value ?? "").toLowerCase();
const has = (value, test) => value !== null && value !== undefined && test(lower(value));

const times = events.map(minute).sort((a, b) => a - b);
const middle = times[Math.floor(times.length / 2)];
const [first, last] = [times[0], times.at(-1)];
const day = (ms) => text(ms).slice(0, 10);
const dayMs = (ms) => Date.parse(day(ms));
const DAY = 86_400_000;
const at = (ms) => text(ms).slice(0, 19);
const monday = (ms) => dayMs(ms) - ((new Date(ms).getUTCDay() + 6) % 7) * DAY;
const now = Date.now();

/** [name, query, which events, which groups]: rows in any order. */
const CASES = [
  ["all measures", { measures }],
  ["a count", { measures: count }],
  ["by city", { measures, dimensions: city }],
  ["by colour", { measures, dimensions: color }],
  ["by city and colour", { measures, dimensions: [...city, ...color] }],
  ["by all dimensions", { measures, dimensions: Object.keys(DIMENSIONS).map(of), limit: 50_000 }],
  ["dimensions alone", { dimensions: [...city, of("severity")] }],
  ...Object.keys(TRUNCATED).map((granularity) => [`per ${granularity}`, { measures, timeDimensions: per(granularity) }]),
  ["per hour and colour", { measures, dimensions: color, timeDimensions: per("hour"), limit: 50_000 }],
  ["per day in Berlin", { measures, timeDimensions: per("day"), timezone: "Europe/Berlin" }],
  ["per day in New York", { measures, dimensions: color, timeDimensions: per("day"), timezone: "America/New_York" }],
  ["per hour in Kolkata", { measures: count, timeDimensions: per("hour"), timezone: "Asia/Kolkata" }],
  ["a pair of days", { measures, timeDimensions: per("hour", [day(middle), day(middle)]) }, (e) => day(minute(e)) === day(middle)],
  ["one day", { measures, timeDimensions: within(day(middle)) }, (e) => day(minute(e)) === day(middle)],
  ["a pair of moments", { measures, timeDimensions: per("minute", [at(first), at(middle)]) }, (e) => minute(e) <= middle],
  ["today", { measures, timeDimensions: within("today") }, (e) => day(minute(e)) === day(now)],
  ["yesterday", { measures, timeDimensions: within("yesterday") }, (e) => day(minute(e)) === day(now - DAY)],
  ["last 7 days", { measures, timeDimensions: within("last 7 days") }, (e) => minute(e) >= dayMs(now) - 7 * DAY && minute(e) < dayMs(now)],
  ["this week", { measures, timeDimensions: within("this week") }, (e) => monday(minute(e)) === monday(now)],
  ["this month", { measures, timeDimensions: within("this month") }, (e) => day(minute(e)).slice(0, 7) === day(now).slice(0, 7)],
  ["from 2 days ago to now", { measures, timeDimensions: within("from 2 days ago to now") }, (e) => minute(e) >= dayMs(now) - 2 * DAY && minute(e) < dayMs(now) + DAY],
  ["equals", { measures, dimensions: city, filters: [leaf("status_color", "equals", "Red")] }, (e) => e.color === "Red"],
  ["equals one of", { measures, filters: [leaf("status_color", "equals", "Red", "Green")] }, (e) => ["Red", "Green"].includes(e.color)],
  ["notEquals", { measures, dimensions: color, filters: [leaf("status_color", "notEquals", "Red")] }, (e) => e.color !== "Red"],
  ["contains", { measures, dimensions: city, filters: [leaf("city", "contains", "ON")] }, (e) => has(e.city, (c) => c.includes("on"))],
  ["notContains", { measures, dimensions: city, filters: [leaf("city", "notContains", "o")] }, (e) => !has(e.city, (c) => c.includes("o"))],
  ["startsWith", { measures, dimensions: city, filters: [leaf("city", "startsWith", "b", "L")] }, (e) => has(e.city, (c) => /^[bl]/.test(c))],
  ["notStartsWith", { measures, dimensions: city, filters: [leaf("city", "notStartsWith", "b")] }, (e) => !has(e.city, (c) => c.startsWith("b"))],
  ["endsWith", { measures, dimensions: city, filters: [leaf("city", "endsWith", "n")] }, (e) => has(e.city, (c) => c.endsWith("n"))],
  ["notEndsWith", { measures, dimensions: city, filters: [leaf("city", "notEndsWith", "n")] }, (e) => !has(e.city, (c) => c.endsWith("n"))],
  ["set", { measures, filters: [leaf("city", "set")] }, (e) => e.city !== null],
  ["notSet", { measures: count, filters: [leaf("city", "notSet")] }, (e) => e.city === null],
  ["a quote in a value", { measures: count, filters: [leaf("city", "equals", "'; DROP TABLE version; --")] }, () => false],
  ["gt", { measures, dimensions: city, filters: [leaf("messages", "gt", "50")] }, undefined, (row) => row.messages > 50],
  ["gte and lt", { measures, dimensions: [...city, ...color], filters: [leaf("messages", "gte", "10"), leaf("messages", "lt", "40")] }, undefined, (row) => row.messages >= 10 && row.messages < 40],
  ["lte of another measure", { measures: count, dimensions: city, filters: [leaf("max_resolution_time", "lte", "100000")] }, undefined, (row) => row.max_resolution_time !== null && row.max_resolution_time <= 100_000],
  ["inDateRange", { measures, filters: [leaf("minute", "inDateRange", day(middle), day(middle))] }, (e) => day(minute(e)) === day(middle)],
  ["notInDateRange", { measures, filters: [leaf("minute", "notInDateRange", day(middle), day(middle))] }, (e) => day(minute(e)) !== day(middle)],
  ["beforeDate", { measures, filters: [leaf("minute", "beforeDate", at(middle))] }, (e) => minute(e) < middle],
  ["beforeOrOnDate", { measures, filters: [leaf("minute", "beforeOrOnDate", at(middle))] }, (e) => minute(e) <= middle],
  ["afterDate", { measures, filters: [leaf("minute", "afterDate", at(middle))] }, (e) => minute(e) > middle],
  ["afterOrOnDate", { measures, filters: [leaf("minute", "afterOrOnDate", at(middle))] }, (e) => minute(e) >= middle],
  ["a tree", { measures, dimensions: color, filters: [{ or: [leaf("status_color", "equals", "Red"), { and: [leaf("city", "startsWith", "b"), leaf("status_color", "equals", "Green")] }] }] }, (e) => e.color === "Red" || (e.color === "Green" && has(e.city, (c) => c.startsWith("b")))],
  ["a tree of measures", { measures: count, dimensions: city, filters: [{ or: [leaf("messages", "lt", "20"), leaf("messages", "gt", "60")] }] }, undefined, (row) => row.messages < 20 || row.messages > 60],
  ["a segment", { measures, dimensions: city, segments: [of("red")] }, (e) => e.color === "Red"],
  ["nothing left, grouped", { measures, dimensions: city, filters: [leaf("city", "equals", "Atlantis")] }, () => false],
];

let queries = 0;
for (const [name, query, where, having] of CASES) {
  const result = await cube.load(query);
  const columns = [...(query.dimensions ?? []), ...(query.timeDimensions ?? []).filter((time) => time.granularity).map((time) => `${time.dimension}.${time.granularity}`), ...(query.measures ?? [])];
  const expected = recount(query, where, having);
  assert.ok(expected.length < 10_000 || query.limit, `${name}: more rows than the default limit`);
  same(name, sorted(result.rawData(), columns), sorted(expected, columns), columns);
  queries += 1;
}
// A recount that passes nothing or everything would show little.
assert.ok(recount({ measures: count }, (e) => e.color === "Red")[0][of("messages")] > 10);
assert.ok(events.length > 1000, `${events.length} events`);

// Order, pages, totals.
{
  const query = { measures, dimensions: [...city, ...color], order: { [of("messages")]: "desc", [of("city")]: "asc", [of("status_color")]: "desc" } };
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  // PostgreSQL: NULL is larger than every value.
  const nulls = (a, b, of) => (a === null || b === null ? (a === null) - (b === null) : of(a, b));
  const expected = recount(query).sort((a, b) => compare(b[of("messages")], a[of("messages")]) || nulls(a[of("city")], b[of("city")], compare) || nulls(b[of("status_color")], a[of("status_color")], compare));
  const columns = [...query.dimensions, ...measures];
  same("ordered", (await cube.load(query)).rawData(), expected, columns);
  const pages = [];
  for (let offset = 0; offset < expected.length; offset += 7) {
    const result = await cube.load({ ...query, limit: 7, offset, total: true });
    assert.equal(result.totalRows(), expected.length);
    pages.push(...result.rawData());
    queries += 1;
  }
  same("paged", pages, expected, columns);
  assert.deepEqual((await cube.load({ ...query, limit: 0 })).rawData(), []);
  queries += 2;
}

// Compared ranges and blended queries.
{
  const ranges = [[day(middle), day(middle)], [day(middle - DAY), day(middle - DAY)]];
  const query = { measures: count, timeDimensions: [{ dimension: of("minute"), granularity: "hour", compareDateRange: ranges }] };
  const parts = (await cube.load(query)).decompose();
  assert.equal(parts.length, 2);
  ranges.forEach(([from], index) => {
    const single = { measures: count, timeDimensions: per("hour") };
    const columns = [of("minute.hour"), ...count];
    same(`compared ${from}`, sorted(parts[index].rawData(), columns), sorted(recount(single, (e) => day(minute(e)) === from), columns), columns);
  });
  const blended = await cube.load([{ measures: count, timeDimensions: per("day") }, { measures: [of("resolution_time")], timeDimensions: per("day") }]);
  const [left, right] = blended.decompose();
  same("blended, first", sorted(left.rawData(), [of("minute.day")]), sorted(recount({ measures: count, timeDimensions: per("day") }), [of("minute.day")]), count);
  same("blended, second", sorted(right.rawData(), [of("minute.day")]), sorted(recount({ measures: [of("resolution_time")], timeDimensions: per("day") }), [of("minute.day")]), [of("resolution_time")]);
  queries += 2;
}

// What dashboards do with a result.
{
  const query = { measures: count, dimensions: color, timeDimensions: per("hour", [day(middle), day(middle)]) };
  const result = await cube.load(query);
  const expected = recount({ measures: count, dimensions: color }, (e) => day(minute(e)) === day(middle));
  const names = result.seriesNames().map((series) => series.yValues[0]);
  assert.deepEqual([...names].sort(), expected.map((row) => row[of("status_color")]).sort());
  const byColor = Object.fromEntries(expected.map((row) => [row[of("status_color")], row[of("messages")]]));
  for (const series of result.series()) {
    assert.equal(series.series.length, 24, "every hour of the day is there");
    assert.equal(series.series.reduce((sum, point) => sum + point.value, 0), byColor[series.title.split(",")[0]], series.title);
  }
  const chart = result.chartPivot();
  assert.equal(chart.length, 24);
  const total = chart.reduce((sum, point) => sum + Object.entries(point).filter(([key]) => key.includes(of("messages"))).reduce((sum, [, value]) => sum + value, 0), 0);
  assert.equal(total, expected.reduce((sum, row) => sum + row[of("messages")], 0));
  const table = (await cube.load({ measures, dimensions: color })).tablePivot();
  same("tablePivot", sorted(table, color), sorted(recount({ measures, dimensions: color }), color), [...color, ...measures]);
  assert.deepEqual(result.tableColumns().map((column) => column.key).sort(), [of("status_color"), of("minute.hour"), of("messages")].sort());
  assert.equal(result.annotation().measures[of("messages")].type, "number");
  assert.ok(result.loadResponses[0].lambda.offsets, "the answer says what it covers");
  queries += 2;
}

// What the client may ask besides.
{
  const meta = await cube.meta();
  assert.deepEqual(meta.cubes.map((found) => found.name).sort(), ["server_status_rejected", "status_by_city", "status_by_server_type"]);
  assert.equal(meta.defaultTimeDimensionNameFor(of("messages")), of("minute"));
  assert.equal(meta.resolveMember(of("city"), "dimensions").type, "string");
  assert.ok(meta.filterOperatorsForMember(of("city"), "dimensions").some((operator) => operator.name === "contains"));
  const dry = await cube.dryRun({ measures: count, timeDimensions: per("day", "last 7 days") });
  assert.equal(dry.queryType, "regularQuery");
  assert.match(dry.normalizedQueries[0].timeDimensions[0].dateRange[0], /^\d{4}-\d\d-\d\dT00:00:00\.000$/);
  const [query] = [{ measures: count, dimensions: city }];
  const polled = await new Promise((resolve, reject) => {
    const subscription = cube.load(query, { subscribe: true }, (error, result) => (error ? reject(error) : (subscription.unsubscribe(), resolve(result))));
  });
  same("subscribed", sorted(polled.rawData(), city), sorted(recount(query), city), [...city, ...count]);
  queries += 1;
}

// Wrong queries: a message that says what is wrong, and a status.
for (const [query, status, message] of [
  [{ measures: [of("mesages")] }, 400, /status_by_city\.messages/],
  [{ measures: ["nothing.messages"] }, 400, /unknown view "nothing"/],
  [{ measures: count, filters: [leaf("city", "near", "Berlin")] }, 400, /near/],
  [{ measures: count, timeDimensions: per("second") }, 400, /second/],
  [{ measures: count, timeDimensions: within("week to date") }, 400, /week to date/],
  [{ measures: count, limit: 50_001 }, 400, /50000/],
  [{ measures: count, timezone: "Mars/Olympus" }, 400, /Mars/],
  [{ measures: count, ungrouped: true }, 400, /ungrouped/],
  [{}, 400, /at least one/],
  [{ measures: count, renewQuery: true }, 400, /renewQuery/],
]) {
  const error = await cube.load(query).then(() => null, (error) => error);
  assert.ok(error, `${JSON.stringify(query)} was answered`);
  assert.equal(error.status, status, error.message);
  assert.match(error.message, message);
  queries += 1;
}

console.log(`${queries} queries by the client, ${events.length} events, all as recounted`);
