export type {
  AdminService,
  CheckView,
  ClusterView,
  CollectionView,
  DiffView,
  InvitationView,
  LockView,
  MembersView,
  MigrationView,
  NodeView,
  TransferView,
  VolumeView,
} from './admin.ts';
export type { CephOptions, CliHandlers, CliOutput, JoinOptions, UpOptions } from './cli/cluster.ts';
export type { CliContext } from './cli/program.ts';
export { runCli } from './cli/run.ts';
export { AdminClient } from './http/client.ts';
export { checkSocketPath, type TcpListen } from './http/listeners.ts';
export { type HttpServer, type HttpServerOptions, startHttpServer } from './http/server.ts';
