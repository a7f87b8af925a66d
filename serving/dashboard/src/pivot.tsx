// The pivot: Perspective, loaded when it is opened, for its engine is some megabytes.

import type { Client, Table } from "@perspective-dev/client";
import type { PerspectiveViewer } from "@perspective-dev/viewer";
import { useEffect, useRef, useState } from "preact/hooks";

import { type Cube, loadArrow } from "./api";
import { pivotQuery } from "./query";
import { local, type State } from "./state";

let engine: Promise<Client> | null = null;
/** A table's name is its own while the engine lives. */
let opened = 0;

async function start(): Promise<Client> {
  const [{ default: perspective }, { default: viewer }, serverWasm, viewerWasm] = await Promise.all([
    import("@perspective-dev/client"),
    import("@perspective-dev/viewer"),
    import("@perspective-dev/server/dist/wasm/perspective-server.wasm?url"),
    import("@perspective-dev/viewer/dist/wasm/perspective-viewer.wasm?url"),
  ]);
  // Its own code of a file, not of a blob: the page's policy allows no other.
  const viewerModule = import("@perspective-dev/viewer/dist/wasm/perspective-viewer.js");
  await import("@perspective-dev/viewer-datagrid");
  await Promise.all([import("@perspective-dev/viewer/dist/css/pro.css"), import("@perspective-dev/viewer/dist/css/pro-dark.css")]);
  perspective.init_server(fetch(serverWasm.default));
  await viewer.init_client(fetch(viewerWasm.default), viewerModule);
  return perspective.worker();
}

/** What groups of groups are aggregated by. Where that would be wrong (an average of averages), only single groups have a value. */
const AGGREGATES: Record<string, string> = { sum: "sum", count: "sum", min: "min", max: "max" };

/** Refetched at most this often; the whole table moves. */
const REFRESH_MS = 2_000;

export function Pivot(props: { cube: Cube; state: State; version: number; theme: string }) {
  const { cube, state } = props;
  const host = useRef<HTMLDivElement>(null);
  const viewer = useRef<PerspectiveViewer | null>(null);
  const table = useRef<Table | null>(null);
  const [trouble, setTrouble] = useState("");
  const [loaded, setLoaded] = useState(0);
  const asked = JSON.stringify(pivotQuery(cube, state));
  const latest = useRef(asked);
  latest.current = asked;
  const busy = useRef(false);

  useEffect(() => {
    let left = false;
    const open = async () => {
      const query = pivotQuery(cube, state);
      const data = await loadArrow(query);
      engine ??= start();
      const client = await engine;
      if (left || !host.current) return;
      const name = `${cube.name} ${(opened += 1)}`;
      const made = await client.table(data, { name });
      table.current = made;
      const element = document.createElement("perspective-viewer") as PerspectiveViewer;
      host.current.replaceChildren(element);
      viewer.current = element;
      await element.load(client);
      const full = (name: string) => `${cube.name}.${name}`;
      await element.restore({
        table: name,
        plugin: "Datagrid",
        theme: props.theme === "dark" ? "Pro Dark" : "Pro Light",
        settings: true,
        group_by: state.bar ? [full(state.bar)] : [],
        split_by: state.split && state.split !== state.bar ? [full(state.split)] : [],
        columns: state.measures.slice(0, 1).map(full),
        aggregates: Object.fromEntries(cube.measures.map((measure) => [measure.name, AGGREGATES[measure.aggType ?? ""] ?? "unique"])),
      });
      setLoaded(await made.size());
    };
    open().catch((error: unknown) => setTrouble(error instanceof Error ? error.message : String(error)));
    return () => {
      left = true;
      const [element, made] = [viewer.current, table.current];
      viewer.current = null;
      table.current = null;
      void element?.delete().then(() => made?.delete({ lazy: true }));
    };
  }, [cube.name]);

  useEffect(() => {
    const refresh = async () => {
      const current = table.current;
      if (!current || busy.current) return;
      busy.current = true;
      try {
        await current.replace(await loadArrow(JSON.parse(latest.current) as ReturnType<typeof pivotQuery>));
        setLoaded(await current.size());
        setTrouble("");
      } catch (error) {
        setTrouble(error instanceof Error ? error.message : String(error));
      } finally {
        setTimeout(() => (busy.current = false), REFRESH_MS);
      }
    };
    void refresh();
  }, [props.version, asked]);

  useEffect(() => void viewer.current?.restore({ theme: props.theme === "dark" ? "Pro Dark" : "Pro Light" }), [props.theme]);

  const partial = cube.measures.filter((measure) => !AGGREGATES[measure.aggType ?? ""]).map((measure) => local(measure.name));
  return (
    <>
      {trouble && <p class="problem">{trouble}</p>}
      <div ref={host} class="pivot" data-rows={loaded}>
        <p class="muted">Loading the pivot …</p>
      </div>
      <p class="muted">
        {loaded.toLocaleString("en")} groups{loaded >= 50_000 && " (the most that one answer has: choose a shorter range or a filter)"}.
        {partial.length > 0 && ` ${partial.join(", ")}: shown where a cell is one group; groups of these cannot be added up.`}
      </p>
    </>
  );
}
