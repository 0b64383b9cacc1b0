/** How a whole test run ends, on a user's machine and in CI, for each outcome in fixtures/outcomes.ts. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

function run(outcome: string, ci: boolean) {
  const { CI: _, ...inherited } = process.env;
  const env = { ...inherited, OUTCOME: outcome, NO_COLOR: '1', ...(ci && { CI: 'true' }) };
  const vitest = `${ROOT}/node_modules/vitest/vitest.mjs`;
  const { status, stdout } = spawnSync(process.execPath, [vitest, 'run', '--root', ROOT, '--config', 'test/support/fixtures/vitest.config.ts'], {
    cwd: ROOT,
    env,
    encoding: 'utf8',
  });
  return { failed: status !== 0, lastLine: stdout.trimEnd().split('\n').at(-1), stdout };
}

it.each([
  ['passes', false, '1 passed, 0 failed'],
  ['has its tools', false, '2 passed, 0 failed'],
  ['fails', true, '1 passed, 1 failed'],
  ['breaks before its tests', true, '0 passed, 1 failed'],
  ['skips at run time', true, '1 passed, 0 failed'],
  ['lacks a tool', true, '0 passed, 1 failed'],
])('in CI, a run that %s: failed is %s', (outcome, failed, lastLine) => {
  expect(run(outcome, true)).toMatchObject({ failed, lastLine });
});

it.each(['skips at run time', 'lacks a tool'])('elsewhere, a run that %s passes, and says so', (outcome) => {
  const { failed, lastLine, stdout } = run(outcome, false);
  expect({ failed, lastLine }).toEqual({ failed: false, lastLine: '1 passed, 0 failed' });
  expect(stdout).toMatch(/1 skipped \(.*npm run setup:host/);
  if (outcome === 'lacks a tool') expect(stdout).toMatch(/a story \[needs no-such-tool: npm run setup:host\]/);
});
