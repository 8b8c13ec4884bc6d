// Stands in for node-llama-cpp: of its functions those that the examples call, with their shapes.
export async function getLlama() {
  return {
    loadModel: async ({ modelPath }) => ({
      createContext: async () => ({ getSequence: () => ({ modelPath }) }),
    }),
    dispose: async () => {},
  };
}

export class LlamaChatSession {
  constructor({ contextSequence }) {
    this.sequence = contextSequence;
  }

  /** Says what stands in place of the model's path, word by word, until it is told to stop. */
  async prompt(_question, { signal, stopOnAbortSignal, onTextChunk }) {
    for (const word of this.sequence.modelPath.split(/(?= )/)) {
      await new Promise(setImmediate);
      if (signal.aborted && stopOnAbortSignal) return;
      onTextChunk(word);
    }
  }
}

export class LlamaChat {
  constructor({ contextSequence }) {
    this.sequence = contextSequence;
  }

  /** Says what stands in place of the model's path, one text a seed; tells on standard error what it was given to go on from. */
  async generateResponse(history, { signal, stopOnAbortSignal, seed, onTextChunk }) {
    console.error(JSON.stringify({ seed, response: history.at(-1).response }));
    for (const word of this.sequence.modelPath.split("|")[seed].split(/(?= )/)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (signal.aborted && stopOnAbortSignal) return;
      onTextChunk(word);
    }
  }
}
