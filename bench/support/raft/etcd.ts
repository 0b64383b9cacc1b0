/**
 * etcd's gRPC API over node:http2: the two calls that the bench needs, with messages encoded by protobufjs. And three members of etcd with
 * its default settings, but for names, directories and ports.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { createServer } from 'node:net';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { sleep, stopServer } from '../processes.ts';

const MEMBERS = ['e1', 'e2', 'e3'];

// The fields in use, as in etcd's rpc.proto.
const { root } = protobuf.parse(`
syntax = "proto3";
message PutRequest { bytes key = 1; bytes value = 2; }
message ResponseHeader { uint64 memberId = 2; }
message PutResponse { ResponseHeader header = 1; }
message StatusRequest {}
message StatusResponse { ResponseHeader header = 1; uint64 leader = 4; }`);
const PutRequest = root.lookupType('PutRequest');
const PutResponse = root.lookupType('PutResponse');
const StatusResponse = root.lookupType('StatusResponse');

export class EtcdClient {
  private readonly session: ClientHttp2Session;

  constructor(url: string) {
    this.session = connect(url);
  }

  /** Calls `done` with the reply's message, or with an error if the call has none. */
  private call(path: string, message: Uint8Array, done: (error: Error | null, reply: Uint8Array) => void): void {
    const frame = Buffer.allocUnsafe(5 + message.byteLength);
    frame[0] = 0;
    frame.writeUInt32BE(message.byteLength, 1);
    frame.set(message, 5);
    const stream = this.session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: path,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
      [constants.HTTP2_HEADER_TE]: 'trailers',
    });
    let reply: Buffer | null = null;
    let status: unknown = 'none';
    stream.on('data', (piece: Buffer) => {
      reply = reply === null ? piece : Buffer.concat([reply, piece]);
    });
    stream.on('trailers', (trailers) => {
      status = trailers['grpc-status'];
    });
    stream.on('error', (error) => done(error, new Uint8Array(0)));
    stream.on('end', () => {
      if (status === '0' && reply !== null && reply.byteLength >= 5) done(null, reply.subarray(5));
      else done(new Error(`${path} ended with status ${String(status)}`), new Uint8Array(0));
    });
    stream.end(frame);
  }

  put(key: string, value: Uint8Array, done: (error: Error | null) => void): void {
    const message = PutRequest.encode({ key: Buffer.from(key, 'latin1'), value }).finish();
    this.call('/etcdserverpb.KV/Put', message, (error, reply) => {
      if (error === null) PutResponse.decode(reply);
      done(error);
    });
  }

  leads(): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.call('/etcdserverpb.Maintenance/Status', new Uint8Array(0), (error, reply) => {
        if (error !== null) return reject(error);
        const { header, leader } = StatusResponse.toObject(StatusResponse.decode(reply), { longs: String }) as {
          header?: { memberId: string };
          leader?: string;
        };
        resolve(leader !== undefined && header?.memberId === leader);
      });
    });
  }

  close(): void {
    this.session.close();
  }
}

export interface EtcdCluster {
  /** The client URL of the member that leads now. */
  leader(): Promise<string>;
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

export async function startEtcd(directory: string): Promise<EtcdCluster> {
  const ports = await freePorts(2 * MEMBERS.length);
  const members = MEMBERS.map((name, place) => ({
    name,
    peerUrl: `http://127.0.0.1:${ports[2 * place]}`,
    clientUrl: `http://127.0.0.1:${ports[2 * place + 1]}`,
  }));
  const cluster = members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(',');
  const children: ChildProcess[] = members.map(({ name, peerUrl, clientUrl }) =>
    spawn(
      'etcd',
      [
        ...['--name', name, '--data-dir', join(directory, name), '--initial-cluster', cluster],
        ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
        ...['--listen-client-urls', clientUrl, '--advertise-client-urls', clientUrl],
      ],
      { stdio: 'ignore' },
    ),
  );
  const leader = async () => {
    for (;;) {
      for (const { clientUrl } of members) {
        const client = new EtcdClient(clientUrl);
        // A member that is still starting: asked again.
        const leads = await client.leads().catch(() => false);
        client.close();
        if (leads) return clientUrl;
      }
      await sleep(100);
    }
  };
  return {
    leader,
    pids: children.map(({ pid }) => pid as number),
    stop: async () => {
      await Promise.all(children.map(stopServer));
    },
  };
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer().listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
