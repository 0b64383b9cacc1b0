/** When cycles of collection begin, and at which node: the schedule of a control process, with everything around it made by hand. */
import { expect, it } from 'vitest';
import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import { ArchipelagoError, type LivenessEpoch, silentLog } from '../../src/base/index.ts';
import type { Command, CommandValues } from '../../src/mapper/index.ts';
import { CollectionSchedule } from '../../src/node/control/collecting.ts';
import type { Collected } from '../../src/node/protocol.ts';
import { epoch, Story } from '../mapper/registry/story.ts';

const INTERVAL_MS = 60_000;

class ScheduledNode {
  readonly clock = new ManualClock();
  readonly story = new Story();
  readonly schedule: CollectionSchedule;
  /** Cycles that the data process runs; each ends when the test says so. */
  readonly cycles: { resolve: (collected: Collected) => void; reject: (error: Error) => void }[] = [];
  stops = 0;
  private alive = true;

  constructor(intervalMs = INTERVAL_MS) {
    this.story.startNode('a');
    this.schedule = new CollectionSchedule({
      node: 'a',
      config: { intervalMs, maxOperationsPerSecond: 1000, memoryBytes: 1 << 20 },
      registry: this.story.registry,
      livenessEpoch: () => (this.alive ? (1 as LivenessEpoch) : null),
      request: <Value>(method: string) => this.request(method) as Promise<Value>,
      propose: <Type extends Command['type']>(command: Extract<Command, { type: Type }>) => this.propose<Type>(command),
      clock: this.clock,
      log: silentLog,
    });
    this.story.registry.onChange(({ kind }) => {
      if (kind === 'collection') this.schedule.changed();
    });
  }

  private request(method: string): Promise<unknown> {
    if (method === 'stopCollecting') {
      this.stops++;
      return Promise.resolve(null);
    }
    return new Promise((resolve, reject) => this.cycles.push({ resolve, reject }));
  }

  private async propose<Type extends Command['type']>(command: Extract<Command, { type: Type }>): Promise<CommandValues[Type]> {
    return this.story.do<Type>(command);
  }

  /** Whether the data process has been asked for that many cycles in all. */
  async pass(ms: number): Promise<number> {
    this.clock.advance(ms);
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    return this.cycles.length;
  }

  async end(freedObjects: number, error: Collected['error'] = null): Promise<void> {
    this.cycles.at(-1)?.resolve({ freedObjects, freedBytes: 512 * freedObjects, seen: 2 * freedObjects, error });
    await this.pass(0);
  }

  remove(): void {
    const { id: volume } = this.story.create(`v${this.clock.nowMs()}`);
    this.story.do({ type: 'remove', id: volume, epoch: epoch(0) });
  }

  get record() {
    return this.story.registry.collection();
  }
}

it('a leader collects from time to time, and soon after a removal', async () => {
  const node = new ScheduledNode();
  expect(await node.pass(3 * INTERVAL_MS)).toBe(0);
  node.schedule.leaderChanged(true);
  expect(await node.pass(INTERVAL_MS - 1)).toBe(0);
  expect(await node.pass(1)).toBe(1);
  await node.end(7);
  expect(node.record).toMatchObject({ running: null, last: { cycle: 1, freedObjects: 7, error: null }, totals: { cycles: 1, freedBytes: 3584 } });
  expect(node.schedule.seen).toBe(14);
  node.remove();
  expect(await node.pass(4000)).toBe(2);
  // What is removed while a cycle runs is for the next one.
  node.remove();
  expect(await node.pass(INTERVAL_MS)).toBe(2);
  await node.end(0);
  expect(await node.pass(4000)).toBe(3);
  await node.end(0);
  expect(await node.pass(INTERVAL_MS - 1)).toBe(3);
  expect(await node.pass(1)).toBe(4);
});

it('with an interval of 0 it collects only when it is asked, and then at once', async () => {
  const node = new ScheduledNode(0);
  node.schedule.leaderChanged(true);
  node.remove();
  expect(await node.pass(10 * INTERVAL_MS)).toBe(0);
  node.story.do({ type: 'requestCollection' });
  node.schedule.collectNow();
  expect(await node.pass(1)).toBe(1);
  // Asked again meanwhile: the one that runs may have begun too early.
  node.schedule.collectNow();
  await node.end(1);
  expect(await node.pass(1)).toBe(2);
  await node.end(1);
  expect(await node.pass(10 * INTERVAL_MS)).toBe(2);
});

it('only the leader can be asked', () => {
  const node = new ScheduledNode();
  expect(() => node.schedule.collectNow()).toThrow(ArchipelagoError);
});

it('a leader that is deposed stops its cycle and does not end it; the next one begins another', async () => {
  const node = new ScheduledNode();
  node.schedule.leaderChanged(true);
  await node.pass(INTERVAL_MS);
  node.schedule.leaderChanged(false);
  expect(node.stops).toBe(1);
  await node.end(3, { code: 'unavailable', message: 'stopped', hint: null });
  expect(node.record).toMatchObject({ running: { cycle: 1 }, last: null });
  expect(await node.pass(INTERVAL_MS)).toBe(1);
  node.schedule.leaderChanged(true);
  expect(await node.pass(4000)).toBe(2);
  await node.end(3);
  expect(node.record).toMatchObject({ running: null, last: { cycle: 2, freedObjects: 3 } });
});

it('a cycle whose data process has died is followed by another, soon', async () => {
  const node = new ScheduledNode();
  node.schedule.leaderChanged(true);
  await node.pass(INTERVAL_MS);
  node.cycles[0]?.reject(new ArchipelagoError('timeout', 'the other process has ended'));
  await node.pass(0);
  expect(node.record.last).toBeNull();
  expect(await node.pass(4000)).toBe(2);
});

it('tells why a cycle was cut short', async () => {
  const node = new ScheduledNode();
  node.schedule.leaderChanged(true);
  await node.pass(INTERVAL_MS);
  await node.end(2, { code: 'corrupt', message: 'a map cannot be read', hint: null });
  expect(node.record.last).toMatchObject({ freedObjects: 2, error: { code: 'corrupt' } });
});
