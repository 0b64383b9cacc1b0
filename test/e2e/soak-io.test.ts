/** The soaks with fio, at about a tenth of their length. */
import { expect, it } from 'vitest';
import { soak as leaderKills } from '../../chaos/process/soaks/leader-kills.ts';
import { soak as quorumLost } from '../../chaos/process/soaks/quorum-lost.ts';
import { soak as sigstop } from '../../chaos/process/soaks/sigstop.ts';
import { requireTools } from '../support/tools.ts';
import { atTestEnd } from './support/processes.ts';

const TIMEOUT_MS = 8 * 60_000;
const suite = requireTools(['fio']);

suite('soaks under I/O', () => {
  for (const soak of [leaderKills, quorumLost, sigstop]) {
    it(soak.summary, { timeout: TIMEOUT_MS }, async () => {
      const notes: string[] = [];
      const options = { minutes: soak.minutes / 10, seed: 1, note: (line: string) => void notes.push(line), atEnd: atTestEnd };
      const { violations } = await soak.run({ ...options, signal: new AbortController().signal });
      expect(violations, notes.join('\n')).toBe(0);
    });
  }
});
