/** One QEMU process, without a display and without acceleration, whose only disk is an NBD export. Steered over QMP. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import type { AtEnd } from '../ending.ts';
import { eventually } from '../wait.ts';

export interface Disk {
  readonly socket: string;
  readonly exportName: string;
}

interface QmpMessage {
  readonly QMP?: unknown;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** What a migration took, as its source says. */
export interface MigrationReport {
  readonly status: string;
  /** How long neither of the two ran the guest. */
  readonly downtime: number;
}

export class Machine {
  /** What came from the serial port, with the time of each piece. */
  readonly serial: { readonly text: string; readonly atMs: number }[] = [];
  /** Lines that ended here. */
  lines = 0;
  private readonly child: ChildProcess;
  private readonly closed: Promise<unknown>;
  private qmp!: Socket;
  private errors = '';
  private readonly answers: ((message: QmpMessage) => void)[] = [];
  private readonly events: QmpMessage[] = [];

  private constructor(child: ChildProcess) {
    this.child = child;
    // Its pipes too: all that it has said is there.
    this.closed = once(child, 'close');
    child.stdout?.setEncoding('latin1').on('data', (text: string) => {
      this.serial.push({ text, atMs: performance.now() });
      this.lines += text.split('\n').length - 1;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
  }

  /** `incoming`: it waits for a guest at that socket, else it boots from its disk. `directory` takes sockets named after `name`. */
  static async start(atEnd: AtEnd, directory: string, name: string, disk: Disk, incoming: string | null): Promise<Machine> {
    const qmpSocket = join(directory, `${name}.qmp`);
    const server = `server.type=unix,server.path=${disk.socket}`;
    const child = spawn(
      'qemu-system-x86_64',
      [
        ...['-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'pc,accel=tcg', '-m', '16'],
        ...['-blockdev', `driver=nbd,node-name=disk,${server},export=${disk.exportName}`],
        // Each write is answered when it is durable.
        ...['-device', 'virtio-blk-pci,drive=disk,write-cache=off,bootindex=0'],
        ...['-chardev', 'stdio,id=serial,signal=off', '-serial', 'chardev:serial'],
        ...['-qmp', `unix:${qmpSocket},server=on,wait=off`],
        ...(incoming === null ? [] : ['-incoming', `unix:${incoming}`]),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const machine = new Machine(child);
    atEnd(async () => {
      child.kill('SIGKILL');
      await machine.closed;
    });
    await machine.converse(await eventually('QEMU answers', () => machine.failIfEnded() || connected(qmpSocket)));
    return machine;
  }

  private failIfEnded(): false {
    if (this.child.exitCode !== null || this.child.signalCode !== null) throw new Error(`QEMU ended: ${this.errors}`);
    return false;
  }

  private async converse(qmp: Socket): Promise<void> {
    this.qmp = qmp;
    let rest = '';
    this.qmp.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.receive(JSON.parse(line) as QmpMessage);
    });
    // Its end is seen at the process.
    this.qmp.on('error', () => undefined);
    await this.execute('qmp_capabilities');
  }

  private receive(message: QmpMessage): void {
    if (message.event !== undefined) this.events.push(message);
    else if (message.QMP === undefined) this.answers.shift()?.(message);
  }

  async execute<Value>(command: string, parameters: Readonly<Record<string, unknown>> = {}): Promise<Value> {
    const answer = new Promise<QmpMessage>((resolve) => this.answers.push(resolve));
    this.qmp.write(`${JSON.stringify({ execute: command, arguments: parameters })}\n`);
    const { return: value, error } = await Promise.race([
      answer,
      this.closed.then((): QmpMessage => ({ error: { desc: `QEMU ended: ${this.errors}` } })),
    ]);
    if (error) throw new Error(`QEMU refuses '${command}': ${error.desc}`);
    return value as Value;
  }

  /** Resolves when QEMU has said so, even if that was before the call. */
  async hasSaid(event: string, matches: (data: Readonly<Record<string, unknown>>) => boolean = () => true): Promise<void> {
    await eventually(`QEMU says ${event}`, () => {
      return this.events.some((each) => each.event === event && matches(each.data ?? {})) || this.failIfEnded();
    });
  }

  /** Sends the guest to a machine that waits for it at `socket`. It runs there when this resolves. */
  async migrateTo(other: Machine, socket: string): Promise<MigrationReport> {
    await this.execute('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] });
    await this.execute('migrate', { uri: `unix:${socket}` });
    await this.hasSaid('MIGRATION', ({ status }) => status === 'completed' || status === 'failed');
    const report = await this.execute<MigrationReport>('query-migrate');
    if (report.status !== 'completed') throw new Error(`the migration ended as ${report.status}: ${this.errors}${other.errors}`);
    await other.hasSaid('RESUME');
    return report;
  }

  /** Ends it, and with it its connection to the disk. What it has said on the serial port is complete. */
  async quit(): Promise<void> {
    await this.execute('quit');
    await this.closed;
  }
}

/** Null as long as nobody listens there: the socket's file is there before that. */
function connected(path: string): Promise<Socket | null> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(null));
  });
}
