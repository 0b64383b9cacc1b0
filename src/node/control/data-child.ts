/**
 * The data process as its control process sees it: started, watched, and started again when it dies. Before a new one begins, the one before
 * is proved dead, and so its ownerships can be given away without a fence: what it had in the kernel's hands has ended with it.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import module from 'node:module';
import { extname } from 'node:path';
import { ArchipelagoError, type Clock, type Log } from '../../base/index.ts';
import { Channel } from '../channel.ts';
import { identityOf, isRunning, type ProcessIdentity, readPidFile, signalProcess, writePidFile } from '../cluster/processes.ts';
import { DATA_NODE_FLAGS } from '../runtime.ts';

const POLL_MS = 10;
/** Pause before a data process that died at its start is tried again; it doubles up to the second one. */
const MIN_RESTART_MS = 50;
const MAX_RESTART_MS = 5000;
/** One that has lived this long died for another reason than its start. */
const HEALTHY_MS = 10_000;

export interface DataChildOptions {
  /** Where its process identity is kept, for the control process that comes after this one. */
  readonly pidFile: string;
  readonly clock: Clock;
  readonly log: Log;
  /** What it may ask. */
  readonly methods: Readonly<Record<string, (parameters: unknown) => unknown>>;
  /** Called with each new one; it is used only after this has resolved. A rejection ends the child. */
  readonly started: (channel: Channel) => Promise<void>;
}

export class DataChild {
  private readonly options: DataChildOptions;
  private child: ChildProcess | null = null;
  private current: Channel | null = null;
  private stopping = false;
  private restartMs = MIN_RESTART_MS;

  constructor(options: DataChildOptions) {
    this.options = options;
  }

  /** Null while it is being started again. */
  get channel(): Channel | null {
    return this.current;
  }

  get pid(): number | null {
    return this.child?.pid ?? null;
  }

  request<Value>(method: string, parameters: unknown): Promise<Value> {
    if (this.current) return this.current.request<Value>(method, parameters);
    return Promise.reject(new ArchipelagoError('unavailable', 'the data process of this node is being started', { hint: 'try again in a second' }));
  }

  /** Ends what an earlier control process may have left, then starts ours; resolves when the first one is in use. */
  async start(): Promise<void> {
    await this.endLeftover();
    await this.launch();
  }

  private async endLeftover(): Promise<void> {
    const before = readPidFile(this.options.pidFile);
    if (!before || !isRunning(before)) return;
    this.options.log.warn({ pid: before.pid }, 'the data process of an earlier run still lives: ending it');
    signalProcess(before.pid, 'SIGKILL');
    await this.whenGone(before);
  }

  private async whenGone(identity: ProcessIdentity): Promise<void> {
    while (isRunning(identity)) await new Promise<void>((resolve) => void this.options.clock.setTimer(POLL_MS, resolve));
  }

  private async launch(): Promise<void> {
    const startedMs = this.options.clock.nowMs();
    const entry = new URL(`../data/main${extname(import.meta.url)}`, import.meta.url);
    const cache = module.getCompileCacheDir?.();
    const child = fork(entry, [], { execArgv: [...DATA_NODE_FLAGS], env: { ...process.env, ...(cache ? { NODE_COMPILE_CACHE: cache } : {}) } });
    this.child = child;
    const identity = child.pid === undefined ? null : identityOf(child.pid);
    if (identity) writePidFile(this.options.pidFile, identity);
    child.once('exit', (code, signal) => void this.exited(child, identity, startedMs, signal ?? `status ${code}`));
    const channel = new Channel(child, this.options.methods);
    try {
      await this.options.started(channel);
      if (this.child === child) this.current = channel;
    } catch (error) {
      this.options.log.error({ error: String(error) }, 'the data process could not be started');
      child.kill('SIGKILL');
      throw error;
    }
  }

  private async exited(child: ChildProcess, identity: ProcessIdentity | null, startedMs: number, how: string): Promise<void> {
    if (this.child !== child) return;
    this.child = null;
    this.current = null;
    if (this.stopping) return;
    const { clock, log } = this.options;
    log.error({ pid: child.pid, how }, 'the data process ended: starting another');
    // `exit` comes when the process has been reaped, with all its threads; this only makes sure.
    if (identity) await this.whenGone(identity);
    if (clock.nowMs() - startedMs > HEALTHY_MS) this.restartMs = MIN_RESTART_MS;
    clock.setTimer(this.restartMs, () => {
      if (!this.stopping) this.launch().catch(() => undefined); // told in the log; its exit brings the next try
    });
    this.restartMs = Math.min(this.restartMs * 2, MAX_RESTART_MS);
  }

  /** Ends the present one; another follows. */
  restart(): void {
    this.child?.kill('SIGKILL');
  }

  /** Ends it. What it owned was released before, or is taken over by whoever comes. */
  async stop(): Promise<void> {
    this.stopping = true;
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.disconnect();
    const timer = this.options.clock.setTimer(2000, () => void child.kill('SIGKILL'));
    await exit;
    timer.cancel();
  }
}
