// Live against the first model, month by month.

import type { ModelStatus, Month } from "../api";
import { count, fixed, month } from "../format";
import { Difference, Empty, Section, Table, type Column } from "./bits";

export function Months({ status }: { status: ModelStatus }) {
  const months = status.accuracy?.months ?? [];
  const metrics =
    status.task === "binary"
      ? ([
          ["auc", "AUC", true, 3],
          ["logloss", "Log loss", false, 4],
        ] as const)
      : ([
          ["rmse", "RMSE", false, 2],
          ["mae", "MAE", false, 2],
        ] as const);
  const columns: Column<Month>[] = [
    { title: "Month", label: "Month", cell: (m) => month(m.month) },
    { title: "Outcomes", label: "Outcomes", numeric: true, cell: (m) => count(m.rows) },
    ...metrics.flatMap(([key, title, higherIsBetter, digits]): Column<Month>[] => [
      { title: `${title}, live`, label: `${title}, live`, numeric: true, cell: (m) => fixed(m.live?.[key], digits) },
      { title: "first model", label: "first model", numeric: true, cell: (m) => fixed(m.frozen?.[key], digits) },
      {
        title: "difference",
        label: "difference",
        numeric: true,
        cell: (m) => (
          <Difference live={m.live?.[key]} frozen={m.frozen?.[key]} digits={digits} higherIsBetter={higherIsBetter} />
        ),
      },
    ]),
  ];
  return (
    <Section
      id="months"
      title="Month by month"
      lead="What was served, against what the first model would have said to the same requests."
    >
      {months.length > 0 ? (
        <Table
          className="months"
          caption="Live version against the first model, by month"
          columns={columns}
          rows={months}
          rowKey={(m) => m.month}
        />
      ) : (
        <Empty>No outcomes have arrived yet. The first month appears with the first of them.</Empty>
      )}
    </Section>
  );
}
