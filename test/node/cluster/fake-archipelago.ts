/** The real CLI whose `up` starts fake daemons. */
import { runCli } from '../../../src/gateway/index.ts';
import { downCommand, upCommand } from '../../../src/node/cluster/commands.ts';
import { fakeExecutable } from './fakes.ts';

process.exitCode = await runCli(process.argv.slice(2), {
  handlers: {
    start: () => Promise.reject(new Error('not here')),
    join: () => Promise.reject(new Error('not here')),
    up: (options, output) => upCommand(options, output, fakeExecutable),
    down: (directory, output) => downCommand(directory, output, fakeExecutable),
  },
  clock: fakeExecutable.clock,
  version: '0.0.0',
});
