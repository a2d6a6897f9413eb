// What the server says, as it says it, and how to ask. Anything that is not known yet is null.

export type Known<T> = T | null | undefined;

export type Task = "binary" | "regression";

export interface ModelSummary {
  model: string;
  task: Task;
  live: Known<number>;
}

/** Measured quality: binary tasks have auc, logloss, brier and accuracy; regression has rmse and mae. */
export interface Metrics {
  auc?: Known<number>;
  logloss?: Known<number>;
  brier?: Known<number>;
  ece?: Known<number>;
  accuracy?: Known<number>;
  rmse?: Known<number>;
  mae?: Known<number>;
}

export interface Deployed {
  version: number;
  digest: string;
  since: string;
}

export interface Candidate extends Deployed {
  stage: "shadow" | "canary";
  /** Such as "10%". */
  share: string;
  shadow_since: Known<string>;
}

export interface Routing {
  number: number;
  reason: string;
  live: Known<Deployed>;
  candidate: Known<Candidate>;
  fallback: Known<Deployed>;
  frozen: Known<Deployed>;
  retraining_frozen: boolean;
}

export interface Month {
  month: string;
  rows: number;
  live: Known<Metrics>;
  frozen: Known<Metrics>;
}

export interface Day {
  day: string;
  rows: number;
  predictions: Known<number>;
  live_logloss?: Known<number>;
  frozen_logloss?: Known<number>;
  live_rmse?: Known<number>;
  frozen_rmse?: Known<number>;
  outcome_mean: Known<number>;
  prediction_mean: Known<number>;
  p99_ms: Known<number>;
}

export interface Accuracy {
  total: Known<{ rows: number; live: Known<Metrics>; frozen: Known<Metrics> }>;
  months: Month[];
  days: Day[];
}

export type Verdict = "not_enough" | "better" | "worse" | "undecided";

export interface Interval {
  at: string;
  mean_gain: Known<number>;
  low: Known<number>;
  high: Known<number>;
}

export interface Trial {
  candidate: number;
  incumbent: number;
  stage: "shadow" | "canary";
  since: string;
  rows: number;
  blocks: number;
  mean_gain: Known<number>;
  low: Known<number>;
  high: Known<number>;
  incumbent_loss: Known<number>;
  newcomer_loss: Known<number>;
  verdict: Verdict;
  history: Interval[];
}

export interface FeatureWatch {
  name: string;
  distance: Known<number>;
  radius: Known<number>;
  tolerance: number;
  certified: boolean;
  since: Known<string>;
  cause?: { what: string };
}

export interface LossWatch {
  mean: Known<number>;
  reference: Known<number>;
  limit: Known<number>;
  e_value: Known<number>;
  threshold: Known<number>;
}

export interface CalibrationWatch {
  gap: Known<number>;
  low: Known<number>;
  high: Known<number>;
  tolerance: number;
}

export interface Monitors {
  since: Known<string>;
  features: FeatureWatch[];
  loss: Known<LossWatch>;
  calibration: Known<CalibrationWatch>;
}

export interface Cost {
  currency: string;
  cpu_seconds: Known<number>;
  price_per_cpu_hour: Known<number>;
  cost: Known<number>;
  predictions: Known<number>;
  correct: Known<number>;
  per_correct_prediction: Known<number>;
  /** Whether the CPU time was measured rather than estimated. */
  measured: boolean;
}

export type VersionState = "live" | "candidate" | "fallback" | "frozen" | "registered" | "retired" | "discarded";

export interface Version {
  version: number;
  digest: string;
  learner: string;
  created_at: Known<string>;
  trained_from: Known<string>;
  trained_to: Known<string>;
  rows: Known<number>;
  bytes: Known<number>;
  seconds: Known<number>;
  metrics: Known<Metrics>;
  state: VersionState;
}

export interface ModelStatus {
  model: string;
  task: Task;
  /** One sentence about what is predicted, where the project says it. */
  description?: Known<string>;
  event_time: Known<string>;
  clock: "event" | "wall";
  replay: Known<{ from: string; to: string; at: Known<string>; done: number; total: number }>;
  traffic: {
    requests: Known<number>;
    predictions: Known<number>;
    outcomes: Known<number>;
    rate_per_second: Known<number>;
    refused: Record<string, number>;
  };
  latency_ms: Known<{ p50: Known<number>; p90: Known<number>; p99: Known<number> }>;
  routing: Known<Routing>;
  accuracy: Known<Accuracy>;
  trial: Known<Trial>;
  monitors: Known<Monitors>;
  cost: Known<Cost>;
  versions: Version[];
}

export interface Finding {
  id: string;
  model: string;
  kind: string;
  subject: Known<string>;
  at: string;
  since: Known<string>;
  message: string;
  evidence: Record<string, number>;
  alarm: boolean;
}

export interface Job {
  id: string;
  kind: string;
  model: string;
  state: "running" | "done" | "failed";
  at: string;
  seconds: Known<number>;
  progress: Known<{ phase: string; done: number; total: number }>;
  error: Known<string>;
  version: Known<number>;
}

export interface AuditEntry {
  sequence: number;
  at: string;
  actor: string;
  action: string;
  model: Known<string>;
  subject: Known<string>;
  /** The id of the finding that caused it, or a reason in words. */
  because: Known<string>;
  detail: Known<string>;
}

/** A minute's figures; what is not known is left out. */
export interface Moment {
  at: string;
  requests?: number;
  p99_ms?: number;
  failed?: number;
  refused?: number;
  outcomes?: number;
  loss?: number;
  gap?: number;
  cost_per_correct?: number;
}

export interface Move {
  at: string;
  figure: string;
  side: "system" | "model" | "business";
  before: number;
  after: number;
}

export interface IncidentLine {
  at: string;
  what: "moved" | "found" | "done" | "healed";
  text: string;
}

export interface Incident {
  id: string;
  model: string;
  severity: "info" | "ticket" | "page";
  title: string;
  opened: string;
  /** None while it lasts. */
  closed?: Known<string>;
  alarms: [string, string][];
  moved: Move[];
  timeline: IncidentLine[];
  ending: string;
  /** Where one incident is asked for. */
  moments?: Moment[];
}

/** A search for a declaration's best values. */
export interface SearchSummary {
  id: string;
  model: string;
  /** When it ended. */
  at: Known<string>;
  measure: string;
  ending: string;
  cpu_seconds: number;
  trials: number;
  failed: number;
  least: Known<number>;
}

export interface Search {
  id: string;
  model: string;
  measure: string;
  ending: string;
  cpu_seconds: number;
  trials: Trial[];
}

export interface Trial {
  number: number;
  values: Record<string, unknown>;
  /** On the validation rows, at each rung that it reached. */
  losses: number[];
  failure?: string;
  cpu_seconds: number;
}

/** Addresses are relative to the page, so that it also works behind a proxy's path. */
export const EVENTS = "v1/events";

async function get<T>(path: string): Promise<T> {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) {
    const body: unknown = await response.json().catch(() => null);
    const said = body && typeof body === "object" && "error" in body ? String(body.error) : response.statusText;
    throw new Error(`GET /${path}: ${response.status} ${said}`);
  }
  return (await response.json()) as T;
}

export const api = {
  models: () => get<{ models: ModelSummary[] }>("v1/models").then((r) => r.models),
  model: (name: string) => get<ModelStatus>(`v1/models/${encodeURIComponent(name)}`),
  findings: () => get<{ findings: Finding[] }>("v1/findings").then((r) => r.findings),
  jobs: () => get<{ jobs: Job[] }>("v1/jobs").then((r) => r.jobs),
  searches: () => get<{ searches: SearchSummary[] }>("v1/searches").then((r) => r.searches),
  search: (id: string) => get<Search>(`v1/searches/${encodeURIComponent(id)}`),
  incidents: () => get<{ incidents: Incident[] }>("v1/incidents").then((r) => r.incidents),
  incident: (id: string) => get<Incident>(`v1/incidents/${encodeURIComponent(id)}`),
  audit: () => get<{ entries: AuditEntry[] }>("v1/audit").then((r) => r.entries),
};
