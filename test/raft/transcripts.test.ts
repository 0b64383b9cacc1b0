/**
 * Protocol tests as transcripts: `transcripts/*.txt` hold commands, and below each what the members did in answer. `REWRITE=1` writes the
 * files anew; the diff is what is reviewed.
 *
 *   new a b c [learners=d] [option=number …]   members of one group
 *   tick ID [times] · campaign ID · propose ID text … · read ID context · transfer ID target
 *   configure ID voters=a,b,c [learners=d]
 *   persist ID [times]          the disk finishes the oldest writes
 *   deliver FROM→TO [type]      the messages on that link arrive; all of them, or those of one type
 *   repeat FROM→TO [type]       … and will arrive once more
 *   drop FROM→TO [type]         … are lost        hold FROM→TO [type]: … are set aside     release: … arrive now
 *   stabilize [ID …]            writes and messages among these members (default: all), until nothing is left
 *   elect ID with ID …          makes ID the leader by the votes of the others named, whom it lets forget their leader; what else was in flight is lost
 *   quietly …                   any of these, without its lines; several commands of one line are separated by `;`
 *   restart ID · compact ID index · status [ID …] · in-flight
 */
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Message } from '../../src/raft/core/types.ts';
import { CoreWorld, describeConfiguration, describeMessage } from './support/core-world.ts';

const REWRITE = process.env['REWRITE'] === '1';

class Transcript {
  private readonly world = new CoreWorld();
  private held: Message[] = [];

  /** The lines that a command gives. */
  run(line: string): string[] {
    const quiet = line.startsWith('quietly ');
    for (const part of (quiet ? line.slice('quietly '.length) : line).split(';')) {
      const [command = '', ...words] = part.trim().split(/\s+/);
      try {
        this.execute(command, words);
        this.world.collect();
        if (quiet) this.world.takeLines();
      } catch (error) {
        this.world.say(`error: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    const lines = this.world.takeLines();
    if (lines.length === 0) return ['ok'];
    return lines;
  }

  private execute(command: string, words: string[]): void {
    const { world } = this;
    const [id = ''] = words;
    switch (command) {
      case 'new':
        this.found(words);
        return;
      case 'tick':
        for (let left = Number(words[1] ?? 1); left > 0; left--) {
          world.member(id).core.tick();
          world.collect();
        }
        return;
      case 'campaign':
        world.member(id).core.campaign();
        return;
      case 'elect':
        this.elect(id, words.slice(2));
        return;
      case 'propose':
        this.propose(id, words.slice(1));
        return;
      case 'read':
        world.member(id).core.readIndex(Number(words[1]));
        return;
      case 'transfer':
        world.member(id).core.transferLeader(words[1] as string);
        return;
      case 'configure':
        world.member(id).core.proposeConfiguration({ voters: listOf(words, 'voters'), learners: listOf(words, 'learners') });
        return;
      case 'persist':
        for (let left = Number(words[1] ?? 1); left > 0; left--) world.persist(id);
        return;
      case 'deliver':
        for (const message of this.pick(words)) world.deliver(message);
        return;
      case 'repeat': {
        const messages = this.pick(words);
        world.inFlight.push(...messages);
        for (const message of messages) world.deliver(message);
        return;
      }
      case 'drop':
        this.pick(words);
        return;
      case 'hold':
        this.held.push(...this.pick(words));
        return;
      case 'release':
        for (const message of this.held.splice(0)) world.deliver(message);
        return;
      case 'stabilize':
        world.stabilize(words.length > 0 ? words : [...world.members.keys()]);
        return;
      case 'restart':
        world.restart(id);
        return;
      case 'compact':
        world.compact(id, Number(words[1]));
        return;
      case 'status':
        for (const each of words.length > 0 ? words : world.members.keys()) this.status(each);
        return;
      case 'in-flight':
        for (const message of world.inFlight) world.say(`  ${describeMessage(message)}`);
        return;
      default:
        throw new Error(`unknown command ${command}`);
    }
  }

  private found(words: readonly string[]): void {
    const ids = words.filter((word) => !word.includes('='));
    const learners = listOf(words, 'learners');
    const options: Record<string, number> = {};
    for (const word of words) {
      const [name = '', value] = word.split('=');
      if (value !== undefined && name !== 'learners') options[name] = Number(value);
    }
    for (const id of [...ids, ...learners]) this.world.add(id, ids, learners, options);
  }

  private elect(id: string, voters: readonly string[]): void {
    const { world } = this;
    for (const voter of voters) {
      // Until it would vote for another, and not long enough to campaign itself, whatever timeout it drew: a pre-candidate votes too.
      for (let left = 10; left > 0; left--) world.member(voter).core.tick();
    }
    world.collect();
    world.inFlight = [];
    for (let round = 0; world.member(id).core.role !== 'leader'; round++) {
      if (round > 20) throw new Error(`${id} is not elected`);
      // Again after a refusal, which tells it the others' term.
      if (world.member(id).core.role === 'follower') world.member(id).core.campaign();
      world.collect();
      for (const each of [id, ...voters]) while (world.member(each).writes.length > 0 && world.member(id).core.role !== 'leader') world.persist(each);
      for (const message of this.pickQuietly((one) => [id, ...voters].includes(one.from) && [id, ...voters].includes(one.to))) world.deliver(message);
    }
    world.inFlight = world.inFlight.filter((message) => message.from === id && message.type === 'append');
    world.takeLines();
    world.say(`${id} leads term ${world.member(id).core.term}`);
  }

  private pickQuietly(fits: (message: Message) => boolean): Message[] {
    const picked = this.world.inFlight.filter(fits);
    this.world.inFlight = this.world.inFlight.filter((message) => !fits(message));
    return picked;
  }

  private propose(id: string, texts: readonly string[]): void {
    const member = this.world.member(id);
    const entries = texts.map((text) => {
      const sequence = ++member.sequence;
      return { kind: 'command' as const, data: new TextEncoder().encode(text), clientId: id, session: 1, sequence, acknowledged: 1 };
    });
    const refusal = member.core.propose(entries);
    if (refusal !== null) this.world.say(`${id}: refused, ${refusal}`);
  }

  /** Takes the messages of a link, as `a→b` with an optional type, out of the network; `*` is anyone. */
  private pick([link = '', type]: readonly string[]): Message[] {
    const [from, to] = link.split('→');
    const fits = (message: Message) =>
      (from === '*' || message.from === from) && (to === '*' || message.to === to) && (type === undefined || message.type === type);
    const picked = this.pickQuietly(fits);
    if (picked.length === 0) this.world.say(`no ${type ?? 'message'} ${link}`);
    return picked;
  }

  private status(id: string): void {
    const status = this.world.member(id).core.status();
    const { role, term, leader, baseIndex, commitIndex, persistedIndex, lastIndex, lastTerm, configuration, progress } = status;
    const log = `log ${baseIndex}..${lastIndex}/${lastTerm}, persisted ${persistedIndex}, commit ${commitIndex}`;
    this.world.say(`${id}: ${role} of term ${term}, leader ${leader ?? 'none'}; ${log}; ${describeConfiguration(configuration)}`);
    for (const [other, { state, match, next, inflightAppends }] of progress) {
      this.world.say(`   ${other}: ${state}, match ${match}, next ${next}, ${inflightAppends} under way`);
    }
  }
}

function listOf(words: readonly string[], name: string): string[] {
  const found = words.find((word) => word.startsWith(`${name}=`));
  return found === undefined
    ? []
    : found
        .slice(name.length + 1)
        .split(',')
        .filter(Boolean);
}

/** Runs a file: comments and blank lines stay, each command is followed by `----` and its lines. */
function play(text: string): string {
  const transcript = new Transcript();
  const out: string[] = [];
  let inOutput = false;
  for (const line of text.split('\n')) {
    if (line === '----') {
      inOutput = true;
    } else if (line === '') {
      if (out.at(-1) !== '') out.push('');
      inOutput = false;
    } else if (!inOutput) {
      out.push(line);
      if (!line.startsWith('#')) out.push('----', ...transcript.run(line), '');
    }
  }
  return `${out.join('\n').trimEnd()}\n`;
}

describe('the transcript', () => {
  for (const path of globSync(join(import.meta.dirname, 'transcripts/*.txt')).sort()) {
    it(basename(path, '.txt'), () => {
      const text = readFileSync(path, 'utf8');
      const played = play(text);
      if (REWRITE) writeFileSync(path, played);
      else expect(played).toBe(text);
    });
  }
});
