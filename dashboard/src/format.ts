// Numbers and times as people read them. Every function takes what may not be known and says so with a dash.

import type { Known } from "./api";

export const NONE = "–";
const MINUS = "−";

const known = (x: Known<number>): x is number => typeof x === "number" && Number.isFinite(x);

export function count(x: Known<number>): string {
  return known(x) ? Math.round(x).toLocaleString("en") : NONE;
}

export function fixed(x: Known<number>, digits: number): string {
  return known(x) ? x.toFixed(digits).replace("-", MINUS) : NONE;
}

/** With its sign always shown; zero has none. */
export function signed(x: Known<number>, digits: number): string {
  if (!known(x)) return NONE;
  const text = Math.abs(x).toFixed(digits);
  return Number(text) === 0 ? text : (x < 0 ? MINUS : "+") + text;
}

/** Three significant digits, without an exponent where it can be helped. */
export function figure(x: Known<number>): string {
  if (!known(x)) return NONE;
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-4) {
    const [digits = "", power = ""] = x.toExponential(1).split("e");
    return `${digits.replace("-", MINUS)} × 10${superscript(Number(power))}`;
  }
  if (size >= 1000) return Math.round(x).toLocaleString("en").replace("-", MINUS);
  return Number(x.toPrecision(3)).toString().replace("-", MINUS);
}

function superscript(power: number): string {
  return String(power).replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)] ?? c);
}

export function percent(x: Known<number>, digits = 0): string {
  return known(x) ? `${fixed(x * 100, digits)}%` : NONE;
}

/** A time in milliseconds, as its number and its unit. */
export function latency(ms: Known<number>): { number: string; unit: string } {
  if (!known(ms)) return { number: NONE, unit: "" };
  if (ms < 0.1) return { number: (ms * 1000).toFixed(0), unit: "µs" };
  if (ms < 1000) return { number: ms.toFixed(ms < 1 ? 2 : ms < 100 ? 1 : 0), unit: "ms" };
  return { number: (ms / 1000).toFixed(1), unit: "s" };
}

export function duration(seconds: Known<number>): string {
  if (!known(seconds)) return NONE;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(n: Known<number>): string {
  if (!known(n)) return NONE;
  if (n < 1000) return `${n} B`;
  if (n < 1e6) return `${(n / 1e3).toFixed(0)} kB`;
  return `${(n / 1e6).toFixed(1)} MB`;
}

export function money(x: Known<number>, currency: string): string {
  if (!known(x)) return NONE;
  const size = Math.abs(x);
  const digits = size === 0 || size >= 1 ? 2 : Math.min(10, 2 - Math.floor(Math.log10(size)));
  try {
    return new Intl.NumberFormat("en", {
      style: "currency",
      currency,
      currencyDisplay: "narrowSymbol",
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    }).format(x);
  } catch {
    return `${x.toFixed(digits)} ${currency}`;
  }
}

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const LONG_MONTHS = [
  "January", "February", "March", "April", "May", "June",
  "July", "August", "September", "October", "November", "December",
];

function instant(at: Known<string>): Date | null {
  if (!at) return null;
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? null : date;
}

const two = (n: number) => String(n).padStart(2, "0");

/** `Tue 14 May 2013` */
export function longDate(at: Known<string>): string {
  const d = instant(at);
  return d ? `${DAYS[d.getUTCDay()]} ${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]} ${d.getUTCFullYear()}` : NONE;
}

/** `09:00 UTC` */
export function clockTime(at: Known<string>): string {
  const d = instant(at);
  return d ? `${two(d.getUTCHours())}:${two(d.getUTCMinutes())} UTC` : "";
}

/** `14 May 2013` */
export function date(at: Known<string>): string {
  const d = instant(at);
  return d ? `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]} ${d.getUTCFullYear()}` : NONE;
}

/** `14 May, 09:00` */
export function moment(at: Known<string>): string {
  const d = instant(at);
  return d ? `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}, ${two(d.getUTCHours())}:${two(d.getUTCMinutes())}` : NONE;
}

/** `April 2013` for `2013-04` */
export function month(text: string): string {
  const [year, number] = text.split("-");
  const name = LONG_MONTHS[Number(number) - 1];
  return name ? `${name} ${year}` : text;
}

export const shortDigest = (digest: Known<string>) => (digest ? digest.replace(/^sha256:/, "").slice(0, 10) : NONE);

export const seconds = (at: string) => Date.parse(at) / 1000;
