/** The client of the soak at a registry whose nodes sleep: it finds nothing in one that does what it promises, and what is wrong in one that does not. */
import { expect, it } from 'vitest';
import { Violation } from '../../chaos/checkers/checker.ts';
import { RegistryClient } from '../../chaos/process/registry-client.ts';
import { observeAll, type Shown } from '../../chaos/process/registry-model.ts';
import { ArchipelagoError, Prng } from '../../src/base/index.ts';
import type { AdminClient } from '../../src/gateway/http/client.ts';

const NAMES = ['n1', 'n2', 'n3'];
const RUNS = 40;
const CALLS = 400;

interface Volume {
  id: string;
  name: string;
  labels: Record<string, string>;
}

/** One registry behind three nodes. A request to a node that sleeps has no answer, and is carried out when the node wakes up, or never. */
class SleepyCluster {
  calls = 0;
  private readonly prng: Prng;
  private readonly volumes = new Map<string, Volume>();
  private readonly asleep = new Map<string, (() => void)[]>();
  private readonly carriesOutTwice: boolean;
  private nextId = 1;

  /** With `carriesOutTwice` a node does what it is asked before it sleeps, and once more when it wakes up. */
  constructor(seed: number, { carriesOutTwice = false } = {}) {
    this.prng = new Prng(seed);
    this.carriesOutTwice = carriesOutTwice;
  }

  get shown(): Shown[] {
    return [...this.volumes.values()].map(({ id, name, labels }) => ({ id, name, labels: { ...labels } }));
  }

  admin(node: string): AdminClient {
    return { call: async (method: string, path: string, body?: unknown) => this.call(node, method, path, body) } as unknown as AdminClient;
  }

  wakeAll(): void {
    for (const node of NAMES) this.wake(node);
  }

  private call(node: string, method: string, path: string, body: unknown): unknown {
    this.calls++;
    if (method === 'GET') return this.carryOut(method, path, body);
    const chance = this.prng.unit();
    if (chance < 0.1) this.wake(NAMES[this.prng.below(NAMES.length)] as string);
    else if (chance < 0.2 && this.asleep.size === 0) this.asleep.set(node, []);
    const waiting = this.asleep.get(node);
    if (waiting === undefined) return this.carryOut(method, path, body);
    waiting.push(() => this.carryOut(method, path, body));
    if (this.carriesOutTwice) this.quietly(() => this.carryOut(method, path, body));
    throw new ArchipelagoError('timeout', `${node} sleeps`);
  }

  private wake(node: string): void {
    const waiting = this.asleep.get(node) ?? [];
    this.asleep.delete(node);
    // One that is killed instead never learns of what it was asked.
    const killedAt = this.prng.chance(0.3) ? this.prng.below(waiting.length + 1) : waiting.length;
    for (const request of waiting.slice(0, killedAt)) this.quietly(request);
  }

  private quietly(request: () => unknown): void {
    try {
      request();
    } catch {
      // Refused, and nobody waits for the answer.
    }
  }

  private carryOut(method: string, path: string, body: unknown): unknown {
    if (method === 'GET') return this.shown.filter(({ labels }) => path.endsWith(encodeURIComponent(`by=${labels['by']}`)));
    const [, name = '', operation] = /^\/v1\/volumes(?:\/([^/]+)(?:\/(.+))?)?$/.exec(path) ?? [];
    if (name === '') return this.create(body as Volume);
    const volume = this.volumes.get(name);
    if (volume === undefined) throw new ArchipelagoError('not-found', `there is no volume ${name}`);
    if (operation === 'labels') Object.assign(volume.labels, body);
    else this.volumes.delete(name);
    if (operation === 'rename') {
      volume.name = (body as Volume).name;
      this.volumes.set(volume.name, volume);
    }
    return volume;
  }

  private create({ name, labels }: Volume): Volume {
    if (this.volumes.has(name)) throw new ArchipelagoError('exists', `the name ${name} is taken`);
    const volume = { id: String(this.nextId++), name, labels: { ...labels } };
    this.volumes.set(name, volume);
    return volume;
  }
}

/** Until the client has made its calls, everything that sleeps is awake, and all was looked at. */
async function run(cluster: SleepyCluster, seed: number): Promise<RegistryClient> {
  const ended = new AbortController();
  const prng = new Prng(seed);
  const drawnTo = () => {
    if (cluster.calls >= CALLS) ended.abort();
    return NAMES[prng.below(NAMES.length)] as string;
  };
  const nodes = new Map(NAMES.map((node) => [node, cluster.admin(node)]));
  const client = new RegistryClient({ name: 'c', prng: new Prng(seed), nodes, drawnTo, signal: ended.signal });
  await client.run();
  cluster.wakeAll();
  observeAll(client.models, cluster.shown, `seed ${seed}`);
  return client;
}

it('finds nothing wrong when a command by name comes late, and meets what another attempt made under that name', async () => {
  let acknowledged = 0;
  let unknown = 0;
  for (let seed = 1; seed <= RUNS; seed++) {
    const client = await run(new SleepyCluster(seed), seed);
    acknowledged += client.acknowledged;
    unknown += client.unknown;
  }
  expect(acknowledged).toBeGreaterThan(RUNS * 50);
  expect(unknown).toBeGreaterThan(RUNS * 10);
});

it('finds what is carried out twice', async () => {
  const found: string[] = [];
  for (let seed = 1; seed <= RUNS; seed++) {
    try {
      await run(new SleepyCluster(seed, { carriesOutTwice: true }), seed);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      found.push(error.message);
    }
  }
  expect(found.length).toBeGreaterThan(RUNS / 2);
  expect(found.filter((message) => message.includes('is there twice'))).not.toEqual([]);
});
