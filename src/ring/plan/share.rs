//! Shares in proportion to weights, within bounds.

/// One that gets a share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Its claim relative to the others.
    pub(super) weight: u64,
    /// The least it may get.
    pub(super) min: usize,
    /// The most it may get.
    pub(super) max: usize,
}

/// Divides `total` among the parts: each within its bounds and otherwise in proportion to its
/// weight. A share is given as rounded down and as rounded up. Together they come to `total`
/// unless the bounds forbid it.
pub(super) fn shares(total: usize, parts: &[Part]) -> Vec<(usize, usize)> {
    let mut bound = vec![None; parts.len()];
    loop {
        let free: Vec<_> = (0..parts.len()).filter(|&at| bound[at].is_none()).collect();
        let left = total.saturating_sub(bound.iter().flatten().sum());
        let weight: u64 = free.iter().map(|&at| parts[at].weight).sum();
        // All times the sum of weights, so as to stay with whole numbers.
        let claim = |at: usize| left as u128 * u128::from(parts[at].weight);
        let scaled = |count: usize| count as u128 * u128::from(weight);
        let above = |at: usize| claim(at).saturating_sub(scaled(parts[at].max));
        let below = |at: usize| scaled(parts[at].min).saturating_sub(claim(at));
        let excess: u128 = free.iter().map(|&at| above(at)).sum();
        let lack: u128 = free.iter().map(|&at| below(at)).sum();
        if excess == 0 && lack == 0 {
            let share = |at: usize| match bound[at] {
                Some(count) => (count, count),
                None => divide(claim(at), u128::from(weight.max(1))),
            };
            return (0..parts.len()).map(share).collect();
        }
        // Whichever kind of bound is broken by more binds for certain; the other may yet be met.
        for at in free {
            if excess >= lack && above(at) > 0 {
                bound[at] = Some(parts[at].max);
            } else if excess < lack && below(at) > 0 {
                bound[at] = Some(parts[at].min);
            }
        }
    }
}

/// The quotient rounded down and up. It is no greater than a count of slots.
fn divide(claim: u128, weight: u128) -> (usize, usize) {
    let whole = |count: u128| usize::try_from(count).unwrap_or(usize::MAX);
    (whole(claim / weight), whole(claim.div_ceil(weight)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(weight: u64, max: usize) -> Part {
        Part { weight, min: 0, max }
    }

    #[test]
    fn shares_follow_weights() {
        assert_eq!(shares(100, &[part(100, 100), part(300, 100)]), [(25, 25), (75, 75)]);
        assert_eq!(shares(10, &[part(1, 10), part(1, 10), part(1, 10)]), [(3, 4); 3]);
    }

    #[test]
    fn what_one_cannot_take_goes_to_the_others() {
        assert_eq!(shares(30, &[part(900, 10), part(50, 30), part(50, 30)]), [(10, 10); 3]);
        let bound = Part { weight: 1, min: 8, max: 10 };
        assert_eq!(shares(10, &[part(99, 10), bound, part(1, 10)]), [(1, 2), (8, 8), (0, 1)]);
    }

    #[test]
    fn nobody_gets_nothing() {
        assert_eq!(shares(10, &[]), []);
        assert_eq!(shares(10, &[part(1, 3)]), [(3, 3)]);
    }
}
