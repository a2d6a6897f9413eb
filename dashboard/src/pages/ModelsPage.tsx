// All models at a glance.

import type { ModelStatus } from "../api";
import { count, fixed, latency, money, moment, signed } from "../format";
import { Empty } from "../parts/bits";
import { toModel } from "../route";
import { story } from "../words";

export function ModelsPage({ models }: { models: ModelStatus[] }) {
  return (
    <>
      <h1 className="page-title">Models</h1>
      {models.length === 0 && (
        <Empty>
          No model is served yet. Train one with <code>homeostat train MODEL</code>, then release it.
        </Empty>
      )}
      <ul className="models">
        {models.map((status) => (
          <li key={status.model}>
            <a href={toModel(status.model)}>
              <h2>{status.model}</h2>
              <p className="story">{story(status)}</p>
              <Facts status={status} />
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}

function Facts({ status }: { status: ModelStatus }) {
  const { live, frozen } = status.accuracy?.total ?? {};
  const p99 = latency(status.latency_ms?.p99);
  const cost = status.cost;
  const binary = status.task === "binary";
  const [mine, first] = binary ? [live?.auc, frozen?.auc] : [live?.rmse, frozen?.rmse];
  const digits = binary ? 4 : 2;
  return (
    <dl className="facts">
      <div>
        <dt>Predictions</dt>
        <dd>{count(status.traffic.predictions)}</dd>
      </div>
      <div>
        <dt>p99</dt>
        <dd>
          {p99.number} {p99.unit}
        </dd>
      </div>
      <div>
        <dt>{binary ? "AUC" : "RMSE"} (against the first model)</dt>
        <dd>
          {fixed(mine, digits)} {mine != null && first != null && `(${signed(mine - first, digits)})`}
        </dd>
      </div>
      <div>
        <dt>Per million correct</dt>
        <dd>{cost?.per_correct_prediction != null ? money(cost.per_correct_prediction * 1e6, cost.currency) : "–"}</dd>
      </div>
      <div>
        <dt>Event time</dt>
        <dd>{moment(status.event_time)}</dd>
      </div>
    </dl>
  );
}
