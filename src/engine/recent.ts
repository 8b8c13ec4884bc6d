/** Gets or makes an entry; beyond `limit` the one unused for longest goes. */
export function recent<T>(
  map: Map<string, T>,
  key: string,
  limit: number,
  make: () => T,
  release: (old: T) => void,
): T {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    if (map.size >= limit) {
      const [oldest, old] = map.entries().next().value as [string, T];
      map.delete(oldest);
      release(old);
    }
  } else {
    map.delete(key);
  }
  map.set(key, value);
  return value;
}
