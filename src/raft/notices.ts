/**
 * Appends that only tell a commit index. The next append tells it as well, and under load it is under way soon, so such a notice waits for it: of
 * the frames that a commit costs, these are a third. It never waits long, since members that follow apply nothing before they are told, and it
 * never falls behind another message to its member.
 */
import type { Clock, Timer } from '../base/index.ts';
import type { Message, MessageOf, NodeId } from './core/types.ts';

/** About two commits of one client on a quick disk. */
const WAIT_MS = 2;

export class Notices {
  private readonly held = new Map<NodeId, MessageOf<'append'>>();
  private readonly clock: Clock;
  private readonly send: (message: Message) => void;
  private timer: Timer | null = null;

  constructor(clock: Clock, send: (message: Message) => void) {
    this.clock = clock;
    this.send = send;
  }

  /** Keeps a quiet append back, in place of an older one to the same member. `due` sends it after 2 ms at the latest. */
  hold(message: MessageOf<'append'>, due: () => void): void {
    this.held.set(message.to, message);
    // Not wound up anew with each notice: that would put them off for as long as commits come.
    this.timer ??= this.clock.setTimer(WAIT_MS, due);
  }

  /** `message` is about to be sent: what is held for its member goes before it, or not at all if it tells the same. */
  precede(message: Message): void {
    const held = this.held.get(message.to);
    if (held === undefined) return;
    this.held.delete(message.to);
    const { term, previousIndex, commit } = held;
    const tellsIt = message.type === 'append' && message.term === term && message.previousIndex >= previousIndex && message.commit >= commit;
    if (!tellsIt) this.send(held);
  }

  sendAll(): void {
    this.timer = null;
    const waiting = [...this.held.values()];
    this.held.clear();
    for (const message of waiting) this.send(message);
  }

  close(): void {
    this.timer?.cancel();
    this.timer = null;
    this.held.clear();
  }
}
