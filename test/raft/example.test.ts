/** The example of `docs/raft.md`: it runs, and the document quotes it as it is. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DEFAULT_CORE_OPTIONS } from '../../src/raft/core/types.ts';
import { DEFAULTS } from '../../src/raft/options.ts';
import { main } from './example.ts';

const document = readFileSync(join(import.meta.dirname, '../../docs/raft.md'), 'utf8');

describe('the example of the library', () => {
  it('adds up, at the member that was asked and at another', async () => {
    expect(await main()).toEqual(['42', 42]);
  });

  it('is quoted word for word', () => {
    const quoted = /```ts\n([\s\S]*?)```/.exec(document)?.[1];
    expect(quoted).toBe(readFileSync(join(import.meta.dirname, 'example.ts'), 'utf8'));
  });
});

describe('the table of options', () => {
  it('names every option that has a default, with that default', () => {
    const rows = new Map([...document.matchAll(/^\| `([\w.]+)` \| ([\d ]+)/gm)].map(([, name, value]) => [name, Number(value?.replaceAll(' ', ''))]));
    const expected = { ...DEFAULTS, ...Object.fromEntries(Object.entries(DEFAULT_CORE_OPTIONS).map(([name, value]) => [coreName(name), value])) };
    expect(Object.fromEntries(rows)).toEqual(expected);
  });
});

/** The two that count ticks are options of the node. */
function coreName(name: string): string {
  return name.endsWith('Ticks') ? name : `core.${name}`;
}
