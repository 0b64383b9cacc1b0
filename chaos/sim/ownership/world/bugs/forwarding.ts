/** Forwarded I/O, and what an owner tells its successor. */
import { changes, IO_FLUSH, type VolumeIo } from '../../../../../src/volume/device.ts';
import { watchServed, watchVolumes, wrap } from '../../bugs/bug.ts';
import type { WorldBug } from './bug.ts';

interface VolumeInside {
  admitting: { submit(io: VolumeIo): void } | null;
  servedVolume: object | null;
  pass(io: VolumeIo): void;
}

interface ServerInside {
  movedAway(io: VolumeIo): void;
  answered(io: VolumeIo, error: null): void;
}

export const FORWARDING_WORLD_BUGS: readonly WorldBug[] = [
  {
    name: 'flush-is-not-forwarded',
    mistake: 'a node that is not the owner answers flushes itself: it has nothing to flush',
    data: (patient) =>
      watchVolumes(patient, (volume) => {
        const inside = volume as unknown as VolumeInside;
        wrap(inside, 'pass', (pass) => (io) => {
          if (io.kind === IO_FLUSH && inside.admitting !== null && inside.admitting !== inside.servedVolume) io.done(null);
          else pass(io);
        });
      }),
  },
  {
    name: 'handover-tells-no-unsynced',
    mistake: 'a handover does not tell what was written and not synced, so that no flush of the new owner covers it',
    data(patient) {
      watchServed(patient, ({ map }) => {
        map.store.unsynced = () => [];
      });
    },
  },
  {
    name: 'moved-is-answered',
    mistake: 'a change that was under way at the end of an ownership is answered as done',
    data(patient) {
      const server = patient.volumes.sessions as unknown as ServerInside;
      wrap(server, 'movedAway', (movedAway) => (io) => {
        if (changes(io.kind)) server.answered(io, null);
        else movedAway(io);
      });
    },
  },
];
