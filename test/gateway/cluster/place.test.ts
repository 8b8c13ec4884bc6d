import { join } from "node:path";
import { expect, test } from "vitest";
import { placeOf, requirePlaces } from "../../../src/gateway/cluster/place.js";

test.skipIf(process.platform === "win32")(
  "a folder whose path is too long for sockets is refused, and not cut",
  () => {
    const fits = join("/", "é".repeat(46));
    requirePlaces(fits);
    expect(Buffer.byteLength(placeOf(fits, 999_999_999))).toBe(103);
    expect(() => requirePlaces(`${fits}a`)).toThrow(
      expect.objectContaining({
        code: "SOCKET_PATH_TOO_LONG",
        message: expect.stringMatching(/1 bytes too long/),
      }),
    );
  },
);
