// What is watched while nothing is wrong: each input against its tolerance, the loss, and the calibration.

import type { CalibrationWatch, FeatureWatch, LossWatch, ModelStatus } from "../api";
import { figure, fixed, moment, signed } from "../format";
import { Empty, Pill, Section, useMore } from "./bits";

export function Watches({ status }: { status: ModelStatus }) {
  const monitors = status.monitors;
  return (
    <Section
      id="inputs"
      title="What is watched"
      lead={
        monitors?.since
          ? `Since ${moment(monitors.since)} UTC, against what the live version learned from. An alarm is raised only when the evidence is certain, however often one looks.`
          : undefined
      }
    >
      {monitors ? (
        <div className="watches">
          <Inputs features={monitors.features} />
          <div className="watch-side">
            <Loss loss={monitors.loss} />
            <Calibration calibration={monitors.calibration} />
          </div>
        </div>
      ) : (
        <Empty>Nothing is watched until a version is live and has answered requests.</Empty>
      )}
    </Section>
  );
}

/** How far a feature has gone, as a share of what it may. */
const reach = (f: FeatureWatch) => (f.distance == null ? -1 : f.distance / (f.tolerance || 1));

function Inputs({ features }: { features: FeatureWatch[] }) {
  const sorted = features.toSorted((a, b) => Number(b.certified) - Number(a.certified) || reach(b) - reach(a));
  const { shown, button } = useMore(sorted, 12);
  // One scale for all: bars are shares of the tolerance, and the scale goes to twice the tolerance or as far as needed.
  const scale = Math.max(2, ...features.map((f) => (f.distance != null ? (f.distance + (f.radius ?? 0)) / f.tolerance : 0)));
  const drifted = features.filter((f) => f.certified).length;
  return (
    <div className="inputs">
      <h3>
        Inputs
        <span className="aside" data-testid="drifted" data-value={drifted}>
          {drifted === 0 ? "none has drifted for certain" : `${drifted} of ${features.length} drifted for certain`}
        </span>
      </h3>
      {features.length === 0 ? (
        <Empty>No reference to compare with.</Empty>
      ) : (
        <>
          <ul className="drift" style={{ "--limit": `${100 / scale}%` } as React.CSSProperties}>
            {shown.map((f) => (
              <Input key={f.name} feature={f} scale={scale} />
            ))}
          </ul>
          <p className="key">
            Bar: distance between today's distribution and the one learned from (0 to 1), whisker: what is not yet
            certain, line: tolerance.
          </p>
          {button}
        </>
      )}
    </div>
  );
}

function Input({ feature: f, scale }: { feature: FeatureWatch; scale: number }) {
  const at = (value: number) => `${Math.min(100, Math.max(0, (value / f.tolerance / scale) * 100))}%`;
  const low = Math.max(0, (f.distance ?? 0) - (f.radius ?? 0));
  const high = (f.distance ?? 0) + (f.radius ?? 0);
  return (
    <li className={f.certified ? "certified" : undefined}>
      <span className="drift-name">
        {f.name}
        {f.certified && (
          <Pill tone="alarm">
            {f.cause ? f.cause.what.replaceAll("_", " ") : "drifted"}
            {f.since && <span className="wide"> since {moment(f.since)}</span>}
          </Pill>
        )}
      </span>
      <span className="drift-bar" aria-hidden="true">
        {f.distance != null && (
          <>
            <span className="fill" style={{ width: at(f.distance) }} />
            {f.radius != null && (
              <span className="whisker" style={{ left: at(low), right: `calc(100% - ${at(high)})` }} />
            )}
          </>
        )}
      </span>
      <span className="drift-number">
        {f.distance == null ? "too few rows" : fixed(f.distance, 3)}
        <span className="hidden">
          {f.radius != null && ` ± ${fixed(f.radius, 3)}`}, tolerance {fixed(f.tolerance, 2)}
        </span>
      </span>
    </li>
  );
}

function Loss({ loss }: { loss: LossWatch | null | undefined }) {
  return (
    <div className="watch">
      <h3>Loss</h3>
      {loss?.mean == null ? (
        <Empty>Waits for outcomes, or for a reference from training.</Empty>
      ) : (
        <>
          <Ruler
            label={`Mean loss ${figure(loss.mean)}, reference ${figure(loss.reference)}, limit ${figure(loss.limit)}`}
            marks={[
              { value: loss.reference, name: "reference", kind: "tick" },
              { value: loss.limit, name: "limit", kind: "limit" },
              { value: loss.mean, name: "now", kind: "dot" },
            ]}
            text={figure}
          />
          <Weight loss={loss} />
        </>
      )}
    </div>
  );
}

/** How much evidence there is that the loss is above its limit, on a logarithmic scale up to what an alarm needs. */
function Weight({ loss }: { loss: LossWatch }) {
  if (loss.e_value == null || loss.threshold == null) return null;
  const share = Math.min(1, Math.max(0, Math.log(Math.max(1, loss.e_value)) / Math.log(loss.threshold)));
  const alarm = loss.e_value >= loss.threshold;
  return (
    <div className="weight">
      <span className="meter">
        <span className={alarm ? "alarm" : ""} style={{ width: `${share * 100}%` }} />
      </span>
      <p>
        {alarm ? "Certain: the loss is above its limit. " : "Evidence that the loss is above its limit: "}
        <strong>{figure(loss.e_value)}</strong> of the {figure(loss.threshold)} that an alarm needs
      </p>
    </div>
  );
}

function Calibration({ calibration: c }: { calibration: CalibrationWatch | null | undefined }) {
  const outside = c?.low != null && c.high != null && (c.low > c.tolerance || c.high < -c.tolerance);
  return (
    <div className="watch">
      <h3>Calibration</h3>
      {c?.gap == null ? (
        <Empty>Waits for outcomes.</Empty>
      ) : (
        <>
          <Ruler
            label={`Mean outcome minus mean prediction: ${signed(c.gap, 4)}, between ${signed(c.low, 4)} and ${signed(c.high, 4)}; tolerated is ± ${fixed(c.tolerance, 3)}`}
            marks={[
              { value: -c.tolerance, name: "", kind: "limit" },
              { value: 0, name: "0", kind: "tick" },
              { value: c.tolerance, name: "tolerance", kind: "limit" },
              { value: c.gap, name: "now", kind: "dot", low: c.low, high: c.high },
            ]}
            text={(v) => signed(v, 3)}
          />
          <p className="watch-text">
            {outside
              ? "Certain: outcomes and predictions differ by more than is tolerated."
              : "Mean outcome minus mean prediction. Within what is tolerated, or not certain to be outside."}
          </p>
        </>
      )}
    </div>
  );
}

interface RulerMark {
  value: number | null | undefined;
  name: string;
  kind: "tick" | "limit" | "dot";
  low?: number | null | undefined;
  high?: number | null | undefined;
}

/** A number line with a few marks: labels of limits stand above it, the present value below. */
function Ruler(props: { label: string; marks: RulerMark[]; text: (value: number) => string }) {
  const marks = props.marks.filter((m): m is RulerMark & { value: number } => m.value != null);
  const values = marks.map((m) => m.value);
  const least = Math.min(...values);
  const most = Math.max(...values);
  const margin = (most - least || Math.abs(most) || 1) * 0.22;
  const at = (value: number) =>
    `${Math.min(100, Math.max(0, ((value - least + margin) / (most - least + 2 * margin)) * 100))}%`;
  return (
    <div className="ruler" role="img" aria-label={props.label}>
      {marks.map((mark) => (
        <span key={mark.kind + mark.name} className={mark.kind} style={{ left: at(mark.value) }}>
          {mark.name && (
            <span className="ruler-label">
              {mark.name} {mark.name === "0" ? "" : props.text(mark.value)}
            </span>
          )}
        </span>
      ))}
      {marks.map(
        (mark) =>
          mark.low != null &&
          mark.high != null && (
            <span
              key={`${mark.name}-interval`}
              className="ruler-interval"
              style={{ left: at(mark.low), right: `calc(100% - ${at(mark.high)})` }}
            />
          ),
      )}
    </div>
  );
}
