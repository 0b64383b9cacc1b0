/** `archipelago cluster invite`, `join`, `remove` and `transfer-leader`. */
import { type Command, Option } from 'commander';
import { ArchipelagoError } from '../../base/index.ts';
import type { InvitationView, MembersView, TransferView } from '../admin.ts';
import { type CliHandlers, dataOption, outputFor } from './cluster.ts';
import { addLeaf, type Session } from './leaf.ts';

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export function addMemberCommands(cluster: Command, session: Session, handlers: CliHandlers): void {
  addJoining(cluster, session, handlers);
  addLeaf<{ force?: true }>(cluster, session, {
    usage: 'remove <node>',
    summary: 'Remove a node for good',
    details:
      'One that answers is drained first, and has no clients by then. To replace a dead node, let a new one join first and remove the dead one ' +
      'then. Its name is never used again.',
    options: [new Option('--force', 'for a dead node: give up what it owns, which is recovered as after a crash')],
    examples: ['cluster remove n4', 'cluster remove n2 --force'],
    async run({ args, options, ask }) {
      const view = await ask<MembersView>('DELETE', `/v1/nodes/${encodeURIComponent(args[0]!)}${options.force === true ? '?force=true' : ''}`);
      return { json: view, text: removalText(view) };
    },
  });
  addLeaf(cluster, session, {
    usage: 'transfer-leader <node>',
    summary: 'Make another voter the leader',
    details: 'Volumes stay where they are.',
    examples: ['cluster transfer-leader n2'],
    async run({ args, ask }) {
      const view = await ask<TransferView>('POST', '/v1/cluster/leader', { to: args[0]! });
      const text = view.from === view.to ? `${view.to} led already, term ${view.term}.` : `${view.to} leads now, term ${view.term}.`;
      return { json: view, text };
    },
  });
}

function addJoining(cluster: Command, session: Session, handlers: CliHandlers): void {
  addLeaf<{ expires?: string }>(cluster, session, {
    usage: 'invite',
    summary: 'Print a token with which one more node may join',
    details: 'It is good once, and holds a secret: treat it as a password.',
    options: [new Option('--expires <time>', 'a number with s, m, h or d, up to 7d (default: 1h)')],
    examples: ['cluster invite', 'cluster invite --expires 10m --json'],
    async run({ options, ask, asJson }) {
      const expiresMs = options.expires === undefined ? null : parseTime(options.expires);
      const view = await ask<InvitationView>('POST', '/v1/invitations', { expiresMs });
      // Not on standard output, which holds the token alone: it is made to be handed on.
      if (!asJson)
        process.stderr.write(`Good once, until ${view.expiresAt}. On the new node:\n  archipelago cluster join TOKEN --name NAME --data DIR\n\n`);
      return { json: view, text: view.token };
    },
  });
  addLeaf<{ name: string; data: string; listen?: string; dataListen?: string; storeDirectory?: string }>(cluster, session, {
    usage: 'join <token>',
    summary: 'Make a new node that is a member of the cluster of a token',
    details:
      'Makes DIR/NAME with its identity and node.toml; no daemon has to run. In the directory of a cluster made by `up`, the next `up` starts ' +
      'the node and `down` stops it. With - the token is read from standard input.',
    options: [
      new Option('--name <name>', "the new node's name; one that was never used in the cluster").makeOptionMandatory(),
      dataOption(),
      new Option('--listen <multiaddr>', 'where other nodes reach it, as /ip4/10.0.0.4/tcp/7001; needed when the others are on other hosts'),
      new Option('--data-listen <multiaddr>', 'the same for its data process (default: the next port)'),
      new Option('--store-directory <dir>', 'where the store of the cluster is on this host (default: as on the node that invited)'),
    ],
    examples: ['cluster join "$TOKEN" --name n4', 'cluster join - --name n4 --data /var/lib/archipelago --listen /ip4/10.0.0.4/tcp/7001'],
    local: true,
    async run({ args, options, asJson }) {
      const { name, data: directory, listen = null, dataListen = null, storeDirectory = null } = options;
      await handlers.join({ token: args[0]!, name, directory, listen, dataListen, storeDirectory }, outputFor(asJson));
      return null;
    },
  });
}

function removalText({ node, voters, learners }: MembersView): string {
  const left = learners.length === 0 ? '' : `; learners: ${learners.join(', ')}`;
  const members = [...voters, ...learners];
  if (members.includes(node)) return `Removed ${node}. The others go on without it as soon as enough of them are up.`;
  return `Removed ${node}. Voters: ${voters.join(', ')}${left}.\nIts daemon stops by itself, and its directory can be deleted then.`;
}

function parseTime(text: string): number {
  const [, number, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (number === undefined || unit === undefined) {
    throw new ArchipelagoError('invalid-argument', `--expires ${text} is not a time`, { hint: 'a number with s, m, h or d, as 30m' });
  }
  return Number(number) * UNIT_MS[unit]!;
}
