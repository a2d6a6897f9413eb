// Where the page is: the part of its address after `#`.

import { useSyncExternalStore } from "react";

export type Route =
  | { page: "models" }
  | { page: "model"; model: string; section: string | null }
  | { page: "alarms" }
  | { page: "audit" }
  | { page: "jobs" }
  | { page: "searches"; search: string | null }
  | { page: "incidents"; incident: string | null }
  | { page: "unknown"; address: string };

export function parse(hash: string): Route {
  const parts = hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decode);
  const [head, model, section] = parts;
  if (head === undefined) return { page: "models" };
  if (head === "models" && model === undefined) return { page: "models" };
  if (head === "models" && model !== undefined && parts.length <= 3) {
    return { page: "model", model, section: section ?? null };
  }
  if ((head === "alarms" || head === "audit" || head === "jobs") && parts.length === 1) return { page: head };
  if (head === "incidents" && parts.length <= 2) return { page: "incidents", incident: model ?? null };
  if (head === "searches" && parts.length <= 2) return { page: "searches", search: model ?? null };
  return { page: "unknown", address: hash };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const toModel = (model: string, section?: string) =>
  `#/models/${encodeURIComponent(model)}${section ? `/${section}` : ""}`;

export const toSearch = (id: string) => `#/searches/${encodeURIComponent(id)}`;

export const toIncident = (id: string) => `#/incidents/${encodeURIComponent(id)}`;

export function useHash(): string {
  return useSyncExternalStore(
    (listener) => {
      window.addEventListener("hashchange", listener);
      return () => window.removeEventListener("hashchange", listener);
    },
    () => window.location.hash,
  );
}
