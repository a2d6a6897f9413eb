// The daily figures as columns for the charts. Nothing is invented: a day without outcomes stays empty.

import type { AuditEntry, Day, Finding, Job, Task } from "../api";
import { seconds } from "../format";
import { action, findingKind, type Mark } from "../words";

export type Column = (number | null)[];

export interface Days {
  names: string[];
  /** Noon of each day, in seconds since 1970. */
  x: number[];
  live: Column;
  frozen: Column;
  liveWeek: Column;
  frozenWeek: Column;
  /** By how much the live version's loss is lower than the first model's. */
  gain: Column;
  gainWeek: Column;
  predictions: Column;
  p99: Column;
}

const WEEK = 7;
const DAY_SECONDS = 86_400;

/** Daily loss: log loss for a binary task; RMSE for a regression, whose days say it under that name. */
export function loss(day: Day, who: "live" | "frozen", task: Task): number | null {
  const value =
    task === "binary"
      ? who === "live" ? day.live_logloss : day.frozen_logloss
      : who === "live" ? day.live_rmse : day.frozen_rmse;
  return value ?? null;
}

export function columns(days: Day[], task: Task): Days {
  const x = days.map((d) => seconds(`${d.day}T12:00:00Z`));
  const live = days.map((d) => loss(d, "live", task));
  const frozen = days.map((d) => loss(d, "frozen", task));
  const weight = days.map((d) => d.rows);
  const liveWeek = week(x, live, weight);
  const frozenWeek = week(x, frozen, weight);
  const minus = (a: Column, b: Column) => a.map((v, i) => subtract(v, b[i]));
  return {
    names: days.map((d) => d.day),
    x,
    live,
    frozen,
    liveWeek,
    frozenWeek,
    gain: minus(frozen, live),
    gainWeek: minus(frozenWeek, liveWeek),
    predictions: days.map((d) => d.predictions ?? null),
    p99: days.map((d) => d.p99_ms ?? null),
  };
}

const subtract = (a: number | null, b: number | null | undefined) => (a == null || b == null ? null : a - b);

/** Mean of the last seven days, weighted by rows; empty until there have been seven. */
function week(x: number[], values: Column, weight: number[]): Column {
  const start = x[0];
  return x.map((now, i) => {
    if (start === undefined || now - start < (WEEK - 1) * DAY_SECONDS) return null;
    let sum = 0;
    let rows = 0;
    for (let j = i; j >= 0 && now - (x[j] ?? 0) < WEEK * DAY_SECONDS; j--) {
      const value = values[j];
      if (value == null) continue;
      sum += value * (weight[j] ?? 0);
      rows += weight[j] ?? 0;
    }
    return rows > 0 ? sum / rows : null;
  });
}

export interface Event {
  mark: Mark;
  /** Seconds since 1970. */
  x: number;
  text: string;
}

/** What happened to one model, for the time axis. Retrainings are taken from the audit, or from the jobs without one. */
export function events(
  model: string,
  findings: Finding[] | null,
  jobs: Job[] | null,
  audit: AuditEntry[] | null,
): Event[] {
  const found: Event[] = [];
  for (const finding of findings ?? []) {
    if (finding.alarm && finding.model === model) {
      const subject = finding.subject ? ` (${finding.subject})` : "";
      found.push({ mark: "alarm", x: seconds(finding.at), text: `${findingKind(finding.kind)}${subject}` });
    }
  }
  const entries = (audit ?? []).filter((e) => e.model === model);
  for (const entry of entries) {
    const { words, mark } = action(entry);
    if (mark) found.push({ mark, x: seconds(entry.at), text: `${words} ${entry.subject ?? ""}`.trim() });
  }
  if (!found.some((e) => e.mark === "retraining")) {
    for (const job of jobs ?? []) {
      if (job.kind === "train" && job.model === model) {
        found.push({ mark: "retraining", x: seconds(job.at), text: "Retraining" });
      }
    }
  }
  return found.sort((a, b) => a.x - b.x);
}
