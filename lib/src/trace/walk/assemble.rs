//! How do the ways of a walk become one trace?

use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use super::{Ending, Walk};
use crate::trace::contract::{Hop, Leg, Model, Outcome, RequestLine, SCHEMA, Source, Trace};

/// Hops by id, in the order they were first met.
#[derive(Default)]
struct Hops {
    all: Vec<Hop>,
    by_id: FxHashMap<SmolStr, usize>,
}

impl Hops {
    /// Adds a hop; the hop itself when another of that id says something else.
    fn add(&mut self, hop: Hop) -> Option<Hop> {
        match self.by_id.get(&hop.id) {
            Some(known) => self.all.get(*known).filter(|known| **known != hop).map(|_| hop),
            None => {
                self.by_id.insert(hop.id.clone(), self.all.len());
                self.all.push(hop);
                None
            }
        }
    }
}

/// Legs in the order they were first met.
#[derive(Default)]
struct Legs {
    all: Vec<Leg>,
    by_ends: FxHashMap<(SmolStr, SmolStr), Vec<usize>>,
}

impl Legs {
    /// Adds legs; one that is already there becomes likelier.
    fn add(&mut self, more: impl IntoIterator<Item = Leg>, probability: f64) {
        for leg in more {
            let leg = Leg { probability, ..leg };
            let known = self.by_ends.entry((leg.from.clone(), leg.to.clone())).or_default();
            let same = |at: &&usize| {
                self.all.get(**at).is_some_and(|known| Leg { probability, ..known.clone() } == leg)
            };
            match known.iter().find(same) {
                Some(at) => {
                    if let Some(known) = self.all.get_mut(*at) {
                        known.probability += probability;
                    }
                }
                None => {
                    known.push(self.all.len());
                    self.all.push(leg);
                }
            }
        }
    }
}

impl Walk<'_> {
    /// The outcomes, most probable first.
    pub(super) fn outcomes(mut self) -> Vec<Outcome> {
        sort(&mut self.endings);
        self.endings.into_iter().map(|ending| ending.outcome).collect()
    }

    /// The whole trace.
    pub(super) fn trace(mut self, source: Source) -> Trace {
        sort(&mut self.endings);
        let mut hops = Hops::default();
        let mut legs = Legs::default();
        let mut outcomes = Vec::with_capacity(self.endings.len());
        for ending in self.endings {
            let mut outcome = ending.outcome;
            outcome.hops = ending.hops.into_iter().filter_map(|hop| hops.add(hop)).collect();
            legs.add(ending.legs, outcome.probability);
            outcomes.push(outcome);
        }
        for ending in self.copied {
            // The hops before the copy was made belong to the request itself.
            for hop in ending.hops {
                hops.add(hop);
            }
            legs.add(ending.legs.into_iter().filter(|leg| leg.mirror), ending.outcome.probability);
        }
        let request = RequestLine {
            method: if self.query.target.scheme.is_http() {
                self.query.method.clone()
            } else {
                SmolStr::default()
            },
            url: self.query.url.clone(),
            headers: self
                .query
                .headers
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
                .collect(),
        };
        Trace {
            schema: SCHEMA,
            model: Model { istio: crate::ISTIO_VERSION, envoy: crate::ENVOY_VERSION },
            request,
            source,
            outcomes,
            hops: hops.all,
            legs: legs.all,
            near_misses: self.near_misses,
            assumptions: self.assumptions,
            diagnostics: self.notes,
        }
    }
}

/// The most probable first; equal ones in the order of the walk.
fn sort(endings: &mut [Ending]) {
    endings.sort_by(|a, b| b.outcome.probability.total_cmp(&a.outcome.probability));
}
