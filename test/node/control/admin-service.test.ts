/** What a node asks of another one for its admin API: tried again if nothing was done, and not if something may have been. */
import { expect, it } from 'vitest';
import { ArchipelagoError, type Clock } from '../../../src/base/index.ts';
import { propose, Registry } from '../../../src/mapper/registry/index.ts';
import { type AdminServiceOptions, NodeAdminService } from '../../../src/node/control/admin-service.ts';

type Answer = () => unknown;

const unavailable: Answer = () => {
  throw new ArchipelagoError('unavailable', 'node n1 did not take the handover: cannot connect to n1');
};
const lost: Answer = () => {
  throw new ArchipelagoError('timeout', 'connection to n2 lost before its answer');
};

/** Time passes by itself, as fast as it is asked to. */
class QuickClock implements Clock {
  private now = 0;
  nowMs = () => this.now;
  wallMs = () => this.now;
  setTimer(delayMs: number, callback: () => void) {
    const timer = setImmediate(() => {
      this.now += delayMs;
      callback();
    });
    return { cancel: () => clearImmediate(timer) };
  }
}

/** Node n1, whose cluster has a volume `disk` that n2 owns. Each request to n2 takes the next of these answers, then the last for ever. */
async function atN1(answers: readonly Answer[]): Promise<{ service: NodeAdminService; asked: string[]; clock: Clock }> {
  const registry = new Registry();
  let index = 0;
  const apply = { propose: async (command: Uint8Array) => registry.apply(command, ++index as never, 1 as never).result };
  const epochs: number[] = [];
  for (const name of ['n1', 'n2']) {
    const command = { type: 'startNode', name, peerId: `peer${name}`, controlAddresses: [], dataAddresses: [], version: '1' } as const;
    epochs.push((await propose<'startNode'>(apply, command)).livenessEpoch);
  }
  const create = {
    type: 'create',
    name: 'disk',
    sizeBytes: 1 << 20,
    blockSizeBytes: 1 << 20,
    labels: {},
    importer: null,
    createdAt: '2026-01-01T00:00:00.000Z',
  } as const;
  const { id, epoch } = await propose<'create'>(apply, create);
  await propose<'acquire'>(apply, { type: 'acquire', id, node: 'n2', livenessEpoch: epochs[1] as never, epoch });
  const asked: string[] = [];
  const clock = new QuickClock();
  const call = async (node: string, method: string) => {
    asked.push(`${method} at ${node}`);
    return (answers[Math.min(asked.length, answers.length) - 1] as Answer)();
  };
  const service = new NodeAdminService({
    config: { name: 'n1' },
    clock,
    raft: { readBarrier: async () => undefined },
    registry,
    links: { call },
    livenessEpoch: () => epochs[0] ?? null,
  } as unknown as AdminServiceOptions);
  return { service, asked, clock };
}

it('asks the owner again while it cannot do it, for want of a link that is not up yet', async () => {
  const { service, asked } = await atN1([unavailable, unavailable, () => ({ epoch: 7, pauseMs: 1 })]);
  expect(await service.migrateVolume('disk', { to: 'n1' })).toMatchObject({ from: 'n2', to: 'n1', epoch: '7' });
  expect(asked).toEqual(Array(3).fill('handOver at n2'));
});

it('gives up after a while, and says why', async () => {
  const { service, asked, clock } = await atN1([unavailable]);
  await expect(service.migrateVolume('disk', { to: 'n1' })).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('n1') });
  expect(asked.length).toBeGreaterThan(10);
  expect(clock.nowMs()).toBeLessThan(20_000);
});

it('asks nobody again when it may have been done', async () => {
  const { service, asked } = await atN1([lost, () => ({ epoch: 7, pauseMs: 1 })]);
  await expect(service.migrateVolume('disk', { to: 'n1' })).rejects.toMatchObject({ code: 'timeout' });
  expect(asked).toEqual(['handOver at n2']);
});
