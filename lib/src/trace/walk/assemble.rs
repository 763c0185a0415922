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
        let mut legs: Vec<Leg> = Vec::new();
        let mut outcomes = Vec::with_capacity(self.endings.len());
        for ending in self.endings {
            let mut outcome = ending.outcome;
            outcome.hops = ending.hops.into_iter().filter_map(|hop| hops.add(hop)).collect();
            add_legs(&mut legs, ending.legs, outcome.probability);
            outcomes.push(outcome);
        }
        for ending in self.copied {
            // The hops before the copy was made belong to the request itself.
            for hop in ending.hops {
                hops.add(hop);
            }
            let copied: Vec<Leg> = ending.legs.into_iter().filter(|leg| leg.mirror).collect();
            add_legs(&mut legs, copied, ending.outcome.probability);
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
            legs,
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

/// Adds legs; one that is already there becomes likelier.
fn add_legs(all: &mut Vec<Leg>, more: Vec<Leg>, probability: f64) {
    for leg in more {
        let same = |known: &&mut Leg| Leg { probability: leg.probability, ..(*known).clone() } == leg;
        match all.iter_mut().find(same) {
            Some(known) => known.probability += probability,
            None => all.push(Leg { probability, ..leg }),
        }
    }
}
