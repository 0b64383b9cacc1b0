/**
 * Requests and notices between a control process and its data process, over Node's IPC channel. Messages of one direction arrive in the order
 * of sending; an answer is one of them, so whoever gets it has seen what was sent before.
 */
import { ArchipelagoError, assert, type ErrorBody } from '../base/index.ts';

/** What `process` and a forked child have in common. */
export interface MessagePort {
  send?(message: object, callback?: (error: Error | null) => void): boolean;
  on(event: 'message', listener: (message: unknown) => void): unknown;
  on(event: 'disconnect', listener: () => void): unknown;
}

type Message =
  | { kind: 'request'; id: number; method: string; parameters: unknown }
  | { kind: 'notice'; method: string; parameters: unknown }
  | { kind: 'answer'; id: number; value?: unknown; error?: ErrorBody };

type Method = (parameters: unknown) => unknown;

export class Channel {
  private readonly port: MessagePort;
  private readonly methods: Readonly<Record<string, Method>>;
  private readonly waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: ArchipelagoError) => void }>();
  private nextId = 1;
  private open = true;

  /** `methods` answer the other side's requests, asynchronously if they like, and take its notices. */
  constructor(port: MessagePort, methods: Readonly<Record<string, Method>>) {
    this.port = port;
    this.methods = methods;
    port.on('message', (message) => this.receive(message as Message));
    port.on('disconnect', () => this.disconnected());
  }

  /** Rejects with the other side's error, `unavailable` when it has gone before, or `timeout` when it goes without an answer. */
  request<Value>(method: string, parameters: unknown): Promise<Value> {
    return new Promise<unknown>((resolve, reject) => {
      const id = this.nextId++;
      this.waiting.set(id, { resolve, reject });
      if (!this.post({ kind: 'request', id, method, parameters })) {
        this.waiting.delete(id);
        reject(gone());
      }
    }) as Promise<Value>;
  }

  /** Dropped when the other side has gone. */
  notify(method: string, parameters: unknown): void {
    this.post({ kind: 'notice', method, parameters });
  }

  private post(message: Message): boolean {
    if (!this.open || !this.port.send) return false;
    // An error here means that the other side has just gone; `disconnect` follows.
    this.port.send(message, () => undefined);
    return true;
  }

  private receive(message: Message): void {
    if (message.kind === 'answer') {
      const waiter = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.error) waiter?.reject(ArchipelagoError.fromBody(message.error));
      else waiter?.resolve(message.value);
      return;
    }
    const method = this.methods[message.method];
    assert(method !== undefined, `both processes know the method '${message.method}'`);
    if (message.kind === 'notice') {
      method(message.parameters);
      return;
    }
    const { id } = message;
    // Begun at once: a notice that was sent after it may be the next call of this, in the same turn.
    new Promise((resolve) => resolve(method(message.parameters))).then(
      (value) => this.post({ kind: 'answer', id, value }),
      (error: unknown) => this.post({ kind: 'answer', id, error: ArchipelagoError.from(error, message.method).toBody() }),
    );
  }

  private disconnected(): void {
    this.open = false;
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject } of waiting) reject(lost());
  }
}

function gone(): ArchipelagoError {
  return new ArchipelagoError('unavailable', 'the other process of this node has ended', { hint: 'it is started again within seconds' });
}

/** Not `unavailable`: it may have been done, so whoever asks again would be told that, say, the name of his own snapshot is taken. */
function lost(): ArchipelagoError {
  return new ArchipelagoError('timeout', 'the other process of this node has ended before it answered', { hint: 'look whether it was done' });
}
