// Who answers: which version gets which share of the requests, and which ones only watch.

import type { ModelStatus } from "../api";
import { moment, shortDigest } from "../format";
import { Empty, Section } from "./bits";

function shareOf(text: string): number {
  const number = Number.parseFloat(text);
  return Number.isFinite(number) ? Math.min(100, Math.max(0, number)) : 0;
}

export function Routing({ status }: { status: ModelStatus }) {
  const routing = status.routing;
  if (!routing?.live) {
    return (
      <Section id="routing" title="Who answers">
        <Empty>No version is live. Requests are refused with 503 until one is released.</Empty>
      </Section>
    );
  }
  const { live, candidate, fallback, frozen } = routing;
  const canary = candidate?.stage === "canary" ? shareOf(candidate.share) : 0;
  const liveShare = Number((100 - canary).toFixed(2));
  return (
    <Section
      id="routing"
      title="Who answers"
      aside={<span className="aside">routing no. {routing.number}</span>}
      lead={routing.reason}
    >
      <div
        className="strip"
        role="img"
        aria-label={`Version ${live.version} answers ${liveShare}% of requests${
          canary > 0 && candidate ? `, version ${candidate.version} answers ${canary}%` : ""
        }.`}
      >
        <span className="live" style={{ flexGrow: liveShare }}>
          v{live.version} · {liveShare}%
        </span>
        {canary > 0 && candidate && (
          <span className="candidate" style={{ flexGrow: canary }}>
            v{candidate.version} · {canary}%
          </span>
        )}
      </div>
      <dl className="roles">
        <Role
          role="live"
          name="Live"
          version={live.version}
          digest={live.digest}
          since={live.since}
          what={`answers ${liveShare}% of requests`}
        />
        {candidate ? (
          <Role
            role="candidate"
            name={candidate.stage === "canary" ? "Candidate, in canary" : "Candidate, in shadow"}
            version={candidate.version}
            digest={candidate.digest}
            since={candidate.since}
            what={
              candidate.stage === "canary"
                ? `answers ${candidate.share} of requests, scores them all`
                : "scores every request, answers none"
            }
          />
        ) : (
          <Role role="none" name="Candidate" what="none on trial" />
        )}
        {fallback ? (
          <Role
            role="fallback"
            name="Fallback"
            version={fallback.version}
            digest={fallback.digest}
            since={fallback.since}
            what="takes over in a rollback"
          />
        ) : (
          <Role role="none" name="Fallback" what="none yet: nothing has been replaced" />
        )}
        {frozen && (
          <Role
            role="frozen"
            name="First model"
            version={frozen.version}
            digest={frozen.digest}
            since={frozen.since}
            what="never retrained: the yardstick"
          />
        )}
      </dl>
    </Section>
  );
}

function Role(props: { role: string; name: string; version?: number; digest?: string; since?: string; what: string }) {
  return (
    <div className={`role ${props.role}`}>
      <dt>{props.name}</dt>
      {props.version != null && (
        <dd className="role-version">
          <span data-testid={`${props.role}-version`} data-value={props.version}>
            version {props.version}
          </span>{" "}
          <code>{shortDigest(props.digest)}</code>
        </dd>
      )}
      <dd>{props.what}</dd>
      {props.since && <dd>since {moment(props.since)} UTC</dd>}
    </div>
  );
}
