/** The forms of requests and answers. Validation and the OpenAPI document both come from these. */
import { z } from 'zod';
import {
  blockSizeProblem,
  labelKeyProblem,
  MAX_BLOCK_SIZE,
  MAX_NAME_BYTES,
  MIN_BLOCK_SIZE,
  nameProblem,
  SECTOR_BYTES,
  sizeProblem,
} from './names.ts';

/** An invitation lives for a second to a week. */
const MIN_EXPIRY_MS = 1000;
const MAX_EXPIRY_MS = 7 * 24 * 3_600_000;

/** Adds one of the rules of names.ts to a schema. */
function ruled<S extends z.ZodType>(schema: S, problemOf: (value: z.output<S>) => string | null): S {
  return schema.check((context) => {
    const problem = problemOf(context.value as z.output<S>);
    if (problem !== null) context.issues.push({ code: 'custom', message: problem, input: context.value, continue: false });
  });
}

const nameSchema = ruled(z.string(), nameProblem).meta({
  description: `1 to ${MAX_NAME_BYTES} bytes of UTF-8 without '/' and control characters`,
});
const sizeSchema = ruled(z.number(), sizeProblem).meta({ description: `bytes, a multiple of ${SECTOR_BYTES}` });
const blockSizeSchema = ruled(z.number(), blockSizeProblem).meta({
  description: `bytes, a power of two from ${MIN_BLOCK_SIZE} to ${MAX_BLOCK_SIZE}; 4 MiB when absent`,
});
const labelKeySchema = ruled(z.string(), labelKeyProblem).meta({ description: "without '='" });
const labelValueSchema = z.string().max(4096);

export const nameParams = z.strictObject({ name: nameSchema });
export const noQuery = z.strictObject({});
export const noBody = z.undefined();

export const listQuery = z.strictObject({
  label: z
    .string()
    .regex(/^[^=]+=/, 'must have the form KEY=VALUE')
    .optional(),
});
export const uriQuery = z.strictObject({ node: z.string().min(1).optional().meta({ description: 'the node that answers, when absent' }) });

export const createBody = z.strictObject({
  name: nameSchema,
  size: sizeSchema,
  blockSize: blockSizeSchema.optional(),
  labels: z.record(labelKeySchema, labelValueSchema).optional(),
});
export const cloneBody = z.strictObject({ name: nameSchema, size: sizeSchema.optional() });
export const nameBody = z.strictObject({ name: nameSchema });
export const resizeBody = z.strictObject({ size: sizeSchema, shrink: z.boolean().default(false) });
export const labelsBody = z
  .record(labelKeySchema, labelValueSchema.nullable())
  .meta({ description: 'labels to set; null removes one; others stay as they are' });
export const openBody = z.strictObject({ shared: z.boolean().default(false) }).default({ shared: false });
export const unlockBody = z.strictObject({ force: z.boolean().default(false) }).default({ force: false });
export const migrateBody = z.strictObject({ to: z.string().min(1) });
export const importBody = z.strictObject({ name: nameSchema, size: sizeSchema, blockSize: blockSizeSchema.optional() });
export const drainBody = z.strictObject({ node: z.string().min(1).nullable().default(null) }).default({ node: null });

export const volumeView = z.object({
  name: z.string(),
  id: z.string(),
  kind: z.enum(['volume', 'snapshot', 'image']),
  size: z.number(),
  blockSize: z.number(),
  origin: z.string().nullable(),
  owner: z.object({ node: z.string(), epoch: z.string() }).nullable(),
  clients: z.number(),
  allocatedBytes: z.number(),
  createdAt: z.string().meta({ description: 'ISO 8601' }),
  labels: z.record(z.string(), z.string()),
});
export const volumeList = z.array(volumeView);
export const importView = volumeView.extend({ uri: z.string() });
export const uriView = z.object({ uri: z.string() });
export const lockView = z.object({
  name: z.string(),
  mode: z.enum(['shared', 'exclusive', 'locked']).nullable(),
  holder: z.string().nullable(),
  nodes: z.array(z.string()),
  fenced: z.array(z.string()),
});
export const migrationView = z.object({ name: z.string(), from: z.string(), to: z.string(), epoch: z.string(), pauseMs: z.number() });
export const checkView = z.object({ name: z.string(), ok: z.boolean(), blocks: z.number(), pages: z.number(), problems: z.array(z.string()) });
export const drainView = z.object({ node: z.string(), moved: z.number() });
export const clusterView = z.object({
  leader: z.string().nullable(),
  term: z.number(),
  quorum: z.boolean(),
  nodes: z.array(
    z.object({
      name: z.string(),
      peerId: z.string(),
      role: z.enum(['voter', 'learner']),
      up: z.boolean(),
      lease: z.boolean(),
      volumes: z.number(),
      version: z.string(),
      pids: z.object({ control: z.number().nullable(), data: z.array(z.number()) }),
    }),
  ),
  volumes: z.number(),
  store: z.object({ kind: z.string(), location: z.string(), usedBytes: z.number(), availableBytes: z.number().nullable() }),
});
export const inviteBody = z
  .strictObject({ expiresMs: z.int().min(MIN_EXPIRY_MS).max(MAX_EXPIRY_MS).nullable().default(null).meta({ description: 'an hour when null' }) })
  .default({ expiresMs: null });
export const nodeParams = z.strictObject({ node: z.string().min(1) });
export const removeNodeQuery = z.strictObject({
  force: z
    .enum(['true', 'false'])
    .default('false')
    .meta({ description: 'also when the node does not answer and owns volumes, which are then recovered' }),
});
export const transferBody = z.strictObject({ to: z.string().min(1) });
export const invitationView = z.object({ token: z.string(), expiresAt: z.string().meta({ description: 'ISO 8601' }) });
export const membersView = z.object({ node: z.string(), voters: z.array(z.string()), learners: z.array(z.string()) });
export const transferView = z.object({ from: z.string().nullable(), to: z.string(), term: z.number() });
export const diffQuery = z.strictObject({
  to: nameSchema,
  cursor: z.string().max(4096).optional().meta({ description: '`next` of the answer before; absent for the first' }),
});
export const diffView = z.object({
  extents: z.array(z.object({ offset: z.number(), length: z.number(), zero: z.boolean() })),
  next: z.string().nullable(),
});
const freed = { freedBytes: z.number(), freedObjects: z.number() };
const cycle = { cycle: z.number(), node: z.string(), startedAt: z.string().meta({ description: 'ISO 8601' }) };
export const collectView = z.object({
  cycle: z.number().meta({ description: 'the collection that is under way or follows; done when `last.cycle` of the status is as high' }),
});
export const collectionView = z.object({
  running: z
    .object({
      ...cycle,
      phase: z.enum(['marking', 'waiting', 'sweeping', 'unknown']),
      pass: z.number(),
      volumesRead: z.number(),
      volumes: z.number(),
      pagesRead: z.number(),
      listed: z.number(),
      ...freed,
    })
    .nullable(),
  last: z
    .object({
      ...cycle,
      finishedAt: z.string(),
      ...freed,
      error: z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() }).nullable(),
    })
    .nullable(),
  cycles: z.number(),
  ...freed,
});
export const errorView = z.object({ error: z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() }) });
