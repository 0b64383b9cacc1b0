/** What `npm ci` refuses on every machine once it slipped into the lock on one of them. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

interface Entry {
  optionalDependencies?: Record<string, string>;
}

it('package-lock.json has every optional dependency, those for other platforms too (`node scripts/complete-lock.ts`)', () => {
  const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8')) as { packages: Record<string, Entry> };
  const missing = Object.entries(packages).flatMap(([parent, { optionalDependencies }]) =>
    Object.keys(optionalDependencies ?? {}).filter((name) => !(`${parent}/node_modules/${name}` in packages || `node_modules/${name}` in packages)),
  );
  expect(Object.keys(packages).length).toBeGreaterThan(100);
  expect(missing).toEqual([]);
});
