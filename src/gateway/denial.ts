import type { ModerationViolation } from "../gate/violation.js";
import type { CodecOptions, ResponseCodec, StreamCodec } from "./answer/codec.js";

/**
 * An answer in the model's place, of a prompt that was stopped. Null where there is none: the protocol has no word for it
 * and the policy no text.
 *
 * @param stream a new answer in the form of a stream
 */
export function denial(
  violation: ModerationViolation,
  codec: ResponseCodec,
  options: CodecOptions,
  stream: () => StreamCodec,
): Response | null {
  const { parsed } = options;
  if (!codec.refuses && options.replacement(violation) === null) return null;
  if (!parsed.stream) {
    const answer = codec.whole(codec.blank(options), options);
    answer.stop(parsed.choices.map(() => violation));
    const { annotations } = options;
    return Response.json(annotations ? codec.annotate(answer.body, annotations) : answer.body);
  }
  const answer = stream();
  const stopped = parsed.choices.flatMap((_, choice) => answer.stop(choice, violation));
  const events = [...(answer.opening?.() ?? []), ...stopped, ...(answer.closing?.() ?? [])];
  const frames = events.map((event) => answer.frame(event));
  if (answer.terminator !== null) frames.push(`data: ${answer.terminator}\n\n`);
  const headers = { "content-type": codec.media.contentType, "cache-control": "no-cache" };
  return new Response(frames.join(""), { headers });
}
