// Incidents: what went wrong, and of one its timeline with the figures of its minutes on one axis.

import { api, type Incident, type IncidentLine, type Moment } from "../api";
import { clockTime, figure, moment, seconds } from "../format";
import { Empty, Table, type Column } from "../parts/bits";
import { usePolled } from "../polled";
import { toIncident, toModel } from "../route";

export function IncidentsPage({ incident }: { incident: string | null }) {
  return incident === null ? <All /> : <One id={incident} />;
}

const COLUMNS: Column<Incident>[] = [
  { title: "Incident", label: "Incident", cell: (i) => <a href={toIncident(i.id)}>{i.title}</a> },
  { title: "Model", label: "Model", cell: (i) => <a href={toModel(i.model)}>{i.model}</a> },
  { title: "Severity", label: "Severity", cell: (i) => i.severity },
  { title: "Opened", label: "Opened", cell: (i) => moment(i.opened) },
  { title: "Healed", label: "Healed", cell: (i) => (i.closed == null ? "it lasts" : moment(i.closed)) },
];

function All() {
  const { answer, error } = usePolled(api.incidents, "all");
  return (
    <>
      <h1 className="page-title">Incidents</h1>
      <p className="lead">Alarms of one model that overlap are one incident, with what was done about it.</p>
      {error && <Trouble text={error} />}
      {answer === null && !error && <Empty>Asking the server…</Empty>}
      {answer?.length === 0 && <Empty>Nothing has gone wrong yet.</Empty>}
      {answer && answer.length > 0 && (
        <div data-testid="incidents" data-value={answer.length}>
          <Table caption="Incidents" columns={COLUMNS} rows={answer} rowKey={(i) => i.id} />
        </div>
      )}
    </>
  );
}

function One({ id }: { id: string }) {
  const { answer, error } = usePolled(() => api.incident(id), id);
  return (
    <>
      <h1 className="page-title">{answer?.title ?? "Incident"}</h1>
      <p className="lead">
        <a href="#/incidents">All incidents</a>
        {answer && (
          <>
            {" "}
            · of <a href={toModel(answer.model)}>{answer.model}</a>; {answer.ending}
          </>
        )}
      </p>
      {error && <Trouble text={error} />}
      {answer === null && !error && <Empty>Asking the server…</Empty>}
      {answer && <Told incident={answer} />}
    </>
  );
}

const WORDS: Record<IncidentLine["what"], string> = {
  moved: "Moved",
  found: "Found",
  done: "Done",
  healed: "Healed",
};

function Told({ incident }: { incident: Incident }) {
  const first = incident.moved[0];
  return (
    <>
      {first && (
        <p data-testid="moved-first">
          <strong>{first.figure.replaceAll("_", " ")}</strong> moved first, at {moment(first.at)}: from{" "}
          {figure(first.before)} to {figure(first.after)}.
        </p>
      )}
      <h2>What happened</h2>
      <ol className="timeline" data-testid="incident-timeline" data-value={incident.timeline.length}>
        {incident.timeline.map((line, place) => (
          <li key={place}>
            <time dateTime={line.at}>{moment(line.at)}</time>
            <div>
              <p className="did">
                <strong>{WORDS[line.what]}</strong>
              </p>
              <p className="detail">{line.text}</p>
            </div>
          </li>
        ))}
      </ol>
      <h2>The minutes around it</h2>
      <Minutes incident={incident} />
    </>
  );
}

const FIGURES: [keyof Moment, string][] = [
  ["requests", "Requests a minute"],
  ["p99_ms", "99th percentile, ms"],
  ["failed", "Share of requests that failed"],
  ["refused", "Share of requests refused"],
  ["outcomes", "Outcomes a minute"],
  ["loss", "Loss a row"],
  ["gap", "Outcome less prediction"],
  ["cost_per_correct", "Cost of a right answer"],
];

const WIDTH = 760;
const HEIGHT = 64;

function Minutes({ incident }: { incident: Incident }) {
  const moments = incident.moments ?? [];
  const known = FIGURES.filter(([name]) => moments.some((m) => typeof m[name] === "number"));
  if (moments.length < 2 || known.length === 0) return <Empty>The figures of these minutes are no longer kept.</Empty>;
  const from = seconds(moments[0]?.at ?? incident.opened);
  const to = seconds(moments.at(-1)?.at ?? incident.opened);
  const x = (at: string) => Math.min(WIDTH, Math.max(0, ((seconds(at) - from) / Math.max(1, to - from)) * WIDTH));
  const end = incident.closed ? x(incident.closed) : WIDTH;
  return (
    <div data-testid="incident-minutes" data-value={known.length}>
      {known.map(([name, title]) => {
        const points = moments.flatMap((m) => {
          const value = m[name];
          return typeof value === "number" ? [{ at: m.at, value }] : [];
        });
        const least = Math.min(...points.map((p) => p.value));
        const most = Math.max(...points.map((p) => p.value));
        const y = (value: number) => HEIGHT - 4 - ((value - least) / Math.max(1e-12, most - least)) * (HEIGHT - 8);
        const path = points.map((p) => `${x(p.at).toFixed(1)},${y(p.value).toFixed(1)}`).join(" ");
        return (
          <figure key={name} style={{ margin: "0 0 1rem" }}>
            <figcaption>
              {title}: {figure(least)} to {figure(most)}
            </figcaption>
            <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width="100%" role="img" aria-label={title}>
              <rect
                x={x(incident.opened)}
                width={Math.max(1, end - x(incident.opened))}
                height={HEIGHT}
                fill="currentColor"
                opacity={0.08}
              />
              <polyline points={path} fill="none" stroke="currentColor" strokeWidth={1.5} />
            </svg>
          </figure>
        );
      })}
      <p className="detail">
        From {clockTime(moments[0]?.at)} to {clockTime(moments.at(-1)?.at)}; shaded while the incident lasted.
      </p>
    </div>
  );
}

const Trouble = ({ text }: { text: string }) => (
  <p className="trouble" role="alert">
    {text}
  </p>
);
