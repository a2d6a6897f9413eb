// Everything about one model on one page. Each section has its own address.

import { useEffect } from "react";
import { Alarms } from "../parts/Alarms";
import { Section } from "../parts/bits";
import { Charts } from "../parts/Charts";
import { Cost } from "../parts/Cost";
import { Evidence } from "../parts/Evidence";
import { Hero, Tiles } from "../parts/Hero";
import { Months } from "../parts/Months";
import { Routing } from "../parts/Routing";
import { Jobs, Timeline } from "../parts/Timeline";
import { Versions } from "../parts/Versions";
import { Watches } from "../parts/Watches";
import { toModel } from "../route";
import type { World } from "../store";
import type { ModelStatus } from "../api";

const SECTIONS = [
  ["routing", "Who answers"],
  ["charts", "Day by day"],
  ["months", "Month by month"],
  ["evidence", "Evidence"],
  ["alarms", "Alarms"],
  ["inputs", "Watched"],
  ["versions", "Versions"],
  ["cost", "Cost"],
  ["timeline", "What was done"],
  ["jobs", "Jobs"],
] as const;

export function ModelPage(props: { status: ModelStatus; world: World; section: string | null }) {
  const { status, world, section } = props;

  useEffect(() => {
    const element = section ? document.getElementById(section) : null;
    element?.scrollIntoView();
    element?.focus({ preventScroll: true });
  }, [section]);

  const findings = world.findings?.filter((f) => f.model === status.model);
  const audit = world.audit?.filter((e) => e.model === status.model);
  const jobs = world.jobs?.filter((j) => j.model === status.model);
  return (
    <article>
      <Hero status={status} />
      <Tiles status={status} />
      <nav className="contents" aria-label={`Sections of ${status.model}`}>
        {SECTIONS.map(([id, name]) => (
          <a key={id} href={toModel(status.model, id)} aria-current={section === id ? "true" : undefined}>
            {name}
          </a>
        ))}
      </nav>
      <Routing status={status} />
      <Charts status={status} world={world} />
      <Months status={status} />
      <Evidence status={status} />
      <Section id="alarms" title="Alarms" lead="Each is certain under one false-alarm budget, over all inputs and all time.">
        <Alarms
          findings={findings}
          few={5}
          quiet={
            status.monitors
              ? "No alarm. Everything that is watched is inside its limits, or not certain to be outside."
              : "No alarm. Nothing is watched yet."
          }
        />
      </Section>
      <Watches status={status} />
      <Versions status={status} />
      <Cost status={status} />
      <div className="two">
        <Section id="timeline" title="What was done, and why">
          <Timeline entries={audit} findings={world.findings} few={8} />
        </Section>
        <Section id="jobs" title="Jobs">
          <Jobs jobs={jobs} few={8} />
        </Section>
      </div>
    </article>
  );
}
