// Small pieces that several parts of the page use.

import { useLayoutEffect, useRef, useState, type ReactNode } from "react";
import type { Known } from "../api";
import { signed } from "../format";

/** A part of the model page with its own address: `#/models/NAME/ID`. */
export function Section(props: { id: string; title: string; lead?: ReactNode; aside?: ReactNode; children: ReactNode }) {
  return (
    <section id={props.id} className="section" aria-labelledby={`${props.id}-title`} tabIndex={-1}>
      <header className="section-head">
        <div className="section-title">
          <h2 id={`${props.id}-title`}>{props.title}</h2>
          {props.aside}
        </div>
        {props.lead && <p className="lead">{props.lead}</p>}
      </header>
      {props.children}
    </section>
  );
}

/** Says why there is nothing here, and when there will be. */
export const Empty = ({ children }: { children: ReactNode }) => <p className="empty">{children}</p>;

export const Pill = ({ tone, children }: { tone: string; children: ReactNode }) => (
  <span className={`pill ${tone}`}>{children}</span>
);

/** A number with its raw value beside it for tests. */
export function Value(props: { id: string; raw: Known<number | string>; children: ReactNode; className?: string }) {
  return (
    <span className={props.className} data-testid={props.id} data-value={props.raw ?? ""}>
      {props.children}
    </span>
  );
}

/** Signed difference, coloured by whether it is good. */
export function Difference(props: {
  live: Known<number>;
  frozen: Known<number>;
  digits: number;
  higherIsBetter: boolean;
  id?: string;
}) {
  const { live, frozen, digits, higherIsBetter } = props;
  if (live == null || frozen == null) return <span className="difference">–</span>;
  const gain = live - frozen;
  const even = Math.abs(gain) < 0.5 * 10 ** -digits;
  const tone = even ? "even" : gain > 0 === higherIsBetter ? "good" : "bad";
  return (
    <span className={`difference ${tone}`} data-testid={props.id} data-value={gain}>
      {signed(gain, digits)}
    </span>
  );
}

export interface Column<T> {
  title: ReactNode;
  /** Beside the value where a narrow screen shows the row as a list. */
  label: string;
  cell: (row: T) => ReactNode;
  numeric?: boolean;
}

/** A table that becomes a list of cards on a phone. The roles keep it a table for screen readers there too. */
export function Table<T>(props: {
  caption: string;
  className?: string;
  columns: Column<T>[];
  rows: T[];
  rowKey: (row: T) => string | number;
  rowClass?: (row: T) => string;
}) {
  const { columns, rows } = props;
  return (
    <table role="table" className={`table ${props.className ?? ""}`}>
      <caption className="hidden">{props.caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column, i) => (
            <th key={i} role="columnheader" scope="col" className={column.numeric ? "num" : undefined}>
              {column.title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr role="row" key={props.rowKey(row)} className={props.rowClass?.(row)}>
            {columns.map((column, i) =>
              i === 0 ? (
                <th key={i} role="rowheader" scope="row">
                  {column.cell(row)}
                </th>
              ) : (
                <td
                  key={i}
                  role="cell"
                  data-label={column.label}
                  className={column.numeric ? "num" : undefined}
                >
                  {column.cell(row)}
                </td>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Width of an element in CSS pixels, followed as it changes. */
export function useWidth<E extends HTMLElement>() {
  const ref = useRef<E>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    setWidth(element.clientWidth);
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, width] as const;
}

/** The first few rows and a button for the rest. */
export function useMore<T>(rows: T[], few: number): { shown: T[]; button: ReactNode } {
  const [all, setAll] = useState(false);
  const button =
    rows.length > few ? (
      <button type="button" className="more" aria-expanded={all} onClick={() => setAll(!all)}>
        {all ? "Show fewer" : `Show all ${rows.length}`}
      </button>
    ) : null;
  return { shown: all ? rows : rows.slice(0, few), button };
}
