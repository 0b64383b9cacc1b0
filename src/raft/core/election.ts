/**
 * Elections. A member first asks whether it would be elected (pre-vote) and disturbs nobody if not; one that hears from a living leader
 * refuses both kinds of question (stickiness), unless that leader itself is handing over.
 */

import { membersOf } from './configuration.ts';
import { becomeLeader } from './leader.ts';
import { voteOutcome } from './quorum.ts';
import type { CoreState } from './state.ts';
import type { MessageOf, Term } from './types.ts';

type VoteRequest = MessageOf<'preVote' | 'vote'>;

export function tickElection(state: CoreState): void {
  state.electionElapsed++;
  if (state.electionElapsed >= state.electionTimeout && state.mayCampaign) preCampaign(state);
}

export function preCampaign(state: CoreState): void {
  state.role = 'preCandidate';
  state.leader = null;
  state.resetElection();
  state.votes.set(state.id, true);
  ask(state, 'preVote', false);
  decide(state);
}

/** `force` asks the others to forget their leader, in whose name this campaign is. */
export function campaign(state: CoreState, force: boolean): void {
  state.role = 'candidate';
  state.leader = null;
  state.resetElection();
  state.setTerm((state.term + 1) as Term);
  state.voteFor(state.id);
  // Its own vote counts, and others are asked, once term and vote are on the disk: else a crash could make it vote twice.
  state.sendAfterPersist(state.id, { type: 'voteReply', granted: true });
  ask(state, 'vote', force);
}

function ask(state: CoreState, type: 'preVote' | 'vote', force: boolean): void {
  const { log } = state;
  const body = { type, lastIndex: log.lastIndex, lastTerm: log.lastTerm, force } as const;
  for (const id of membersOf({ ...log.configuration, learners: [], learnersNext: [] })) {
    if (id === state.id) continue;
    if (type === 'preVote') state.send(id, body, (state.term + 1) as Term);
    else state.sendAfterPersist(id, body);
  }
}

/** Whether this member hears from a leader that nobody should depose. */
export function isSticky(state: CoreState): boolean {
  return state.role === 'leader' || (state.leader !== null && state.electionElapsed < state.options.electionTicks);
}

export function handlePreVote(state: CoreState, message: VoteRequest): void {
  const granted = message.term > state.term && state.log.isUpToDate(message.lastIndex, message.lastTerm);
  // A grant speaks of the term that was asked for; a refusal tells our own, so that one who is behind catches up.
  state.send(message.from, { type: 'preVoteReply', granted }, granted ? message.term : state.term);
}

/** For a request of the current term. */
export function handleVote(state: CoreState, message: VoteRequest): void {
  const free = state.votedFor === null || state.votedFor === message.from;
  if (!free || !state.log.isUpToDate(message.lastIndex, message.lastTerm)) {
    state.send(message.from, { type: 'voteReply', granted: false });
    return;
  }
  state.voteFor(message.from);
  state.electionElapsed = 0;
  state.sendAfterPersist(message.from, { type: 'voteReply', granted: true });
}

export function handleVoteReply(state: CoreState, message: MessageOf<'preVoteReply' | 'voteReply'>): void {
  const expected = message.type === 'preVoteReply' ? 'preCandidate' : 'candidate';
  if (state.role !== expected) return;
  if (message.type === 'preVoteReply' && message.granted && message.term !== state.term + 1) return;
  if (!state.votes.has(message.from)) state.votes.set(message.from, message.granted);
  decide(state);
}

function decide(state: CoreState): void {
  const outcome = voteOutcome(state.log.configuration, state.votes);
  if (outcome === 'lost') state.becomeFollower(state.term, null);
  else if (outcome === 'won' && state.role === 'preCandidate') campaign(state, false);
  else if (outcome === 'won') becomeLeader(state);
}
