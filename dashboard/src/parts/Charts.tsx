// Loss, gain, traffic and latency by day on one event-time axis, under the things that happened.

import { useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";
import uPlot from "uplot";
import type { ModelStatus } from "../api";
import { count, date, fixed, latency, seconds, signed } from "../format";
import type { World } from "../store";
import type { Mark } from "../words";
import { Empty, Section, Table, useWidth } from "./bits";
import { columns, events, type Column, type Days, type Event } from "./days";

const GUTTER = 66;
const RIGHT = 14;
const DAY_SECONDS = 86_400;
/** The gain's axis shows at least this much loss. */
const GAIN_LEAST = 0.01;

const LANES: { mark: Mark; name: string; tone: string }[] = [
  { mark: "alarm", name: "Alarms", tone: "alarm" },
  { mark: "retraining", name: "Retrained", tone: "candidate" },
  { mark: "promotion", name: "Promoted", tone: "live" },
  { mark: "rollback", name: "Rolled back", tone: "bad" },
];

export function Charts({ status, world }: { status: ModelStatus; world: World }) {
  const list = status.accuracy?.days ?? [];
  const days = useMemo(() => columns(list, status.task), [list, status.task]);
  const happened = useMemo(
    () => events(status.model, world.findings, world.jobs, world.audit),
    [status.model, world.findings, world.jobs, world.audit],
  );
  const lossName = status.task === "binary" ? "log loss" : "RMSE";
  return (
    <Section
      id="charts"
      title="Day by day"
      lead={`Daily ${lossName} of what was served, against the first model on the same requests. Lines are means of seven days; faint points are single days.`}
    >
      {list.length === 0 ? (
        <Empty>The first day appears when its first outcomes arrive.</Empty>
      ) : (
        <>
          <Stack status={status} days={days} happened={happened} lossName={lossName} />
          <details className="as-table">
            <summary>The same as a table</summary>
            <Table
              caption="Daily figures, newest first"
              rows={list.toReversed()}
              rowKey={(d) => d.day}
              columns={[
                { title: "Day", label: "Day", cell: (d) => date(d.day) },
                { title: "Outcomes", label: "Outcomes", numeric: true, cell: (d) => count(d.rows) },
                { title: "Predictions", label: "Predictions", numeric: true, cell: (d) => count(d.predictions) },
                { title: `${lossName}, live`, label: `${lossName}, live`, numeric: true, cell: (d) => fixed(days.live[days.names.indexOf(d.day)], 4) },
                { title: "first model", label: `${lossName}, first model`, numeric: true, cell: (d) => fixed(days.frozen[days.names.indexOf(d.day)], 4) },
                { title: "p99, ms", label: "p99, ms", numeric: true, cell: (d) => fixed(d.p99_ms, 2) },
              ]}
            />
          </details>
        </>
      )}
    </Section>
  );
}

function axisRange(status: ModelStatus, days: Days): [number, number] {
  if (status.replay) return [seconds(status.replay.from), seconds(status.replay.to)];
  const first = (days.x[0] ?? 0) - DAY_SECONDS;
  const last = (days.x.at(-1) ?? 0) + DAY_SECONDS;
  return [Math.min(first, last - 14 * DAY_SECONDS), last];
}

function Stack(props: { status: ModelStatus; days: Days; happened: Event[]; lossName: string }) {
  const { status, days, happened, lossName } = props;
  const [ref, width] = useWidth<HTMLDivElement>();
  const [at, setAt] = useState<number | null>(null);
  const theme = useTheme();
  const plots = useRef<uPlot[]>([]);
  const sync = useMemo(() => uPlot.sync(`days-${status.model}`), [status.model]);
  const range = axisRange(status, days);
  const shared = { width, range, happened, days, sync, theme, onCursor: setAt, plots: plots.current };
  const index = at ?? days.x.length - 1;

  function onKey(event: KeyboardEvent) {
    const last = days.x.length - 1;
    const to =
      event.key === "ArrowLeft" ? index - 1
      : event.key === "ArrowRight" ? index + 1
      : event.key === "Home" ? 0
      : event.key === "End" ? last
      : null;
    const plot = plots.current[0];
    if (to === null || !plot) return;
    event.preventDefault();
    const x = days.x[Math.min(last, Math.max(0, to))];
    if (x !== undefined) plot.setCursor({ left: plot.valToPos(x, "x"), top: 8 });
  }

  return (
    <div className="stack" ref={ref}>
      <Readout days={days} index={index} chosen={at !== null} happened={happened} lossName={lossName} />
      <div
        className="plots"
        tabIndex={0}
        role="group"
        aria-label="Charts by day. Left and right arrow keys move from day to day."
        onKeyDown={onKey}
      >
        {width > 0 && (
          <>
            <Lanes width={width} range={range} happened={happened} />
            <Plot
              {...shared}
              title={`Daily ${lossName}`}
              hint="lower is better"
              keys={[
                ["live", "live"],
                ["frozen", "first model"],
              ]}
              height={width < 560 ? 190 : 230}
              data={[days.frozen, days.live, days.frozenWeek, days.liveWeek]}
              series={[
                { stroke: "frozen", kind: "points" },
                { stroke: "live", kind: "points" },
                { stroke: "frozen", kind: "line", dash: [5, 4] },
                { stroke: "live", kind: "line" },
              ]}
              digits={2}
            />
            <Plot
              {...shared}
              title="Gain over the first model"
              hint={`${lossName} saved, mean of seven days${days.gainWeek.some((v) => v != null) ? "" : ": not yet seven days"}`}
              height={110}
              data={[days.gainWeek.map((v) => (v == null ? null : Math.max(0, v))), days.gainWeek.map((v) => (v == null ? null : Math.min(0, v))), days.gainWeek]}
              series={[
                { stroke: "good", kind: "area" },
                { stroke: "bad", kind: "area" },
                { stroke: "ink-2", kind: "line" },
              ]}
              zero
              digits={3}
            />
            <Plot {...shared} title="Predictions per day" height={92} data={[days.predictions]} series={[{ stroke: "ink-3", kind: "bars" }]} fromZero digits={0} />
            <Plot {...shared} title="p99 latency" hint="milliseconds" height={118} data={[days.p99]} series={[{ stroke: "ink-2", kind: "line" }]} fromZero digits={1} xLabels />
          </>
        )}
      </div>
    </div>
  );
}

function Readout(props: { days: Days; index: number; chosen: boolean; happened: Event[]; lossName: string }) {
  const { days, index, happened } = props;
  const x = days.x[index];
  if (x === undefined) return null;
  const on = happened.filter((e) => Math.abs(e.x - x) <= DAY_SECONDS / 2);
  const p99 = latency(days.p99[index]);
  const live = days.live[index] ?? null;
  const frozen = days.frozen[index] ?? null;
  return (
    <p className="readout" role={props.chosen ? "status" : undefined}>
      <strong>{date(days.names[index])}</strong>
      <span className="text-live">
        live <b>{fixed(live, 4)}</b>
      </span>
      <span className="text-frozen">
        first model <b>{fixed(frozen, 4)}</b>
      </span>
      <span>
        gain <b>{live != null && frozen != null ? signed(frozen - live, 4) : "–"}</b>
      </span>
      <span>
        <b>{count(days.predictions[index])}</b> predictions
      </span>
      <span>
        p99 <b>{p99.number}</b> {p99.unit}
      </span>
      {on.length > 0 && <span className="readout-events">{on.map((e) => e.text).join(" · ")}</span>}
    </p>
  );
}

/** One row for each kind of thing that happens, on the same axis as the charts below. */
function Lanes({ width, range, happened }: { width: number; range: [number, number]; happened: Event[] }) {
  const used = LANES.filter((lane) => lane.mark !== "rollback" || happened.some((e) => e.mark === "rollback"));
  const row = 20;
  const x = (at: number) => GUTTER + ((at - range[0]) / (range[1] - range[0])) * (width - GUTTER - RIGHT);
  const summary = used.map((l) => `${l.name}: ${happened.filter((e) => e.mark === l.mark).length}`).join(", ");
  return (
    <svg className="lanes" width={width} height={used.length * row + 4} role="img" aria-label={summary}>
      {used.map((lane, i) => (
        <g key={lane.mark} transform={`translate(0 ${i * row + row / 2})`} className={`tone-${lane.tone}`}>
          <line x1={GUTTER} x2={width - RIGHT} className="lane" />
          <text x={0} dy="0.34em">
            {lane.name}
          </text>
          {happened
            .filter((e) => e.mark === lane.mark && e.x >= range[0] && e.x <= range[1])
            .map((e, j) => (
              <g key={`${e.x}-${j}`} transform={`translate(${x(e.x).toFixed(1)} 0)`}>
                <title>{`${e.text}, ${date(new Date(e.x * 1000).toISOString())}`}</title>
                <Glyph mark={e.mark} />
              </g>
            ))}
        </g>
      ))}
    </svg>
  );
}

/** Shapes differ as well as colours. */
function Glyph({ mark }: { mark: Mark }) {
  switch (mark) {
    case "alarm":
      return <path d="M0 -5.5 5.5 4.5H-5.5Z" />;
    case "retraining":
      return <circle r={4} className="hollow" />;
    case "promotion":
      return <path d="M0 -6 5 0H2V6H-2V0H-5Z" />;
    case "rollback":
      return <path d="M0 6 5 0H2V-6H-2V0H-5Z" />;
  }
}

type Kind = "line" | "points" | "bars" | "area";

interface PlotProps {
  title: string;
  hint?: string;
  keys?: [string, string][];
  height: number;
  width: number;
  range: [number, number];
  happened: Event[];
  days: Days;
  data: Column[];
  series: { stroke: string; kind: Kind; dash?: number[] }[];
  digits: number;
  fromZero?: boolean;
  zero?: boolean;
  xLabels?: boolean;
  sync: uPlot.SyncPubSub;
  theme: string;
  plots: uPlot[];
  onCursor: (index: number | null) => void;
}

function Plot(props: PlotProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;

  // Made anew only when the theme changes; data and width are handed to the one that stands.
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = new uPlot(options(latest), [latest.current.days.x, ...latest.current.data], element);
    const { plots } = latest.current;
    plot.current = made;
    plots.push(made);
    return () => {
      plots.splice(plots.indexOf(made), 1);
      made.destroy();
      plot.current = null;
    };
  }, [props.theme, props.sync]);

  useEffect(() => plot.current?.setSize({ width: props.width, height: props.height }), [props.width, props.height]);
  useEffect(() => plot.current?.setData([props.days.x, ...props.data]), [props.days, props.range[0], props.range[1]]);
  useEffect(() => plot.current?.redraw(false), [props.happened]);

  return (
    <div className="plot">
      <p className="plot-title">
        {props.title} {props.hint && <i>{props.hint}</i>}
        {props.keys?.map(([tone, name]) => (
          <span key={tone} className={`swatch ${tone}`}>
            {name}
          </span>
        ))}
      </p>
      <div ref={box} />
    </div>
  );
}

const FONT = '11px Inter, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';

function options(latest: { current: PlotProps }): uPlot.Options {
  const p = latest.current;
  const css = getComputedStyle(document.documentElement);
  const color = (name: string, alpha = 1) => {
    const value = css.getPropertyValue(`--${name}`).trim();
    return alpha === 1 ? value : value + Math.round(alpha * 255).toString(16).padStart(2, "0");
  };
  const axis = { stroke: color("ink-3"), font: FONT, ticks: { show: false } };
  return {
    width: p.width,
    height: p.height,
    padding: [6, RIGHT, p.xLabels ? 0 : 6, 0],
    legend: { show: false },
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    scales: {
      x: { time: true, range: () => latest.current.range },
      y: {
        range: (_, low, high) => {
          if (low == null || high == null) return [0, 1];
          if (p.fromZero) return [0, high * 1.12 || 1];
          const margin = (high - low || Math.abs(high) || 1e-3) * 0.1;
          // A difference of next to nothing is drawn as next to nothing.
          if (p.zero) return [Math.min(-GAIN_LEAST / 4, low - margin), Math.max(GAIN_LEAST, high + margin)];
          return [low - margin, high + margin];
        },
      },
    },
    axes: [
      {
        ...axis,
        show: p.xLabels === true,
        size: 26,
        space: 44,
        grid: { show: false },
        // The firsts of months where the axis is long, otherwise days.
        ...(p.range[1] - p.range[0] > 70 * DAY_SECONDS && { splits: (u: uPlot) => firsts(latest.current.range, u.width) }),
        values: (_, splits) =>
          splits.map((s, i) => {
            const d = new Date(s * 1000);
            const name = d.toLocaleString("en", { month: "short", timeZone: "UTC" });
            const day = d.getUTCDate();
            return day === 1 ? (d.getUTCMonth() === 0 || i === 0 ? `${name} ${d.getUTCFullYear()}` : name) : `${day} ${name}`;
          }),
      },
      {
        ...axis,
        size: GUTTER,
        gap: 6,
        space: 32,
        grid: { stroke: color("rule"), width: 1 },
        values: (u, splits) =>
          splits.map((v) => (isBlank(u) ? "" : v >= 1000 ? v.toLocaleString("en") : v === 0 ? "0" : p.zero ? signed(v, p.digits) : trim(v, p.digits))),
      },
    ],
    series: [
      {},
      ...p.series.map(({ stroke, kind, dash }): uPlot.Series => {
        switch (kind) {
          case "points":
            return { stroke: color(stroke, 0.38), fill: color(stroke, 0.38), paths: () => null, points: { show: true, size: 3.5, width: 0, fill: color(stroke, 0.38) } };
          case "bars": {
            const bars = uPlot.paths.bars?.({ size: [0.72, 18] });
            return { fill: color(stroke, 0.5), width: 0, points: { show: false }, ...(bars && { paths: bars }) };
          }
          case "area":
            return { width: 0, fill: color(stroke, 0.3), fillTo: () => 0, points: { show: false } };
          case "line":
            return { stroke: color(stroke), width: stroke === "ink-2" ? 1.25 : 2, points: { show: false }, ...(dash && { dash }) };
        }
      }),
    ],
    cursor: {
      sync: { key: p.sync.key, scales: ["x", null] },
      drag: { x: false, y: false },
      points: { show: false },
      y: false,
    },
    hooks: {
      setCursor: [(u) => latest.current.onCursor(u.cursor.idx ?? null)],
      drawClear: [(u) => drawMarks(u, latest.current, color)],
      draw: [(u) => p.zero && drawZero(u, color("ink-3"))],
    },
  };
}

const isBlank = (u: uPlot) => (u.data.slice(1) as Column[]).every((column) => column.every((v) => v == null));

/** The first of every month, or of every second or third where there is little room. */
function firsts([from, to]: [number, number], width: number): number[] {
  const start = new Date(from * 1000);
  const found: number[] = [];
  for (let i = 0; ; i++) {
    const at = Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + i, 1) / 1000;
    // A label at the very end would be cut off.
    if (at > to - (to - from) * 0.02) break;
    if (at >= from) found.push(at);
  }
  const every = Math.max(1, Math.ceil((found.length * 62) / Math.max(1, width - GUTTER)));
  return found.filter((_, i) => i % every === 0);
}

const trim = (v: number, digits: number) => fixed(v, digits);

function drawMarks(u: uPlot, p: PlotProps, color: (name: string, alpha?: number) => string) {
  const { ctx, bbox } = u;
  const [from, to] = p.range;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  for (const event of p.happened) {
    if (event.x < from || event.x > to) continue;
    const tone = LANES.find((lane) => lane.mark === event.mark)?.tone ?? "ink-3";
    ctx.strokeStyle = color(tone, event.mark === "promotion" || event.mark === "rollback" ? 0.75 : 0.28);
    ctx.setLineDash(event.mark === "retraining" ? [2 * devicePixelRatio, 3 * devicePixelRatio] : []);
    const x = Math.round(u.valToPos(event.x, "x", true)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top - 6 * devicePixelRatio);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function drawZero(u: uPlot, stroke: string) {
  const { ctx, bbox } = u;
  const y = Math.round(u.valToPos(0, "y", true)) + 0.5;
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

function useTheme(): string {
  const query = useMemo(() => window.matchMedia("(prefers-color-scheme: dark)"), []);
  const [theme, setTheme] = useState(query.matches ? "dark" : "light");
  useEffect(() => {
    const follow = () => setTheme(query.matches ? "dark" : "light");
    query.addEventListener("change", follow);
    return () => query.removeEventListener("change", follow);
  }, [query]);
  return theme;
}
