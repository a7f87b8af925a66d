// What is chosen in place: measures, dimensions, range, granularity, filters, threshold.

import { useState } from "preact/hooks";

import type { Cube, Filter } from "./api";
import { granularities } from "./query";
import { groupable, local, RANGES, type State, timeOf } from "./state";

export interface Change {
  (change: Partial<State>): void;
}

export function Select(props: { label: string; value: string; options: readonly (readonly [string, string])[]; choose: (value: string) => void }) {
  return (
    <label class="field">
      <span>{props.label}</span>
      <select value={props.value} onChange={(event) => props.choose(event.currentTarget.value)}>
        {props.options.map(([value, title]) => (
          <option value={value} key={value}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}

export const dimensionOptions = (cube: Cube): [string, string][] => groupable(cube).map((member) => [local(member.name), member.shortTitle]);

const OPERATORS: Record<string, [string, string][]> = {
  string: [["equals", "is"], ["notEquals", "is not"], ["contains", "contains"], ["notContains", "does not contain"], ["startsWith", "starts with"], ["set", "is set"], ["notSet", "is not set"]],
  number: [["equals", "="], ["notEquals", "≠"], ["gt", ">"], ["gte", "≥"], ["lt", "<"], ["lte", "≤"], ["set", "is set"], ["notSet", "is not set"]],
  boolean: [["equals", "is"], ["notEquals", "is not"], ["set", "is set"], ["notSet", "is not set"]],
  time: [["afterOrOnDate", "from"], ["beforeOrOnDate", "to"], ["set", "is set"], ["notSet", "is not set"]],
};

const VALUELESS = new Set(["set", "notSet"]);

function Filters(props: { cube: Cube; state: State; change: Change }) {
  const { cube, state, change } = props;
  const members = [...groupable(cube), ...cube.measures];
  const [member, setMember] = useState(members[0]?.name ?? "");
  const type = members.find((known) => known.name === member)?.type ?? "string";
  const operators = OPERATORS[type] ?? OPERATORS["string"]!;
  const [operator, setOperator] = useState(operators[0]![0]);
  const [value, setValue] = useState("");
  const usable = operators.some(([name]) => name === operator) ? operator : operators[0]![0];
  const add = (event: Event) => {
    event.preventDefault();
    if (!value && !VALUELESS.has(usable)) return;
    const filter: Filter = { member: local(member), operator: usable, ...(VALUELESS.has(usable) ? {} : { values: [value] }) };
    change({ filters: [...state.filters, filter] });
    setValue("");
  };
  const said = (filter: Filter): string => {
    const all = Object.values(OPERATORS).flat();
    return `${filter.member.replaceAll("_", " ")} ${all.find(([name]) => name === filter.operator)?.[1] ?? filter.operator} ${filter.values?.join(", ") ?? ""}`;
  };
  return (
    <div class="filters">
      {state.filters.map((filter, index) => (
        <button type="button" class="chip" aria-label={`Remove the filter ${said(filter)}`} onClick={() => change({ filters: state.filters.filter((_, other) => other !== index) })}>
          {said(filter)} ×
        </button>
      ))}
      <details class="menu">
        <summary>Add filter</summary>
        <form onSubmit={add}>
          <Select label="Column" value={member} options={members.map((known) => [known.name, known.shortTitle])} choose={setMember} />
          <Select label="Condition" value={usable} options={operators} choose={setOperator} />
          {!VALUELESS.has(usable) && (
            <label class="field">
              <span>Value</span>
              <input value={value} onInput={(event) => setValue(event.currentTarget.value)} inputMode={type === "number" ? "decimal" : "text"} />
            </label>
          )}
          <button type="submit">Add</button>
        </form>
      </details>
    </div>
  );
}

function Threshold(props: { cube: Cube; state: State; change: Change }) {
  const { cube, state, change } = props;
  const numbers = cube.measures.filter((measure) => measure.type === "number");
  const [measure, setMeasure] = useState(state.alert?.measure ?? (numbers[0] ? local(numbers[0].name) : ""));
  const [above, setAbove] = useState(String(state.alert?.above ?? ""));
  const [by, setBy] = useState(state.alert?.by ?? state.bar);
  if (numbers.length === 0) return null;
  const set = (event: Event) => {
    event.preventDefault();
    const limit = Number(above);
    change({ alert: above.trim() !== "" && Number.isFinite(limit) ? { measure, above: limit, by } : null });
  };
  return (
    <details class="menu">
      <summary>{state.alert ? `Threshold: ${state.alert.measure.replaceAll("_", " ")} > ${state.alert.above}` : "Set threshold"}</summary>
      <form onSubmit={set}>
        <Select label="Measure" value={measure} options={numbers.map((known) => [local(known.name), known.shortTitle])} choose={setMeasure} />
        <label class="field">
          <span>Above</span>
          <input value={above} inputMode="decimal" onInput={(event) => setAbove(event.currentTarget.value)} placeholder="no threshold" />
        </label>
        <Select label="For each" value={by} options={dimensionOptions(cube)} choose={setBy} />
        <button type="submit">Watch</button>
      </form>
    </details>
  );
}

export function Controls(props: { cube: Cube; state: State; change: Change }) {
  const { cube, state, change } = props;
  const toggle = (name: string) => {
    const chosen = state.measures.includes(name) ? state.measures.filter((other) => other !== name) : [...state.measures, name];
    if (chosen.length > 0) change({ measures: chosen });
  };
  const toggled = (name: string) => change({ segments: state.segments.includes(name) ? state.segments.filter((other) => other !== name) : [...state.segments, name] });
  const custom = !RANGES.some(([value]) => value === state.range);
  const [from, to] = custom ? state.range.split("…") : ["", ""];
  return (
    <div class="toolbar" role="group" aria-label="What is shown">
      <details class="menu">
        <summary>Measures: {state.measures.length}</summary>
        <fieldset>
          <legend>Measures; the first one leads pie and bar</legend>
          {cube.measures.map((measure) => {
            const name = local(measure.name);
            return (
              <label title={measure.description ?? ""}>
                <input type="checkbox" checked={state.measures.includes(name)} onChange={() => toggle(name)} /> {measure.shortTitle}
                {state.measures[0] !== name && state.measures.includes(name) && (
                  <button type="button" class="link" onClick={() => change({ measures: [name, ...state.measures.filter((other) => other !== name)] })}>
                    lead
                  </button>
                )}
              </label>
            );
          })}
        </fieldset>
      </details>
      {timeOf(cube) && (
        <>
          <Select
            label="Range (UTC)"
            value={custom ? "custom" : state.range}
            options={[...RANGES.map(([value, title]) => [value, title] as const), ["custom", "from … to …"]]}
            choose={(value) => change({ range: value === "custom" ? `${new Date().toISOString().slice(0, 10)}…${new Date().toISOString().slice(0, 10)}` : value })}
          />
          {custom && (
            <>
              <label class="field">
                <span>From</span>
                <input type="date" value={from ?? ""} onChange={(event) => event.currentTarget.value && change({ range: `${event.currentTarget.value}…${to}` })} />
              </label>
              <label class="field">
                <span>To</span>
                <input type="date" value={to ?? ""} onChange={(event) => event.currentTarget.value && change({ range: `${from}…${event.currentTarget.value}` })} />
              </label>
            </>
          )}
          <Select label="Per" value={state.granularity} options={[["auto", "auto"], ...granularities(cube).map((name) => [name, name] as [string, string])]} choose={(granularity) => change({ granularity })} />
        </>
      )}
      {cube.segments.map((segment) => (
        <label class="check" title={segment.description ?? ""}>
          <input type="checkbox" checked={state.segments.includes(local(segment.name))} onChange={() => toggled(local(segment.name))} /> {segment.shortTitle}
        </label>
      ))}
      <Filters cube={cube} state={state} change={change} key={cube.name} />
      <Threshold cube={cube} state={state} change={change} key={`alert ${cube.name}`} />
    </div>
  );
}
