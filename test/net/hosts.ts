/** A small vocabulary for stories about real hosts on loopback. */
import type { Clock, Log } from '../../src/base/index.ts';
import { ephemeralIdentity, type Handler, type Identity, type Link, NetHost, type NetOptions, type Traffic } from '../../src/net/index.ts';

export const realClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

export interface LogLine {
  level: string;
  message: string;
  context: Record<string, unknown>;
}

/** Keeps the lines, for tests about what an operator reads. */
function recordingLog(lines: LogLine[], bindings: object = {}): Log {
  const at = (level: string) => (context: object, message: string) => {
    lines.push({ level, message, context: { ...bindings, ...context } });
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (more) => recordingLog(lines, { ...bindings, ...more }),
  };
}

export interface Member {
  host: NetHost;
  identity: Identity;
  lines: LogLine[];
}

const running = new Set<NetHost>();

export async function startMember(options: Partial<NetOptions> = {}): Promise<Member> {
  const identity = options.identity ?? (await ephemeralIdentity());
  const lines: LogLine[] = [];
  const host = await NetHost.start({
    listen: ['/ip4/127.0.0.1/tcp/0'],
    clusterId: 'test-cluster',
    purpose: 'data',
    clock: realClock,
    log: recordingLog(lines),
    ...options,
    identity,
  });
  running.add(host);
  return { host, identity, lines };
}

/** Sorted by PeerId, so that each one dials those after it. */
export async function startMembers(count: number, options: Partial<NetOptions> = {}): Promise<Member[]> {
  const members: Member[] = [];
  for (let i = 0; i < count; i++) members.push(await startMember(options));
  return members.sort((a, b) => (a.host.peerId < b.host.peerId ? -1 : 1));
}

/** Puts all into everybody's list. */
export function introduce(members: readonly Member[]): void {
  const peers = members.map((member, i) => ({ peerId: member.host.peerId, name: `n${i + 1}`, addresses: member.host.addresses }));
  for (const { host } of members) host.setPeers(peers);
}

export async function connectAll(members: readonly Member[]): Promise<void> {
  introduce(members);
  for (const from of members) {
    for (const to of members) {
      if (from === to) continue;
      for (const traffic of ['control', 'bulk'] as const) await from.host.link(to.host.peerId, traffic).waitUp(20_000);
    }
  }
}

export function linkBetween(from: Member, to: Member, traffic: Traffic = 'bulk'): Link {
  return from.host.link(to.host.peerId, traffic);
}

/** Answers each request with its own bytes and type. */
export const echo: Handler = {
  message() {},
  request(_link, type, metadata, payload, responder) {
    responder.reply(type, metadata, payload);
  },
};

export async function stopAll(): Promise<void> {
  await Promise.all([...running].map((host) => host.stop()));
  running.clear();
}

export function bytes(length: number, seed = 1): Uint8Array {
  const out = new Uint8Array(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) | 0;
    out[i] = state >>> 16;
  }
  return out;
}

export async function until(what: string, condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
