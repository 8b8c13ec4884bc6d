import type { Action, Policy, Rules } from "../../moderation/policy.js";
import type { AskedModeration, ModerationMode } from "../request/settings.js";

/** A policy as a request's `moderation` field has it: stricter wherever it asks for that, milder only where it may. */
export function policyAsked(policy: Policy, asked: AskedModeration, allowScore: boolean): Policy {
  const { input, output } = asked;
  const side = <R extends Rules>(rules: R, mode: ModerationMode | null): R => {
    if (mode === null || (mode === "score" && !allowScore)) return rules;
    const [from, to] = mode === "score" ? ["block", "observe"] : ["observe", "block"];
    const categories = rules.categories.map((own) =>
      own.action === from ? { ...own, action: to as Action } : own,
    );
    return { ...rules, categories };
  };
  return { ...policy, prompt: side(policy.prompt, input), response: side(policy.response, output) };
}
