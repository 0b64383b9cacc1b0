/** The calls that make data survive a power failure, in one place, so that tests can watch them, fail them and model what they keep. */
import { execFile } from 'node:child_process';
import { closeSync, constants, fdatasync, fsync, open } from 'node:fs';
import { open as openFile } from 'node:fs/promises';

export interface Durability {
  /** The content of a file, and its length. */
  data(fd: number, path: string): Promise<void>;
  /** The entries of a directory. */
  directory(path: string): Promise<void>;
  /** All that any process has written to the file system that holds `path`. */
  fileSystem(path: string): Promise<void>;
}

export const systemDurability: Durability = {
  data(fd) {
    return new Promise((resolve, reject) => fdatasync(fd, (error) => (error === null ? resolve() : reject(error))));
  },

  directory(path) {
    return new Promise((resolve, reject) => {
      open(path, constants.O_RDONLY | constants.O_DIRECTORY, (openError, fd) => {
        if (openError !== null) return reject(openError);
        fsync(fd, (error) => {
          closeSync(fd);
          if (error === null) resolve();
          else reject(error);
        });
      });
    });
  },

  // Node has no syncfs(2); the program of coreutils has.
  fileSystem(path) {
    return new Promise((resolve, reject) => {
      execFile('sync', ['-f', path], (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  },
};

/** Writes a whole file and syncs it; its entry is the caller's business. */
export async function writeDurably(durability: Pick<Durability, 'data'>, path: string, bytes: Uint8Array): Promise<void> {
  const file = await openFile(path, 'w', 0o600);
  try {
    await file.writeFile(bytes);
    await durability.data(file.fd, path);
  } finally {
    await file.close();
  }
}
