//! Whether one peer answers, as this node sees it. Time comes in as an argument; no messages.
//!
//! ```text
//!            silent for PEER_SILENT_MS, or link lost
//!   heard ---------------------------------------------> suspected
//!     ^                                                    |  others are asked, twice
//!     |                                                    v
//!     '---- any answer of its own ---- cut off <--one of them hears it--+--nobody does--> down
//! ```
//! What counts is an *answer*: bytes that arrive say nothing of a link that is dead the other way.
//! The first time others are asked they may still have heard it a moment ago; the second time, half
//! a second later, only somebody who hears it *now* can say so. The verdict is this node's own, it
//! steers routing and hints alone, and it is never final: others are asked again for as long as the
//! silence lasts, and one answer ends it.
//!
//! Time in which this node itself stood still proves nothing of others: `Liveness::forgive`.

use crate::limits::{PEER_ASK_AGAIN_MS, PEER_ASK_MS, PEER_SILENT_MS};
use crate::types::{Health, Instant};

/// What this node knows of a peer's answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Liveness {
    heard: Instant,
    /// When it was last asked whether it is there.
    probed: Instant,
    silence: Option<Silence>,
}

/// A silence that has lasted long enough for others to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Silence {
    /// Rounds of questions that have begun.
    rounds: u32,
    next_round: Instant,
    /// Somebody hears it: in this round, and in the one before.
    hears: bool,
    heard_before: bool,
}

/// What is to be done about a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// Ask it whether it is there.
    Probe,
    /// Ask others whether they hear it. `verdict`: this node has just now given it up.
    AskOthers {
        /// Requests that wait for it are to go elsewhere.
        verdict: bool,
    },
}

impl Liveness {
    /// Of a peer first heard of now: it has the usual time to answer.
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, probed: now, silence: None }
    }

    /// It has answered. Returns whether that ends a silence.
    pub(super) fn hear(&mut self, now: Instant) -> bool {
        self.heard = now;
        self.silence.take().is_some()
    }

    /// The link to it is gone: the silence begins at once.
    pub(super) fn lose(&mut self, now: Instant) {
        if self.silence.is_none() {
            self.silence = Some(Silence { rounds: 0, next_round: now, hears: false, heard_before: false });
        }
    }

    /// Another node says how long ago it heard the peer.
    pub(super) fn told(&mut self, heard_ms_ago: Option<u32>) {
        if let Some(silence) = &mut self.silence {
            silence.hears |= heard_ms_ago.is_some_and(|ago| u64::from(ago) < PEER_SILENT_MS);
        }
    }

    /// This node stood still for so long, and heard nobody. What came in just now, after the
    /// stall, is no later than now.
    pub(super) fn forgive(&mut self, now: Instant, stalled_us: u64) {
        self.heard = Instant(self.heard.0.saturating_add(stalled_us)).min(now);
        if let Some(silence) = &mut self.silence {
            silence.next_round = Instant(silence.next_round.0.saturating_add(stalled_us));
        }
    }

    /// Looks at the clock. `idle_ms`: an answer this old calls for a probe.
    pub(super) fn tick(&mut self, now: Instant, idle_ms: u64) -> Next {
        if self.silence.is_none() && now >= self.heard.after_ms(PEER_SILENT_MS) {
            self.lose(now);
        }
        let probe_at = self.probe_at(idle_ms);
        match &mut self.silence {
            Some(silence) if now >= silence.next_round => Next::AskOthers { verdict: silence.next(now) },
            Some(_) => Next::Nothing,
            None if now >= probe_at => {
                self.probed = now;
                Next::Probe
            }
            None => Next::Nothing,
        }
    }

    /// When it next wants to be looked at.
    pub(super) fn wake(&self, idle_ms: u64) -> Instant {
        let silent_at = self.heard.after_ms(PEER_SILENT_MS);
        self.silence.map_or_else(|| self.probe_at(idle_ms).min(silent_at), |silence| silence.next_round)
    }

    fn probe_at(&self, idle_ms: u64) -> Instant {
        self.heard.max(self.probed).after_ms(idle_ms)
    }

    /// How it is.
    pub(super) fn health(&self) -> Health {
        match self.silence {
            None => Health::Up,
            Some(silence) if !silence.is_decided() => Health::Suspected,
            Some(silence) if silence.heard_before => Health::CutOff,
            Some(_) => Health::Down,
        }
    }

    /// Whether it has answered since then.
    pub(super) fn is_heard_since(&self, since: Instant) -> bool {
        self.heard > since
    }

    /// How long ago it answered, in milliseconds.
    pub(super) fn heard_ms_ago(&self, now: Instant) -> u32 {
        u32::try_from(now.micros_since(self.heard) / 1000).unwrap_or(u32::MAX)
    }
}

impl Silence {
    /// After the second round had its time, there is a verdict.
    fn is_decided(&self) -> bool {
        self.rounds > 2
    }

    /// Begins the next round. Returns whether the verdict falls with it.
    fn next(&mut self, now: Instant) -> bool {
        self.rounds = self.rounds.saturating_add(1);
        self.heard_before = std::mem::take(&mut self.hears);
        let wait_ms = if self.is_decided() { PEER_ASK_AGAIN_MS } else { PEER_ASK_MS };
        self.next_round = now.after_ms(wait_ms);
        self.rounds == 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PROBE_MS;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1000)
    }

    /// Looks at the clock every 100 ms; `hears` is what others say when they are asked.
    fn watch(peer: &mut Liveness, from_ms: u64, to_ms: u64, hears: impl Fn(u64) -> Option<u32>) -> u64 {
        for ms in (from_ms..to_ms).step_by(100) {
            match peer.tick(at(ms), PROBE_MS) {
                Next::AskOthers { verdict: true } => return ms,
                Next::AskOthers { verdict: false } => peer.told(hears(ms)),
                Next::Nothing | Next::Probe => {}
            }
        }
        to_ms
    }

    #[test]
    fn a_peer_that_stops_answering_is_down_within_three_seconds() {
        let mut peer = Liveness::new(at(0));
        // Others heard it last when we did.
        let verdict_ms = watch(&mut peer, 0, 10_000, |ms| Some(u32::try_from(ms).unwrap()));
        assert!(verdict_ms <= 2_500, "{verdict_ms}");
        assert_eq!(peer.health(), Health::Down);
    }

    #[test]
    fn a_peer_whose_link_breaks_is_down_within_two_seconds() {
        let mut peer = Liveness::new(at(0));
        peer.lose(at(0));
        assert_eq!(peer.health(), Health::Suspected);
        assert!(watch(&mut peer, 0, 10_000, |_| None) <= 1_500);
        assert_eq!(peer.health(), Health::Down);
    }

    #[test]
    fn a_peer_that_others_hear_is_cut_off_and_not_down() {
        let mut peer = Liveness::new(at(0));
        watch(&mut peer, 0, 10_000, |_| Some(100));
        assert_eq!(peer.health(), Health::CutOff);
        // Nor is that the last word: it may die later.
        watch(&mut peer, 10_000, 20_000, |_| None);
        assert_eq!(peer.health(), Health::Down);
    }

    #[test]
    fn one_answer_ends_any_silence() {
        let mut peer = Liveness::new(at(0));
        watch(&mut peer, 0, 10_000, |_| None);
        assert!(peer.hear(at(10_000)));
        assert_eq!(peer.health(), Health::Up);
        assert_eq!(peer.tick(at(10_100), PROBE_MS), Next::Nothing);
        assert_eq!(peer.tick(at(10_600), PROBE_MS), Next::Probe);
    }

    #[test]
    fn a_stall_of_our_own_is_not_held_against_others() {
        let mut peer = Liveness::new(at(0));
        assert_eq!(peer.tick(at(400), PROBE_MS), Next::Nothing);
        // Stopped for a minute.
        peer.forgive(at(60_400), 60_000_000);
        assert_eq!(peer.tick(at(60_500), PROBE_MS), Next::Probe);
        assert_eq!(peer.health(), Health::Up);
    }
}
