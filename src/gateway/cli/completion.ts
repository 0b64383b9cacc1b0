/**
 * Shell completion. The scripts ask the program itself for candidates, so they know every command and the names of volumes, and need no
 * update. Names are handed to the shell as data, never expanded by it: a volume may be called `$(reboot)`.
 */
import type { Argument, Command } from 'commander';
import { ArchipelagoError } from '../../base/index.ts';
import type { ClusterView, VolumeView } from '../admin.ts';
import { addLeaf, type Session } from './leaf.ts';
import { connect, type LocateOptions } from './locate.ts';

const ASK = '_complete';

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `# archipelago completion for bash: source <(archipelago completion bash)
_archipelago() {
  local candidates
  mapfile -t candidates < <(archipelago ${ASK} -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  COMPREPLY=()
  local candidate
  for candidate in "\${candidates[@]}"; do COMPREPLY+=("$(printf '%q' "$candidate")"); done
  if [ \${#COMPREPLY[@]} -eq 0 ]; then compopt -o default; fi
}
complete -F _archipelago archipelago
`,
  zsh: `#compdef archipelago
# archipelago completion for zsh: source <(archipelago completion zsh)
_archipelago() {
  local -a candidates
  candidates=("\${(@f)$(archipelago ${ASK} -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -z "\${candidates[1]}" ]]; then _files; else compadd -a candidates; fi
}
compdef _archipelago archipelago
`,
  fish: `# archipelago completion for fish: archipelago completion fish | source
function __archipelago_candidates
  set -l words (commandline -opc) (commandline -ct)
  archipelago ${ASK} -- $words[2..-1] 2>/dev/null
end
complete -c archipelago -f
complete -c archipelago -n 'test -n "$(__archipelago_candidates)"' -a '(__archipelago_candidates)'
complete -c archipelago -n 'test -z "$(__archipelago_candidates)"' -F
`,
};

export function addCompletion(program: Command, session: Session): void {
  const shells = Object.keys(SCRIPTS);
  addLeaf(program, session, {
    usage: 'completion <shell>',
    summary: 'Print the completion script for bash, zsh or fish',
    examples: ['completion bash > /etc/bash_completion.d/archipelago', 'completion fish | source'],
    local: true,
    async run({ args }) {
      const script = SCRIPTS[args[0]!];
      if (script === undefined)
        throw new ArchipelagoError('invalid-argument', `no completion for '${args[0]}'`, { hint: `there is one for ${shells.join(', ')}` });
      return { json: { shell: args[0], script }, text: script.trimEnd() };
    },
  });
  program
    .command(`${ASK} [words...]`, { hidden: true })
    .helpOption(false)
    .action(async (words: string[]) => {
      const candidates = await candidatesFor(program, words, session);
      if (candidates.length > 0) process.stdout.write(`${candidates.join('\n')}\n`);
    });
}

/** What the last word may become; nothing where a file name, or anything at all, may stand. */
async function candidatesFor(program: Command, words: readonly string[], session: Session): Promise<string[]> {
  const current = words.at(-1) ?? '';
  const { command, values, pending } = walk(program, words.slice(0, -1));
  const fitting = (all: readonly string[]) => all.filter((each) => each.startsWith(current));
  const options: LocateOptions = command.opts();
  if (pending !== null) {
    const option = optionOf(command, pending);
    return fitting(option?.argChoices ?? (option?.long === '--node' || option?.long === '--to' ? await nodeNames(options, session) : []));
  }
  if (current.startsWith('-')) return fitting(visibleOptions(command));
  if (command.commands.length > 0) return fitting(command.commands.map((each) => each.name()).filter((name) => name !== ASK));
  const argument = command.registeredArguments[Math.min(values, command.registeredArguments.length - 1)];
  return fitting(argument === undefined || values >= command.registeredArguments.length ? [] : await namesFor(argument, options, session));
}

/** Follows the words before the current one: into commands, over options and their values. */
function walk(program: Command, words: readonly string[]): { command: Command; values: number; pending: string | null } {
  let command = program;
  let values = 0;
  let pending: string | null = null;
  for (const word of words) {
    if (pending !== null) {
      // Remembered, so that names are asked of the node that the line names.
      command.setOptionValue(pending.replace(/^--/, ''), word);
      pending = null;
      continue;
    }
    const option = optionOf(command, word);
    const inner = command.commands.find((each) => each.name() === word);
    if (option !== undefined) pending = option.required ? (option.long ?? null) : null;
    else if (inner !== undefined) command = inner;
    else if (!word.startsWith('-')) values++;
  }
  return { command, values, pending };
}

function optionOf(command: Command, word: string) {
  return command.options.find(({ short, long }) => word === short || word === long);
}

function visibleOptions(command: Command): string[] {
  return [...command.options.filter((option) => !option.hidden).flatMap(({ long }) => long ?? []), '--help'];
}

async function namesFor(argument: Argument, options: LocateOptions, session: Session): Promise<string[]> {
  const name = argument.name();
  if (name === 'shell') return Object.keys(SCRIPTS);
  if (name === 'node') return nodeNames(options, session);
  if (name !== 'volume' && name !== 'snapshot') return [];
  const volumes = await ask<VolumeView[]>('/v1/volumes', options, session);
  return (volumes ?? []).filter(({ kind }) => name === 'volume' || kind === 'snapshot').map((volume) => volume.name);
}

async function nodeNames(options: LocateOptions, session: Session): Promise<string[]> {
  return ((await ask<ClusterView>('/v1/cluster', options, session))?.nodes ?? []).map((node) => node.name);
}

async function ask<T>(path: string, options: LocateOptions, { clock }: Session): Promise<T | null> {
  try {
    const client = await connect({ socket: options.socket }, clock, { env: process.env, cwd: process.cwd() });
    return await client.call<T>('GET', path, undefined, { timeoutMs: 1_000 });
  } catch {
    // Whoever presses Tab wants no error in the middle of the line.
    return null;
  }
}
