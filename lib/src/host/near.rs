//! Could one name have been meant for another?
//!
//! Invariant: short parts of names are compared strictly, so that `v1` is not taken for `v2`, nor one service for its
//! neighbour.

/// The most letters that may tell two names apart.
const MOST: usize = 2;
/// The longest part of a name in which more than equality is looked for.
const LONGEST_PART: usize = 64;

/// How many letters tell two names apart, if so few do that one may be a slip for the other; neighbours that are swapped
/// count once. `None` for equal names.
pub(crate) fn slip(a: &str, b: &str) -> Option<usize> {
    if a == b || a.len().abs_diff(b.len()) > MOST {
        return None;
    }
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    let mut total = 0;
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Some(total),
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                total += part(a, b)?;
                if total > MOST {
                    return None;
                }
            }
            _ => return None,
        }
    }
}

/// The name of `names` that a slip could have made `name` of: one that is nearer than all others.
pub(crate) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let mut best: Option<(usize, &str)> = None;
    let mut alone = true;
    for (distance, other) in names.into_iter().filter_map(|other| Some((slip(name, other)?, other))) {
        match best {
            Some((least, known)) if distance > least || other == known => {}
            Some((least, _)) if distance == least => alone = false,
            _ => (best, alone) = (Some((distance, other)), true),
        }
    }
    best.filter(|_| alone).map(|(_, name)| name)
}

/// The distance of two parts between dots, where it is small for their length.
fn part(a: &str, b: &str) -> Option<usize> {
    let most = match a.len().max(b.len()) {
        0..=2 => return None,
        3..=5 => 1,
        6..=LONGEST_PART => MOST,
        _ => return None,
    };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    // Optimal string alignment, two rows back.
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], place: usize| row.get(place).copied().unwrap_or(usize::MAX / 2);
            let mut cost = at(&row, j) + usize::from(x != y);
            cost = cost.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_more_or_less_or_another_is_a_slip() {
        assert_eq!(slip("webb.default.svc.cluster.local", "web.default.svc.cluster.local"), Some(1));
        assert_eq!(slip("api.partner.exmple", "api.partner.example"), Some(1));
        assert_eq!(slip("chekcout", "checkout"), Some(1));
        assert_eq!(slip("productpaeg.shpo", "productpage.shop"), Some(2));
    }

    #[test]
    fn other_names_are_not_slips() {
        for (a, b) in [("web", "web"), ("v1", "v2"), ("s1.n1", "s2.n1"), ("web", "api"), ("a.web", "web")] {
            assert_eq!(slip(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn one_of_two_that_are_as_near_is_not_chosen() {
        assert_eq!(nearest("reviwes", ["ratings", "reviews"]), Some("reviews"));
        assert_eq!(nearest("node3", ["node1", "node2"]), None);
    }
}
