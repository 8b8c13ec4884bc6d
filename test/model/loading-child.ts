/**
 * Loads one model folder after the other, in a process that may die of it, and judges a few tokens with each.
 * Gets { dir, cacheDir }; answers with an Outcome.
 */
import { GuardError } from "../../src/errors.js";
import { loadGuard } from "../../src/guard.js";

export type Outcome = { cpuMs: number } & (
  | { loaded: true; probabilities: number[]; labels: string[] }
  | { loaded: false; named: boolean; code: string; message: string }
);

process.on("message", async ({ dir, cacheDir }: { dir: string; cacheDir: string }) => {
  const before = process.cpuUsage();
  const outcome = await tryModel(dir, cacheDir);
  const { user, system } = process.cpuUsage(before);
  process.send!({ ...outcome, cpuMs: (user + system) / 1000 });
});

async function tryModel(dir: string, cacheDir: string): Promise<object> {
  try {
    const guard = await loadGuard(dir, { cacheDir, threads: 1, maxStreams: 2 });
    try {
      const stream = guard.stream({ messages: [{ role: "user", content: "How do plants grow?" }] });
      const prompt = await stream.prompt;
      const verdicts = await stream.pushText("From light, water, and air; and the crowd goes mild.");
      const judged = [prompt!, ...verdicts];
      return {
        loaded: true,
        probabilities: judged.flatMap(({ probabilities: { risk, category } }) => [...risk, ...category]),
        labels: judged.map(({ risk, category }) => `${risk} ${category}`),
      };
    } finally {
      await guard.close();
    }
  } catch (error) {
    const { code, message, stack } = error as GuardError;
    const named = error instanceof GuardError && /^[A-Z][A-Z0-9_]+$/.test(code);
    return { loaded: false, named, code, message: named ? message : stack };
  }
}
