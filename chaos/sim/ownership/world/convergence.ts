/** What is done when faults are over: everybody is answered, and the volume can be written from every node. And a look after a power failure. */
import { type Device, IO_FLUSH, IO_READ, IO_WRITE, type IoKind } from '../../../../src/volume/device.ts';
import { SECTOR_BYTES } from '../../../checkers/never-torn-nor-foreign.ts';
import { Stuck } from '../../scenario.ts';
import { BLOCK_BYTES } from '../cluster.ts';
import { submit } from '../io.ts';
import { sectorOf } from '../ledger.ts';
import { found } from './guests.ts';
import type { World } from './world.ts';

const CONVERGENCE_MS = 30_000;
const RETRY_MS = 100;
const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;

/** Throws `Stuck`, or what goes wrong on the way. */
export async function converge(world: World): Promise<void> {
  world.guestsStopped = true;
  const done = finish(world).then(
    () => null,
    (error: unknown) => ({ error }),
  );
  let outcome = undefined as { readonly error: unknown } | null | undefined;
  void done.then((ended) => {
    outcome = ended;
  });
  const endMs = world.scheduler.nowMs + CONVERGENCE_MS;
  while (outcome === undefined) {
    if (world.scheduler.nowMs >= endMs) throw new Stuck(`${CONVERGENCE_MS} ms after the last fault not everybody is served: ${describe(world)}`);
    await world.pass(50);
  }
  if (outcome !== null) throw outcome.error;
}

async function finish(world: World): Promise<void> {
  // Nobody but its holder takes a locked volume over, so others wait for as long as it is locked.
  await openAgain(world);
  while (world.isSettling || world.guests.some(({ inFlight }) => inFlight > 0)) await after(world, RETRY_MS);
  const { account } = world;
  for (const { name } of world.nodes) {
    const sector = 0;
    const write = account.nextWrite();
    const change = account.beginChange(sector, 1, write);
    await atNode(world, name, IO_WRITE, sector, sectorOf(write, sector));
    account.endChange(change, false);
    await atNode(world, name, IO_FLUSH, 0, new Uint8Array(0));
    for (const each of usedSectors(world)) {
      const look = account.beginRead(each, 1);
      const bytes = await atNode(world, name, IO_READ, each, new Uint8Array(SECTOR_BYTES));
      world.judge(() => account.endRead(look, bytes));
    }
  }
  await world.snapshots.readAll();
}

/** Whatever is held is given up, and who was fenced opens it anew. */
async function openAgain(world: World): Promise<void> {
  if (!world.holdsUsed) return;
  for (const { name } of world.nodes) {
    for (;;) {
      const control = world.node(name).control;
      const opened = await control
        ?.find()
        .then(async ({ hold }) => {
          if (hold?.mode === 'locked') await control.unlock(hold.holders[0]?.node !== name);
          else if (hold?.mode === 'exclusive' && hold.holders[0]?.node !== name) await control.unlock(true);
          else await control.open(true);
          return hold?.mode !== 'locked' && hold?.mode !== 'exclusive';
        })
        .catch(() => false);
      if (opened === true) break;
      await after(world, RETRY_MS);
    }
  }
}

/** What each sector holds before guests come back. Ends when it is known, or when the power fails once more. */
export async function settle(world: World): Promise<void> {
  const { account, disk } = world;
  const { boot } = disk;
  for (const sector of usedSectors(world)) {
    const node = world.pickNode();
    const bytes = await atNode(world, node.name, IO_READ, sector, new Uint8Array(SECTOR_BYTES), () => disk.boot === boot);
    if (disk.boot !== boot) return;
    account.settle(sector, new Uint32Array(bytes.buffer), found(bytes, sector)[0] as number);
  }
  world.isSettling = false;
}

export function usedSectors({ setting }: World): number[] {
  const { blocks, sectors } = setting.guests;
  return Array.from({ length: blocks * sectors }, (_, at) => Math.floor(at / sectors) * BLOCK_SECTORS + (at % sectors));
}

/** Asks at a node until there is an answer, whatever becomes of its processes. */
async function atNode(world: World, name: string, kind: IoKind, sector: number, data: Uint8Array, wanted = () => true): Promise<Uint8Array> {
  while (wanted()) {
    const process = world.node(name).data;
    if (process?.serving) {
      const asked = process.volumes.attach('v').then(async (device: Device) => {
        await submit(device, kind, sector * SECTOR_BYTES, data);
        await device.close();
        return true;
      });
      // Dead processes answer nobody.
      const died = (async () => {
        while (world.node(name).data === process) await after(world, RETRY_MS);
        return false;
      })();
      if (await Promise.race([asked.catch(() => false), died])) return data;
    }
    await after(world, RETRY_MS);
  }
  return data;
}

function after({ scheduler }: World, ms: number): Promise<void> {
  return new Promise((resolve) => scheduler.in(ms, resolve));
}

function describe(world: World): string {
  const nodes = world.nodes.map(({ name, control, data }) => {
    if (control?.raft === undefined) return `${name} down`;
    const { role, term, leader, appliedIndex } = control.raft.status();
    const record = control.registry.node(name);
    return `${name} ${role} t${term} →${leader} a${appliedIndex} life ${record?.livenessEpoch}${record?.alive ? '' : ' expired'}${data?.serving ? '' : ' not serving'}`;
  });
  const record = world.nodes.find(({ control }) => control !== null)?.control?.registry.byName('v');
  const guests = world.guests.map(({ name, inFlight, isAttached }) => `${name} ${isAttached ? '' : 'not attached '}${inFlight}`);
  return `${nodes.join('; ')}; volume ${JSON.stringify(record)}; ${guests.join(', ')}${world.isSettling ? '; settling' : ''}`;
}
