// node-llama-cpp: model and guard in one process, on one machine.
//   npm i qwen3guard-stream node-llama-cpp
//   node node-llama-cpp.mjs model.gguf "How do I bake bread?"
import { getLlama, LlamaChatSession } from "node-llama-cpp";
import { loadGuard, ModerationViolation } from "qwen3guard-stream";

const [, , modelPath, question = "How do I bake bread?"] = process.argv;
const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const llama = await getLlama();
const model = await llama.loadModel({ modelPath });
const context = await model.createContext();
const session = new LlamaChatSession({ contextSequence: context.getSequence() });

/** What the model says, as a stream. It is told to stop where nobody wants more. */
function ask(signal) {
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const onTextChunk = (text) => void writer.write(text).catch(() => {});
  session.prompt(question, { signal, stopOnAbortSignal: true, onTextChunk }).then(
    () => writer.close().catch(() => {}),
    (error) => writer.abort(error),
  );
  return readable;
}

const messages = [{ role: "user", content: question }];
try {
  for await (const text of guard.moderate(ask, { messages })) process.stdout.write(text);
} catch (error) {
  if (!(error instanceof ModerationViolation)) throw error;
  process.stdout.write(`\n[${error.part} stopped: ${error.risk}, ${error.category}]`);
} finally {
  console.log();
  await guard.close();
  await llama.dispose();
}
