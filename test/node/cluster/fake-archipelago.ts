/** The real CLI whose `up` starts fake daemons. */
import { join } from 'node:path';
import { runCli } from '../../../src/gateway/index.ts';
import { systemClock } from '../../../src/node/clock.ts';
import { downCommand, upCommand } from '../../../src/node/cluster/commands.ts';

const executable = { clock: systemClock, command: [process.execPath, join(import.meta.dirname, 'fake-node.ts')] };

process.exitCode = await runCli(process.argv.slice(2), {
  handlers: {
    start: () => Promise.reject(new Error('not here')),
    up: (options, output) => upCommand(options, output, executable),
    down: (directory, output) => downCommand(directory, output, executable),
  },
  clock: systemClock,
  version: '0.0.0',
});
