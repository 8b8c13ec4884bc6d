/** How much a risk label matters. The released models name their labels Safe, Controversial and Unsafe. */
export type Severity = "safe" | "controversial" | "unsafe";

/**
 * A label's severity, by its name. A checkpoint has exactly one label "safe"; any label other than that and
 * "controversial" counts as unsafe, so that an unknown name is never taken lightly.
 */
export function severityOf(label: string): Severity {
  const name = label.toLowerCase();
  return name === "safe" || name === "controversial" ? name : "unsafe";
}
