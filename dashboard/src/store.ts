// The page's one copy of what the server last said. The event stream fills it; lists are fetched again when an audit
// entry arrives and every few seconds besides.

import { useSyncExternalStore } from "react";
import { api, EVENTS, type AuditEntry, type Finding, type Job, type ModelStatus } from "./api";

/** `live`: the stream is open and speaks. `quiet`: open, but silent for longer than it should be. */
export type Connection = "connecting" | "live" | "quiet" | "lost";

export interface World {
  connection: Connection;
  /** When the last status arrived, by this machine's clock. */
  heardAt: number | null;
  models: ModelStatus[] | null;
  findings: Finding[] | null;
  jobs: Job[] | null;
  /** Newest first. */
  audit: AuditEntry[] | null;
  /** Why the last question to the server failed. */
  error: string | null;
}

declare global {
  interface Window {
    /** For tests: the status that the page last received. */
    __homeostat?: { last: ModelStatus[] | null; received: number };
  }
}

const QUIET_AFTER_MS = 5_000;
const LISTS_EVERY_MS = 4_000;
const LISTS_AT_MOST_EVERY_MS = 700;

let world: World = {
  connection: "connecting",
  heardAt: null,
  models: null,
  findings: null,
  jobs: null,
  audit: null,
  error: null,
};
const listeners = new Set<() => void>();

function change(part: Partial<World>) {
  world = { ...world, ...part };
  for (const listener of listeners) listener();
}

export function useWorld(): World {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => world,
  );
}

function takeModels(models: ModelStatus[]) {
  window.__homeostat = { last: models, received: (window.__homeostat?.received ?? 0) + 1 };
  change({ models, heardAt: Date.now(), error: null });
}

const said = (reason: unknown) => (reason instanceof Error ? reason.message : String(reason));

let listsWanted = false;
let listsBusy = false;

/** Asks for findings, jobs and audit; a storm of audit events leads to one question at a time. */
async function refreshLists() {
  if (listsBusy) {
    listsWanted = true;
    return;
  }
  listsBusy = true;
  const [findings, jobs, audit] = await Promise.allSettled([api.findings(), api.jobs(), api.audit()]);
  const part: Partial<World> = {};
  if (findings.status === "fulfilled") part.findings = findings.value.toSorted((a, b) => (a.at < b.at ? 1 : -1));
  if (jobs.status === "fulfilled") part.jobs = jobs.value.toSorted((a, b) => (a.at < b.at ? 1 : -1));
  if (audit.status === "fulfilled") part.audit = audit.value.toSorted((a, b) => b.sequence - a.sequence);
  const failed = [findings, jobs, audit].find((answer) => answer.status === "rejected");
  if (failed) part.error = said(failed.reason);
  change(part);
  setTimeout(() => {
    listsBusy = false;
    if (listsWanted) {
      listsWanted = false;
      void refreshLists();
    }
  }, LISTS_AT_MOST_EVERY_MS);
}

/** The first status comes by a plain question, so that the page also fills where the stream is held up by a proxy. */
async function refreshModels() {
  try {
    const names = await api.models();
    takeModels(await Promise.all(names.map((summary) => api.model(summary.model))));
  } catch (reason) {
    change({ error: said(reason) });
  }
}

export function start() {
  void refreshModels();
  void refreshLists();
  listen();
  setInterval(() => void refreshLists(), LISTS_EVERY_MS);
  setInterval(() => {
    const silent = Date.now() - (world.heardAt ?? 0) > QUIET_AFTER_MS;
    if (silent && world.connection === "live") change({ connection: "quiet" });
    if (silent) void refreshModels();
  }, 2_000);
}

function listen() {
  const stream = new EventSource(EVENTS);
  stream.addEventListener("open", () => change({ connection: "live" }));
  stream.addEventListener("status", (event) => {
    if (world.connection !== "live") change({ connection: "live" });
    takeModels((JSON.parse((event as MessageEvent<string>).data) as { models: ModelStatus[] }).models);
  });
  stream.addEventListener("audit", () => void refreshLists());
  stream.addEventListener("error", () => {
    change({ connection: "lost" });
    // The browser reconnects by itself, except after an answer that it takes as final.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 2_000);
  });
}
