// Searches for better values of a model's declaration: all of them, and one with its figure and its best trials.

import { api, type Search, type SearchSummary } from "../api";
import { count, duration, figure, moment } from "../format";
import { Empty, Table, type Column } from "../parts/bits";
import { usePolled } from "../polled";
import { toModel, toSearch } from "../route";

export function SearchesPage({ search }: { search: string | null }) {
  return search === null ? <All /> : <One id={search} />;
}

const COLUMNS: Column<SearchSummary>[] = [
  { title: "Search", label: "Search", cell: (s) => <a href={toSearch(s.id)}>{s.id}</a> },
  { title: "Model", label: "Model", cell: (s) => <a href={toModel(s.model)}>{s.model}</a> },
  { title: "Ended", label: "Ended", cell: (s) => (s.at == null ? "not yet" : moment(s.at)) },
  { title: "Trials", label: "Trials", numeric: true, cell: (s) => count(s.trials) },
  { title: "Least loss", label: "Least loss", numeric: true, cell: (s) => `${figure(s.least)} ${s.measure}` },
  { title: "CPU", label: "CPU", numeric: true, cell: (s) => duration(s.cpu_seconds) },
];

function All() {
  const { answer, error } = usePolled(api.searches, "all");
  return (
    <>
      <h1 className="page-title">Searches</h1>
      <p className="lead">
        <code>homeostat tune MODEL</code> looks for the values of a declaration that lose least on the validation rows.
      </p>
      {error && <Trouble text={error} />}
      {answer === null && !error && <Empty>Asking the server…</Empty>}
      {answer?.length === 0 && <Empty>No search has been made yet.</Empty>}
      {answer && answer.length > 0 && (
        <div data-testid="searches" data-value={answer.length}>
          <Table caption="Searches" columns={COLUMNS} rows={answer} rowKey={(s) => s.id} />
        </div>
      )}
    </>
  );
}

function One({ id }: { id: string }) {
  const { answer, error } = usePolled(() => api.search(id), id);
  return (
    <>
      <h1 className="page-title">Search {id}</h1>
      <p className="lead">
        <a href="#/searches">All searches</a>
        {answer && (
          <>
            {" "}
            · of <a href={toModel(answer.model)}>{answer.model}</a>, {count(answer.trials.length)} trials,{" "}
            {duration(answer.cpu_seconds)} of CPU; {answer.ending}
          </>
        )}
      </p>
      {error && <Trouble text={error} />}
      {answer === null && !error && <Empty>Asking the server…</Empty>}
      {answer && answer.trials.length > 0 && <Found search={answer} />}
    </>
  );
}

function Found({ search }: { search: Search }) {
  const rungs = Math.max(...search.trials.map((trial) => trial.losses.length));
  // Losses of lower rungs are of fewer rows and do not compare.
  const finalists = search.trials
    .filter((trial) => trial.losses.length === rungs && rungs > 0)
    .toSorted((a, b) => (a.losses.at(-1) ?? 0) - (b.losses.at(-1) ?? 0))
    .slice(0, 10);
  return (
    <>
      <img
        className="search-plot"
        data-testid="search-plot"
        src={`v1/searches/${encodeURIComponent(search.id)}/plot?trials=${search.trials.length}`}
        alt={`The ${search.measure} of ${search.trials.length} trials at each rung, and the best so far`}
        width={760}
        height={380}
      />
      <h2>The best of those that went all the way</h2>
      <ol className="trials" data-testid="trials" data-value={search.trials.length}>
        {finalists.map((trial) => (
          <li key={trial.number}>
            <p className="did">
              <strong>
                {search.measure} {figure(trial.losses.at(-1) ?? null)}
              </strong>
              <span>trial {trial.number}</span>
              <span className="sequence">{duration(trial.cpu_seconds)} of CPU</span>
            </p>
            <p className="detail">
              {Object.entries(trial.values)
                .map(([name, value]) => `${name.replace(/^learner\./, "")} = ${shown(value)}`)
                .join(", ")}
            </p>
          </li>
        ))}
      </ol>
    </>
  );
}

const shown = (value: unknown) => (typeof value === "number" ? figure(value) : String(value));

const Trouble = ({ text }: { text: string }) => (
  <p className="trouble" role="alert">
    {text}
  </p>
);
