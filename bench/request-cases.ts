/** What a server behind the proxy says, by name: pieces of text. */
export const ANSWERS: Record<string, Iterable<string>> = {
  short: ["Fine, ", "thank you."],
  oneLetter: ["a".repeat(200_000)],
  spaces: ["\n", ...Array<string>(200).fill(" ".repeat(1000))],
  marks: ["a", ...Array<string>(2000).fill("\u0301\u0323\u0345\u0334")],
};

export interface RequestCase {
  name: string;
  path: "/v1/chat/completions" | "/v1/completions";
  body: object;
  /** Sent so often at once. */
  times?: number;
}

/** Text of so many bytes. */
function filled(unit: string, bytes: number): string {
  return unit.repeat(Math.floor(bytes / Buffer.byteLength(unit)));
}

/**
 * Requests that take long to read, each as large as a proxy takes.
 *
 * @param bytes of a request's body
 * @param context tokens that the guard holds
 */
export function requestCases(bytes: number, context: number): RequestCase[] {
  const room = bytes - 1000;
  const chat = (name: string, messages: object[], rest: object = {}): RequestCase => ({
    name,
    path: "/v1/chat/completions",
    body: { model: "m", stream: true, messages, ...rest },
  });
  const user = (content: string) => [{ role: "user", content }];
  const many = (role: string, content: string) =>
    Array<object>(Math.floor(room / (JSON.stringify({ role, content }).length + 1))).fill({ role, content });
  const turns = (role: string, content: string) =>
    Array<object>(Math.floor(context / 7)).fill({ role, content });
  const call = (args: unknown) => [
    {
      role: "assistant",
      content: null,
      tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: args } }],
    },
    ...user("Hi"),
  ];
  const fits = filled("a word ", context * 3);
  return [
    chat("a short question", user("How do I bake bread?")),
    chat("a prompt that fits", user(fits)),
    chat("a prompt that fits, 8 choices", user(fits), { n: 8 }),
    chat("words", user(filled("hello world ", room))),
    chat("words, 16 choices", user(filled("hello world ", room)), { n: 16 }),
    chat("one letter", user(filled("a", room))),
    chat("spaces", user(filled(" ", room))),
    chat("line breaks and spaces", user(filled("\n ", room / 2))),
    chat("signs", user(filled("=", room))),
    chat("Chinese", user(filled("的一是不了人我在", room))),
    chat("emoji", user(filled("👩‍", room))),
    chat("marks", user(`a${filled("\u0301\u0323\u0345\u0334", room)}`)),
    chat("runs of 256 marks", user(filled(`a${"\u0301\u0323\u0345\u0334".repeat(64)}`, room))),
    chat("<think>", user(filled("<think>", room))),
    chat("an answer of </think>", [{ role: "assistant", content: filled("</think>", room) }, ...user("Hi")]),
    chat("short messages", many("user", "a")),
    chat("short tools' answers", [...user("x"), ...many("tool", "a")]),
    chat("as many short messages as fit", turns("user", "a")),
    chat("as many short answers as fit", [...turns("assistant", "</think>a"), ...user("Hi")]),
    chat("arguments of a tool call", call(filled("a word ", room))),
    chat("arguments of many values", call(Array(Math.floor(room / 20)).fill({ a: [1, 2, 3] }))),
    chat("arguments that fit", call(Array(Math.floor(context / 16)).fill({ a: [1, 2] }))),
    chat("parts", [{ role: "user", content: Array(Math.floor(room / 33)).fill({ type: "text", text: "" }) }]),
    chat("values nobody knows", user("Hi"), { unknown: Array(Math.floor(room / 4)).fill([1]) }),
    {
      name: "16 prompts",
      path: "/v1/completions",
      body: { model: "m", prompt: Array(16).fill(filled("hello world ", room / 17)), stream: true },
    },
    { ...chat("words that fit, 8 requests at once", user(fits)), times: 8 },
    { ...chat("spaces, 8 requests at once", user(filled(" ", room))), times: 8 },
    ...Object.keys(ANSWERS).map((answer) => chat(`answer: ${answer}`, user("Hi"), { metadata: { answer } })),
  ];
}
