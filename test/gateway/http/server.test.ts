import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ArchipelagoError } from '../../../src/base/index.ts';
import { AdminClient } from '../../../src/gateway/http/client.ts';
import { systemClock } from '../../../src/node/clock.ts';
import { ask, type Served, serve } from './serve.ts';

const GIB = 1024 ** 3;
/** All that a name may hold and that something on the way could take for its own. */
const ODD_NAMES = [
  'a b',
  '50%',
  'a%2Fb',
  'q?x=1',
  'a#b',
  'ä€𝄞',
  '.',
  '..',
  'a;b',
  '+',
  "it's",
  'x'.repeat(255),
  '𝄞'.repeat(63),
  '::',
  '*',
  '$(reboot)',
];

let served: Served;
beforeEach(async () => {
  served = await serve();
});
afterEach(() => served.stop());

const call = (method: string, path: string, body?: unknown) => ask(served.socketPath, method, path, body);

describe('the admin API', () => {
  it('makes, shows, changes and removes a volume', async () => {
    const made = await call('POST', '/v1/volumes', { name: 'd', size: GIB, blockSize: 65536, labels: { a: '1' } });
    expect(made.status).toBe(201);
    expect(made.json).toMatchObject({ name: 'd', size: GIB, blockSize: 65536, kind: 'volume', labels: { a: '1' }, owner: null });
    expect((await call('GET', '/v1/volumes/d')).json).toEqual(made.json);
    expect((await call('POST', '/v1/volumes/d/snapshot', { name: 's' })).status).toBe(201);
    expect((await call('POST', '/v1/snapshots/s/clone', { name: 'c', size: 2 * GIB })).json).toMatchObject({ name: 'c', size: 2 * GIB, origin: 's' });
    expect((await call('POST', '/v1/volumes/d/resize', { size: 512, shrink: true })).json.size).toBe(512);
    expect((await call('POST', '/v1/volumes/d/labels', { a: null, b: '2' })).json.labels).toEqual({ b: '2' });
    expect((await call('POST', '/v1/volumes/d/rename', { name: 'e' })).json.name).toBe('e');
    expect((await call('GET', '/v1/volumes')).json.map((each: { name: string }) => each.name).sort()).toEqual(['c', 'e', 's']);
    expect((await call('GET', '/v1/volumes?label=b%3D2')).json.map((each: { name: string }) => each.name)).toEqual(['e']);
    expect((await call('POST', '/v1/volumes/e/migrate', { to: 'n2' })).json).toMatchObject({ to: 'n2', epoch: '7' });
    expect((await call('POST', '/v1/volumes/e/check')).json).toMatchObject({ ok: true, problems: [] });
    expect((await call('GET', '/v1/volumes/e/uri')).json.uri).toContain('/n1/');
    expect((await call('GET', '/v1/volumes/e/uri?node=n3')).json.uri).toContain('/n3/');
    expect((await call('DELETE', '/v1/volumes/e')).json.name).toBe('e');
    expect((await call('GET', '/v1/volumes/e')).status).toBe(404);
    expect((await call('GET', '/v1/cluster')).json.leader).toBe('n1');
    expect((await call('POST', '/v1/node/drain')).json).toEqual({ node: 'n1', moved: 2 });
    expect((await call('POST', '/v1/node/drain', { node: 'n2' })).json.node).toBe('n2');
    expect(await call('POST', '/v1/invitations')).toMatchObject({ status: 201, json: { token: 'abc', expiresAt: '1970-01-01T01:00:00.000Z' } });
    expect((await call('POST', '/v1/invitations', { expiresMs: 10 })).status).toBe(400);
    expect((await call('DELETE', '/v1/nodes/n2')).json).toEqual({ node: 'n2', voters: ['n1'], learners: ['n3'] });
    expect((await call('DELETE', '/v1/nodes/n2?force=yes')).status).toBe(400);
    expect((await call('DELETE', '/v1/nodes/n9?force=true')).status).toBe(404);
    expect((await call('POST', '/v1/cluster/leader', { to: 'n2' })).json).toEqual({ from: 'n1', to: 'n2', term: 4 });
  });

  it('shrinks only where that is said', async () => {
    await call('POST', '/v1/volumes', { name: 'd', size: GIB });
    const refused = await call('POST', '/v1/volumes/d/resize', { size: 512 });
    expect(refused.status).toBe(409);
    expect(served.admin.calls.at(-1)).toEqual({ method: 'resizeVolume', args: ['d', { size: 512, shrink: false }] });
  });

  it.each(ODD_NAMES)('takes %j as a name', async (name) => {
    const path = `/v1/volumes/${encodeURIComponent(name)}`;
    expect((await call('POST', '/v1/volumes', { name, size: 512 })).status).toBe(201);
    expect((await call('GET', path)).json.name).toBe(name);
    expect((await call('POST', `${path}/snapshot`, { name: `snap` })).json.origin).toBe(name);
    expect((await call('DELETE', path)).status).toBe(200);
  });

  it.each([
    ['POST', '/v1/volumes', { name: '', size: 512 }, /'name'.*is empty/],
    ['POST', '/v1/volumes', { name: 'a/b', size: 512 }, /'name'.*holds a '\/'/],
    ['POST', '/v1/volumes', { name: 'a\nb', size: 512 }, /'name'.*control character/],
    ['POST', '/v1/volumes', { name: 'é'.repeat(128), size: 512 }, /'name'.*256 bytes/],
    ['POST', '/v1/volumes', '{"name":"\\ud800","size":512}', /'name'.*not valid Unicode/],
    ['POST', '/v1/volumes', { name: 'd', size: 0 }, /'size'.*more than 0/],
    ['POST', '/v1/volumes', { name: 'd', size: 513 }, /'size'.*multiple of 512/],
    ['POST', '/v1/volumes', { name: 'd', size: 2 ** 60 }, /'size'/],
    ['POST', '/v1/volumes', { name: 'd', size: '1G' }, /'size'.*expected number/],
    ['POST', '/v1/volumes', { name: 'd', size: 512, blockSize: 65537 }, /'blockSize'.*power of two/],
    ['POST', '/v1/volumes', { name: 'd', size: 512, blockSize: 2 ** 27 }, /'blockSize'/],
    ['POST', '/v1/volumes', { name: 'd', size: 512, typo: 1 }, /Unrecognized key: "typo"/],
    ['POST', '/v1/volumes', undefined, /the body: .*received undefined/],
    ['POST', '/v1/volumes', '{"name":', /JSON/],
    ['POST', '/v1/volumes', '', /Body cannot be empty/],
    ['GET', '/v1/volumes/%zz', undefined, /not a valid url component/],
    ['GET', '/v1/volumes?label=x', undefined, /'label'.*KEY=VALUE/],
    ['GET', '/v1/volumes/a%2Fb', undefined, /'name' in the path.*holds a '\/'/],
    ['GET', `/v1/volumes/${'x'.repeat(256)}`, undefined, /256 bytes/],
    ['GET', `/v1/volumes/${'%61'.repeat(256)}`, undefined, /256 bytes/],
    ['POST', '/v1/volumes/d/migrate', {}, /'to'/],
    ['POST', '/v1/volumes/d/labels', { 'a=b': '1' }, /holds a '='/],
    ['POST', '/v1/volumes/d/check', { x: 1 }, /the body/],
  ])('refuses %s %s with %j', async (method, path, body, message) => {
    const answer = await ask(served.socketPath, method, path, body, typeof body === 'string' ? { 'content-type': 'application/json' } : {});
    expect(answer.status).toBe(400);
    expect(answer.json.error.code).toBe('invalid-argument');
    expect(answer.json.error.message).toMatch(message);
    expect(served.admin.calls).toEqual([]);
  });

  it('says what it wants instead of a form, a body too large and a path that leads nowhere', async () => {
    const form = await ask(served.socketPath, 'POST', '/v1/volumes', 'name=d', { 'content-type': 'application/x-www-form-urlencoded' });
    expect([form.status, form.json.error.code, form.json.error.hint]).toEqual([
      400,
      'invalid-argument',
      expect.stringContaining('content-type: application/json'),
    ]);
    const large = await ask(served.socketPath, 'POST', '/v1/volumes', { name: 'x'.repeat(2 ** 21) });
    expect([large.status, large.json.error.code]).toEqual([400, 'invalid-argument']);
    for (const path of ['/nothing', '/v1/volumes/', '/v1/volumes/a/b', `/v1/volumes/${'x'.repeat(3000)}`]) {
      const answer = await call('GET', path);
      expect([path.slice(0, 20), answer.json.error.code]).toEqual([path.slice(0, 20), answer.status === 400 ? 'invalid-argument' : 'not-found']);
    }
  });

  it.each([
    ['exists', 409],
    ['unavailable', 503],
    ['timeout', 504],
    ['no-space', 507],
    ['corrupt', 500],
  ] as const)('answers %s with HTTP %i', async (code, status) => {
    served.admin.failure = new ArchipelagoError(code, 'what happened', { hint: 'what to do' });
    const answer = await call('GET', '/v1/volumes/d');
    expect(answer.status).toBe(status);
    expect(answer.json).toEqual({ error: { code, message: 'what happened', hint: 'what to do' } });
  });

  it('calls what nobody foresaw internal', async () => {
    served.admin.failure = new TypeError('x is not a function');
    const answer = await call('GET', '/v1/volumes/d');
    expect(answer.status).toBe(500);
    expect(answer.json.error).toMatchObject({ code: 'internal', message: expect.stringContaining('x is not a function'), hint: null });
  });
});

describe('probes, metrics and the OpenAPI document', () => {
  it('tells alive from ready', async () => {
    expect((await call('GET', '/healthz')).status).toBe(200);
    expect((await call('GET', '/readyz')).status).toBe(200);
    served.ready = false;
    expect((await call('GET', '/healthz')).status).toBe(200);
    expect((await call('GET', '/readyz')).json.error.code).toBe('unavailable');
  });

  it('hands out the metrics in the type that the registry names', async () => {
    const answer = await call('GET', '/metrics');
    expect(answer.headers['content-type']).toContain('version=0.0.4');
    expect(answer.text).toBe('archipelago_up 1\n');
  });

  it('describes every route that it serves', async () => {
    const { json } = await call('GET', '/v1/openapi.json');
    expect(json.openapi).toBe('3.1.0');
    const operations = Object.entries<object>(json.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(operations).toHaveLength(26);
    expect(operations).toContain('POST /v1/imports/{name}/finish');
    const create = json.paths['/v1/volumes'].post;
    expect(create.requestBody.required).toBe(true);
    expect(create.requestBody.content['application/json'].schema.required).toEqual(['name', 'size']);
    expect(json.paths['/v1/node/drain'].post.requestBody.required).toBe(false);
    expect(json.paths['/v1/volumes/{name}/check'].post.requestBody).toBeUndefined();
    expect(json.paths['/v1/volumes/{name}'].get.parameters).toMatchObject([{ name: 'name', in: 'path', required: true }]);
  });
});

describe('an import', () => {
  const begin = (name = 'i') => new AdminClient(served.socketPath, systemClock).openImport({ name, size: GIB });

  it('hands the volume out at once and keeps it when it is finished', async () => {
    const session = await begin();
    expect(session.volume).toMatchObject({ name: 'i', size: GIB, uri: expect.stringContaining('nbd+unix:///i') });
    expect((await call('GET', '/v1/volumes')).json).toEqual([]);
    const finished = await call('POST', '/v1/imports/i/finish');
    expect(finished.json.name).toBe('i');
    session.close();
    await call('GET', '/healthz');
    expect((await call('GET', '/v1/volumes')).json).toHaveLength(1);
    expect((await call('POST', '/v1/imports/i/finish')).json.error.code).toBe('not-found');
  });

  it('leaves nothing when its connection is cut, and its name is free again', async () => {
    const session = await begin();
    session.close();
    await vi.waitFor(() => expect(served.admin.volumes.size).toBe(0));
    (await begin()).close();
  });

  it('leaves nothing when its connection is cut before the service has begun it', async () => {
    let open = () => {};
    served.admin.gate = new Promise((resolve) => {
      open = resolve;
    });
    const sent = request({
      socketPath: served.socketPath,
      method: 'POST',
      path: '/v1/imports',
      headers: { 'content-type': 'application/json' },
      agent: false,
    });
    sent.on('error', () => undefined);
    sent.end(JSON.stringify({ name: 'i', size: 512 }));
    await vi.waitFor(() => expect(served.admin.calls).toHaveLength(1));
    const signal = served.admin.calls[0]!.args[1] as AbortSignal;
    sent.destroy();
    await vi.waitFor(() => expect(signal.aborted).toBe(true));
    open();
    await vi.waitFor(async () => {
      expect(served.admin.volumes.size).toBe(0);
      expect((await begin()).volume.name).toBe('i');
    });
  });

  it('is kept when its connection is cut while the service finishes it', async () => {
    const session = await begin();
    let open = () => {};
    served.admin.gate = new Promise((resolve) => {
      open = resolve;
    });
    const finishing = call('POST', '/v1/imports/i/finish');
    await vi.waitFor(() => expect(served.admin.calls.at(-1)!.method).toBe('finishImport'));
    session.close();
    await call('GET', '/healthz');
    open();
    expect((await finishing).json.name).toBe('i');
    expect(served.admin.volumes.has('i')).toBe(true);
  });

  it('fails as a plain error when its name is taken', async () => {
    await call('POST', '/v1/volumes', { name: 'i', size: 512 });
    await expect(begin()).rejects.toMatchObject({ code: 'exists' });
    const session = await begin('j');
    await expect(begin('j')).rejects.toMatchObject({ code: 'exists' });
    session.close();
  });

  it('tells its client when the node stops', async () => {
    const session = await begin();
    await served.server.close();
    await vi.waitFor(() => expect(session.lost.aborted).toBe(true));
    expect(session.lost.reason.code).toBe('unavailable');
    await vi.waitFor(() => expect(served.admin.volumes.size).toBe(0));
  });
});

describe('the sockets', () => {
  it('open the Unix socket to owner and group only', () => {
    expect((statSync(served.socketPath).mode & 0o777).toString(8)).toBe('660');
  });

  it('take a stale Unix socket over, and leave one in use alone', async () => {
    const stale = join(served.directory, 'stale.sock');
    spawnSync(process.execPath, ['-e', `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`]);
    expect(existsSync(stale)).toBe(true);
    const second = await serve({ socketPath: stale });
    expect((await ask(stale, 'GET', '/healthz')).status).toBe(200);
    await expect(serve({ socketPath: stale })).rejects.toMatchObject({ code: 'in-use' });
    expect((await ask(stale, 'GET', '/healthz')).status).toBe(200);
    await second.stop();
    expect(existsSync(stale)).toBe(false);
  });

  it('refuse a path that the system would cut', async () => {
    const path = join(served.directory, 'x'.repeat(107 - served.directory.length));
    expect(Buffer.byteLength(path)).toBe(108);
    await expect(serve({ socketPath: path })).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringContaining('108 bytes') });
    const longest = await serve({ socketPath: path.slice(0, -1) });
    await longest.stop();
  });

  it('serve TCP to holders of the token only', async () => {
    const tcp = await serve({ tcp: { host: '127.0.0.1', port: 0, token: 'secret' } });
    const url = tcp.server.url!;
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'secret' }, { authorization: 'Bearer secret ' + 'x' }]) {
      const answer = await ask(url, 'GET', '/healthz', undefined, headers as Record<string, string>);
      expect(answer.status).toBe(403);
      expect(answer.json.error.code).toBe('forbidden');
    }
    expect((await ask(url, 'GET', '/v1/volumes', undefined, { authorization: 'Bearer secret' })).json).toEqual([]);
    expect((await ask(tcp.socketPath, 'GET', '/healthz')).status).toBe(200);
    await tcp.stop();
  });

  it('name the port that is in use, and give the Unix socket back', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as { port: number };
    const socketPath = join(served.directory, 'other.sock');
    await expect(serve({ socketPath, tcp: { host: '127.0.0.1', port, token: 't' } })).rejects.toMatchObject({
      code: 'in-use',
      message: expect.stringContaining(String(port)),
    });
    expect(existsSync(socketPath)).toBe(false);
    other.close();
  });

  it('survive a client that leaves before its answer', async () => {
    let open = () => {};
    served.admin.gate = new Promise((resolve) => {
      open = resolve;
    });
    for (const failure of [undefined, new ArchipelagoError('unavailable', 'no quorum')]) {
      served.admin.failure = failure;
      const before = served.admin.calls.length;
      const sent = request({ socketPath: served.socketPath, path: '/v1/volumes', agent: false });
      sent.on('error', () => undefined);
      sent.end();
      await vi.waitFor(() => expect(served.admin.calls.length).toBe(before + 1));
      sent.destroy();
    }
    await call('GET', '/healthz');
    open();
    served.admin.failure = undefined;
    expect((await call('GET', '/v1/volumes')).json).toEqual([]);
  });
});
