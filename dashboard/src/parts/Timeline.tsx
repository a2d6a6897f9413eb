// What was done, by whom and why, newest first; and the jobs behind it.

import type { AuditEntry, Finding, Job, Known } from "../api";
import { count, duration, moment } from "../format";
import { toModel } from "../route";
import { action, findingKind, reason } from "../words";
import { Empty, Pill, useMore } from "./bits";

export function Timeline(props: {
  entries: Known<AuditEntry[]>;
  findings: Known<Finding[]>;
  few: number;
  showModel?: boolean;
}) {
  const entries = props.entries ?? [];
  const { shown, button } = useMore(entries, props.few);
  if (props.entries == null) return <Empty>Asking the server…</Empty>;
  if (entries.length === 0) return <Empty>The loop has done nothing yet.</Empty>;
  return (
    <>
      <ol className="timeline" data-testid="timeline" data-value={entries.length}>
        {shown.map((entry) => {
          const { words, tone } = action(entry);
          const why = reason(entry, props.findings ?? null);
          return (
            <li key={entry.sequence} className={tone}>
              <time dateTime={entry.at}>{moment(entry.at)}</time>
              <div>
                <p className="did">
                  <strong>{words}</strong>
                  {entry.subject && <code>{entry.subject}</code>}
                  <span className="actor">{entry.actor === "control" ? "by the loop" : `by ${entry.actor}`}</span>
                  {props.showModel && entry.model && <a href={toModel(entry.model)}>{entry.model}</a>}
                  <span className="sequence">no. {entry.sequence}</span>
                </p>
                {why.text && (
                  <p className="why">
                    {why.finding && <span className="why-kind">{findingKind(why.finding.kind)}: </span>}
                    {why.text}
                  </p>
                )}
                {entry.detail && <p className="detail">{entry.detail}</p>}
              </div>
            </li>
          );
        })}
      </ol>
      {button}
    </>
  );
}

export function Jobs(props: { jobs: Known<Job[]>; few: number; showModel?: boolean }) {
  const jobs = props.jobs ?? [];
  const { shown, button } = useMore(jobs, props.few);
  if (props.jobs == null) return <Empty>Asking the server…</Empty>;
  if (jobs.length === 0) return <Empty>No job has run yet.</Empty>;
  return (
    <>
      <ul className="jobs" data-testid="jobs" data-value={jobs.length}>
        {shown.map((job) => (
          <li key={job.id}>
            <p className="did">
              <strong>{job.kind.replace(/^./, (c) => c.toUpperCase())}</strong>
              <Pill tone={job.state === "failed" ? "bad" : job.state === "done" ? "plain" : "candidate"}>{job.state}</Pill>
              {props.showModel && <a href={toModel(job.model)}>{job.model}</a>}
              {job.version != null && <span>made version {job.version}</span>}
              <span className="sequence">
                {moment(job.at)}
                {job.seconds != null && `, ${duration(job.seconds)}`}
              </span>
            </p>
            {job.state === "running" && job.progress && job.progress.total > 0 && (
              <>
                <div
                  className="progress small"
                  role="progressbar"
                  aria-label={`${job.kind} ${job.model}: ${job.progress.phase}`}
                  aria-valuemin={0}
                  aria-valuemax={job.progress.total}
                  aria-valuenow={job.progress.done}
                >
                  <span style={{ width: `${Math.min(100, (job.progress.done / job.progress.total) * 100)}%` }} />
                </div>
                <p className="detail">
                  {job.progress.phase}: {count(job.progress.done)} of {count(job.progress.total)}
                </p>
              </>
            )}
            {job.error && <p className="why bad">{job.error}</p>}
          </li>
        ))}
      </ul>
      {button}
    </>
  );
}
