/** Owners that begin too early, end too late, or do not fence their predecessors off. */
import type { Epoch } from '../../../../../src/base/index.ts';
import type { ServedVolume } from '../../../../../src/volume/served-volume.ts';
import { insideVolume, watchServed, watchVolumes, wrap } from '../../bugs/bug.ts';
import type { WorldBug } from './bug.ts';

interface StoppingVolume {
  servedVolume: ServedVolume | null;
  record: { readonly owner: { readonly node: string; readonly epoch: Epoch } | null };
  stopServing(): Promise<void>;
}

export const OWNER_WORLD_BUGS: readonly WorldBug[] = [
  {
    name: 'takeover-without-claims',
    mistake: 'a new owner uses objects that the one before may still be writing',
    data: (patient) =>
      watchServed(patient, (served) => {
        Object.assign(served, { claims: null });
        // Or a snapshot would wait for ever for claims that nobody makes.
        Object.defineProperty(served.map, 'hasUnclean', { get: () => false });
      }),
  },
  {
    name: 'resumes-before-takeover',
    mistake: 'an owner that has lost a volume and got it back goes on with what it had in memory, before it takes over',
    data: (patient) =>
      watchVolumes(patient, (volume) => {
        const inside = insideVolume(volume) as unknown as StoppingVolume;
        wrap(inside, 'stopServing', (stopServing) => async () => {
          const { servedVolume: served } = inside;
          const { owner } = inside.record;
          if (served?.owned && owner?.node === patient.name) Object.assign(served.owned, { epoch: owner.epoch });
          else await stopServing();
        });
      }),
  },
  {
    name: 'takes-quiet-for-granted',
    mistake: 'whoever takes over believes that the owner before is dead, though it may be paused',
    data(patient) {
      wrap(patient.store, 'takeOver', (takeOver) => async (volume, epoch, clean) => ({ ...(await takeOver(volume, epoch, clean)), quiet: true }));
    },
  },
];
