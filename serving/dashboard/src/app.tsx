import { useCallback, useEffect, useState } from "preact/hooks";

import { type Cube, readMeta } from "./api";
import { type Heard, Pill } from "./freshness";
import { PipelinePage } from "./pipeline";
import { PIPELINE, read, type State, write } from "./state";
import { ViewPage } from "./view";

const AGAIN_MS = 2_000;

type Theme = "light" | "dark";

function useTheme(): [Theme, () => void] {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const preferred = (): Theme => {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") return chosen;
    return system.matches ? "dark" : "light";
  };
  const [theme, setTheme] = useState<Theme>(preferred);
  useEffect(() => {
    const follow = () => setTheme(preferred());
    system.addEventListener("change", follow);
    return () => system.removeEventListener("change", follow);
  }, []);
  document.documentElement.dataset["theme"] = theme;
  return [
    theme,
    () => {
      const other = theme === "dark" ? "light" : "dark";
      localStorage.setItem("theme", other);
      document.documentElement.dataset["theme"] = other;
      setTheme(other);
    },
  ];
}

export function App() {
  const [cubes, setCubes] = useState<Cube[] | null>(null);
  const [trouble, setTrouble] = useState("");
  const [search, setSearch] = useState(location.search);
  const [heard, setHeard] = useState<Heard>({ lambda: null, at: Date.now(), away: false });
  const [now, setNow] = useState(Date.now());
  const [theme, toggleTheme] = useTheme();

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    const look = () =>
      readMeta()
        .then((found) => {
          setCubes(found);
          setTrouble(found.length === 0 ? "There is no view yet: write one in SQL and `anabranch apply` it." : "");
          if (found.length === 0) timer = setTimeout(look, AGAIN_MS);
        })
        .catch((error: unknown) => {
          setTrouble(error instanceof Error ? error.message : String(error));
          timer = setTimeout(look, AGAIN_MS);
        });
    void look();
    const tick = setInterval(() => setNow(Date.now()), 1000);
    const back = () => setSearch(location.search);
    addEventListener("popstate", back);
    return () => {
      clearTimeout(timer);
      clearInterval(tick);
      removeEventListener("popstate", back);
    };
  }, []);

  const go = (to: string) => {
    history.pushState(null, "", to);
    setSearch(to);
  };
  const onPipeline = new URLSearchParams(search).get("view") === PIPELINE;
  const state: State | null = cubes && !onPipeline ? read(cubes, search) : null;
  const cube = cubes?.find((known) => known.name === state?.view);
  const hear = useCallback((news: Partial<Heard>) => setHeard((known) => ({ ...known, ...news })), []);
  const change = (changes: Partial<State>) => {
    if (!cubes || !state) return;
    const next = write(cubes, { ...state, ...changes });
    history.replaceState(null, "", next);
    setSearch(next);
  };
  const link = (view: string, title: string, current: boolean) => (
    <a
      href={`?view=${view}`}
      aria-current={current ? "page" : undefined}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(`?view=${view}`);
      }}
    >
      {title}
    </a>
  );
  const usual = cubes?.filter((known) => !known.name.endsWith("_rejected")) ?? [];

  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <h1>
          <img src="/icon.svg" alt="" width="24" height="24" /> Anabranch
        </h1>
        <nav aria-label="Views">
          {usual.map((known) => link(known.name, known.title, known.name === state?.view))}
          {link(PIPELINE, "Pipeline", onPipeline)}
        </nav>
        <Pill heard={heard} now={now} />
        <button type="button" class="theme" onClick={toggleTheme} aria-label={theme === "dark" ? "Use light colours" : "Use dark colours"}>
          {theme === "dark" ? "☀" : "☾"}
        </button>
      </header>
      <main id="main">
        {trouble && (
          <p class="problem" role="alert">
            {trouble}
          </p>
        )}
        {onPipeline ? <PipelinePage hear={hear} /> : cube && state && <ViewPage cube={cube} state={state} change={change} hear={hear} theme={theme} key={cube.name} />}
      </main>
    </>
  );
}
