// The frame around every page: where one is, whether the page is live, and what happened last.

import { useEffect, useRef, useState } from "react";
import { IncidentsPage } from "./pages/IncidentsPage";
import { ModelPage } from "./pages/ModelPage";
import { ModelsPage } from "./pages/ModelsPage";
import { SearchesPage } from "./pages/SearchesPage";
import { Alarms } from "./parts/Alarms";
import { Empty } from "./parts/bits";
import { Jobs, Timeline } from "./parts/Timeline";
import { parse, toModel, useHash, type Route } from "./route";
import { useWorld, type World } from "./store";
import { action } from "./words";

export function App() {
  const world = useWorld();
  const hash = useHash();
  let route = parse(hash);
  // With one model there is nothing to choose: the front page is its page.
  const only = world.models?.length === 1 ? world.models[0] : undefined;
  if (hash.replace(/^#\/?/, "") === "" && only) route = { page: "model", model: only.model, section: null };

  const title = route.page === "model" ? route.model : route.page;
  useEffect(() => {
    document.title = `${title} · Homeostat`;
  }, [title]);

  const key = route.page === "model" ? route.model : route.page;
  const sectionless = !(route.page === "model" && route.section);
  useEffect(() => {
    if (sectionless) window.scrollTo(0, 0);
  }, [key, sectionless]);

  return (
    <>
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}
      >
        Skip to the content
      </a>
      <header className="bar">
        <a className="brand" href="#/" aria-label="Homeostat, front page">
          <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
            <path className="setpoint" d="M3 16h26" />
            <path className="settling" d="M3 16C7 1 11 4 14 14s5 10 7.5 4.5S26 15 29 16" />
          </svg>
          <span>Homeostat</span>
        </a>
        <nav aria-label="Pages">
          {(world.models ?? []).map((m) => (
            <a key={m.model} href={toModel(m.model)} aria-current={key === m.model ? "page" : undefined}>
              {m.model}
            </a>
          ))}
          {(["alarms", "incidents", "audit", "jobs", "searches"] as const).map((page) => (
            <a key={page} href={`#/${page}`} aria-current={key === page ? "page" : undefined}>
              {page.replace(/^./, (c) => c.toUpperCase())}
            </a>
          ))}
        </nav>
        <Connection world={world} />
      </header>
      <Latest world={world} />
      <main id="main" tabIndex={-1}>
        {world.error && world.connection !== "live" && (
          <p className="trouble" role="alert">
            {world.error}
          </p>
        )}
        <Page route={route} world={world} />
      </main>
      <footer>
        <p>Homeostat keeps models inside their objectives. Times are UTC.</p>
        <p>
          <a href="v1/models">API</a> <a href="openapi.json">OpenAPI</a> <a href="metrics">Prometheus</a>
        </p>
      </footer>
    </>
  );
}

function Page({ route, world }: { route: Route; world: World }) {
  switch (route.page) {
    case "models":
      return world.models ? <ModelsPage models={world.models} /> : <Empty>Asking the server…</Empty>;
    case "model": {
      const status = world.models?.find((m) => m.model === route.model);
      if (status) return <ModelPage key={status.model} status={status} world={world} section={route.section} />;
      return (
        <Empty>
          {world.models ? (
            <>
              There is no model “{route.model}”. <a href="#/models">All models</a>
            </>
          ) : (
            "Asking the server…"
          )}
        </Empty>
      );
    }
    case "alarms":
      return (
        <>
          <h1 className="page-title">Alarms</h1>
          <Alarms findings={world.findings} few={30} showModel quiet="No alarm on any model." />
        </>
      );
    case "audit":
      return (
        <>
          <h1 className="page-title">Audit</h1>
          <p className="lead">
            Everything that was done, by whom and why, newest first. <code>homeostat audit verify</code> proves that
            nothing was changed.
          </p>
          <Timeline entries={world.audit} findings={world.findings} few={50} showModel />
        </>
      );
    case "jobs":
      return (
        <>
          <h1 className="page-title">Jobs</h1>
          <Jobs jobs={world.jobs} few={50} showModel />
        </>
      );
    case "incidents":
      return <IncidentsPage incident={route.incident} />;
    case "searches":
      return <SearchesPage search={route.search} />;
    case "unknown":
      return (
        <Empty>
          Nothing is at {route.address}. <a href="#/">Front page</a>
        </Empty>
      );
  }
}

const CONNECTION = {
  connecting: "connecting",
  live: "live",
  quiet: "no news",
  lost: "reconnecting",
};

function Connection({ world }: { world: World }) {
  const [now, setNow] = useState(Date.now());
  const stale = world.connection !== "live";
  useEffect(() => {
    if (!stale) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [stale]);
  const age = world.heardAt && stale ? Math.max(0, Math.round((now - world.heardAt) / 1000)) : null;
  return (
    <p className={`connection ${world.connection}`} data-testid="connection" data-value={world.connection}>
      <span className="dot" aria-hidden="true" />
      <span role="status">{CONNECTION[world.connection]}</span>
      {age !== null && age > 2 && <span className="age">, figures are {age} s old</span>}
    </p>
  );
}

/** Tells a screen reader what the loop has just done; nothing of the flood of numbers. */
function Latest({ world }: { world: World }) {
  const [text, setText] = useState("");
  const seen = useRef<number | null>(null);
  const newest = world.audit?.[0];
  useEffect(() => {
    if (!newest) return;
    if (seen.current !== null && newest.sequence > seen.current) {
      setText(`${action(newest).words} ${newest.subject ?? newest.model ?? ""}`);
    }
    seen.current = newest.sequence;
  }, [newest]);
  return (
    <p className="hidden" aria-live="polite">
      {text}
    </p>
  );
}
