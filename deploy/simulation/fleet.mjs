// What hashing, restarts and bursts do to a fleet of proxies. Seeded: each run prints the same.
//   node deploy/simulation/fleet.mjs [seed]

const PROXIES = 50;
const POINTS = 160; // of a proxy on the ring, as nginx's `hash … consistent` has
const CONVERSATIONS = 20_000;
const SECONDS = 20; // mean length of a stream

let state = Number(process.argv[2] ?? 1);
/** Mulberry32, 0 to 1. */
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const exponential = (mean) => -mean * Math.log(1 - random());
/** Streams are mostly short, and some are very long. */
const duration = () => {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return SECONDS * Math.exp(0.9 * normal - 0.405);
};
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function ring(proxies) {
  return proxies
    .flatMap((proxy) => {
      // A proxy's points are its own, whoever else is there.
      const saved = state;
      state = proxy * 7919 + 1;
      const points = Array.from({ length: POINTS }, () => [random(), proxy]);
      state = saved;
      return points;
    })
    .sort(([a], [b]) => a - b);
}

function ownerOf(points, key) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < key) low = middle + 1;
    else high = middle;
  }
  return points[low % points.length][1];
}

/** Conversations of several turns, each of which brings as much text again; what a proxy has read it keeps. */
function reuse() {
  const points = ring([...Array(PROXIES).keys()]);
  const result = {};
  for (const kind of ["hash", "in turn"]) {
    let [read, all] = [0, 0];
    for (let i = 0; i < CONVERSATIONS; i++) {
      const key = random();
      const known = new Map();
      const turns = 1 + Math.floor(exponential(4));
      for (let turn = 1; turn <= turns; turn++) {
        const proxy = kind === "hash" ? ownerOf(points, key) : Math.floor(random() * PROXIES);
        all += turn;
        read += known.get(proxy) ?? 0;
        known.set(proxy, turn);
      }
    }
    result[kind] = read / all;
  }
  return result;
}

/** The busiest proxy's streams against the mean; with a share of conversations that all begin alike. */
function imbalance(alike) {
  const points = ring([...Array(PROXIES).keys()]);
  const load = Array(PROXIES).fill(0);
  for (let i = 0; i < CONVERSATIONS; i++) load[ownerOf(points, random() < alike ? 0.5 : random())]++;
  return Math.max(...load) / (CONVERSATIONS / PROXIES);
}

function moved() {
  const before = ring([...Array(PROXIES).keys()]);
  const after = ring([...Array(PROXIES + 1).keys()]);
  let count = 0;
  for (let i = 0; i < CONVERSATIONS; i++) {
    const key = random();
    if (ownerOf(before, key) !== ownerOf(after, key)) count++;
  }
  return count / CONVERSATIONS;
}

/** Of the streams under way at a moment, how many are still there after so many seconds. */
function cut(grace) {
  let [left, all] = [0, 0];
  // A long stream is the likelier met under way.
  for (let i = 0; i < CONVERSATIONS; i++) {
    const length = duration();
    all += length;
    if (length > grace) left += length - grace;
  }
  return left / all;
}

/** Arrivals at so many times the usual rate for a minute, with places for `room` times the usual streams. */
function burst(times, room) {
  const usual = 2000;
  const places = room * usual;
  const ends = [];
  let [time, refused, asked] = [0, 0, 0];
  while (time < 400) {
    const inBurst = time >= 200 && time < 260;
    time += exponential(SECONDS / usual / (inBurst ? times : 1));
    for (let i = ends.length - 1; i >= 0; i--) if (ends[i] <= time) ends.splice(i, 1);
    if (inBurst) asked++;
    if (ends.length < places) ends.push(time + duration());
    else if (inBurst) refused++;
  }
  return refused / asked;
}

const { hash, "in turn": inTurn } = reuse();
console.log(`prompt tokens that had been read: ${percent(hash)} by hash, ${percent(inTurn)} in turn, of ${PROXIES} proxies`);
for (const alike of [0, 0.01, 0.05]) {
  console.log(`busiest proxy where ${percent(alike)} begin alike: ${imbalance(alike).toFixed(2)} times the mean`);
}
console.log(`conversations that move when a proxy is added: ${percent(moved())} (1 of ${PROXIES + 1} is ${percent(1 / (PROXIES + 1))})`);
for (const grace of [10, 30, 60, 120]) console.log(`streams cut after ${grace} s of grace: ${percent(cut(grace))}`);
for (const room of [1.25, 1.5, 2]) {
  console.log(`refused in a minute of twice the usual, with places for ${room} times the usual: ${percent(burst(2, room))}`);
}
