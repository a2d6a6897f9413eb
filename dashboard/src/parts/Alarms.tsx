// Findings that are alarms: what changed, since when, and the figures behind it.

import type { Finding, Known } from "../api";
import { figure, moment } from "../format";
import { toModel } from "../route";
import { findingKind } from "../words";
import { Empty, useMore } from "./bits";

export function Alarms(props: { findings: Known<Finding[]>; few: number; showModel?: boolean; quiet: string }) {
  const alarms = (props.findings ?? []).filter((f) => f.alarm);
  const { shown, button } = useMore(alarms, props.few);
  if (props.findings == null) return <Empty>Asking the server…</Empty>;
  if (alarms.length === 0) return <Empty>{props.quiet}</Empty>;
  return (
    <>
      <ol className="alarms" data-testid="alarms" data-value={alarms.length}>
        {shown.map((finding) => (
          <li key={finding.id}>
            <p className="alarm-title">
              <span className="dot alarm" aria-hidden="true" />
              <strong>{findingKind(finding.kind)}</strong>
              {finding.subject && <code>{finding.subject}</code>}
              {props.showModel && <a href={toModel(finding.model, "alarms")}>{finding.model}</a>}
            </p>
            <p className="alarm-message">{finding.message}</p>
            <p className="alarm-when">
              certain at {moment(finding.at)} UTC
              {finding.since && `, from observations since ${moment(finding.since)}`}
            </p>
            {Object.keys(finding.evidence ?? {}).length > 0 && (
              <dl className="figures">
                {Object.entries(finding.evidence).map(([name, value]) => (
                  <div key={name}>
                    <dt>{name.replaceAll("_", " ")}</dt>
                    <dd>{figure(value)}</dd>
                  </div>
                ))}
              </dl>
            )}
          </li>
        ))}
      </ol>
      {button}
    </>
  );
}
