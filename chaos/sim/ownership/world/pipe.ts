/** The IPC channel between a control process and its data process: messages of one direction arrive in order, at a process that runs. */
import type { Prng } from '../../../../src/base/index.ts';
import type { MessagePort } from '../../../../src/node/channel.ts';
import type { Host } from '../../host.ts';

const USUAL_MS = 0.1;
const SLOW_MS = 30;

class Port implements MessagePort {
  /** Null: its process has ended. */
  peer: Port | null = null;
  private readonly host: Host;
  private readonly alive: () => boolean;
  private readonly random: Prng;
  private readonly messageListeners: ((message: unknown) => void)[] = [];
  private readonly endListeners: (() => void)[] = [];
  private readonly arriving: (() => void)[] = [];

  constructor(host: Host, random: Prng) {
    this.host = host;
    this.alive = host.lifeline();
    this.random = random;
  }

  on(event: 'message' | 'disconnect', listener: (message: unknown) => void): void {
    if (event === 'message') this.messageListeners.push(listener);
    else this.endListeners.push(listener as () => void);
  }

  send(message: object): boolean {
    const text = JSON.stringify(message);
    this.peer?.arrive(() => {
      for (const listener of this.peer?.messageListeners ?? []) listener(JSON.parse(text));
    });
    return true;
  }

  /** The other process has ended: this one hears of it behind everything that was sent before. */
  end(): void {
    this.arrive(() => {
      this.peer = null;
      for (const listener of this.endListeners) listener();
    });
  }

  private arrive(what: () => void): void {
    if (!this.alive()) return;
    this.arriving.push(what);
    this.host.in(this.random.chance(0.02) ? this.random.unit() * SLOW_MS : USUAL_MS, () => this.arriving.shift()?.());
  }
}

export interface Pipe {
  readonly control: Port;
  readonly data: Port;
}

export function makePipe(control: Host, data: Host, random: Prng): Pipe {
  const pipe = { control: new Port(control, random), data: new Port(data, random) };
  pipe.control.peer = pipe.data;
  pipe.data.peer = pipe.control;
  return pipe;
}
