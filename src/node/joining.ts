/**
 * What nodes say to each other before they are members together: the token that people carry, and the two questions that a guest may ask.
 *
 * A token is, in base64url: one byte version, JSON, CRC-32 of all before it. Version 1: all of this file.
 */
import { z } from 'zod';
import { ArchipelagoError, concatBytes, crc32 } from '../base/index.ts';
import { memberSchema, nodeName, storeSchema, tcpAddress } from './config.ts';

const TOKEN_VERSION = 1;
const CRC_BYTES = 4;
const MAX_TOKEN_CHARACTERS = 64 * 1024;

const tokenSchema = z.strictObject({
  cluster: z.string(),
  invitation: z.string(),
  secret: z.string(),
  /** ISO 8601. */
  expiresAt: z.string(),
  /** As the node that invites uses it; another host may reach it elsewhere. */
  store: storeSchema,
  /** Those to ask, in this order. */
  members: z.array(z.strictObject({ name: z.string(), peerId: z.string(), addresses: z.array(z.string()) })).min(1),
});

export type Token = z.output<typeof tokenSchema>;

export function encodeToken(token: Token): string {
  const body = concatBytes([Uint8Array.of(TOKEN_VERSION), Buffer.from(JSON.stringify(token))]);
  const checksum = Buffer.alloc(CRC_BYTES);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([body, checksum]).toString('base64url');
}

/** Throws `invalid-argument` for what is no token, or not all of one, and `unsupported-version`. */
export function decodeToken(text: string): Token {
  const damaged = (cause?: unknown) =>
    new ArchipelagoError('invalid-argument', 'the token is damaged, or cut off', { cause, hint: 'copy all of what `cluster invite` has printed' });
  const trimmed = text.trim();
  if (trimmed.length > MAX_TOKEN_CHARACTERS || !/^[A-Za-z0-9_-]+$/.test(trimmed)) throw damaged();
  const bytes = Buffer.from(trimmed, 'base64url');
  if (bytes.byteLength <= 1 + CRC_BYTES) throw damaged();
  const body = bytes.subarray(0, -CRC_BYTES);
  if (crc32(body) !== bytes.readUInt32BE(body.byteLength)) throw damaged();
  if (body[0] !== TOKEN_VERSION) {
    const hint = 'run the version of the cluster here';
    throw new ArchipelagoError('unsupported-version', `the token has version ${body[0]}; this program knows ${TOKEN_VERSION}`, { hint });
  }
  return parsed(tokenSchema, body.subarray(1), damaged);
}

const questionSchema = z.discriminatedUnion('ask', [
  /** Am I still a member? */
  z.strictObject({ ask: z.literal('standing'), cluster: z.string() }),
  z.strictObject({
    ask: z.literal('join'),
    cluster: z.string(),
    invitation: z.string(),
    secret: z.string(),
    name: nodeName,
    control: tcpAddress,
    data: tcpAddress,
    /** The program's version. */
    version: z.string(),
  }),
]);

export type Question = z.output<typeof questionSchema>;
export type JoinQuestion = Extract<Question, { ask: 'join' }>;

const standingSchema = z.object({ removed: z.boolean() });

const joinedSchema = z.object({
  /** All members, the new one too. */
  members: z.array(memberSchema),
  /** The tables of that name of the others' node.toml: all nodes have the same. */
  raft: z.record(z.string(), z.number()),
  lease: z.record(z.string(), z.number()),
});

export type Standing = z.output<typeof standingSchema>;
export type Joined = z.output<typeof joinedSchema>;

/** Sends bytes to a member, and resolves to its answer. */
export type Ask = (question: Uint8Array) => Promise<Uint8Array>;

export async function askStanding(ask: Ask, cluster: string): Promise<Standing> {
  return parsed(standingSchema, await ask(encodeJson({ ask: 'standing', cluster } satisfies Question)), badAnswer);
}

export async function askToJoin(ask: Ask, question: JoinQuestion): Promise<Joined> {
  return parsed(joinedSchema, await ask(encodeJson(question)), badAnswer);
}

/** Throws `invalid-argument`. */
export function decodeQuestion(bytes: Uint8Array): Question {
  return parsed(questionSchema, bytes, (cause) => {
    const hint = 'run the same version on all nodes';
    return new ArchipelagoError('invalid-argument', 'the question cannot be read', { cause, hint });
  });
}

export function encodeJson(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

function badAnswer(cause: unknown): ArchipelagoError {
  return new ArchipelagoError('unsupported-version', 'the answer of the member cannot be read', { cause, hint: 'run the same version on all nodes' });
}

function parsed<Value>(schema: z.ZodType<Value>, bytes: Uint8Array, failure: (cause: unknown) => ArchipelagoError): Value {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString());
  } catch (error) {
    throw failure(error);
  }
  const result = schema.safeParse(value);
  if (!result.success) throw failure(result.error);
  return result.data;
}
