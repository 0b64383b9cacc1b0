/** The CLI: commands, usage errors and exit statuses. */
import { Command, CommanderError } from 'commander';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import { addClusterCommands, type CliHandlers } from './cluster.ts';
import { addCollectionCommands } from './collection.ts';
import { addCompletion } from './completion.ts';
import { addDiffCommand } from './diff.ts';
import { addGroup, jsonOption, nodeOptions, type Session } from './leaf.ts';
import { addMemberCommands } from './members.ts';
import { printError } from './output.ts';
import { addTransferCommands } from './transfer-commands.ts';
import { addVolumeCommands } from './volume.ts';

export interface CliContext {
  handlers: CliHandlers;
  clock: Clock;
  version: string;
}

/** Runs one command line, without the program's name; resolves to the exit status. */
export async function runCli(args: readonly string[], { handlers, clock, version }: CliContext): Promise<number> {
  // Whoever reads us may stop reading, as `head` does.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  const session: Session = { clock, exitStatus: 0 };
  const program = makeProgram(session, handlers, version);
  const asJson = wantsJson(args);
  try {
    await program.parseAsync(args, { from: 'user' });
    return session.exitStatus;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const coded = error instanceof CommanderError ? usageError(error, program, args) : ArchipelagoError.from(error, 'internal error');
    printError(coded, asJson);
    return coded.exitStatus;
  }
}

export function makeProgram(session: Session, handlers: CliHandlers, version: string): Command {
  const program = new Command('archipelago')
    .description('Thin volumes, snapshots and clones, served over NBD by any node of a cluster.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: false })
    .addOption(jsonOption().hideHelp())
    .exitOverride()
    // Usage errors are printed once, by runCli, in the form that was asked for.
    .configureOutput({ outputError: () => undefined });
  // Also before the command's name; each command lists them in its own help.
  for (const option of nodeOptions()) program.addOption(option.hideHelp());
  const volume = addGroup(program, 'volume', 'Volumes and snapshots');
  addVolumeCommands(volume, session);
  addTransferCommands(volume, session);
  addDiffCommand(volume, session);
  addMemberCommands(addClusterCommands(program, session, handlers), session, handlers);
  addCollectionCommands(program, session);
  addCompletion(program, session);
  program.addHelpText(
    'after',
    `
Examples:
  archipelago up --detach
  archipelago volume create disk1 --size 10G
  qemu-img info "$(archipelago volume uri disk1)"

Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unavailable.`,
  );
  for (const command of [program, ...program.commands]) refuseToDoNothing(command);
  return program;
}

/** A group without a command is a usage error, as an unknown one is; commander would print help and fail without a word. */
function refuseToDoNothing(command: Command): void {
  if (command.commands.length === 0) return;
  command.action(() => {
    const [unknown] = command.args;
    command.error(unknown === undefined ? 'missing command' : `unknown command '${unknown}'`, { code: 'archipelago.command' });
  });
  command.allowExcessArguments();
}

function usageError(error: CommanderError, program: Command, args: readonly string[]): ArchipelagoError {
  const [first = 'the arguments are wrong', ...more] = error.message.replace(/^error: /, '').split('\n');
  const command = commandOf(program, args);
  const names = command.commands.map((each) => each.name()).filter((name) => !name.startsWith('_'));
  const advice = names.length > 0 ? `one of ${names.join(', ')}; see \`${pathOf(command)} --help\`` : `see \`${pathOf(command)} --help\``;
  return new ArchipelagoError('invalid-argument', first, { cause: error, hint: [...more, advice].join(' ').trim() });
}

/** The innermost command that the words name. */
function commandOf(program: Command, args: readonly string[]): Command {
  let command = program;
  for (const word of args.filter((arg) => !arg.startsWith('-'))) {
    const inner = command.commands.find((each) => each.name() === word);
    if (inner === undefined) break;
    command = inner;
  }
  return command;
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

/** Asked of the bare words, because a line that does not parse has no options. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return (end === -1 ? args : args.slice(0, end)).includes('--json');
}
