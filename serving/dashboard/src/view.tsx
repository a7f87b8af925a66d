// One view: big numbers, series, pie, bar, pivot; all out of one answer at a time, at the same offsets.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { type Answer, type Cube, follow, loadUrl, type Query, type Row } from "./api";
import { Bar, type Column, Panel, Pie, Series, type Slices, Table } from "./charts";
import { type Change, Controls, dimensionOptions, Select } from "./controls";
import { numeric, short, shown } from "./format";
import type { Heard } from "./freshness";
import { Pivot } from "./pivot";
import { type Asked, granularity, queries } from "./query";
import { local, type State, timeOf } from "./state";

type Answers = { [name in keyof Asked]?: Answer };

/** Subscribes to what the state asks; nothing is shown under a question that it does not answer. */
function useAnswers(asked: Asked, hear: (heard: Partial<Heard>) => void): { answers: Answers; trouble: string; version: number } {
  const [answers, setAnswers] = useState<Answers>({});
  const [trouble, setTrouble] = useState("");
  const version = useRef(0);
  const names = (Object.keys(asked) as (keyof Asked)[]).filter((name) => asked[name] !== null);
  const list = names.map((name) => asked[name] as Query);
  useEffect(
    () =>
      follow(list, {
        answers: (results) => {
          version.current += 1;
          setTrouble("");
          setAnswers(Object.fromEntries(names.map((name, index) => [name, results[index]])) as Answers);
          hear({ lambda: results[0]?.lambda ?? null, at: Date.now(), away: false });
        },
        covers: ([lambda]) => hear({ lambda: lambda ?? null, at: Date.now(), away: false }),
        problem: (message) => {
          setTrouble(message);
          setAnswers({});
        },
        away: () => hear({ away: true }),
      }),
    [JSON.stringify(list)],
  );
  return { answers, trouble, version: version.current };
}

function Tiles(props: { cube: Cube; state: State; totals: Answer | undefined; over: Answer | undefined }) {
  const { cube, state, totals, over } = props;
  const row = totals?.data[0] ?? {};
  return (
    <div class="tiles">
      {state.measures.map((name) => {
        const member = cube.measures.find((measure) => local(measure.name) === name);
        const value = row[`${cube.name}.${name}`];
        const number = member?.type === "number" ? numeric(value) : null;
        const red = state.alert?.measure === name && (over?.data.length ?? 0) > 0;
        const exactness = member?.meta?.exactness;
        return (
          <div class={red ? "tile red" : "tile"} data-measure={name} data-value={value === null || value === undefined ? "" : String(value)} title={shown(value)}>
            <span class="name">{member?.shortTitle ?? name}</span>
            <strong>{totals ? (number === null ? shown(value) : short(number)) : "…"}</strong>
            <span class="muted">
              {red ? `${over?.data.length} above ${state.alert?.above}` : exactness === "exact" ? "exact" : exactness === "rounded" ? "rounded" : "approximate"}
            </span>
          </div>
        );
      })}
    </div>
  );
}

export function ViewPage(props: { cube: Cube; state: State; change: Change; hear: (heard: Partial<Heard>) => void; theme: string }) {
  const { cube, state, change, theme } = props;
  const [step, setStep] = useState<string | null>(null);
  useEffect(() => setStep(null), [cube.name, state.range, state.granularity]);
  const used = step ?? granularity(cube, state, 0, null);
  const asked = useMemo(() => queries(cube, state, used), [cube, state, used]);
  const { answers, trouble, version } = useAnswers(asked, props.hear);
  const time = timeOf(cube);
  const timeKey = `${time?.name}.${used}`;
  const series = answers.series?.data ?? [];
  const points = series.length;
  useEffect(() => {
    if (!answers.series || state.granularity !== "auto") return;
    const better = granularity(cube, state, points, used);
    // Finer only once, so that it settles.
    if (better !== used && (step === null || points > 400)) setStep(better);
  }, [points]);

  const title = (name: string): string => [...cube.measures, ...cube.dimensions].find((member) => local(member.name) === name)?.shortTitle ?? name;
  const full = (name: string): string => `${cube.name}.${name}`;
  const measures = state.measures.filter((name) => cube.measures.some((measure) => local(measure.name) === name));
  const columns: Column[] = measures.map((name) => ({ key: full(name), title: title(name), number: cube.measures.find((measure) => local(measure.name) === name)?.type === "number" }));
  const numbers = measures.filter((name) => cube.measures.find((measure) => local(measure.name) === name)?.type === "number");
  const lead = numbers[0];
  const slices = (dimension: string, rows: Row[]): Slices => ({
    label: `${title(lead ?? "")} by ${title(dimension)}`,
    names: rows.map((row) => shown(row[full(dimension)])),
    values: rows.map((row) => numeric(row[full(lead ?? "")])),
  });
  const leading = cube.measures.find((measure) => local(measure.name) === lead);
  const pieced = (answers.pie?.data ?? []).map((row) => numeric(row[full(lead ?? "")]) ?? 0);
  const whole = numeric(answers.totals?.data[0]?.[full(lead ?? "")]);
  // Only counts and sums of parts make the whole.
  const others = whole !== null && ["sum", "count"].includes(leading?.aggType ?? "") ? Math.max(0, whole - pieced.reduce((sum, value) => sum + value, 0)) : null;
  const by = (dimension: string): Column[] => [{ key: full(dimension), title: title(dimension), number: false }, ...columns];
  const choices = dimensionOptions(cube);
  const alert = state.alert;

  return (
    <>
      {cube.description && <p class="about">{cube.description}</p>}
      <Controls cube={cube} state={state} change={change} />
      {trouble && (
        <p class="problem" role="alert">
          {trouble}
        </p>
      )}
      <Tiles cube={cube} state={state} totals={answers.totals} over={answers.alert} />
      {alert && answers.alert && answers.alert.data.length > 0 && (
        <Panel title={`${title(alert.by)} above ${alert.above} ${title(alert.measure)}`} id="alert" wide>
          <Table
            open
            caption={`${title(alert.by)} with more than ${alert.above} ${title(alert.measure)}`}
            columns={[
              { key: full(alert.by), title: title(alert.by), number: false },
              { key: full(alert.measure), title: title(alert.measure), number: true },
            ]}
            rows={answers.alert.data}
          />
        </Panel>
      )}
      <div class="grid">
        {time && lead && (
          <Panel title={`${numbers.slice(0, 2).map(title).join(" and ")} per ${used}`} id="series" wide>
            <Series time={timeKey} lines={numbers.slice(0, 2).map((name) => ({ key: full(name), title: title(name) }))} rows={series} theme={theme} />
            <Table caption={`Per ${used}`} columns={[{ key: timeKey, title: `${used} (UTC)`, number: false }, ...columns]} rows={series} />
          </Panel>
        )}
        {lead && state.pie && (
          <Panel title={`${title(lead)} by ${title(state.pie)}`} id="pie" controls={<Select label="Pie by" value={state.pie} options={choices} choose={(pie) => change({ pie })} />}>
            <Pie {...slices(state.pie, answers.pie?.data ?? [])} others={others} theme={theme} />
            <Table caption={`By ${title(state.pie)}, the ${asked.pie?.limit ?? 0} largest`} columns={by(state.pie)} rows={answers.pie?.data ?? []} />
          </Panel>
        )}
        {lead && state.bar && (
          <Panel title={`${title(lead)} by ${title(state.bar)}`} id="bar" controls={<Select label="Bars by" value={state.bar} options={choices} choose={(bar) => change({ bar })} />}>
            <Bar {...slices(state.bar, answers.bar?.data ?? [])} theme={theme} />
            <Table caption={`By ${title(state.bar)}, the ${asked.bar?.limit ?? 0} largest`} columns={by(state.bar)} rows={answers.bar?.data ?? []} />
          </Panel>
        )}
        {(!lead || choices.length === 0) && answers.totals && (
          <Panel title={cube.title} id="totals" wide>
            <Table open caption={cube.title} columns={columns} rows={answers.totals.data} />
          </Panel>
        )}
        {choices.length > 0 && (
          <Panel
            title="Pivot"
            id="pivot"
            wide
            controls={
              <>
                <Select label="Split by" value={state.split} options={[["", "nothing"], ...choices]} choose={(split) => change({ split })} />
                <button type="button" onClick={() => change({ pivot: !state.pivot })} aria-expanded={state.pivot}>
                  {state.pivot ? "Close" : "Open the pivot"}
                </button>
              </>
            }
          >
            {state.pivot ? <Pivot cube={cube} state={state} version={version} theme={theme} /> : <p class="muted">Drag dimensions, split, filter, sort and export. Its engine (about 4 MB) is loaded when it is opened.</p>}
          </Panel>
        )}
      </div>
      <p class="muted">
        <a href={loadUrl(asked.pie ?? asked.totals)}>This answer from the API</a>
        {answers.totals?.errors?.map((error) => ` ${error.member}: ${error.error}`)}
      </p>
    </>
  );
}
