/** A line of a stream without its line feed. Of one that is too long, its beginning. */
export interface Line {
  bytes: Buffer;
  /** Bytes of the whole line. */
  length: number;
}

const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/**
 * The lines of a stream of bytes, one at a time. A byte order mark before the first is left out.
 *
 * @param longest bytes of a line that are kept; however long a line is, no more of it is held
 */
export async function* readLines(
  source: AsyncIterable<Buffer>,
  longest = Number.POSITIVE_INFINITY,
): AsyncGenerator<Line> {
  let parts: Buffer[] = [];
  let kept = 0;
  let length = 0;
  let first = true;
  const add = (bytes: Buffer) => {
    length += bytes.length;
    const part = bytes.subarray(0, Math.max(0, longest - kept));
    kept += part.length;
    if (part.length > 0) parts.push(part);
  };
  const take = (): Line => {
    const bytes = parts.length === 1 ? parts[0] : Buffer.concat(parts);
    const mark = first && bytes.indexOf(BYTE_ORDER_MARK) === 0 ? BYTE_ORDER_MARK.length : 0;
    const line = { bytes: bytes.subarray(mark), length: length - mark };
    parts = [];
    kept = length = 0;
    first = false;
    return line;
  };
  for await (const chunk of source) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      add(chunk.subarray(start, end));
      yield take();
      start = end + 1;
    }
    add(chunk.subarray(start));
  }
  if (length > 0) yield take();
}

export function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d);
}
