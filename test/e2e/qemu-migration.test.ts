/** A guest whose disk moves along while it is migrated live, at about a tenth of the soak. */
import { expect, it } from 'vitest';
import { soak } from '../../chaos/process/soaks/qemu.ts';
import { requireTools } from '../support/tools.ts';
import { atTestEnd } from './support/processes.ts';

const TIMEOUT_MS = 8 * 60_000;

requireTools(['qemu-system-x86_64'])('live migration of a guest on QEMU', () => {
  it(soak.summary, { timeout: TIMEOUT_MS }, async () => {
    const notes: string[] = [];
    const options = { minutes: soak.minutes / 10, seed: 1, note: (line: string) => void notes.push(line), atEnd: atTestEnd };
    const { migrations, numbers, violations } = await soak.run({ ...options, signal: new AbortController().signal });
    expect(violations, notes.join('\n')).toBe(0);
    expect(migrations).toBe(2);
    expect(numbers).toBeGreaterThan(300);
  });
});
