import { useEffect, useState } from "preact/hooks";
import type { GuardInfo, GuardLoad } from "../../playground/protocol.js";
import { fetchLoad } from "./run-client.js";
import type { Strings } from "./strings.js";

/** How often the page asks how the guard is. */
const EVERY_MS = 2000;

/** What judges, and what it takes. */
export function GuardPanel({ guard, live, s }: { guard: GuardInfo; live: boolean; s: Strings }) {
  const [load, setLoad] = useState<GuardLoad | null>(null);
  useEffect(() => {
    if (!live) return;
    const ask = () =>
      void fetchLoad().then(setLoad, () => {
        setLoad(null);
      });
    ask();
    const timer = setInterval(ask, EVERY_MS);
    return () => clearInterval(timer);
  }, [live]);
  const facts: [string, string][] = [
    [s.model, guard.model],
    [s.format, guard.dtype],
    [s.cache, guard.kvCache],
    [s.device, guard.device],
    [s.context, `${guard.maxTokens} ${s.tokens}`],
    [s.slots, load ? `${load.active} / ${guard.maxStreams}` : String(guard.maxStreams)],
    ...(load ? [[s.memory, `${Math.round(load.rss / 2 ** 20)} MiB`] as [string, string]] : []),
  ];
  return (
    <section class="card" aria-labelledby="guard">
      <h2 id="guard">{s.guard}</h2>
      <dl>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {guard.embedded && <p class="note">{s.embeddedNote}</p>}
    </section>
  );
}
