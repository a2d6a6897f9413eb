// Evidence for the candidate: the mean gain over the live version on the same requests, with an interval that holds
// at every moment, against zero.

import type { ModelStatus, Trial } from "../api";
import { count, figure, moment, seconds, signed } from "../format";
import { VERDICTS } from "../words";
import { Empty, Pill, Section, useWidth } from "./bits";

export function Evidence({ status }: { status: ModelStatus }) {
  const trial = status.trial;
  if (!trial) {
    return (
      <Section id="evidence" title="Evidence for the candidate">
        <Empty>
          No candidate is on trial. A trial starts when a retraining registers a new version; it then answers the same
          requests as the live version until one is known to be better.
        </Empty>
      </Section>
    );
  }
  const verdict = VERDICTS[trial.verdict];
  return (
    <Section
      id="evidence"
      title="Evidence for the candidate"
      aside={
        <Pill tone="candidate">
          version {trial.candidate} against {trial.incumbent}, {trial.stage}
        </Pill>
      }
    >
      <div className="evidence">
        <div>
          <p className={`verdict ${verdict.tone}`} data-testid="verdict" data-value={trial.verdict}>
            {verdict.title}
          </p>
          <p className="meaning">{verdict.meaning}</p>
          <dl className="facts">
            <div>
              <dt>Mean gain per request</dt>
              <dd data-testid="mean-gain" data-value={trial.mean_gain ?? ""}>
                {signed(trial.mean_gain, 5)}
              </dd>
            </div>
            <div>
              <dt>Interval</dt>
              <dd>
                {trial.low == null ? "not yet" : `${signed(trial.low, 5)} to ${signed(trial.high, 5)}`}
              </dd>
            </div>
            <div>
              <dt>Mean loss, version {trial.incumbent}</dt>
              <dd>{figure(trial.incumbent_loss)}</dd>
            </div>
            <div>
              <dt>Mean loss, version {trial.candidate}</dt>
              <dd>{figure(trial.newcomer_loss)}</dd>
            </div>
            <div>
              <dt>Outcomes compared</dt>
              <dd>
                {count(trial.rows)} in {count(trial.blocks)} {trial.blocks === 1 ? "block" : "blocks"}
              </dd>
            </div>
            <div>
              <dt>Since</dt>
              <dd>{moment(trial.since)} UTC</dd>
            </div>
          </dl>
        </div>
        <IntervalPlot trial={trial} />
      </div>
    </Section>
  );
}

const HEIGHT = 260;
const PAD = { top: 14, right: 14, bottom: 26, left: 58 };

function IntervalPlot({ trial }: { trial: Trial }) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const points = trial.history
    .filter((p) => p.mean_gain != null && p.low != null && p.high != null)
    .map((p) => ({ x: seconds(p.at), mean: p.mean_gain ?? 0, low: p.low ?? 0, high: p.high ?? 0 }));
  const last = points.at(-1);
  const first = points[0];
  if (!last || !first || points.length < 2) {
    return (
      <div ref={ref}>
        <Empty>The interval is drawn once two blocks of outcomes have arrived.</Empty>
      </div>
    );
  }
  // Early intervals are very wide. The scale follows the recent half, so that what matters now can be read; what is
  // wider runs out of the frame.
  const recent = points.slice(Math.floor(points.length / 2));
  const top = Math.max(0, ...recent.map((p) => p.high));
  const bottom = Math.min(0, ...recent.map((p) => p.low));
  const margin = (top - bottom || 1e-6) * 0.12;
  const [low, high] = [bottom - margin, top + margin];
  const inner = { w: Math.max(10, width - PAD.left - PAD.right), h: HEIGHT - PAD.top - PAD.bottom };
  const span = Math.max(1, last.x - first.x);
  const x = (t: number) => PAD.left + ((t - first.x) / span) * inner.w;
  const y = (v: number) => PAD.top + ((high - v) / (high - low)) * inner.h;
  const path = (key: "mean" | "low" | "high", from = points) =>
    from.map((p, i) => `${i ? "L" : "M"}${x(p.x).toFixed(1)} ${y(p[key]).toFixed(1)}`).join("");
  const band = `${path("high")}${path("low", points.toReversed()).replace("M", "L")}Z`;
  const tone = VERDICTS[trial.verdict].tone;
  return (
    <figure className="interval" ref={ref}>
      <figcaption>
        Gain in loss per request <i>above zero: the candidate is better</i>
      </figcaption>
      {width > 0 && (
        <svg
          width={width}
          height={HEIGHT}
          role="img"
          aria-label={`Mean gain ${signed(last.mean, 5)}, interval ${signed(last.low, 5)} to ${signed(last.high, 5)}, after ${trial.blocks} blocks.`}
        >
          <clipPath id="interval-frame">
            <rect x={PAD.left} y={PAD.top} width={inner.w + PAD.right} height={inner.h} />
          </clipPath>
          {ticks(low, high, 5).map((v) => (
            <g key={v} className={v === 0 ? "zero" : "grid"}>
              <line x1={PAD.left} x2={width - PAD.right} y1={y(v)} y2={y(v)} />
              <text x={PAD.left - 8} y={y(v)} dy="0.32em" textAnchor="end">
                {v === 0 ? "0" : signed(v, digitsFor(low, high))}
              </text>
            </g>
          ))}
          <g clipPath="url(#interval-frame)">
            <path d={band} className="band" />
            <path d={path("low")} className="bound" />
            <path d={path("high")} className="bound" />
            <path d={path("mean")} className="mean" />
          </g>
          <g className={`now ${tone}`}>
            <line x1={x(last.x)} x2={x(last.x)} y1={y(last.low)} y2={y(last.high)} />
            <line x1={x(last.x) - 5} x2={x(last.x) + 5} y1={y(last.low)} y2={y(last.low)} />
            <line x1={x(last.x) - 5} x2={x(last.x) + 5} y1={y(last.high)} y2={y(last.high)} />
            <circle cx={x(last.x)} cy={y(last.mean)} r={4} />
          </g>
          <g className="grid">
            <text x={PAD.left} y={HEIGHT - 6}>
              {moment(points[0] ? trial.history[0]?.at : null)}
            </text>
            <text x={width - PAD.right} y={HEIGHT - 6} textAnchor="end">
              {moment(trial.history.at(-1)?.at)}
            </text>
          </g>
        </svg>
      )}
    </figure>
  );
}

function step(low: number, high: number, n: number): number {
  const raw = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 5, 10].find((m) => m * power >= raw) ?? 10) * power;
}

function ticks(low: number, high: number, n: number): number[] {
  const by = step(low, high, n);
  const from = Math.ceil(low / by);
  return Array.from({ length: Math.floor(high / by) - from + 1 }, (_, i) => (from + i) * by || 0);
}

const digitsFor = (low: number, high: number) => Math.max(0, -Math.floor(Math.log10(step(low, high, 5))));
