/** What commands print: one JSON value, or tables for eyes; errors in their two forms. */
import type { ArchipelagoError } from '../../base/index.ts';

/** What a command has to say, for programs and for people. */
export interface Result {
  json: unknown;
  text: string;
  /** 1 where the answer itself is bad news, as of a check that found damage. */
  exitStatus?: number;
}

export function printResult({ json, text }: Result, asJson: boolean): void {
  const line = asJson ? JSON.stringify(json) : text;
  if (line !== '') process.stdout.write(`${line}\n`);
}

export function printError(error: ArchipelagoError, asJson: boolean): void {
  if (asJson) {
    process.stderr.write(`${JSON.stringify({ error: error.toBody() })}\n`);
    return;
  }
  process.stderr.write(`error: ${error.message}\n`);
  if (error.hint !== null) process.stderr.write(`hint: ${error.hint}\n`);
  // A bug of ours is worth its stack; whoever reports it has it at hand.
  if (error.code === 'internal' && error.cause instanceof Error) process.stderr.write(`${error.cause.stack}\n`);
}

/** Columns padded to their widest cell. Numbers of any kind are to be given with `right`. */
export function table(header: readonly string[], rows: readonly (readonly string[])[], right: readonly string[] = []): string {
  const widths = header.map((title, column) => Math.max(width(title), ...rows.map((row) => width(row[column]!))));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => {
        const padding = ' '.repeat(widths[column]! - width(cell));
        return right.includes(header[column]!) ? padding + cell : cell + padding;
      })
      .join('  ')
      .trimEnd();
  return [header, ...rows].map(line).join('\n');
}

/** Keys and values, one a line. */
export function sheet(entries: readonly (readonly [string, string])[]): string {
  const widest = Math.max(...entries.map(([key]) => key.length));
  return entries.map(([key, value]) => `${`${key}:`.padEnd(widest + 2)}${value}`.trimEnd()).join('\n');
}

/** Code points, near enough for the alignment of names. */
function width(text: string): number {
  return [...text].length;
}
