/** `archipelago volume open`, `close`, `lock` and `unlock`. The node that answers is the one that they are for. */
import { type Command, Option } from 'commander';
import type { LockView } from '../admin.ts';
import { volumePath } from '../http/client.ts';
import { addLeaf, type Session } from './leaf.ts';
import { checkedName } from './volume-names.ts';

export function addLockCommands(volume: Command, session: Session): void {
  addLeaf<{ shared?: true }>(volume, session, {
    usage: 'open <volume>',
    summary: 'Let only clients of one node change a volume',
    details:
      'Clients need no open: they share a volume. With it, those of other nodes only read. With --shared the node gives that up, while I/O goes on.',
    options: [new Option('--shared', 'let others change it as well')],
    examples: ['volume open disk1 --node n1', 'volume open disk1 --shared --node n1'],
    async run({ args, options, ask }) {
      const view = await ask<LockView>('POST', volumePath(checkedName(args[0]!), 'open'), { shared: options.shared === true });
      return { json: view, text: lockLine(view) };
    },
  });
  addLeaf(volume, session, {
    usage: 'close <volume>',
    summary: 'Give up what open has given',
    examples: ['volume close disk1 --node n1'],
    async run({ args, ask }) {
      const view = await ask<LockView>('POST', volumePath(checkedName(args[0]!), 'close'));
      return { json: view, text: lockLine(view) };
    },
  });
  addLeaf(volume, session, {
    usage: 'lock <volume>',
    summary: 'Keep a volume for one node, until it is unlocked',
    details: 'As open, and no other node becomes its owner, neither by migrate nor when this node dies.',
    examples: ['volume lock disk1 --node n1'],
    async run({ args, ask }) {
      const view = await ask<LockView>('POST', volumePath(checkedName(args[0]!), 'lock'));
      return { json: view, text: lockLine(view) };
    },
  });
  addLeaf<{ force?: true }>(volume, session, {
    usage: 'unlock <volume>',
    summary: 'Give a lock up',
    options: [new Option('--force', "break another node's lock: that node changes the volume no longer, until it opens it again")],
    examples: ['volume unlock disk1 --node n1', 'volume unlock disk1 --force'],
    async run({ args, options, ask }) {
      const view = await ask<LockView>('POST', volumePath(checkedName(args[0]!), 'unlock'), { force: options.force === true });
      return { json: view, text: lockLine(view) };
    },
  });
}

function lockLine({ name, mode, holder, nodes, fenced }: LockView): string {
  const out = fenced.length > 0 ? ` Kept out, until it opens it again: ${fenced.join(', ')}.` : '';
  if (mode === null) return `'${name}' is not open.${out}`;
  if (mode === 'shared') return `'${name}' is open at ${nodes.join(', ')}.${out}`;
  return `'${name}' is ${mode === 'locked' ? 'locked by' : 'open exclusively at'} ${holder}.${out}`;
}
