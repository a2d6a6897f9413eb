// Every version that the model has had, newest first.

import type { ModelStatus, Version } from "../api";
import { bytes, count, date, duration, fixed, NONE, shortDigest } from "../format";
import { Empty, Pill, Section, Table, useMore, type Column } from "./bits";

const STATES: Record<string, string> = { frozen: "first model", registered: "waits" };

export function Versions({ status }: { status: ModelStatus }) {
  const versions = (status.versions ?? []).toSorted((a, b) => b.version - a.version);
  const { shown, button } = useMore(versions, 8);
  const first = status.routing?.frozen?.version;
  const binary = status.task === "binary";
  const columns: Column<Version>[] = [
    {
      title: "Version",
      label: "Version",
      cell: (v) => (
        <>
          <strong>{v.version}</strong> <Pill tone={v.state}>{STATES[v.state] ?? v.state}</Pill>{" "}
          {v.state !== "frozen" && v.version === first && <Pill tone="frozen">first model</Pill>}
        </>
      ),
    },
    { title: "Digest", label: "Digest", cell: (v) => <code title={v.digest}>{shortDigest(v.digest)}</code> },
    { title: "Learner", label: "Learner", cell: (v) => v.learner },
    {
      title: "Learned from",
      label: "Learned from",
      cell: (v) => (v.trained_from || v.trained_to ? `${date(v.trained_from)} to ${date(v.trained_to)}` : NONE),
    },
    { title: "Rows", label: "Rows", numeric: true, cell: (v) => count(v.rows) },
    {
      title: binary ? "AUC" : "RMSE",
      label: binary ? "AUC at training" : "RMSE at training",
      numeric: true,
      cell: (v) => (binary ? fixed(v.metrics?.auc, 4) : fixed(v.metrics?.rmse, 2)),
    },
    {
      title: binary ? "Log loss" : "MAE",
      label: binary ? "Log loss at training" : "MAE at training",
      numeric: true,
      cell: (v) => (binary ? fixed(v.metrics?.logloss, 4) : fixed(v.metrics?.mae, 2)),
    },
    { title: "Trained in", label: "Trained in", numeric: true, cell: (v) => duration(v.seconds) },
    { title: "Size", label: "Size", numeric: true, cell: (v) => bytes(v.bytes) },
  ];
  return (
    <Section
      id="versions"
      title="Versions"
      lead="Metrics are those of the newest part of each version's own data: they compare with each other only roughly. The trial is what decides."
    >
      {versions.length > 0 ? (
        <>
          <Table
            caption="Versions, newest first"
            columns={columns}
            rows={shown}
            rowKey={(v) => v.version}
            rowClass={(v) => v.state}
          />
          {button}
        </>
      ) : (
        <Empty>No version has been registered yet.</Empty>
      )}
    </Section>
  );
}
