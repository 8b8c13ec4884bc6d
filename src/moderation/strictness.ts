import type { Action, Policy, Rules } from "./policy.js";

const ACTIONS: readonly Action[] = ["ignore", "observe", "block"];

/**
 * Whether a policy stops and refuses all that another does: nothing that it lets pass would the other have stopped. Where that
 * cannot be told, such as of a threshold against none, it is not.
 */
export function isAsStrict(policy: Policy, than: Policy): boolean {
  const rises = <K extends keyof Policy>(field: K, order: readonly Policy[K][]) =>
    order.indexOf(policy[field]) >= order.indexOf(than[field]);
  return (
    rulesAsStrict(policy.prompt, than.prompt) &&
    rulesAsStrict(policy.response, than.response) &&
    ACTIONS.indexOf(policy.response.refusal) >= ACTIONS.indexOf(than.response.refusal) &&
    (policy.prompt.scope === "conversation" || than.prompt.scope === "turn") &&
    rises("attachments", ["ignore", "block"]) &&
    rises("unjudged", ["pass", "refuse"]) &&
    rises("tools", ["pass", "judge", "refuse"]) &&
    rises("toolResults", ["pass", "judge"]) &&
    rises("failOpen", [true, false])
  );
}

function rulesAsStrict(rules: Rules, than: Rules): boolean {
  return (
    rules.debounce <= than.debounce &&
    isAsLow(rules.threshold, than.threshold) &&
    than.risks.every((other) => {
      const own = rules.risks.find(({ label }) => label === other.label);
      return own !== undefined && isAsLow(own.threshold, other.threshold);
    }) &&
    rules.categories.every(
      ({ action, threshold }, i) =>
        ACTIONS.indexOf(action) >= ACTIONS.indexOf(than.categories[i].action) &&
        threshold <= than.categories[i].threshold,
    )
  );
}

/** Being the most likely label, which no threshold says, is neither more nor less than any of them. */
function isAsLow(threshold: number | null, than: number | null): boolean {
  return threshold === null || than === null ? threshold === than : threshold <= than;
}
