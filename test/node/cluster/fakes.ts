/** What starts fake daemons and makes keys that are none: the real ones take a second each. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { systemClock } from '../../../src/node/clock.ts';

export const fakeExecutable = {
  clock: systemClock,
  command: [process.execPath, join(import.meta.dirname, 'fake-node.ts')],
  async makeIdentity(path: string) {
    if (!existsSync(path)) writeFileSync(path, `peer-${basename(dirname(path))}-${randomBytes(4).toString('hex')}`, { mode: 0o600 });
    return readFileSync(path, 'utf8');
  },
};
