/**
 * Random histories of served volumes over the simulated disk, against a naive twin. Verified: what is acknowledged survives the death of the
 * process, what is flushed survives the power, and what is not is then old or new, never torn or foreign; snapshots never change and hold
 * what was acknowledged at their cut; clones are independent; overlapping I/O is linearizable for each sector; full and failing disks lose
 * nothing acknowledged; nothing is flushed after a failed sync; collection removes nothing that any of this
 * needs, and in the end all that nothing refers to. Not verified: ownership between nodes, and leases.
 */
import { describe, expect, test } from 'vitest';
import { World } from '../../chaos/sim/volume/world.ts';

const STEPS = 700;
const SEEDS = Number(process.env['VOLUME_MODEL_SEEDS'] ?? 12);
const FIRST = Number(process.env['VOLUME_MODEL_FIRST_SEED'] ?? 1);

describe.each([
  { faults: false, name: 'a disk that works' },
  { faults: true, name: 'a disk that fills up and fails' },
])('volumes on $name', ({ faults }) => {
  test('hold what a naive disk would', async () => {
    let [ios, merges, extents, collected] = [0, 0, 0, 0];
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      const world = new World({ seed, steps: STEPS, faults });
      await world.run().catch((error: unknown) => {
        throw new Error(`seed ${seed}, faults ${faults}`, { cause: error });
      });
      ios += world.ios;
      merges += world.merges;
      extents += world.extentsFound;
      collected += world.collected;
    }
    expect(ios).toBeGreaterThan(SEEDS * 500);
    expect(merges).toBeGreaterThan(SEEDS);
    expect(extents).toBeGreaterThan(SEEDS * 10);
    expect(collected).toBeGreaterThan(SEEDS * 10);
  });
});

test('what may be lost with the power may be lost, also where the next owner has been paused before it opened anything', async () => {
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    // Often enough that the two fall together.
    await new World({ seed, steps: 200, faults: false, deaths: 0.1, failovers: 0.1 }).run().catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
  }
});
