//! How much of a request that forks is followed?
//!
//! A request that comes back and forks each time has more ways than any machine can follow. Each way gets a share of what may
//! be kept, what it leaves over goes to its neighbours, and ways that get too little are put together in one outcome that
//! says so. Invariant: no walk keeps more than [`MOST_KEPT`] hops of its ways, and as many of copies; what it does not follow
//! is never left out of the sum of probabilities.

use super::{Visit, Walk};
use crate::trace::contract::HopKind;

/// The most hops that are kept of all ways together, and of all copies.
pub(super) const MOST_KEPT: usize = 16_384;
/// The hops that a way is expected to have beyond its fork.
const EXPECTED: usize = 4;

/// What is not followed.
pub(super) struct Remainder {
    /// How likely it is.
    probability: f64,
    /// The hops that all of it has in common.
    path: Vec<Visit>,
}

impl Walk<'_> {
    /// How many of the ways of a fork can be followed.
    pub(super) fn affordable(&self, ways: usize) -> usize {
        if ways < 2 {
            return ways;
        }
        let affordable = self.budget / (self.path.len() + EXPECTED);
        // A few of the ways of a request that goes round would tell nothing.
        if affordable < ways && self.returned().is_some() { 0 } else { affordable.min(ways) }
    }

    /// Lets the ending of this way take its part of what may be kept; whether there is enough left.
    pub(super) fn keeps(&mut self) -> bool {
        let enough = self.budget >= self.path.len();
        self.budget = self.budget.saturating_sub(self.path.len());
        enough
    }

    /// Stops here: what comes next is put to what is not followed.
    pub(super) fn stop(&mut self) {
        self.budget = self.budget.saturating_sub(self.path.len());
        if self.copies > 0 {
            self.lost_copies = true;
            return;
        }
        match &mut self.remainder {
            None => {
                self.remainder = Some(Remainder { probability: self.probability, path: self.path.clone() });
            }
            Some(remainder) => {
                remainder.probability += self.probability;
                keep_common(&mut remainder.path, &self.path);
            }
        }
    }

    /// Copies of this hop that are to be followed get a share of what may be kept; `None` when it is too little.
    pub(super) fn share_of_copy(&self, still_to_come: usize) -> Option<usize> {
        let pool = if self.copies == 0 { self.copies_budget } else { self.budget };
        Some(pool / (still_to_come + 1)).filter(|share| *share >= self.path.len() + EXPECTED)
    }

    /// Ends what was not followed, as one way.
    pub(super) fn end_remainder(&mut self) {
        let Some(remainder) = self.remainder.take() else { return };
        self.budget = MOST_KEPT;
        self.probability = remainder.probability;
        self.path = remainder.path;
        let reason = match self.returned() {
            Some(first) => {
                // Once round shows what all further rounds are like.
                let (_, again) = first;
                self.path.truncate(again + 1);
                let id = self.path.get(first.0).map(|visit| visit.hop.id.clone()).unwrap_or_default();
                format!("it comes back to {id} and forks each time: there are more ways than can be followed")
            }
            None => "it forks into more ways than can be followed".to_owned(),
        };
        self.unknown(reason);
        self.path.clear();
    }

    /// The first proxy on the path that is passed again, and where.
    fn returned(&self) -> Option<(usize, usize)> {
        let same = |a: &Visit, b: &Visit| a.hop.kind == b.hop.kind && a.workload == b.workload;
        let proxies = self.path.iter().enumerate().filter(|(_, visit)| visit.hop.kind != HopKind::Client);
        proxies.into_iter().find_map(|(again, visit)| {
            let first = self.path.iter().take(again).position(|earlier| same(earlier, visit))?;
            Some((first, again))
        })
    }
}

/// Leaves the hops and steps that both paths have.
fn keep_common(path: &mut Vec<Visit>, other: &[Visit]) {
    let common = path.iter().zip(other).take_while(|(one, other)| one.hop.id == other.hop.id).count();
    path.truncate(common);
    for (one, other) in path.iter_mut().zip(other) {
        let steps = one.hop.steps.iter().zip(&other.hop.steps).take_while(|(a, b)| a == b).count();
        one.hop.steps.truncate(steps);
        one.fidelity = one.fidelity.max(other.fidelity);
    }
}
