#!/usr/bin/env node
/*
 * The launcher. It stays parseable for Node 14, so that an old Node reaches the message below instead of a syntax error:
 * no top-level await, and nothing imported that an old Node lacks.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath } from 'node:url';

const REQUIRED_MAJOR = 24;

function beside(path) {
  return fileURLToPath(new URL(path, import.meta.url));
}

function isRecent() {
  return Number(process.versions.node.split('.')[0]) >= REQUIRED_MAJOR;
}

/** A checkout has the sources and runs them as they are; a published package has only what `npm run build` made of them. */
function start() {
  if (module.enableCompileCache) module.enableCompileCache();
  import(existsSync(beside('../src/node/main.ts')) ? '../src/node/main.ts' : '../dist/node/main.js').catch((error) => {
    process.stderr.write(`archipelago: cannot start: ${error instanceof Error ? error.stack : error}\n`);
    process.exit(1);
  });
}

/** Runs this same file under the Node that `npm ci` installed for this checkout, and ends as it ends. */
function startUnder(node) {
  let child = null;
  // Before the child starts: a signal that came in between would end this process alone.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      // A Ctrl-C on a terminal reaches the child too, and two of them would mean something else than one.
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child = spawn(node, [beside('./archipelago.js')].concat(process.argv.slice(2)), { stdio: 'inherit' });
  child.on('error', (error) => {
    process.stderr.write(`archipelago: cannot run ${node}: ${error.message}\n`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

function refuse() {
  process.stderr.write(
    `archipelago: this is Node ${process.versions.node}, and Node ${REQUIRED_MAJOR} or later is needed.\n` +
      'In a checkout, `npm ci` installs one beside the sources and it is then used by itself.\n' +
      `Elsewhere, install Node ${REQUIRED_MAJOR} from https://nodejs.org/ and start archipelago again.\n`,
  );
  process.exit(1);
}

const pinned = beside('../node_modules/node/bin/node');
if (isRecent()) start();
else if (existsSync(pinned)) startUnder(pinned);
else refuse();
