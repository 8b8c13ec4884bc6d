import { useRef, useState } from "preact/hooks";
import type { PageData, RunEvent, Turn } from "../../playground/protocol.js";
import { runOn } from "./run-client.js";
import type { SourceForm } from "./source.js";

/** What came last is drawn with the screen's next frame: many tokens may come within one. */
function useEvents(first: RunEvent[]): [RunEvent[], (events: RunEvent[]) => void, () => void] {
  const [events, setEvents] = useState(first);
  const came = useRef<RunEvent[]>([]);
  const frame = useRef(0);
  const draw = () => {
    frame.current = 0;
    const added = came.current.splice(0);
    setEvents((before) => [...before, ...added]);
  };
  const add = (added: RunEvent[]) => {
    came.current.push(...added);
    frame.current ||= requestAnimationFrame(draw);
  };
  const clear = () => {
    came.current = [];
    setEvents([]);
  };
  return [events, add, clear];
}

export interface Run {
  /** The conversation that was judged last. */
  asked: Turn[];
  events: RunEvent[];
  isRunning: boolean;
  /** @param lost what to say where the server does not answer */
  start(turns: Turn[], form: SourceForm, lost: string): Promise<void>;
  stop(): void;
}

/** One conversation at a time on its way through the guard; at first the one that was saved with the page. */
export function useRun(recording: PageData["recording"]): Run {
  const [running, setRunning] = useState<AbortController | null>(null);
  const [asked, setAsked] = useState<Turn[]>(recording?.messages ?? []);
  const [events, add, clear] = useEvents(recording?.events ?? []);
  const start = async (turns: Turn[], form: SourceForm, lost: string) => {
    running?.abort();
    const controller = new AbortController();
    setRunning(controller);
    setAsked(turns);
    clear();
    try {
      await runOn({ messages: turns, source: sourceOf(form) }, add, controller.signal);
    } catch (error) {
      if (!controller.signal.aborted) {
        const message = error instanceof TypeError ? lost : (error as Error).message;
        add([{ type: "failed", at: 0, code: "PLAYGROUND", message }]);
      }
    }
    setRunning((now) => (now === controller ? null : now));
  };
  const stop = () => {
    running?.abort();
    setRunning(null);
  };
  return { asked, events, isRunning: running !== null, start, stop };
}

function sourceOf({ from, kind, url, model, key, text, perSecond }: SourceForm) {
  return from === "endpoint" ? { kind, url, model, key } : { kind: "text" as const, text, perSecond };
}
