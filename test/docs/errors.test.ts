/** Keeps the table of docs/errors.md equal to the codes of src/base. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ArchipelagoError, ERROR_CODES } from '../../src/base/index.ts';

it('docs/errors.md lists every code with its exit and HTTP status, in the order of the source', () => {
  const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
  const rows = [...text.matchAll(/^\| `([^`]+)` \| (\d+) \| (\d+) \| (.+) \|$/gm)];
  expect(rows.map(([, code, exit, http]) => ({ code, exit: Number(exit), http: Number(http) }))).toEqual(
    ERROR_CODES.map((code) => {
      const error = new ArchipelagoError(code, 'x');
      return { code, exit: error.exitStatus, http: error.httpStatus };
    }),
  );
  for (const [, code, , , meaning] of rows) expect(meaning, code).toMatch(/^[A-Z].{15,}\.$/);
});
