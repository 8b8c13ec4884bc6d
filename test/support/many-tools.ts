/** What tools of a chat's frontend do, as they say it. */
const SUBJECTS = {
  note: "a note of the user's",
  memory: "a memory that was stored about the user",
  file: "a file that was attached to the chat",
  knowledge_base: "a knowledge base that the model may use",
  chat: "an earlier chat of the user's",
  channel_message: "a message in a channel of the workspace",
  calendar_event: "an event in the user's calendar",
  image: "an image that was made in this chat",
  automation: "an automation that runs at given times",
} as const;
const ACTIONS = {
  search:
    "Search for ITEM by words. Use this when the user refers to something that is not part of the conversation.",
  view: "Get the full content of ITEM by its id. Use this after a search, to read what was found in detail.",
  create: "Create ITEM. Use this only when the user asks for it, and tell the user afterwards what was made.",
  update:
    "Change ITEM. Fields that are left out stay as they are; the whole content is replaced by what is given.",
} as const;

interface Tool {
  name: string;
  description: string;
  parameters: Record<string, unknown>;
}

/** 36 tools as a chat's frontend sends them with each request: some 26 kB of JSON, and nothing in them is harmful. */
export const MANY_TOOLS: readonly Tool[] = Object.entries(SUBJECTS).flatMap(([subject, item]) =>
  Object.entries(ACTIONS).map(([action, does]) => ({
    name: `${action}_${subject}`,
    description: does.replace("ITEM", item),
    parameters: {
      type: "object",
      properties: {
        [`${subject}_id`]: {
          type: "string",
          description: `The id of ${item} to ${action}, as it was given before`,
        },
        query: { type: "string", description: `Words of the title of ${item}, to ${action} it by` },
        content: {
          type: "string",
          description: `What to ${action} in ${item}, as Markdown of a few thousand characters`,
        },
        count: {
          type: "integer",
          description: `How many to ${action} at most, where ${item} is not the only one`,
        },
      },
      required: action === "search" ? ["query"] : [`${subject}_id`],
    },
  })),
);

/** As chat completions and Ollama take them. */
export const asFunctions = (tools: readonly Tool[]) =>
  tools.map((own) => ({ type: "function", function: own }));

/** As responses take them. */
export const asResponsesTools = (tools: readonly Tool[]) =>
  tools.map((own) => ({ type: "function", ...own }));

/** As Anthropic's messages take them. */
export const asAnthropicTools = (tools: readonly Tool[]) =>
  tools.map(({ parameters, ...own }) => ({ ...own, input_schema: parameters }));

/** As the AI SDK gives them to a model. */
export const asSdkTools = (tools: readonly Tool[]) =>
  tools.map(({ parameters, ...own }) => ({ type: "function" as const, ...own, inputSchema: parameters }));
