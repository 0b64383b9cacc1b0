/** Keeps docs/histories.md equal to what the simulator tells and plants. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { CUT_HISTORIES } from '../../chaos/sim/ownership/histories/cuts.ts';
import { FIRST_WRITE_HISTORIES } from '../../chaos/sim/ownership/histories/first-writes.ts';
import { FORWARDING_HISTORIES } from '../../chaos/sim/ownership/histories/forwarding.ts';
import { HISTORIES } from '../../chaos/sim/ownership/histories/index.ts';
import { LEASE_HISTORIES } from '../../chaos/sim/ownership/histories/leases.ts';
import { TAKEOVER_HISTORIES } from '../../chaos/sim/ownership/histories/takeovers.ts';
import { TOLD_IN_WORLDS, WORLD_BUGS } from '../../chaos/sim/ownership/world/bugs/index.ts';

const FILES = {
  'leases.ts': LEASE_HISTORIES,
  'takeovers.ts': TAKEOVER_HISTORIES,
  'cuts.ts': CUT_HISTORIES,
  'forwarding.ts': FORWARDING_HISTORIES,
  'first-writes.ts': FIRST_WRITE_HISTORIES,
};

const TEXT = readFileSync(new URL('../../docs/histories.md', import.meta.url), 'utf8');

it('lists every history with its rule, the file that tells it, and its planted bug', () => {
  const rows = [...TEXT.matchAll(/^\| (.+) \| .{15,} \| `([a-z-]+\.ts)` \| `([a-z-]+)`( \*)? \|$/gm)];
  const inWorlds = (name: string) => TOLD_IN_WORLDS.some((bug) => bug.name === name);
  const told = Object.entries(FILES).flatMap(([file, histories]) =>
    histories.map(({ rule, bug: { name } }) => ({ rule: asHeading(rule), file, name, inWorlds: inWorlds(name) })),
  );
  expect(rows.map(([, rule, file, name, star]) => ({ rule, file, name, inWorlds: star !== undefined }))).toEqual(told);
  expect(told).toHaveLength(HISTORIES.length);
});

it('lists every bug that only worlds have', () => {
  const rows = [...TEXT.matchAll(/^\| `([a-z-]+)` \| (.+) \|$/gm)];
  expect(rows.map(([, name, mistake]) => ({ name, mistake }))).toEqual(
    WORLD_BUGS.map(({ name, mistake }) => ({ name, mistake: asHeading(mistake) })),
  );
});

function asHeading(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
