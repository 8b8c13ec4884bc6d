import { RequestError } from "../api-error.js";

/** A response's text. @throws {RequestError} upstream_invalid where it is longer than so many bytes */
export async function readText(response: Response, most: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > most) {
      throw new RequestError(502, "upstream_invalid", `The model's answer is longer than ${most} bytes.`);
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
