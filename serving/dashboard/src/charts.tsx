// Charts, each with its table behind it: what cannot be seen can be read.

import { BarChart, PieChart } from "echarts/charts";
import { GridComponent, TooltipComponent } from "echarts/components";
import { type EChartsType, init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import type { Row } from "./api";
import { epochSeconds, numeric, short, shown } from "./format";

use([BarChart, PieChart, GridComponent, TooltipComponent, SVGRenderer]);

/** Told apart also by people who see few colours (Okabe and Ito, lighter and darker ones added). */
const COLOURS = ["#0f766e", "#e69f00", "#56b4e9", "#d55e00", "#8b5cf6", "#009e73", "#cc79a7", "#64748b", "#b45309", "#0369a1", "#a3a635", "#be123c"];
/** Values that are colours themselves are shown in them. */
const NAMED: Record<string, string> = { red: "#dc2626", green: "#16a34a", yellow: "#eab308", orange: "#ea580c", blue: "#2563eb", gray: "#6b7280", grey: "#6b7280", white: "#cbd5e1", black: "#1f2937" };
const colour = (name: string, index: number): string => NAMED[name.toLowerCase()] ?? COLOURS[index % COLOURS.length]!;

const style = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function Panel(props: { title: string; id: string; wide?: boolean; controls?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class={props.wide ? "panel wide" : "panel"} aria-labelledby={`${props.id}-title`} id={props.id}>
      <header>
        <h2 id={`${props.id}-title`}>{props.title}</h2>
        <div class="controls">{props.controls}</div>
      </header>
      {props.children}
    </section>
  );
}

export interface Column {
  key: string;
  title: string;
  number: boolean;
}

export function Table(props: { caption: string; columns: Column[]; rows: Row[]; open?: boolean }) {
  return (
    <details class="data" open={props.open ?? false}>
      <summary>Table: {props.rows.length === 1 ? "1 row" : `${props.rows.length} rows`}</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label={props.caption}>
        <table>
          <caption>{props.caption}</caption>
          <thead>
            <tr>
              {props.columns.map((column) => (
                <th scope="col" class={column.number ? "number" : ""}>
                  {column.title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {props.rows.map((row) => (
              <tr>
                {props.columns.map((column, index) => {
                  const value = row[column.key];
                  const raw = value === null || value === undefined ? "" : String(value);
                  return index === 0 ? (
                    <th scope="row" data-value={raw}>
                      {shown(value)}
                    </th>
                  ) : (
                    <td class={column.number ? "number" : ""} data-value={raw}>
                      {shown(value)}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

/** Of the horizontal axis: hours of a day that has 24, days as they are sorted. */
const TIMES: uPlot.Axis.Values = [
  [3600 * 24 * 365, "{YYYY}", null, null, null, null, null, null, 1],
  [3600 * 24 * 28, "{YYYY}-{MM}", null, null, null, null, null, null, 1],
  [3600 * 24, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{YYYY}-{MM}-{DD}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{YYYY}-{MM}-{DD}", null, "\n{YYYY}-{MM}-{DD}", null, null, null, 1],
];

export interface Slices {
  label: string;
  names: string[];
  values: (number | null)[];
}

function useChart(render: (chart: EChartsType) => void, inputs: unknown[]) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  useEffect(() => {
    if (!place.current) return;
    const made = init(place.current, undefined, { renderer: "svg" });
    chart.current = made;
    const observer = new ResizeObserver(() => made.resize());
    observer.observe(place.current);
    return () => {
      observer.disconnect();
      made.dispose();
      chart.current = null;
    };
  }, []);
  useEffect(() => {
    if (chart.current) render(chart.current);
  }, inputs);
  return place;
}

/** `others`: what the slices are not, where values can be added up; else a slice has no share of anything. */
export function Pie(props: Slices & { others: number | null; theme: string }) {
  const slices = [
    ...props.names.map((name, index) => ({ name, value: props.values[index] ?? 0, color: colour(name, index) })),
    ...(props.others ? [{ name: "others", value: props.others, color: style("--other") }] : []),
  ].filter((slice) => slice.value > 0);
  const whole = slices.reduce((sum, slice) => sum + slice.value, 0);
  const place = useChart(
    (chart) =>
      chart.setOption({
        animation: false,
        tooltip: { trigger: "item", formatter: "{b}: {c}", renderMode: "richText" },
        series: [
          {
            type: "pie",
            radius: ["46%", "92%"],
            itemStyle: { borderColor: style("--panel"), borderWidth: 1 },
            label: { show: false },
            data: slices.map(({ name, value, color }) => ({ name, value, itemStyle: { color } })),
          },
        ],
      }),
    [props.names.join("\n"), props.values.join(), props.others, props.theme],
  );
  return (
    <div class="pie">
      <div ref={place} class="chart" role="img" aria-label={`Pie of ${props.label}: ${summary(props)}`} />
      <ol class="shares">
        {slices.map((slice) => (
          <li key={slice.name}>
            <span class="swatch" style={{ background: slice.color }} /> <span class="of">{slice.name}</span> <span>{props.others === null ? short(slice.value) : `${((100 * slice.value) / whole).toFixed(1)} %`}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

export function Bar(props: Slices & { theme: string }) {
  const place = useChart(
    (chart) =>
      chart.setOption({
        animation: false,
        tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, valueFormatter: (value: unknown) => shown(value as number), renderMode: "richText" },
        grid: { left: 8, right: 16, top: 12, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
        xAxis: { type: "value", axisLabel: { color: style("--muted"), formatter: (value: number) => short(value) }, splitLine: { lineStyle: { color: style("--line") } } },
        yAxis: { type: "category", inverse: true, data: props.names, axisLabel: { color: style("--text"), width: 130, overflow: "truncate", interval: 0, fontSize: 11 }, axisLine: { lineStyle: { color: style("--line") } }, axisTick: { show: false } },
        series: [{ type: "bar", barMaxWidth: 22, data: props.values.map((value, index) => ({ value, itemStyle: { color: NAMED[props.names[index]!.toLowerCase()] ?? COLOURS[0]!, borderRadius: [0, 3, 3, 0] } })) }],
      }),
    [props.names.join("\n"), props.values.join(), props.theme],
  );
  return <div ref={place} class="chart" role="img" aria-label={`Bars of ${props.label}: ${summary(props)}`} />;
}

const summary = (slices: Slices): string =>
  slices.names
    .slice(0, 5)
    .map((name, index) => `${name} ${shown(slices.values[index] ?? null)}`)
    .join(", ");

/** One line a measure; measures of other sizes have an axis of their own. */
export function Series(props: { time: string; lines: { key: string; title: string }[]; rows: Row[]; theme: string }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shape = props.lines.map((line) => line.key).join() + props.theme;
  const sorted = [...props.rows].filter((row) => row[props.time] !== null).sort((a, b) => epochSeconds(a[props.time]) - epochSeconds(b[props.time]));
  const data: uPlot.AlignedData = [sorted.map((row) => epochSeconds(row[props.time])), ...props.lines.map((line) => sorted.map((row) => numeric(row[line.key])))];
  const shownData = useRef(data);
  shownData.current = data;
  useEffect(() => {
    const host = place.current;
    if (!host) return;
    const axis = { stroke: style("--muted"), grid: { stroke: style("--line"), width: 1 }, ticks: { show: false } };
    const made = new uPlot(
      {
        width: host.clientWidth,
        height: 240,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
        scales: Object.fromEntries(props.lines.map((line) => [line.key, { auto: true, range: (_: uPlot, low: number | null, high: number | null) => [Math.min(0, low ?? 0), (high ?? 1) * 1.08 || 1] as [number, number] }])),
        legend: { live: true },
        series: [
          { label: "Time (UTC)", value: (_, seconds) => (seconds === null ? "–" : shown(new Date(seconds * 1e3).toISOString().slice(0, -1))) },
          ...props.lines.map((line, index) => ({
            label: line.title,
            scale: line.key,
            stroke: COLOURS[index % COLOURS.length]!,
            width: 2,
            spanGaps: false,
            ...(index === 0 ? { fill: `${COLOURS[0]}22` } : {}),
            points: { show: shownData.current[0].length < 40 },
            value: (_: uPlot, value: number | null) => (value === null ? "–" : shown(value)),
          })),
        ],
        axes: [{ ...axis, values: TIMES }, ...props.lines.slice(0, 2).map((line, index) => ({ ...axis, scale: line.key, side: (index === 0 ? 3 : 1) as uPlot.Axis.Side, size: 64, grid: { ...axis.grid, show: index === 0 }, values: (_: uPlot, values: number[]) => values.map(short) }))],
      },
      shownData.current,
      host,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: host.clientWidth, height: 240 }));
    observer.observe(host);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data), [props.rows, shape]);
  return <div ref={place} class="series" role="img" aria-label={`${props.lines.map((line) => line.title).join(", ")} over time, ${sorted.length} points`} />;
}
