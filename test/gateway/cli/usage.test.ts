/** What the CLI says of itself, and to those who use it wrongly. */
import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeProgram } from '../../../src/gateway/cli/program.ts';
import { systemClock } from '../../../src/node/clock.ts';
import { type Served, serve } from '../http/serve.ts';
import { cli, LAUNCHER } from './run.ts';

const refuse = () => Promise.reject(new Error('not here'));
const program = makeProgram({ clock: systemClock, exitStatus: 0 }, { start: refuse, up: refuse, down: refuse, join: refuse }, '1.2.3');

function commandsOf(command: Command): Command[] {
  return [command, ...command.commands.filter((each) => !each.name().startsWith('_')).flatMap(commandsOf)];
}

function pathOf(command: Command): string {
  return command.parent === null ? '' : `${pathOf(command.parent)} ${command.name()}`.trim();
}

/** The help as a terminal of 80 columns shows it, with examples. */
function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
    getOutHelpWidth: () => 80,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return text;
}

describe('the help', () => {
  it('is as it was', () => {
    expect(
      commandsOf(program)
        .map((command) => `$ archipelago ${pathOf(command)} --help\n${helpOf(command)}`)
        .join('\n'),
    ).toMatchSnapshot();
  });

  it.each(
    commandsOf(program)
      .filter((command) => command.commands.length === 0)
      .map((command) => [pathOf(command), command] as const),
  )('of %s has examples that its own parser takes', (path, command) => {
    const examples = helpOf(command).split('Examples:\n')[1]!.trim().split('\n');
    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples) expect(example).toMatch(new RegExp(`archipelago ${path}( |$)`));
  });

  it.each([['--help'], ['-h'], ['volume', '--help'], ['volume', 'create', '-h'], ['--version']])(
    '%s %s is printed with status 0',
    async (...args) => {
      const { status, stdout, stderr } = await cli(args);
      expect([status, stderr]).toEqual([0, '']);
      expect(stdout).not.toBe('');
    },
  );

  it('starts quickly, without the heavy libraries', () => {
    const trace = join(mkdtempSync(join(tmpdir(), 'arch-usage-')), 'hooks.mjs');
    writeFileSync(
      trace,
      `import { registerHooks } from 'node:module';
       registerHooks({ load(url, context, next) { process.stderr.write(url + '\\n'); return next(url, context); } });`,
    );
    const { status, stderr } = spawnSync(process.execPath, ['--import', trace, LAUNCHER, 'volume', 'ls', '--socket', '/nowhere'], {
      encoding: 'utf8',
    });
    rmSync(join(trace, '..'), { recursive: true });
    expect(status).toBe(5);
    const packages = [...stderr.matchAll(/node_modules\/((?:@[^/]+\/)?[^/]+)/g)].map(([, name]) => name);
    expect([...new Set(packages)]).toEqual(['commander']);
  });
});

describe('usage errors', () => {
  it.each([
    ['', 'missing command', 'one of volume, up'],
    ['volume', 'missing command', 'one of create, clone'],
    ['frobnicate', "unknown command 'frobnicate'", 'one of volume, up'],
    ['volume frobnicate', "unknown command 'frobnicate'", 'archipelago volume --help'],
    ['volume info', "missing required argument 'volume'", 'archipelago volume info --help'],
    ['volume create', "required option '--size <size>' not specified", 'archipelago volume create --help'],
    ['volume create v', "required option '--size <size>' not specified", 'archipelago volume create --help'],
    ['volume create v --size', "option '--size <size>' argument missing", 'archipelago volume create --help'],
    ['volume create v w --size 1G', 'too many arguments', 'archipelago volume create --help'],
    ['volume create v --size 0', "--size '0' must be more than 0", 'sizes are bytes'],
    ['volume create v --size 1000', "--size '1000' must be a multiple of 512", 'sizes are bytes'],
    ['volume create v --size 1G --block-size 3M', 'power of two', ''],
    ['volume create a/b --size 1G', "the name 'a/b' holds a '/'", 'names have 1 to 255 bytes'],
    [`volume create ${'x'.repeat(256)} --size 1G`, 'has 256 bytes', 'names have'],
    ['volume info ', "the name '' is empty", 'names have'],
    ['volume ls --bogus', "unknown option '--bogus'", 'archipelago volume ls --help'],
    ['volume ls --label x', 'has not the form KEY=VALUE', ''],
    ['volume label v', "missing required argument 'labels'", 'archipelago volume label --help'],
    ['volume label v x', 'neither KEY=VALUE nor KEY-', ''],
    ['volume label v =x', 'the key of the label', ''],
    ['volume migrate v', "required option '--to <node>' not specified", ''],
    ['volume import x y --format vmdk', 'Allowed choices are raw, qcow2', ''],
    ['up --nodes x', 'not a whole number', 'archipelago up --help'],
    ['up --nodes 2', '--nodes is 1, 3, 5, 7, not 2', ''],
    ['up --store zfs', 'Allowed choices are file, memory, rados', ''],
    ['node start', "required option '--config <file>' not specified", ''],
    ['completion tcsh', "no completion for 'tcsh'", 'bash, zsh, fish'],
  ])('archipelago %s', async (line, message, hint) => {
    const args = line === '' ? [] : line.split(' ');
    const forEyes = await cli(args);
    expect([forEyes.status, forEyes.stdout]).toEqual([2, '']);
    expect(forEyes.stderr).toMatch(/^error: /);
    expect(forEyes.stderr).toContain(message);
    expect(forEyes.stderr).toContain(hint);
    const asJson = await cli([...args, '--json']);
    expect([asJson.status, asJson.stdout]).toEqual([2, '']);
    expect(asJson.json.error).toMatchObject({ code: 'invalid-argument' });
    // With --size as the last word, --json is its argument.
    if (!line.endsWith('--size')) expect(asJson.json.error.message).toContain(message);
  });
});

describe('completion', () => {
  let node: Served;
  let bin: string;
  beforeAll(async () => {
    node = await serve();
    bin = mkdtempSync(join(tmpdir(), 'arch-bin-'));
    symlinkSync(process.execPath, join(bin, 'node'));
    writeFileSync(join(bin, 'archipelago'), `#!/bin/sh\nexec ${process.execPath} ${LAUNCHER} "$@"\n`);
    chmodSync(join(bin, 'archipelago'), 0o755);
    for (const name of ['disk1', 'disk two', '$(touch hacked)']) await node.admin.createVolume({ name, size: 512 });
    await node.admin.snapshotVolume('disk1', { name: 'disk1@a' });
  });
  afterAll(async () => {
    await node.stop();
    rmSync(bin, { recursive: true });
  });

  it.each([
    [[''], ['volume', 'up', 'down', 'cluster', 'node', 'gc', 'completion']],
    [['vol'], ['volume']],
    [
      ['volume', 're'],
      ['resize', 'rename'],
    ],
    [['volume', 'create', '--b'], ['--block-size']],
    [
      ['volume', 'info', 'd'],
      ['disk1', 'disk two', 'disk1@a'],
    ],
    [
      ['volume', 'info', ''],
      ['disk1', 'disk two', '$(touch hacked)', 'disk1@a'],
    ],
    [['volume', 'info', 'disk1', ''], []],
    [['volume', 'clone', ''], ['disk1@a']],
    [['volume', 'clone', 'disk1@a', ''], []],
    [
      ['volume', 'migrate', 'disk1', '--to', ''],
      ['n1', 'n2', 'n3'],
    ],
    [['volume', 'migrate', '--to', 'n2', 'disk1@'], ['disk1@a']],
    [
      ['node', 'drain', ''],
      ['n1', 'n2', 'n3'],
    ],
    [
      ['cluster', 'remove', ''],
      ['n1', 'n2', 'n3'],
    ],
    [['cluster', 'transfer-leader', 'n2'], ['n2']],
    [
      ['cluster', ''],
      ['status', 'invite', 'join', 'remove', 'transfer-leader'],
    ],
    [
      ['up', '--store', ''],
      ['file', 'memory', 'rados'],
    ],
    [['volume', 'import', ''], []],
    [
      ['completion', ''],
      ['bash', 'zsh', 'fish'],
    ],
  ])('of %j', async (words, candidates) => {
    const { status, stdout } = await cli(['_complete', '--', ...words], { socket: node.socketPath });
    expect(status).toBe(0);
    expect(stdout.split('\n').filter(Boolean)).toEqual(candidates);
  });

  it('offers nothing, and no error, where there is no node', async () => {
    expect(await cli(['_complete', '--', 'volume', 'info', ''], { socket: '/nowhere' })).toMatchObject({ status: 0, stdout: '', stderr: '' });
  });

  it('works in bash, and runs nothing that a name says', async () => {
    const press = async (line: string) => {
      const words = line.split(' ');
      const script = `source <(archipelago completion bash)
        COMP_WORDS=(archipelago ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}
        compopt() { echo files; }; _archipelago; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const env = { PATH: `${bin}:${process.env['PATH']}`, ARCHIPELAGO_SOCKET: node.socketPath };
      const { stdout, stderr } = await promisify(execFile)('bash', ['--norc', '-c', script], { cwd: node.directory, env });
      return (stderr + stdout).split('\n').filter(Boolean);
    };
    expect(await press('volume sn')).toEqual(['snapshot']);
    expect(await press('volume info ')).toEqual(['disk1', 'disk\\ two', '\\$\\(touch\\ hacked\\)', 'disk1@a']);
    expect(await press('volume import ')).toEqual(['files']);
    expect(spawnSync('ls', [node.directory], { encoding: 'utf8' }).stdout).not.toContain('hacked');
  });

  it.each(['bash', 'zsh', 'fish'])('prints a script for %s', async (shell) => {
    const { status, stdout } = await cli(['completion', shell]);
    expect(status).toBe(0);
    expect(stdout).toContain('archipelago _complete --');
    expect((await cli(['completion', shell, '--json'])).json).toEqual({ shell, script: stdout });
  });
});
