/** All static checks, each under its name. Runs every one even after a failure, and ends by naming those that failed. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const SOURCES = ['src', 'test', 'bench', 'chaos', 'scripts'].filter((folder) => existsSync(folder));

const STEPS: readonly { name: string; command: string; args: readonly string[] }[] = [
  { name: 'types (tsc)', command: 'tsc', args: ['-p', 'tsconfig.json'] },
  { name: 'lint and format (biome)', command: 'biome', args: ['check', '--error-on-warnings'] },
  { name: 'import rules (dependency-cruiser)', command: 'depcruise', args: ['--config', '.dependency-cruiser.mjs', ...SOURCES] },
  { name: 'unused code (knip)', command: 'knip', args: ['--treat-config-hints-as-errors'] },
];

const failed: string[] = [];
for (const step of STEPS) {
  process.stdout.write(`\n== ${step.name}\n`);
  const { status, error } = spawnSync(step.command, step.args, { stdio: 'inherit' });
  if (error !== undefined) process.stderr.write(`cannot run ${step.command}: ${error.message} (use \`npm run check\`, after \`npm ci\`)\n`);
  if (status !== 0) failed.push(step.name);
}

process.stdout.write(failed.length === 0 ? '\nAll checks passed.\n' : `\nFailed: ${failed.join(', ')}\n`);
process.exitCode = failed.length === 0 ? 0 : 1;
