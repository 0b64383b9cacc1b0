/**
 * The errors that users, scripts and other nodes see: one coded union from the store to the CLI.
 * `docs/errors.md` has the table; a test keeps it equal to this list.
 */

/** Each code with its CLI exit status (see `ArchipelagoError.exitStatus`) and HTTP status. */
const CODES = {
  /** The request itself is malformed; it fails in every state of the cluster. */
  'invalid-argument': { exit: 2, http: 400 },
  /** No such volume, snapshot, node or object. */
  'not-found': { exit: 3, http: 404 },
  /** The name is taken. */
  exists: { exit: 4, http: 409 },
  /** A client is attached, or other work on the same volume goes on. */
  'in-use': { exit: 4, http: 409 },
  /** The volume belongs to another owner, or to the same one under a newer epoch. */
  'stale-epoch': { exit: 4, http: 409 },
  /** A write to a snapshot, or to a volume that another node has for itself. */
  'read-only': { exit: 4, http: 409 },
  /** A refusal that a flag overrides, as shrinking without `--shrink`. */
  conflict: { exit: 4, http: 409 },
  /** `up` on a directory whose daemons all run. */
  'already-running': { exit: 4, http: 409 },
  /** No quorum, no reachable owner, no running node: nothing was done, and it may work later. */
  unavailable: { exit: 5, http: 503 },
  /** No answer, in time or at all; the outcome is unknown. */
  timeout: { exit: 5, http: 504 },
  /** The store has no room. */
  'no-space': { exit: 1, http: 507 },
  /** The store failed in another way. */
  'io-error': { exit: 1, http: 500 },
  /** Stored data fails its checksum or contradicts itself. */
  corrupt: { exit: 1, http: 500 },
  /** A disk or wire format is newer than this program. */
  'unsupported-version': { exit: 1, http: 500 },
  /** A token is missing or wrong, or the peer is not a member. */
  forbidden: { exit: 1, http: 403 },
  /** This node, or the one that is spoken of, was removed from the cluster for good. */
  removed: { exit: 1, http: 403 },
  /** A bug of ours. */
  internal: { exit: 1, http: 500 },
} as const;

export type ErrorCode = keyof typeof CODES;

export const ERROR_CODES = Object.keys(CODES) as ErrorCode[];

/** The JSON form of an error, on standard error with `--json`, in HTTP bodies and between nodes. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  hint: string | null;
}

/** An expected failure. `message` names what was wrong and where; `hint` says what to do. */
export class ArchipelagoError extends Error {
  override readonly name = 'ArchipelagoError';
  readonly code: ErrorCode;
  readonly hint: string | null;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? null;
  }

  /** 1 failed, 2 usage, 3 not found, 4 conflict, 5 unavailable. */
  get exitStatus(): number {
    return CODES[this.code].exit;
  }

  get httpStatus(): number {
    return CODES[this.code].http;
  }

  toBody(): ErrorBody {
    return { code: this.code, message: this.message, hint: this.hint };
  }

  /** Rebuilds an error that another process sent; an unknown code becomes `internal`. */
  static fromBody(body: { code: string; message: string; hint?: string | null }): ArchipelagoError {
    const code = body.code in CODES ? (body.code as ErrorCode) : 'internal';
    return new ArchipelagoError(code, body.message, body.hint == null ? {} : { hint: body.hint });
  }

  /** Gives any thrown value a code: system errors by their errno, all else `internal`. */
  static from(error: unknown, context: string): ArchipelagoError {
    if (error instanceof ArchipelagoError) return error;
    const errno = (error as NodeJS.ErrnoException | null)?.code;
    const text = error instanceof Error ? error.message : String(error);
    if (errno === 'ENOSPC' || errno === 'EDQUOT') {
      return new ArchipelagoError('no-space', `${context}: no space left`, {
        cause: error,
        hint: 'free space in the store; writes go on by themselves',
      });
    }
    const code: ErrorCode = errno === undefined ? 'internal' : 'io-error';
    return new ArchipelagoError(code, `${context}: ${text}`, { cause: error });
  }
}
