// What a correct prediction costs, as the sum that it is.

import type { ModelStatus } from "../api";
import { count, fixed, money, percent } from "../format";
import { Empty, Section, Value } from "./bits";

export function Cost({ status }: { status: ModelStatus }) {
  const cost = status.cost;
  if (!cost || cost.cpu_seconds == null) {
    return (
      <Section id="cost" title="Cost">
        <Empty>Nothing has been metered yet.</Empty>
      </Section>
    );
  }
  const { currency } = cost;
  return (
    <Section
      id="cost"
      title="Cost"
      lead={cost.measured ? "CPU time is measured, the price is declared." : "CPU time is estimated, the price is declared."}
    >
      <div className="sum">
        <Term id="cpu-seconds" raw={cost.cpu_seconds} value={fixed(cost.cpu_seconds, cost.cpu_seconds < 100 ? 2 : 0)} name="CPU seconds" />
        <Sign>×</Sign>
        <Term id="price" raw={cost.price_per_cpu_hour} value={money(cost.price_per_cpu_hour, currency)} name="per CPU hour" />
        <Sign>=</Sign>
        <Term id="cost" raw={cost.cost} value={money(cost.cost, currency)} name={`for ${count(cost.predictions)} predictions`} />
        <Sign>÷</Sign>
        <Term
          id="correct"
          raw={cost.correct}
          value={count(cost.correct)}
          name={
            cost.correct != null && cost.predictions
              ? `known to be correct, ${percent(cost.correct / cost.predictions, 1)} of them`
              : "known to be correct"
          }
        />
        <Sign>=</Sign>
        <Term
          id="per-correct"
          raw={cost.per_correct_prediction}
          value={money(cost.per_correct_prediction, currency)}
          name="per correct prediction"
          strong
        />
        {cost.per_correct_prediction != null && cost.per_correct_prediction < 0.001 && (
          <>
            <Sign>=</Sign>
            <Term
              id="per-million-correct"
              raw={cost.per_correct_prediction * 1e6}
              value={money(cost.per_correct_prediction * 1e6, currency)}
              name="per million correct"
              strong
            />
          </>
        )}
      </div>
    </Section>
  );
}

const Sign = ({ children }: { children: string }) => <span className="sign">{children}</span>;

function Term(props: { id: string; raw: number | null | undefined; value: string; name: string; strong?: boolean }) {
  return (
    <span className={props.strong ? "term strong" : "term"}>
      <Value id={props.id} raw={props.raw} className="term-value">
        {props.value}
      </Value>
      <span className="term-name">{props.name}</span>
    </span>
  );
}
