/** How a command is put together: arguments, options, examples, what it does, and how its result leaves. */
import { type Command, Option } from 'commander';
import type { Clock } from '../../base/index.ts';
import type { AdminClient } from '../http/client.ts';
import { connect } from './locate.ts';
import { printResult, type Result } from './output.ts';

export interface GlobalOptions {
  json?: true;
  socket?: string;
  node?: string;
}

/** What an action works with. */
export interface Call<O> {
  args: readonly string[];
  /** More than one value for the last argument. */
  rest: readonly string[];
  options: O & GlobalOptions;
  clock: Clock;
  asJson: boolean;
  /** Asks the node, which is looked for at this moment: what is wrong with the arguments shows first. */
  ask: AdminClient['call'];
  client(): Promise<AdminClient>;
}

export interface Leaf<O> {
  /** Name and arguments, as commander takes them. */
  usage: string;
  summary: string;
  /** More than the summary says, in whole sentences. */
  details?: string;
  options?: readonly Option[];
  /** Command lines; `archipelago` goes before those that do not name it themselves. */
  examples: readonly string[];
  /** Commands that talk to no node have no --socket and --node. */
  local?: true;
  /** --node belongs to the question, and does not choose who is asked. */
  nodeIsAsked?: true;
  /** Null when the action has printed what there was to print. */
  run(call: Call<O>): Promise<Result | null>;
}

/** What all actions of one run share. */
export interface Session {
  clock: Clock;
  exitStatus: number;
}

const COMMON = 'Common options:';

export function jsonOption(): Option {
  return new Option('--json', 'print one JSON value, and errors as JSON').helpGroup(COMMON);
}

export function nodeOptions(): Option[] {
  return [
    new Option('--socket <path>', "the node's admin socket; else $ARCHIPELAGO_SOCKET, ./archipelago-data, /run/archipelago").helpGroup(COMMON),
    new Option('--node <name>', 'the node to use, where there are several; else the first that answers').helpGroup(COMMON),
  ];
}

export function addLeaf<O extends object>(parent: Command, session: Session, leaf: Leaf<O>): Command {
  const command = parent
    .command(leaf.usage)
    .summary(leaf.summary)
    .description(leaf.details === undefined ? leaf.summary : `${leaf.summary}. ${leaf.details}`);
  for (const option of leaf.options ?? []) command.addOption(option);
  for (const option of [jsonOption(), ...(leaf.local === true ? [] : nodeOptions())]) {
    if (!command.options.some((own) => own.long === option.long)) command.addOption(option);
  }
  command.addHelpOption(new Option('-h, --help', 'show this help').helpGroup(COMMON));
  command.helpCommand(false);
  const examples = leaf.examples.map((example) => `  ${/(^|\| )archipelago /.test(example) ? '' : 'archipelago '}${example}`).join('\n');
  command.addHelpText('after', `\nExamples:\n${examples}`);
  command.action(async () => {
    const options = command.optsWithGlobals() as O & GlobalOptions;
    const given: readonly unknown[] = command.processedArgs;
    const last = given.at(-1);
    const { node, ...anyNode } = options;
    const client = () => connect(leaf.nodeIsAsked === true ? anyNode : { ...anyNode, node }, session.clock, { env: process.env, cwd: process.cwd() });
    const result = await leaf.run({
      args: given.filter((arg): arg is string => typeof arg === 'string'),
      rest: Array.isArray(last) ? (last as string[]) : [],
      options,
      clock: session.clock,
      asJson: options.json === true,
      client,
      ask: async (method, path, body) => (await client()).call(method, path, body),
    });
    if (result === null) return;
    printResult(result, options.json === true);
    session.exitStatus = result.exitStatus ?? 0;
  });
  return command;
}

/** A command that only holds others. */
export function addGroup(parent: Command, name: string, summary: string): Command {
  return parent.command(name).summary(summary).description(summary).helpOption('-h, --help', 'show this help').helpCommand(false);
}
