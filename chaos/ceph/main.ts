/** `npm run ceph -- up|down`: a Ceph cluster for development. */
import { Command } from 'commander';
import { startCeph, stopCeph } from './cluster.ts';

const DEFAULT_DIRECTORY = './ceph-data';

const program = new Command('npm run ceph --');
program.description('A real Ceph cluster on this host, for development: one monitor and some OSDs, on 127.0.0.1.').addHelpText(
  'after',
  `
Examples:
  npm run ceph -- up --osds 3
  npx archipelago up --store rados --ceph-conf ./ceph-data/ceph.conf
  npm run ceph -- down --remove

It needs Debian's packages ceph-mon, ceph-osd and ceph-common, and root.`,
);

program
  .command('up')
  .description('starts the cluster, and makes it and its pools `maps` and `blocks` first if there is none')
  .option('--osds <count>', 'OSDs of a new cluster', '1')
  .option('--data <directory>', 'where it keeps everything', DEFAULT_DIRECTORY)
  .action(async ({ osds, data }: { osds: string; data: string }) => {
    const count = Number(osds);
    if (!Number.isInteger(count) || count < 1 || count > 9) program.error(`--osds is a number from 1 to 9, not '${osds}'`, { exitCode: 2 });
    const { confFile, osdPids, monitorPid } = await startCeph({ directory: data, osds: count });
    process.stdout.write(`Ceph runs: monitor ${monitorPid}, OSDs ${osdPids.join(', ')}\nconfiguration: ${confFile}\n`);
  });

program
  .command('down')
  .description('ends the daemons; their data stays')
  .option('--data <directory>', 'where it keeps everything', DEFAULT_DIRECTORY)
  .option('--remove', 'remove the data, too')
  .action(({ data, remove }: { data: string; remove?: true }) => stopCeph(data, remove === true));

await program.parseAsync();
