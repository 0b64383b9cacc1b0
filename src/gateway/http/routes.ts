/** The table of the admin API: the server's routes, their validation and the OpenAPI document all come from here. */
import type { z } from 'zod';
import type { AdminService } from '../admin.ts';
import * as s from './schemas.ts';

/** What a handler gets once all parts have passed their schemas. */
interface Call<P, Q, B> {
  service: AdminService;
  params: P;
  query: Q;
  body: B;
}

export interface Route {
  method: 'GET' | 'POST' | 'DELETE';
  /** With parameters as `:name`. */
  path: string;
  operationId: string;
  summary: string;
  /** The status of success. */
  status: 200 | 201;
  params: z.ZodType;
  query: z.ZodType;
  body: z.ZodType;
  response: z.ZodType;
  /** `stream`: the answer stays open; the server has a handler of its own for it. */
  answer: 'json' | 'stream';
  handle(call: Call<unknown, unknown, unknown>): Promise<unknown>;
}

interface RouteOf<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, R extends z.ZodType> {
  method: Route['method'];
  path: string;
  operationId: string;
  summary: string;
  status?: 201;
  params?: P;
  query?: Q;
  body?: B;
  response: R;
  answer?: 'stream';
  handle(call: Call<z.output<P>, z.output<Q>, z.output<B>>): Promise<z.input<R>>;
}

function route<
  R extends z.ZodType,
  P extends z.ZodType = typeof s.noQuery,
  Q extends z.ZodType = typeof s.noQuery,
  B extends z.ZodType = typeof s.noBody,
>(given: RouteOf<P, Q, B, R>): Route {
  return {
    ...given,
    status: given.status ?? 200,
    answer: given.answer ?? 'json',
    params: given.params ?? s.noQuery,
    query: given.query ?? s.noQuery,
    body: given.body ?? s.noBody,
    // The server calls this only with what the schemas of this very route let through.
    handle: given.handle as unknown as Route['handle'],
  };
}

/** `exactOptionalPropertyTypes` tells an absent key from one that is undefined; JSON does not. */
type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

function defined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Defined<T>;
}

function labelFilter(text: string | undefined): { label?: { key: string; value: string } } {
  if (text === undefined) return {};
  const at = text.indexOf('=');
  return { label: { key: text.slice(0, at), value: text.slice(at + 1) } };
}

const volumeRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/volumes',
    operationId: 'listVolumes',
    summary: 'All volumes and snapshots, or those with a label',
    query: s.listQuery,
    response: s.volumeList,
    handle: ({ service, query }) => service.listVolumes(labelFilter(query.label)),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes',
    operationId: 'createVolume',
    summary: 'Make an empty volume',
    status: 201,
    body: s.createBody,
    response: s.volumeView,
    handle: ({ service, body }) => service.createVolume(defined(body)),
  }),
  route({
    method: 'GET',
    path: '/v1/volumes/:name',
    operationId: 'volumeInfo',
    summary: 'One volume or snapshot',
    params: s.nameParams,
    response: s.volumeView,
    handle: ({ service, params }) => service.volumeInfo(params.name),
  }),
  route({
    method: 'DELETE',
    path: '/v1/volumes/:name',
    operationId: 'removeVolume',
    summary: 'Remove a volume or snapshot that no client uses',
    params: s.nameParams,
    response: s.volumeView,
    handle: ({ service, params }) => service.removeVolume(params.name),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/snapshot',
    operationId: 'snapshotVolume',
    summary: 'Make a snapshot, consistent at one moment',
    status: 201,
    params: s.nameParams,
    body: s.nameBody,
    response: s.volumeView,
    handle: ({ service, params, body }) => service.snapshotVolume(params.name, body),
  }),
  route({
    method: 'POST',
    path: '/v1/snapshots/:name/clone',
    operationId: 'cloneSnapshot',
    summary: 'Make a volume of a snapshot; nothing is copied',
    status: 201,
    params: s.nameParams,
    body: s.cloneBody,
    response: s.volumeView,
    handle: ({ service, params, body }) => service.cloneSnapshot(params.name, defined(body)),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/resize',
    operationId: 'resizeVolume',
    summary: 'Grow a volume, or shrink it where that is said',
    params: s.nameParams,
    body: s.resizeBody,
    response: s.volumeView,
    handle: ({ service, params, body }) => service.resizeVolume(params.name, body),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/rename',
    operationId: 'renameVolume',
    summary: 'Give a volume or snapshot another name',
    params: s.nameParams,
    body: s.nameBody,
    response: s.volumeView,
    handle: ({ service, params, body }) => service.renameVolume(params.name, body),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/labels',
    operationId: 'labelVolume',
    summary: 'Set and remove labels',
    params: s.nameParams,
    body: s.labelsBody,
    response: s.volumeView,
    handle: ({ service, params, body }) => service.labelVolume(params.name, body),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/migrate',
    operationId: 'migrateVolume',
    summary: 'Hand the ownership to another node while I/O goes on',
    params: s.nameParams,
    body: s.migrateBody,
    response: s.migrationView,
    handle: ({ service, params, body }) => service.migrateVolume(params.name, body),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/open',
    operationId: 'openVolume',
    summary: 'Give the node that answers exclusive use, or share what it has',
    params: s.nameParams,
    body: s.openBody,
    response: s.lockView,
    handle: ({ service, params, body }) => service.openVolume(params.name, body),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/close',
    operationId: 'closeVolume',
    summary: 'Give up what open has given',
    params: s.nameParams,
    response: s.lockView,
    handle: ({ service, params }) => service.closeVolume(params.name),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/lock',
    operationId: 'lockVolume',
    summary: 'Exclusive use by the node that answers, and no other owner',
    params: s.nameParams,
    response: s.lockView,
    handle: ({ service, params }) => service.lockVolume(params.name),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/unlock',
    operationId: 'unlockVolume',
    summary: "Give a lock up, or break another node's",
    params: s.nameParams,
    body: s.unlockBody,
    response: s.lockView,
    handle: ({ service, params, body }) => service.unlockVolume(params.name, body),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/:name/check',
    operationId: 'checkVolume',
    summary: 'Read and verify map and objects',
    params: s.nameParams,
    response: s.checkView,
    handle: ({ service, params }) => service.checkVolume(params.name),
  }),
  route({
    method: 'GET',
    path: '/v1/volumes/:name/diff',
    operationId: 'diffVolume',
    summary: 'What differs between the snapshot in the path and another one, or a volume; page by page, without reading data',
    params: s.nameParams,
    query: s.diffQuery,
    response: s.diffView,
    handle: ({ service, params, query }) => service.diffVolume(params.name, query.to, query.cursor ?? null),
  }),
  route({
    method: 'GET',
    path: '/v1/volumes/:name/uri',
    operationId: 'volumeUri',
    summary: 'Where NBD clients reach the volume',
    params: s.nameParams,
    query: s.uriQuery,
    response: s.uriView,
    handle: ({ service, params, query }) => service.volumeUri(params.name, query.node ?? null),
  }),
];

const otherRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/imports',
    operationId: 'beginImport',
    summary: 'Begin an import. The answer is a line of JSON and stays open: when it is cut before the import is finished, the volume is removed',
    status: 201,
    body: s.importBody,
    response: s.importView,
    answer: 'stream',
    handle: () => Promise.reject(new Error('the server answers this route itself')),
  }),
  route({
    method: 'POST',
    path: '/v1/imports/:name/finish',
    operationId: 'finishImport',
    summary: 'Make an imported volume appear',
    params: s.nameParams,
    response: s.volumeView,
    handle: ({ service, params }) => service.finishImport(params.name),
  }),
  route({
    method: 'POST',
    path: '/v1/gc',
    operationId: 'collect',
    summary: 'Begin to remove what nothing refers to any more; answered before it has ended',
    response: s.collectView,
    handle: ({ service }) => service.collect(),
  }),
  route({
    method: 'GET',
    path: '/v1/gc',
    operationId: 'collectionStatus',
    summary: 'The collection that runs, the last one, and what all of them have freed',
    response: s.collectionView,
    handle: ({ service }) => service.collectionStatus(),
  }),
  route({
    method: 'GET',
    path: '/v1/cluster',
    operationId: 'clusterStatus',
    summary: 'The cluster as this node sees it; answered without a quorum too',
    response: s.clusterView,
    handle: ({ service }) => service.clusterStatus(),
  }),
  route({
    method: 'POST',
    path: '/v1/node/drain',
    operationId: 'drainNode',
    summary: 'Hand all volumes of a node over to others',
    body: s.drainBody,
    response: s.drainView,
    handle: ({ service, body }) => service.drainNode(body.node),
  }),
  route({
    method: 'POST',
    path: '/v1/invitations',
    operationId: 'invite',
    summary: 'Let one more node join, once, until the invitation expires',
    status: 201,
    body: s.inviteBody,
    response: s.invitationView,
    handle: ({ service, body }) => service.invite(body),
  }),
  route({
    method: 'DELETE',
    path: '/v1/nodes/:node',
    operationId: 'removeNode',
    summary: 'Remove a node for good; one that answers is drained first',
    params: s.nodeParams,
    query: s.removeNodeQuery,
    response: s.membersView,
    handle: ({ service, params, query }) => service.removeNode(params.node, { force: query.force === 'true' }),
  }),
  route({
    method: 'POST',
    path: '/v1/cluster/leader',
    operationId: 'transferLeader',
    summary: 'Make another voter the leader',
    body: s.transferBody,
    response: s.transferView,
    handle: ({ service, body }) => service.transferLeader(body),
  }),
];

export const ROUTES: readonly Route[] = [...volumeRoutes, ...otherRoutes];
