/**
 * Imports whose answer stays open. The client writes the volume through NBD meanwhile; its connection is what keeps the volume: when it is
 * cut before the import is finished, the service removes the volume.
 */
import type { ServerResponse } from 'node:http';
import { ArchipelagoError } from '../../base/index.ts';
import type { AdminService, VolumeView } from '../admin.ts';

interface OpenImport {
  response: ServerResponse;
  /** While the service finishes the import it alone decides whether the volume stays: a connection cut now must not abort it. */
  finishing: boolean;
  abort(): void;
}

export class Imports {
  readonly #service: AdminService;
  readonly #open = new Map<string, OpenImport>();

  constructor(service: AdminService) {
    this.#service = service;
  }

  /** Begins an import; rejects, with nothing written to `response`, when that fails. `accept` takes the response over for good. */
  async begin(request: { name: string; size: number; blockSize?: number }, response: ServerResponse, accept: () => void): Promise<void> {
    if (this.#open.has(request.name)) throw new ArchipelagoError('exists', `an import of '${request.name}' goes on already`);
    const controller = new AbortController();
    const entry: OpenImport = { response, finishing: false, abort: () => controller.abort(new Error('the import was stopped')) };
    this.#open.set(request.name, entry);
    response.once('close', () => {
      if (entry.finishing) return;
      this.#open.delete(request.name);
      entry.abort();
    });
    try {
      const volume = await this.#service.beginImport(request, controller.signal);
      accept();
      if (response.destroyed) return;
      response.writeHead(201, { 'content-type': 'application/x-ndjson' });
      response.write(`${JSON.stringify(volume)}\n`);
    } catch (error) {
      this.#open.delete(request.name);
      throw error;
    }
  }

  async finish(name: string): Promise<VolumeView> {
    const entry = this.#open.get(name);
    if (entry === undefined)
      throw new ArchipelagoError('not-found', `no import of '${name}' goes on here`, { hint: 'finish it at the node that began it' });
    if (entry.finishing) throw new ArchipelagoError('in-use', `the import of '${name}' is being finished already`);
    entry.finishing = true;
    try {
      const volume = await this.#service.finishImport(name);
      this.#open.delete(name);
      entry.response.end();
      return volume;
    } catch (error) {
      entry.finishing = false;
      if (entry.response.destroyed) {
        this.#open.delete(name);
        entry.abort();
      }
      throw error;
    }
  }

  /** Aborts all: the node stops. */
  close(): void {
    for (const { response } of this.#open.values()) response.destroy();
  }
}
