/**
 * House rules that no linter knows, checked on the text of the files. Each rule is first proved on a line that breaks it.
 * To let a file use time, timers or randomness, add it to SHELLS with the reason.
 */
import { globSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..');
const SELF = relative(ROOT, import.meta.filename);
const MAX_LINES = 500;

type Permission = 'time' | 'timers' | 'turns' | 'randomness';

/** The only files of src and the simulator that may ask for the time, set timers, wait for the next turn or draw randomness by themselves, each with the reason. */
const SHELLS: Readonly<Record<string, { readonly may: readonly Permission[]; readonly because: string }>> = {
  'src/node/clock.ts': { may: ['time', 'timers'], because: 'the real clock, which all others are handed' },
  'chaos/sim/turns.ts': { may: ['turns'], because: 'gives each simulated event a turn of its own; no decision hangs on when that is' },
  'src/blocker/file/turns.ts': { may: ['turns'], because: 'keeps long work from filling one turn; no decision hangs on when one is' },
  'src/net/outbox.ts': { may: ['turns'], because: 'gathers the frames of one turn into one write; no decision hangs on when that is' },
};

interface Rule {
  readonly name: string;
  readonly appliesTo: (path: string) => boolean;
  /** The permission that exempts a file of SHELLS. */
  readonly permission?: Permission;
  /** Looks at code without comments, or at the raw text where `raw` is set. */
  readonly pattern: RegExp;
  readonly raw?: true;
  /** A comment on the line, or right above it, that says why makes it right. */
  readonly explainable?: true;
  /** A line that breaks the rule, and one that looks alike and does not. */
  readonly breaks: readonly string[];
  readonly keeps: readonly string[];
}

const inSource = (path: string) => path.startsWith('src/');
const isSeeded = (path: string) => inSource(path) || /^chaos\/sim\/(?!main\.ts)/.test(path);
const isSeededWithout = (permission: Permission) => (path: string) => isSeeded(path) && SHELLS[path]?.may.includes(permission) !== true;
const inCore = (path: string) => /^src\/.+\/core\//.test(path);
const isCode = (path: string) => /\.[cm]?[jt]s$/.test(path);

const RULES: readonly Rule[] = [
  {
    name: 'asks for the time past its Clock',
    appliesTo: isSeededWithout('time'),
    permission: 'time',
    pattern: /\bDate\.now\b|\bperformance\.now\b|\bprocess\.hrtime\b|\bnew Date\(\s*\)|\bprocess\.uptime\b/,
    breaks: ['const t = Date.now();', 'performance.now()', 'process.hrtime.bigint()', 'new Date()'],
    keeps: ['// not Date.now()', 'clock.nowMs()', 'new Date(createdAtMs).toISOString()'],
  },
  {
    name: 'sets a timer past its Clock',
    appliesTo: isSeededWithout('timers'),
    permission: 'timers',
    pattern: /\bset(Timeout|Interval)\b|['"](node:)?timers(\/promises)?['"]|\bAbortSignal\.timeout\b/,
    breaks: ['setTimeout(() => tick(), 5);', "import timers from 'node:timers/promises';", 'AbortSignal.timeout(5)', 'socket.setTimeout(5)'],
    keeps: ['clock.setTimer(5, tick)', '/* setTimeout(x) would do it */'],
  },
  {
    name: 'waits for the next turn by itself',
    appliesTo: isSeededWithout('turns'),
    permission: 'turns',
    pattern: /\bsetImmediate\b/,
    breaks: ['await new Promise(setImmediate)'],
    keeps: ['// not setImmediate'],
  },
  {
    name: 'draws randomness past its Prng',
    appliesTo: isSeededWithout('randomness'),
    permission: 'randomness',
    pattern: /\bMath\.random\b/,
    breaks: ['Math.random() < 0.5'],
    keeps: ['prng.unit() < 0.5'],
  },
  {
    name: 'waits, or reaches for the process, inside a pure core',
    appliesTo: inCore,
    pattern: /\basync\b|\bawait\b|\bPromise\b|\bqueueMicrotask\b|\bprocess\.|\bconsole\.|\bglobalThis\b|\bcrypto\./,
    breaks: ['async function f() {', 'await x;', 'new Promise(', 'process.env', 'console.log(1)'],
    keeps: ['/** The shell awaits this. */', 'awaitingVotes += 1'],
  },
  {
    name: 'leaves a test out',
    appliesTo: (path) => path.startsWith('test/') && path !== 'test/support/tools.ts',
    pattern: /\b(it|test|describe|suite)(\.\w+)*\.(skip|only|todo|fails)\b|\b(xit|xdescribe|fit|fdescribe)\s*\(/,
    breaks: ["it.skip('x', f)", "describe.only('x', f)", "it.concurrent.only('x', f)", "it.todo('x')"],
    keeps: ["it('skips only what it must', f)"],
  },
  {
    name: 'names a path of one machine',
    appliesTo: () => true,
    pattern: /(?<![\w.}~])\/(work|home|root|Users)\/\w/,
    raw: true,
    breaks: ["readFileSync('/home/me/x')", 'see /root/notes'],
    keeps: ["join(root, 'work')", 'https://host/a/home/x', './home/x'],
  },
  {
    name: 'swallows an error without saying why',
    appliesTo: isCode,
    pattern:
      /\bcatch\s*(\([^)]*\)\s*)?\{\s*\}|\.catch\(\s*(\(\w*\)|\w+)\s*=>\s*(\{\s*\}|undefined|null|void 0)\s*\)|\.catch\(\s*function\s*\(\w*\)\s*\{\s*\}/,
    raw: true,
    explainable: true,
    breaks: ['try { f(); } catch {}', 'try { f(); } catch (error) {\n}', 'p.catch(() => {});', 'p.catch(() => undefined)'],
    keeps: ['try { f(); } catch {\n  // gone already\n}', 'p.catch((error) => log(error))', '// The caller reports it.\np.catch(() => {});'],
  },
];

/** Blanks comments, keeping line breaks so that line numbers stay right. Good enough for our own style, not a parser. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' ')).replace(/(^|[\s;{}(),])\/\/[^\n]*/g, '$1');
}

/** One line for each match: `path:line: what is wrong: the line`. */
function violations(rule: Rule, path: string, text: string): string[] {
  const subject = rule.raw === true || !isCode(path) ? text : withoutComments(text);
  const found: string[] = [];
  for (const match of subject.matchAll(new RegExp(rule.pattern, 'g'))) {
    const line = subject.slice(0, match.index).split('\n').length;
    if (
      rule.explainable === true &&
      text
        .split('\n')
        .slice(line - 2, line)
        .some((each) => /(^|\s)\/\/ |\*\//.test(each))
    )
      continue;
    found.push(`${path}:${line}: ${rule.name}: ${match[0].trim()}`);
  }
  return found;
}

function filesOf(patterns: readonly string[]): { path: string; text: string }[] {
  return globSync(patterns, { cwd: ROOT, exclude: ['**/node_modules/**', '**/generated/**'] })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => path !== SELF)
    .sort()
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));
}

const files = filesOf([
  '{src,test,bench,chaos,scripts,bin}/**/*.{ts,js,mjs,cjs,sh,py,proto}',
  'docs/**/*.md',
  '*.{ts,mjs,cjs,json,md,yml}',
  '.ci/run',
]);

describe('the tree', () => {
  it('is read at all', () => {
    expect(files.filter(({ path }) => inSource(path)).length).toBeGreaterThan(5);
    expect(files.some(({ path }) => inCore(path))).toBe(true);
  });

  for (const rule of RULES) {
    it(`has no file that ${rule.name}`, () => {
      expect(files.filter(({ path }) => rule.appliesTo(path)).flatMap(({ path, text }) => violations(rule, path, text))).toEqual([]);
    });
  }

  it(`has no file in src of more than ${MAX_LINES} lines`, () => {
    const lengths = files.filter(({ path }) => inSource(path)).map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }));
    expect(lengths.filter(({ lines }) => lines > MAX_LINES)).toEqual([]);
  });
});

describe('the rules', () => {
  for (const rule of RULES) {
    it(`find code that ${rule.name}`, () => {
      for (const line of rule.breaks) expect(violations(rule, 'src/x/core/x.ts', `ok();\n${line}\n`), line).toHaveLength(1);
      for (const line of rule.keeps) expect(violations(rule, 'src/x/core/x.ts', `ok();\n${line}\n`), line).toEqual([]);
    });
  }

  it('apply where they should', () => {
    const applying = (path: string) => RULES.filter((rule) => rule.appliesTo(path)).length;
    expect(applying('src/raft/core/step.ts')).toBeGreaterThan(applying('src/raft/driver.ts'));
    expect(applying('src/raft/driver.ts')).toBeGreaterThan(applying('src/node/clock.ts'));
    expect(applying('chaos/sim/world.ts')).toBeGreaterThan(applying('chaos/sim/main.ts'));
  });

  it('are lifted only where a file needs it', () => {
    const unneeded = files.flatMap(({ path, text }) =>
      (SHELLS[path]?.may ?? [])
        .filter((may) => !RULES.some((rule) => rule.permission === may && violations(rule, path, text).length > 0))
        .map((may) => `${path}: ${may}`),
    );
    expect(unneeded).toEqual([]);
  });
});
