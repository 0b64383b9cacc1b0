/** The executable: hands the CLI what starts and stops daemons. Each of those is imported only when it is asked for. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type CliHandlers, runCli } from '../gateway/index.ts';
import { systemClock } from './clock.ts';
import type { Executable } from './cluster/commands.ts';
import { CONTROL_NODE_FLAGS } from './runtime.ts';

const executable: Executable = {
  clock: systemClock,
  // The launcher, not this file: in a published package this file has another name.
  command: [process.execPath, ...CONTROL_NODE_FLAGS, fileURLToPath(new URL('../../bin/archipelago.js', import.meta.url))],
  async makeIdentity(path) {
    // Brings libp2p's keys along, which only a first `up` needs.
    const { loadOrCreateIdentity } = await import('../net/index.ts');
    return (await loadOrCreateIdentity(path)).peerId;
  },
};

const handlers: CliHandlers = {
  async start(configFile) {
    const [{ loadConfig }, { runControlProcess }] = await Promise.all([import('./config.ts'), import('./control/main.ts')]);
    await runControlProcess(loadConfig(configFile));
  },
  async up(options, output) {
    const { upCommand } = await import('./cluster/commands.ts');
    await upCommand(options, output, executable);
  },
  async down(directory, output) {
    const { downCommand } = await import('./cluster/commands.ts');
    await downCommand(directory, output, executable);
  },
  async join(options, output) {
    const { joinCommand } = await import('./cluster/join.ts');
    await joinCommand(options, output, { clock: systemClock, version });
  },
};

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

process.exitCode = await runCli(process.argv.slice(2), { handlers, clock: systemClock, version });
