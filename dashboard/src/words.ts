// What the server's names mean, in words. A name that is not known here is shown as it is.

import type { AuditEntry, Finding, ModelStatus, Verdict } from "./api";

const plain = (name: string) => name.replaceAll("_", " ");

const FINDINGS: Record<string, string> = {
  input_drift: "Input drift",
  loss_high: "Loss too high",
  miscalibrated: "Miscalibrated",
  retrain_due: "Retraining due",
  label_volume: "Enough new outcomes",
  candidate_ready: "Candidate ready",
  candidate_better: "Candidate is better",
  candidate_worse: "Candidate is not better",
  candidate_undecided: "No verdict in time",
  live_worse_than_fallback: "Live is worse than its predecessor",
  job_failed: "Job failed",
  data_bad: "Data breaks its contract",
  latency_burn: "Answers are too slow",
  availability_burn: "Too many requests fail",
  accuracy_burn: "Too many answers are wrong",
  cost_high: "Predictions cost too much",
  stale: "The live version is too old",
  outcomes_silent: "Outcomes have stopped",
  source_silent: "Nothing arrives",
  surge: "More requests than can be answered",
  dependency_slow: "Answers miss their deadline",
  disk_full: "The disk is nearly full",
  canary_harmful: "The canary does harm",
  retrain_worth: "A retraining pays",
};

export const findingKind = (kind: string) => FINDINGS[kind] ?? plain(kind);

export type Mark = "alarm" | "retraining" | "promotion" | "rollback";

const ACTIONS: Record<string, { words: string; tone: "good" | "bad" | "new" | "plain"; mark?: Mark }> = {
  retrain: { words: "Retraining started", tone: "new", mark: "retraining" },
  train: { words: "Trained", tone: "new" },
  register: { words: "Registered", tone: "plain" },
  start_shadow: { words: "Shadow trial started", tone: "new" },
  shadow: { words: "Shadow trial started", tone: "new" },
  start_canary: { words: "Canary started", tone: "new" },
  canary: { words: "Canary started", tone: "new" },
  promote: { words: "Promoted", tone: "good", mark: "promotion" },
  release: { words: "Released", tone: "good", mark: "promotion" },
  roll_back: { words: "Rolled back", tone: "bad", mark: "rollback" },
  rollback: { words: "Rolled back", tone: "bad", mark: "rollback" },
  discard: { words: "Discarded", tone: "plain" },
  freeze: { words: "Retraining frozen", tone: "bad" },
  thaw: { words: "Retraining allowed again", tone: "plain" },
  pause_canary: { words: "Canary paused", tone: "bad" },
  shed: { words: "Tenants of less weight wait", tone: "bad" },
  admit_all: { words: "Everybody is answered again", tone: "plain" },
  page: { words: "A person was called", tone: "bad" },
  notify: { words: "Receivers of alerts were told", tone: "plain" },
  pass: { words: "Nothing to do", tone: "plain" },
  heal: { words: "No longer true", tone: "good" },
};

export const action = (entry: AuditEntry) =>
  ACTIONS[entry.action] ?? { words: plain(entry.action).replace(/^./, (c) => c.toUpperCase()), tone: "plain" as const };

export const VERDICTS: Record<Verdict, { title: string; tone: "good" | "bad" | "wait"; meaning: string }> = {
  not_enough: {
    title: "Not enough evidence yet",
    tone: "wait",
    meaning: "Zero is still inside the interval: the candidate may be better, worse or the same. Nothing is decided.",
  },
  better: {
    title: "Better",
    tone: "good",
    meaning: "The whole interval is above zero: the candidate loses less than the live version on the same requests.",
  },
  worse: {
    title: "Not better",
    tone: "bad",
    meaning: "The evidence is against the candidate: it is worse, or its gain is too small to be worth a change.",
  },
  undecided: {
    title: "Undecided",
    tone: "wait",
    meaning: "The trial's time ran out without evidence either way. The live version stays.",
  },
};

/** The reason of an action: the finding's own sentence where the action names a finding. */
export function reason(entry: AuditEntry, findings: Finding[] | null): { text: string; finding: Finding | null } {
  const finding = findings?.find((f) => f.id === entry.because) ?? null;
  return { text: finding ? finding.message : (entry.because ?? ""), finding };
}

/** What is going on, in one or two sentences that say nothing the figures do not. */
export function story(status: ModelStatus): string {
  const { routing, trial } = status;
  const live = routing?.live;
  if (!live) return "No version is live yet. The first training is on its way, or nothing has been released.";
  const candidate = routing?.candidate;
  const parts: string[] = [];
  if (candidate?.stage === "canary") {
    parts.push(
      `Version ${candidate.version} answers ${candidate.share} of requests as a canary; version ${live.version} answers the rest.`,
    );
  } else if (candidate) {
    parts.push(
      `Version ${live.version} answers every request. Version ${candidate.version} sees the same requests in shadow.`,
    );
  } else {
    parts.push(`Version ${live.version} answers every request.`);
  }
  if (trial && candidate) {
    const verdict: Record<Verdict, string> = {
      not_enough: "There is not enough evidence yet to prefer either.",
      better: "The evidence says that the newcomer is better.",
      worse: "The evidence is against the newcomer.",
      undecided: "The trial ended without a verdict.",
    };
    parts.push(verdict[trial.verdict]);
  }
  if (routing?.retraining_frozen) parts.push("Retraining is frozen.");
  return parts.join(" ");
}
