/**
 * Random stories of three nodes: each has clients that write to sectors of their own and to shared ones while links are cut and slow, owners
 * change, snapshot, fold and die. Verified: every I/O is answered without an error, each client reads what it wrote last in its own sectors,
 * a shared sector shows something that was written to it, and flushed or not nothing acknowledged is lost with a process. Not verified: power
 * failures and full disks, which `world.ts` has.
 */
import { expect, test } from 'vitest';
import { BLOCK_BYTES, Cluster } from '../../chaos/sim/ownership/cluster.ts';
import { flush, read, write } from '../../chaos/sim/ownership/io.ts';
import { Prng } from '../../src/base/index.ts';

const NAMES = ['a', 'b', 'c'];
const SEEDS = Number(process.env['VOLUME_SOAK_SEEDS'] ?? 6);
const FIRST = Number(process.env['VOLUME_SOAK_FIRST_SEED'] ?? 1);
const TURNS = 400;
const BLOCKS = 4;

class Soak {
  readonly cluster: Cluster;
  writes = 0;
  handOvers = 0;
  deaths = 0;
  private readonly prng: Prng;
  private stop = false;
  private failure: unknown = null;
  /** Of each client's own sectors, by offset. */
  private readonly own = new Map<number, number>();
  private readonly shared = new Map<number, Set<number>>();
  private readonly clients: Promise<void>[] = [];
  private operation: Promise<void> | null = null;
  private nextOwn = 0;

  constructor(seed: number) {
    this.prng = new Prng(seed);
    this.cluster = new Cluster(NAMES, { seed });
    this.cluster.create('v', BLOCKS);
  }

  async run(): Promise<void> {
    for (const name of NAMES) this.startClients(name);
    for (let turn = 0; turn < TURNS; turn++) {
      await this.disturb();
      await this.cluster.turns(3, 6);
      if (this.failure) throw this.failure;
    }
    this.calm();
    this.stop = true;
    await this.cluster.until(Promise.all([...this.clients, this.operation]), 60_000);
    if (this.failure) throw this.failure;
    const device = await this.cluster.until(this.cluster.node('b').volumes.attach('v'));
    for (const [offset, value] of this.own) expect(await this.cluster.until(read(device, offset))).toBe(value);
    const check = await this.cluster.until(this.owner().volumes.check(this.cluster.record('v').id));
    expect(check.problems).toEqual([]);
    expect(this.cluster.internalErrors).toEqual([]);
  }

  private owner() {
    return this.cluster.node(this.cluster.record('v').owner?.node ?? 'a');
  }

  /** Clients of the node's present process; they end with it. */
  private startClients(name: string): void {
    const node = this.cluster.node(name);
    for (let i = 0; i < 2; i++) {
      const mine = Array.from({ length: 3 }, () => {
        const place = this.nextOwn++ % 200;
        return (place % BLOCKS) * BLOCK_BYTES + Math.floor(place / BLOCKS) * 512;
      });
      const work = async () => {
        const device = await node.volumes.attach('v');
        while (!this.stop && node.alive) await this.clientStep(device, mine, () => node.alive);
        if (node.alive) await device.close();
      };
      const died = new Promise<void>((resolve) => {
        const look = () => (node.alive ? this.cluster.host.clock.setTimer(50, look) : resolve());
        look();
      });
      const ended = work().catch((error: unknown) => {
        if (node.alive) this.failure ??= error;
      });
      this.clients.push(Promise.race([ended, died]));
    }
  }

  private async clientStep(device: Parameters<typeof read>[0], mine: readonly number[], alive: () => boolean): Promise<void> {
    const { prng } = this;
    const lot = prng.below(10);
    const offset = mine[prng.below(mine.length)] as number;
    if (lot < 4) {
      const value = 1 + prng.below(250);
      const before = this.own.get(offset);
      this.own.delete(offset);
      await write(device, offset, value);
      if (!alive()) return;
      void before;
      this.own.set(offset, value);
      this.writes++;
    } else if (lot < 6) {
      const place = (BLOCKS - 1) * BLOCK_BYTES + BLOCK_BYTES / 2 + 512 * prng.below(4);
      const values = this.shared.get(place) ?? new Set([0]);
      this.shared.set(place, values);
      const value = 1 + prng.below(250);
      values.add(value);
      await write(device, place, value);
      const found = await read(device, place);
      if (alive() && !values.has(found)) throw new Error(`${found} was never written at ${place}`);
    } else if (lot < 9) {
      const expected = this.own.get(offset);
      const found = await read(device, offset);
      if (alive() && expected !== undefined && found !== expected) throw new Error(`${found} at ${offset}, where ${expected} was written`);
    } else await flush(device);
  }

  private async disturb(): Promise<void> {
    const { prng, cluster } = this;
    const from = NAMES[prng.below(3)] as string;
    const to = NAMES[(NAMES.indexOf(from) + 1 + prng.below(2)) % 3] as string;
    const lot = prng.below(100);
    if (lot < 8) this.start(() => this.handOver());
    else if (lot < 12) this.start(() => this.snapshot());
    else if (lot < 15 && cluster.link(from, to).connected) cluster.cut(from, to);
    else if (lot < 25) this.restoreLinks();
    else if (lot < 28) cluster.link(from, to).slow ??= [];
    else if (lot < 36) this.speedUp();
    else if (lot < 38 && this.deaths < 4) this.die(from);
    else if (lot < 40) cluster.node(from).store.atOnce = [0, 0.3, 0.9][prng.below(3)] as number;
    for (const name of NAMES) for (const link of cluster.node(name).links.values()) link.deliver(prng.below(2));
  }

  private start(work: () => Promise<void>): void {
    this.operation ??= work().then(
      () => {
        this.operation = null;
      },
      (error: { code?: string }) => {
        this.operation = null;
        if (!['unavailable', 'timeout', 'stale-epoch', 'exists', 'in-use'].includes(error.code ?? '')) this.failure ??= error;
      },
    );
  }

  private async handOver(): Promise<void> {
    const owner = this.owner();
    const target = this.cluster.node(NAMES[(NAMES.indexOf(owner.name) + 1 + this.prng.below(2)) % 3] as string);
    await this.whileAlive(owner, owner.volumes.handOver(this.cluster.record('v').id, target));
    this.handOvers++;
  }

  private async snapshot(): Promise<void> {
    const owner = this.owner();
    await this.whileAlive(owner, owner.volumes.snapshot(this.cluster.record('v').id, `s${this.prng.below(1000)}`));
  }

  /** What a dead process was asked is never answered. */
  private async whileAlive(node: { alive: boolean }, work: Promise<unknown>): Promise<void> {
    const died = new Promise<void>((resolve) => {
      const look = () => (node.alive ? this.cluster.host.clock.setTimer(50, look) : resolve());
      look();
    });
    await Promise.race([work, died]);
  }

  private die(name: string): void {
    this.deaths++;
    this.cluster.kill(name);
    this.cluster.startNode(name);
    this.startClients(name);
  }

  private restoreLinks(): void {
    for (const name of NAMES) for (const [peer, link] of this.cluster.node(name).links) if (!link.connected) this.cluster.restore(name, peer);
  }

  private speedUp(): void {
    for (const name of NAMES) {
      for (const link of this.cluster.node(name).links.values()) {
        link.deliver();
        link.slow = null;
      }
    }
  }

  private calm(): void {
    this.speedUp();
    this.restoreLinks();
  }
}

test('three nodes under disturbances lose nothing', async () => {
  let writes = 0;
  let handOvers = 0;
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const soak = new Soak(seed);
    await soak.run().catch((error: unknown) => {
      throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
    });
    writes += soak.writes;
    handOvers += soak.handOvers;
  }
  expect(writes).toBeGreaterThan(SEEDS * 50);
  expect(handOvers).toBeGreaterThan(SEEDS);
});
