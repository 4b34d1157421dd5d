//! Finds the new places of the elements of an array.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::tree::{canonical, is_same};

/// Where the elements of an array come from.
pub(super) struct Alignment {
    /// For each element, its place in the earlier array; `None` for a new one.
    pub(super) source: Vec<Option<usize>>,
    /// The elements that have overtaken others.
    pub(super) moved: BTreeSet<usize>,
}

impl Alignment {
    /// Whether all elements are where they were.
    pub(super) fn is_in_place(&self, length: usize) -> bool {
        self.source.len() == length && self.source.iter().enumerate().all(|(at, from)| *from == Some(at))
    }
}

/// The largest set of positions at which the values rise, those without a value left out, in `n log n` steps.
fn rising(values: &[Option<usize>]) -> HashSet<usize> {
    // For each length, where the run of that length ends that ends lowest.
    let mut ends: Vec<(usize, usize)> = Vec::new();
    let mut before = vec![None; values.len()];
    for (at, value) in values.iter().enumerate() {
        let Some(value) = *value else { continue };
        let low = ends.partition_point(|(end, _)| *end < value);
        before[at] = low.checked_sub(1).map(|shorter| ends[shorter].1);
        match ends.get_mut(low) {
            Some(end) => *end = (value, at),
            None => ends.push((value, at)),
        }
    }
    let mut run = HashSet::new();
    let mut next = ends.last().map(|(_, at)| *at);
    while let Some(at) = next {
        run.insert(at);
        next = before[at];
    }
    run
}

/// Finds for each element of `to` its place in `from`. An element from a place with another value has been edited. The cost is
/// that of sorting, whatever the arrays have in common.
pub(super) fn align(from: &[Value], to: &[Value]) -> Alignment {
    let mut source = vec![None; to.len()];
    let least = from.len().min(to.len());
    let start = (0..least).take_while(|at| is_same(&from[*at], &to[*at])).count();
    let tail = (0..least - start)
        .take_while(|at| is_same(&from[from.len() - 1 - at], &to[to.len() - 1 - at]))
        .count();
    for (at, place) in source.iter_mut().enumerate().take(start) {
        *place = Some(at);
    }
    let (from_end, to_end) = (from.len() - tail, to.len() - tail);
    for at in 0..tail {
        source[to_end + at] = Some(from_end + at);
    }
    let is_as_long = from.len() == to.len();
    // One has been edited, or some have been added or removed.
    if from_end - start <= 1 && is_as_long {
        return in_place(to.len());
    }
    let mut moved = BTreeSet::new();
    if start == from_end || start == to_end {
        return Alignment { source, moved };
    }

    // Equal ones in their order.
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for at in (start..from_end).rev() {
        places.entry(canonical(&from[at])).or_default().push(at);
    }
    for at in start..to_end {
        source[at] = places.get_mut(&canonical(&to[at])).and_then(Vec::pop);
    }
    let taken: HashSet<usize> = source.iter().flatten().copied().collect();
    let kept = rising(&source[start..to_end]);
    // Between two that have kept their order, others may have been edited.
    let (mut edits, mut next) = (0, start);
    let mut edit = |source: &mut [Option<usize>], begin: usize, end: usize, limit: usize| {
        for place in source.iter_mut().take(end).skip(begin).filter(|place| place.is_none()) {
            while next < limit && taken.contains(&next) {
                next += 1;
            }
            if next < limit {
                *place = Some(next);
                next += 1;
                edits += 1;
            }
        }
        next = limit + 1;
    };
    let mut begin = start;
    for at in start..to_end {
        match source[at] {
            Some(limit) if kept.contains(&(at - start)) => {
                edit(&mut source, begin, at, limit);
                begin = at + 1;
            }
            Some(_) => {
                moved.insert(at);
            }
            None => {}
        }
    }
    edit(&mut source, begin, to_end, from_end);

    if is_as_long {
        // Perhaps none has moved, and some have got the value that another has.
        let differing = (start..to_end).filter(|at| !is_same(&from[*at], &to[*at])).count();
        let added = source[start..to_end].iter().filter(|place| place.is_none()).count();
        let changes = edits + moved.len() + 2 * added;
        if differing < changes || (differing == changes && moved.is_empty()) {
            return in_place(to.len());
        }
    }
    Alignment { source, moved }
}

fn in_place(length: usize) -> Alignment {
    Alignment { source: (0..length).map(Some).collect(), moved: BTreeSet::new() }
}
