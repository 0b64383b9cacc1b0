/** Suites with real clients say here which system tools they need. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe } from 'vitest';

/** The command that installs all of them. */
const INSTALL_COMMAND = 'npm run setup:host';

/** Tools that are not a program of that name on the PATH, each with a command that succeeds where it is there. */
const PROBES: Readonly<Record<string, readonly [string, ...string[]]>> = {
  'python3-libnbd': ['python3', '-c', 'import nbd'],
};

/**
 * `const suite = requireTools(['fio', 'qemu-io'])`, then `suite('story', () => …)`. It is `describe` where all tools are there. Elsewhere the
 * suite is skipped, saying what is missing, except where CI is set: there the file fails.
 */
export function requireTools(tools: readonly string[]): (name: string, body: () => void) => void {
  const missing = tools.filter((tool) => !isInstalled(tool));
  if (missing.length === 0) return (name, body) => describe(name, body);
  const reason = `needs ${missing.join(', ')}: ${INSTALL_COMMAND}`;
  if (process.env['CI']) throw new Error(reason);
  return (name, body) => describe.skip(`${name} [${reason}]`, body);
}

function isInstalled(tool: string): boolean {
  const probe = PROBES[tool];
  if (probe !== undefined) return spawnSync(probe[0], probe.slice(1), { stdio: 'ignore' }).status === 0;
  // Administrators' programs such as mke2fs are not on every user's PATH.
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => isExecutable(join(folder, tool)));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
