import { expect, vi } from "vitest";

/** Waits until all slots are free: a stream that is closed during a step has its slot until that ends. */
export async function idle(guard: { load: { active: number; waiting: number } }): Promise<void> {
  await vi.waitFor(() => expect(guard.load).toMatchObject({ active: 0, waiting: 0 }), 20_000);
}
