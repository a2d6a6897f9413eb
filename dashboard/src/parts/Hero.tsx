// The top of a model's page: whose it is, what time it is in its world, and how it does in five numbers.

import type { Metrics, ModelStatus } from "../api";
import { clockTime, count, date, figure, fixed, latency, longDate, money, NONE } from "../format";
import { story } from "../words";
import { Difference, Pill, Value } from "./bits";

export function Hero({ status }: { status: ModelStatus }) {
  const { replay } = status;
  const share = replay && replay.total > 0 ? replay.done / replay.total : 0;
  const over = replay != null && replay.total > 0 && replay.done >= replay.total;
  return (
    <header className="hero">
      <div className="hero-what">
        <p className="eyebrow">
          {status.task === "binary" ? "Predicts a probability" : "Predicts a quantity"}
          {status.routing?.retraining_frozen && <Pill tone="bad">retraining frozen</Pill>}
        </p>
        <h1>{status.model}</h1>
        <p className="story" data-testid="story">
          {status.description && `${status.description} `}
          {story(status)}
        </p>
      </div>
      <div className="hero-when">
        <p className="eyebrow">{status.clock === "event" ? "Event time" : "Time"}</p>
        <p className="event-time" data-testid="event-time" data-value={status.event_time ?? ""}>
          <span>{longDate(status.event_time)}</span>
          {status.event_time ? ", " : ""}
          <span className="hour">{clockTime(status.event_time)}</span>
        </p>
        {replay ? (
          <>
            <div
              className="progress"
              role="progressbar"
              aria-label="Replay"
              aria-valuemin={0}
              aria-valuemax={100}
              aria-valuenow={Math.round(share * 100)}
            >
              <span style={{ width: `${share * 100}%` }} />
            </div>
            <p className="progress-text">
              <span>
                {over ? "Replay finished: " : "Replayed "}
                <Value id="replay-done" raw={replay.done}>
                  {count(replay.done)}
                </Value>{" "}
                of{" "}
                <Value id="replay-total" raw={replay.total}>
                  {count(replay.total)}
                </Value>{" "}
                events
              </span>
              <span>
                {date(replay.from)} to {date(replay.to)}
              </span>
            </p>
          </>
        ) : (
          <p className="progress-text">{status.clock === "event" ? "No replay is running." : "Live traffic."}</p>
        )}
      </div>
    </header>
  );
}

export function Tiles({ status }: { status: ModelStatus }) {
  const { traffic, cost } = status;
  const p50 = latency(status.latency_ms?.p50);
  const p99 = latency(status.latency_ms?.p99);
  const refused = Object.entries(traffic.refused ?? {}).filter(([, n]) => n > 0);
  const refusals = refused.reduce((sum, [, n]) => sum + n, 0);
  const live = status.accuracy?.total?.live;
  const frozen = status.accuracy?.total?.frozen;
  const same =
    status.routing?.live != null &&
    status.routing.live.version === status.routing.frozen?.version &&
    live?.auc === frozen?.auc &&
    live?.rmse === frozen?.rmse;
  const metric = status.task === "binary" ? (["auc", "logloss"] as const) : (["rmse", "mae"] as const);
  return (
    <dl className="tiles" aria-label="Headline figures">
      <div className="tile">
        <dt>Predictions</dt>
        <dd className="big">
          <Value id="predictions" raw={traffic.predictions}>
            {count(traffic.predictions)}
          </Value>
        </dd>
        <dd>
          <Value id="rate" raw={traffic.rate_per_second}>
            {traffic.rate_per_second == null ? "rate not known yet" : `${count(traffic.rate_per_second)} per second`}
          </Value>
        </dd>
        <dd>
          <Value id="outcomes" raw={traffic.outcomes}>
            {count(traffic.outcomes)}
          </Value>{" "}
          outcomes known
        </dd>
        <dd className={refused.length > 0 ? "warn" : undefined}>
          {refused.length > 0
            ? `${count(refusals)} refused (${refused.map(([why, n]) => `${why.replaceAll("_", " ")} ${count(n)}`).join(", ")})`
            : "none refused"}
        </dd>
      </div>
      <div className="tile">
        <dt>Latency</dt>
        <dd className="big">
          <Value id="latency-p99" raw={status.latency_ms?.p99}>
            {p99.number}
          </Value>
          <small>{p99.unit && `${p99.unit} p99`}</small>
        </dd>
        <dd>
          <Value id="latency-p50" raw={status.latency_ms?.p50}>
            {status.latency_ms?.p50 == null ? "no request answered yet" : `half within ${p50.number} ${p50.unit}`}
          </Value>
        </dd>
      </div>
      {metric.map((name) => (
        <MetricTile key={name} name={name} live={live} frozen={frozen} same={same} />
      ))}
      <div className="tile">
        <dt>Cost per correct prediction</dt>
        <CostPerCorrect cost={cost} />
      </div>
    </dl>
  );
}

const METRICS = {
  auc: { title: "AUC", higher: true, digits: 4, hint: "higher is better" },
  logloss: { title: "Log loss", higher: false, digits: 4, hint: "lower is better" },
  rmse: { title: "RMSE", higher: false, digits: 2, hint: "lower is better" },
  mae: { title: "MAE", higher: false, digits: 2, hint: "lower is better" },
};

function MetricTile(props: {
  name: keyof typeof METRICS;
  live: Metrics | null | undefined;
  frozen: Metrics | null | undefined;
  same: boolean;
}) {
  const { title, higher, digits, hint } = METRICS[props.name];
  const live = props.live?.[props.name];
  const frozen = props.frozen?.[props.name];
  const text = (x: number | null | undefined) =>
    digits === 2 && x != null && Math.abs(x) < 1 ? figure(x) : fixed(x, digits);
  return (
    <div className="tile">
      <dt>
        {title} <i>{hint}</i>
      </dt>
      <dd className="big">
        <Value id={`${props.name}-live`} raw={live}>
          {text(live)}
        </Value>
      </dd>
      {live == null ? (
        <dd>no outcomes known yet</dd>
      ) : frozen == null ? (
        <dd>no first model to compare with</dd>
      ) : (
        <>
          <dd>
            <Difference
              id={`${props.name}-difference`}
              live={live}
              frozen={frozen}
              digits={digits}
              higherIsBetter={higher}
            />{" "}
            {props.same ? "(still the first model)" : "against the first model"}
          </dd>
          <dd>
            first model:{" "}
            <Value id={`${props.name}-frozen`} raw={frozen}>
              {text(frozen)}
            </Value>
          </dd>
        </>
      )}
    </div>
  );
}

/** Single predictions cost millionths: they are shown by the million, with the exact figure under it. */
function CostPerCorrect({ cost }: { cost: ModelStatus["cost"] }) {
  const each = cost?.per_correct_prediction;
  if (!cost || each == null) {
    return (
      <>
        <dd className="big">
          <Value id="cost-per-correct" raw={null}>
            {NONE}
          </Value>
        </dd>
        <dd>known when outcomes arrive</dd>
      </>
    );
  }
  const byMillion = each < 0.001;
  return (
    <>
      <dd className="big">
        <Value id="cost-per-correct" raw={each}>
          {money(byMillion ? each * 1e6 : each, cost.currency)}
        </Value>
        {byMillion && <small>per million</small>}
      </dd>
      <dd>
        {count(cost.correct)} known correct of {count(cost.predictions)}
      </dd>
      <dd>{cost.measured ? "CPU time measured" : "CPU time estimated"}</dd>
    </>
  );
}
