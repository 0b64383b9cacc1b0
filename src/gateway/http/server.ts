/** The admin HTTP server: routes from the table, errors in their one form, probes and metrics. */
import type { Server, ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { ArchipelagoError, type Log } from '../../base/index.ts';
import type { AdminService } from '../admin.ts';
import { Imports } from './imports.ts';
import { listenOnTcp, listenOnUnix, type TcpListen } from './listeners.ts';
import type { Route } from './routes.ts';

const MAX_BODY_BYTES = 1024 * 1024;
/** Three characters for each byte of a percent-encoded name. */
const MAX_PARAMETER_LENGTH = 3 * 255;

export interface HttpServerOptions {
  service: AdminService;
  socketPath: string;
  tcp: TcpListen | null;
  /** A prom-client registry, or anything of its shape. */
  metrics: { contentType: string; metrics(): Promise<string> };
  /** Whether this node has a lease. */
  isReady(): boolean;
  log: Log;
  version: string;
}

export interface HttpServer {
  /** Null without TCP. */
  url: string | null;
  /** Stops listening, aborts the imports that are open and cuts what is still under way. */
  close(): Promise<void>;
}

export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  // Imported here, so that the CLI, which shares the door with this file, does not pay for it.
  const [{ fastify }, { ROUTES }, { openApiDocument }] = await Promise.all([import('fastify'), import('./routes.ts'), import('./openapi.ts')]);
  const imports = new Imports(options.service);
  const app = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    routerOptions: { maxParamLength: MAX_PARAMETER_LENGTH },
    // Of a URL that cannot be read no route learns; such errors do not come to the error handler.
    frameworkErrors: (error, request, reply) => answerError(error, request, reply, options.log),
  });
  app.setErrorHandler((error, request, reply) => answerError(error, request, reply, options.log));
  app.setNotFoundHandler((request) => {
    throw new ArchipelagoError('not-found', `there is no ${request.method} ${request.url}`, { hint: 'see /v1/openapi.json' });
  });
  for (const route of ROUTES) addRoute(app, route, options.service, imports);
  const document = openApiDocument(ROUTES, options.version);
  app.get('/v1/openapi.json', () => document);
  addProbes(app, options);
  await app.ready();

  const servers: Server[] = [];
  try {
    servers.push(await listenOnUnix(options.socketPath, app.routing));
    const tcp = options.tcp === null ? null : await listenOnTcp(options.tcp, app.routing);
    if (tcp !== null) servers.push(tcp.server);
    return { url: tcp?.url ?? null, close: () => closeAll(app, servers, imports) };
  } catch (error) {
    await closeAll(app, servers, imports);
    throw error;
  }
}

async function closeAll(app: FastifyInstance, servers: readonly Server[], imports: Imports): Promise<void> {
  imports.close();
  await Promise.all(
    servers.map((server) => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    }),
  );
  await app.close();
}

function addProbes(app: FastifyInstance, options: HttpServerOptions): void {
  app.get('/healthz', () => ({ status: 'alive' }));
  app.get('/readyz', () => {
    if (options.isReady()) return { status: 'ready' };
    throw new ArchipelagoError('unavailable', 'this node has no lease', { hint: 'it gets one as soon as a quorum of the nodes is up' });
  });
  app.get('/metrics', async (_request, reply) => {
    reply.header('content-type', options.metrics.contentType);
    return options.metrics.metrics();
  });
}

function addRoute(app: FastifyInstance, route: Route, service: AdminService, imports: Imports): void {
  app.route({
    method: route.method,
    url: route.path,
    handler: async (request, reply) => {
      const params = parsed(route.params, request.params, 'the path');
      const query = parsed(route.query, request.query, 'the query');
      // An empty body is undefined here and null in fastify.
      const body = parsed(route.body, request.body ?? undefined, 'the body');
      if (route.operationId === 'finishImport') return imports.finish((params as { name: string }).name);
      if (route.answer === 'stream') {
        await imports.begin(definedImport(body), reply.raw as ServerResponse, () => reply.hijack());
        return reply;
      }
      const answer = await route.handle({ service, params, query, body });
      reply.status(route.status);
      return answer;
    },
  });
}

function definedImport(body: unknown): { name: string; size: number; blockSize?: number } {
  const { name, size, blockSize } = body as { name: string; size: number; blockSize?: number };
  return blockSize === undefined ? { name, size } : { name, size, blockSize };
}

function parsed(schema: z.ZodType, value: unknown, place: string): unknown {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    const { path } = issue;
    // Of a bad key in a record the rule that it breaks lies one level deeper.
    const message = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message;
    const where = path.length === 0 ? place : `'${path.map(String).join('.')}' in ${place}`;
    return `${where}: ${message}`;
  });
  throw new ArchipelagoError('invalid-argument', problems.join('; '), { hint: 'see /v1/openapi.json' });
}

function answerError(thrown: unknown, request: FastifyRequest, reply: FastifyReply, log: Log): void {
  // Whoever asked is gone; there is nobody to tell.
  if (reply.raw.destroyed) return;
  const error = asCoded(thrown);
  if (error.code === 'internal') log.error({ err: thrown, method: request.method, url: request.url }, 'a request failed');
  void reply
    .status(error.httpStatus)
    .header('content-type', 'application/json')
    .send(JSON.stringify({ error: error.toBody() }));
}

/** Errors of fastify itself are about the request: bad JSON, a wrong media type, a body too large. */
function asCoded(thrown: unknown): ArchipelagoError {
  if (thrown instanceof ArchipelagoError) return thrown;
  const { statusCode, code, message } = thrown as { statusCode?: number; code?: string; message?: string };
  if (typeof code === 'string' && code.startsWith('FST_') && (statusCode ?? 400) < 500) {
    return new ArchipelagoError('invalid-argument', message ?? 'the request is malformed', {
      hint: "send JSON with the header 'content-type: application/json'",
    });
  }
  return ArchipelagoError.from(thrown, 'internal error');
}
