/** Lines of a text, however it is cut; empty ones are left out. */
export async function* lines(
  chunks: AsyncIterable<string>,
): AsyncGenerator<{ line: string; number: number }> {
  let rest = "";
  let number = 0;
  for await (const chunk of chunks) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop() as string;
    for (const line of parts) {
      number++;
      if (line.trim() !== "") yield { line, number };
    }
  }
  if (rest.trim() !== "") yield { line: rest, number: number + 1 };
}
