/** The soak `raft` at about a tenth of its length. */
import { expect } from 'vitest';
import { soakRegistry } from '../../chaos/process/soaks/raft.ts';
import { atTestEnd } from './support/processes.ts';
import { stories } from './support/stories.ts';

const MINUTES = 0.4;
const notes: string[] = [];

for (const [nodes, seed] of [
  [3, 1],
  [5, 2],
] as const) {
  stories(`${nodes} daemons, of which any minority is killed, paused and restarted: no command is lost, none done twice`, async () => {
    const options = { minutes: MINUTES, seed, note: (line: string) => void notes.push(line), atEnd: atTestEnd, signal: new AbortController().signal };
    const { violations } = await soakRegistry(nodes, options);
    expect(violations, notes.join('\n')).toBe(0);
  });
}
